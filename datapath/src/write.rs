//! Writing an object's or a part's bytes: inline into its commit, or as a blob on the drives.
//!
//! Owns the order of the steps (DESIGN, section 5): reserve memory, read rows, digest and code them, fan them out,
//! hold the digests against what was declared, have the drives flush, commit. Each step is a file.
//!
//! Invariants:
//!  - nothing is visible before the commit, and no shard stays behind a write that is not committed;
//!  - a commit names only slots whose drives have said that their shard is durable;
//!  - memory is what was reserved before the first byte was read.

mod abandon;
mod blob;
mod commit;
mod digests;
mod fan_out;
mod intake;
mod late;
mod place;
mod put;
mod quorum;
mod rows;
mod slot_stream;
mod target;

pub(crate) use blob::Coding;
pub(crate) use commit::commit;
pub(crate) use digests::Expected;
pub(crate) use intake::Intake;
pub(crate) use put::{put_version, written_version};
pub(crate) use rows::LiveBytes;
pub(crate) use target::Target;

use crate::store::Core;
use ashlar_erasure::Geometry;
use ashlar_hashing::ObjectDigests;
use ashlar_types::{
    Checksum, Content, ExtentSource, Manifest, ManifestEntry, ObjectError,
    limits::{INLINE_MAX, KIB},
};
use blob::BlobWriter;
use bytes::Bytes;
use rows::Row;
use std::sync::Arc;

/// A frame of the body that waits to be copied into a row, and small change.
const FRAME_RESERVE: u64 = 512 * KIB;

/// Rows besides those in the queues: one being filled, one being coded or sent, one in each drive's hands.
const ROWS_BESIDE_QUEUE: u64 = 3;

/// Bytes that wait for their commit.
pub(crate) struct Body {
    pub(crate) content: Content,
    pub(crate) digests: ObjectDigests,
    /// What the client declared, found true, or what is kept in its place.
    pub(crate) checksum: Checksum,
    pub(crate) blob: Option<BlobWriter>,
}

/// Reads a body to its end and makes it durable. `part_number` is 0 for a whole object. Dropping the future, or the
/// body it returned, leaves nothing.
pub(crate) async fn write(
    core: &Arc<Core>,
    target: &Target,
    part_number: u16,
    mut intake: Intake,
    expected: &Expected,
) -> Result<Body, ObjectError> {
    let coding = Coding::of_new_blobs(core)?;
    let reservation = core.reserve(worst_case(core, &coding, intake.len()))?;
    if intake.len().is_none_or(|len| len <= INLINE_MAX)
        && let Some(bytes) = head(&mut intake).await?
    {
        return inline(part_number, bytes, &intake, expected);
    }
    let mut writer = BlobWriter::new(core, target.clone(), coding.clone(), intake.len(), reservation);
    let digests = rows(core, &coding, &mut intake, &mut writer, expected).await?;
    // Before the drives flush: a body that is refused need not be durable first.
    let checksum = expected.verify(&digests, intake.trailers())?;
    writer.finish().await?;
    let source = ExtentSource::Blob { blob: writer.blob(digests.crc64), offset: 0 };
    let entry = ManifestEntry { part_number, len: digests.len, crc64: digests.crc64, source };
    let content = Content { manifest: Manifest { entries: vec![entry] }, inline: Bytes::new() };
    Ok(Body { content, digests, checksum, blob: Some(writer) })
}

/// Memory that a body of this length can come to need.
fn worst_case(core: &Core, coding: &Coding, len: Option<u64>) -> u64 {
    let in_flight =
        u64::try_from(core.settings.queue_units.max(core.settings.replay_rows)).unwrap_or(u64::MAX);
    let rows = in_flight.saturating_add(ROWS_BESIDE_QUEUE);
    let (rows, row_len, frame) = match len {
        Some(len) if len <= INLINE_MAX => return 2 * INLINE_MAX,
        Some(len) => {
            let rows = rows.min(len.div_ceil(coding.profile.row_len()));
            (rows, coding.coded_len(len), FRAME_RESERVE.min(len))
        }
        None => (rows, coding.coded_len(u64::MAX), FRAME_RESERVE),
    };
    rows.saturating_mul(row_len).saturating_add(frame)
}

/// The whole body if it is small enough to go into its commit.
async fn head(intake: &mut Intake) -> Result<Option<Bytes>, ObjectError> {
    let room = intake.len().unwrap_or(INLINE_MAX + 1);
    let mut head = vec![0; usize::try_from(room).expect("at most one byte more than is kept inline")];
    let len = intake.fill(&mut head).await?;
    head.truncate(len);
    if len as u64 > INLINE_MAX {
        intake.put_back(head.into());
        return Ok(None);
    }
    intake.end().await?;
    Ok(Some(head.into()))
}

fn inline(part_number: u16, bytes: Bytes, intake: &Intake, expected: &Expected) -> Result<Body, ObjectError> {
    let mut hasher = expected.hasher();
    hasher.update(&bytes);
    let digests = hasher.finish();
    let checksum = expected.verify(&digests, intake.trailers())?;
    let source = ExtentSource::Inline { offset: 0 };
    let entry = ManifestEntry { part_number, len: digests.len, crc64: digests.crc64, source };
    let entries = if bytes.is_empty() { Vec::new() } else { vec![entry] };
    Ok(Body {
        content: Content { manifest: Manifest { entries }, inline: bytes },
        digests,
        checksum,
        blob: None,
    })
}

/// Reads, codes and sends rows to the end of the body: one is read while the one before is coded.
async fn rows(
    core: &Arc<Core>,
    coding: &Coding,
    intake: &mut Intake,
    writer: &mut BlobWriter,
    expected: &Expected,
) -> Result<ObjectDigests, ObjectError> {
    let mut hasher = expected.hasher();
    let mut len = 0;
    let mut row = read_row(core, &coding.geometry, intake, writer.row_room(len)).await?;
    while row.len() > 0 {
        let row_len = row.len() as u64;
        len += row_len;
        let (codec, geometry) = (Arc::clone(&coding.codec), coding.geometry);
        let coded = core.coding.run(move || {
            let units = row.code(&codec, &geometry, &mut hasher);
            (hasher, units)
        });
        let (next, coded) =
            tokio::join!(read_row(core, &coding.geometry, intake, writer.row_room(len)), coded);
        let (hasher_back, units) = coded.map_err(|_| ObjectError::Internal("a coding job failed"))?;
        hasher = hasher_back;
        row = next?;
        let units = units.map_err(|_| ObjectError::Internal("a row that cannot be coded"))?;
        writer.append(units, row_len).await?;
    }
    intake.end().await?;
    Ok(hasher.finish())
}

async fn read_row(
    core: &Core,
    geometry: &Geometry,
    intake: &mut Intake,
    room: u64,
) -> Result<Row, ObjectError> {
    let room = usize::try_from(room).expect("a row fits the address space");
    let mut row = Row::new(geometry, room, &core.live);
    let len = intake.fill(row.room()).await?;
    Ok(row.filled(len))
}
