//! The bytes of a read in order: fetched ahead of the client, within the memory that was reserved.
//!
//! Owns the task that fetches, and the comparison of what was read with the CRCs of entries and of the whole. The row
//! read last is held back until the next one is verified or the CRCs are found right, so that bytes of a whole object
//! that does not match are never complete.

use super::{
    chunk::ChunkReader,
    inline::entry_bytes,
    plan::{ReadPlan, Section, chunk_ranges},
    stripe::{Experience, Piece},
};
use crate::{store::Core, write::Coding};
use ashlar_hashing::combine_crc64nvme;
use ashlar_runtime::{Reservation, TaskHandle};
use ashlar_types::{Blob, ByteRange, ExtentSource, ObjectError, ReadStream};
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::mpsc;

/// Rows besides those read ahead: one being fetched, one held back, one with the client.
const ROWS_BESIDE_AHEAD: u64 = 3;

type Rows = mpsc::Sender<Result<Vec<Bytes>, ObjectError>>;

/// Returns once the first bytes are verified.
pub(crate) async fn open_stream(core: &Arc<Core>, plan: ReadPlan) -> Result<ReadStream, ObjectError> {
    if plan.is_inline() {
        return inline_stream(core, &plan);
    }
    let reservation = core.reserve(worst_case(core, &plan)?)?;
    let left = plan.range.len();
    let (sender, mut rows) = mpsc::channel(core.settings.read_ahead_rows.max(1));
    let task = core.env.tasks.spawn("object-read", produce(Arc::clone(core), plan, sender));
    let first = rows.recv().await.unwrap_or(Err(INTERRUPTED))?;
    Ok(Box::pin(ObjectStream {
        core: Arc::clone(core),
        pieces: first.into(),
        rows,
        left,
        _task: task,
        _reservation: reservation,
    }))
}

const INTERRUPTED: ObjectError = ObjectError::Internal("a read was interrupted");

/// Bytes that are in memory already.
fn inline_stream(core: &Core, plan: &ReadPlan) -> Result<ReadStream, ObjectError> {
    let mut whole = Crc::default();
    let mut pieces = Vec::new();
    for section in plan.sections() {
        let piece = inline_piece(plan, &section)?;
        whole.add(piece.crc64, piece.bytes.len() as u64);
        pieces.push(Ok(piece.bytes));
    }
    whole.check(plan.whole_crc64)?;
    core.metrics.get_bytes.increment(plan.range.len());
    Ok(Box::pin(stream::iter(pieces)))
}

fn inline_piece(plan: &ReadPlan, section: &Section<'_>) -> Result<Piece, ObjectError> {
    let ExtentSource::Inline { offset } = section.entry.source else {
        return Err(ObjectError::Internal("a blob was read as inline bytes"));
    };
    let bytes = entry_bytes(section.entry, offset, &plan.content.inline)?;
    if section.is_whole() {
        return Ok(Piece { bytes, crc64: section.entry.crc64 });
    }
    let cut = |at: u64| usize::try_from(at).expect("inline bytes are in memory");
    let bytes = bytes.slice(cut(section.range.start)..cut(section.range.end));
    let crc64 = ashlar_hashing::crc64nvme(&bytes);
    Ok(Piece { bytes, crc64 })
}

/// Memory for the rows that the read can come to hold.
fn worst_case(core: &Core, plan: &ReadPlan) -> Result<u64, ObjectError> {
    let ahead = u64::try_from(core.settings.read_ahead_rows.max(1)).unwrap_or(u64::MAX);
    let mut worst = 0;
    let mut last_seen = None;
    for section in plan.sections() {
        let ExtentSource::Blob { blob, .. } = &section.entry.source else { continue };
        // The parts of an object are mostly alike.
        if last_seen == Some((blob.profile, blob.len)) {
            continue;
        }
        last_seen = Some((blob.profile, blob.len));
        let coding = Coding::of(core, blob.profile)?;
        let row_len = coding.profile.row_len();
        // One more than the bytes fill: a range may begin in the middle of a row.
        let rows = (plan.range.len().div_ceil(row_len) + 1).min(ahead + ROWS_BESIDE_AHEAD);
        let rows = if plan.content.manifest.len() <= row_len { 1 } else { rows };
        worst = worst.max(rows * coding.coded_len(blob.len));
    }
    Ok(worst)
}

/// A running CRC-64/NVME of pieces in order.
#[derive(Default)]
struct Crc(u64);

impl Crc {
    fn add(&mut self, crc64: u64, len: u64) {
        self.0 = combine_crc64nvme(self.0, crc64, len);
    }

    /// `expected` is `None` when only a part was read.
    fn check(&self, expected: Option<u64>) -> Result<(), ObjectError> {
        match expected {
            Some(expected) if expected != self.0 => {
                tracing::error!(expected, found = self.0, "bytes read do not match their checksum");
                Err(ObjectError::Unreadable)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a read hands out, one row behind what it has verified.
struct Output {
    rows: Rows,
    held: Option<Vec<Bytes>>,
    whole: Crc,
}

/// The client has gone, or the read has failed: both end it.
enum Ended {
    ClientGone,
    Failed(ObjectError),
}

impl From<ObjectError> for Ended {
    fn from(error: ObjectError) -> Self {
        Self::Failed(error)
    }
}

impl Output {
    async fn push(&mut self, pieces: Vec<Piece>, entry: &mut Crc) -> Result<(), Ended> {
        for piece in &pieces {
            let len = piece.bytes.len() as u64;
            entry.add(piece.crc64, len);
            self.whole.add(piece.crc64, len);
        }
        let row = pieces.into_iter().map(|piece| piece.bytes).collect();
        match self.held.replace(row) {
            Some(verified) => self.send(verified).await,
            None => Ok(()),
        }
    }

    async fn send(&self, row: Vec<Bytes>) -> Result<(), Ended> {
        self.rows.send(Ok(row)).await.map_err(|_| Ended::ClientGone)
    }

    async fn finish(mut self, whole_crc64: Option<u64>) -> Result<(), Ended> {
        self.whole.check(whole_crc64)?;
        match self.held.take() {
            Some(row) => self.send(row).await,
            None => Ok(()),
        }
    }
}

async fn produce(core: Arc<Core>, plan: ReadPlan, rows: Rows) {
    match read(&core, &plan, Output { rows: rows.clone(), held: None, whole: Crc::default() }).await {
        Ok(()) | Err(Ended::ClientGone) => {}
        Err(Ended::Failed(error)) => {
            tracing::warn!(key = %plan.subject.key, %error, "a read failed");
            // The client may have gone as well.
            let _ = rows.send(Err(error)).await;
        }
    }
}

async fn read(core: &Arc<Core>, plan: &ReadPlan, mut output: Output) -> Result<(), Ended> {
    let mut experience = Experience::new(core.settings.hedge_min, core.settings.hedge_factor);
    for section in plan.sections() {
        let mut crc = Crc::default();
        match &section.entry.source {
            ExtentSource::Inline { .. } => {
                output.push(vec![inline_piece(plan, &section)?], &mut crc).await?;
            }
            ExtentSource::Blob { blob, offset } => {
                let range =
                    ByteRange { start: offset + section.range.start, end: offset + section.range.end };
                read_blob(core, plan, blob, range, &mut output, &mut crc, &mut experience).await?;
            }
        }
        crc.check(section.is_whole().then_some(section.entry.crc64))?;
    }
    output.finish(plan.whole_crc64).await
}

async fn read_blob(
    core: &Arc<Core>,
    plan: &ReadPlan,
    blob: &Blob,
    range: ByteRange,
    output: &mut Output,
    crc: &mut Crc,
    experience: &mut Experience,
) -> Result<(), Ended> {
    let coding = Coding::of(core, blob.profile)?;
    if range.end > blob.len {
        return Err(ObjectError::Internal("an entry reaches past its blob").into());
    }
    for chunk in chunk_ranges(blob.len, coding.profile.chunk_size(), range) {
        let mut reader = ChunkReader::new(core, &coding, &plan.subject, blob, chunk, &experience.suspects)?;
        for stripe in reader.stripes() {
            let pieces = reader.read_stripe(stripe, experience).await?;
            output.push(pieces, crc).await?;
        }
    }
    Ok(())
}

/// Dropping it ends the read and gives its memory back.
struct ObjectStream {
    core: Arc<Core>,
    pieces: VecDeque<Bytes>,
    rows: mpsc::Receiver<Result<Vec<Bytes>, ObjectError>>,
    /// Bytes still to be handed out: a read that ends before is an error, never a short answer.
    left: u64,
    _task: TaskHandle,
    _reservation: Reservation,
}

impl Stream for ObjectStream {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(bytes) = self.pieces.pop_front() {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                self.core.metrics.get_bytes.increment(bytes.len() as u64);
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.left == 0 {
                return Poll::Ready(None);
            }
            match ready!(self.rows.poll_recv(context)) {
                Some(Ok(row)) => self.pieces = row.into(),
                Some(Err(error)) => {
                    self.left = 0;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.left = 0;
                    return Poll::Ready(Some(Err(INTERRUPTED)));
                }
            }
        }
    }
}
