//! A second reader of the log, made from `docs/formats/drive.md` alone: which records a drive holds, and which of them
//! every opening has to find.

use super::{
    bytes::{crc64, is_sealed, number, size},
    drive::{Files, log_names},
    layout::BLOCK,
};
use ashlar_types::{ShardId, ShardMeta};
use std::collections::{BTreeMap, BTreeSet};

const HEADER_LEN: usize = 64;
const DELETE: u8 = 3;
const SMALL: u8 = 1;
const LARGE: u8 = 2;

/// Length, checksum and checksums of data units.
pub(crate) type UnitRow = (u32, u64, Vec<u64>);

/// A record whose header verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) shard: ShardId,
    pub(crate) kind: u8,
    pub(crate) epoch: u64,
    /// `None` for a delete, and if the body cannot be read.
    pub(crate) meta: Option<ShardMeta>,
    pub(crate) units: Vec<UnitRow>,
    /// The payload of a small shard, if all of its units verify.
    pub(crate) payload: Option<Vec<u8>>,
    /// All that the page says of a record holds, its payload aside.
    sound: bool,
    /// Bytes of the record with padding.
    len: usize,
}

impl Witness {
    pub(crate) fn is_delete(&self) -> bool {
        self.kind == DELETE
    }

    pub(crate) fn is_small(&self) -> bool {
        self.kind == SMALL
    }
}

/// The record at a place. It is not sound if only its header verifies.
fn record(bytes: &[u8], at: usize) -> Option<Witness> {
    let header = bytes.get(at..at + HEADER_LEN)?;
    if !header.starts_with(b"ASLR") || header[4] != 1 || !is_sealed(header) {
        return None;
    }
    let (kind, shard) = (header[5], ShardId::decode(header[8..29].try_into().ok()?)?);
    let mut witness = Witness {
        shard,
        kind,
        epoch: number(header, 48, 8),
        meta: None,
        units: Vec::new(),
        payload: None,
        sound: header[6..8] == [0; 2] && header[29..32] == [0; 3],
        len: HEADER_LEN,
    };
    if kind == DELETE {
        witness.sound &= header[32..48] == [0; 16];
    } else if describe(&mut witness, header, &bytes[at + HEADER_LEN..]).is_none() {
        witness.sound = false;
    }
    Some(witness)
}

/// Reads the body and the payload of a put.
fn describe(witness: &mut Witness, header: &[u8], behind: &[u8]) -> Option<()> {
    let (payload_len, body_len, units) = (size(header, 32, 8), size(header, 40, 4), size(header, 44, 4));
    let body = behind.get(..body_len).filter(|body| body.len() >= 16 && is_sealed(body))?;
    let meta_end = size(body, 0, 4).checked_add(8)?;
    let (meta, rest): (ShardMeta, _) = postcard::take_from_bytes(body.get(8..meta_end)?).ok()?;
    witness.sound &= rest.is_empty() && meta.id == witness.shard;
    let mut row = meta_end;
    for _ in 0..units {
        let data = size(body, row + 4, 4);
        let row_end = data.checked_mul(8)?.checked_add(row + 16)?;
        body.get(row..row_end)?;
        let data = (0..data).map(|index| number(body, row + 16 + 8 * index, 8)).collect();
        let unit_len = u32::try_from(number(body, row, 4)).ok()?;
        witness.units.push((unit_len, number(body, row + 8, 8), data));
        row = row_end;
    }
    let units_len: u64 = witness.units.iter().map(|(len, ..)| u64::from(*len)).sum();
    witness.meta = Some(meta);
    witness.sound &= units_len == payload_len as u64;
    witness.sound &= match witness.kind {
        SMALL => payload_len <= 128 << 10 && number(body, 4, 4) == 0 && row + 8 == body.len(),
        LARGE => payload_len > 0 && extents_hold(body, row, payload_len as u64),
        _ => false,
    };
    let payload_end = if witness.is_small() { body_len.checked_add(payload_len)? } else { body_len };
    let payload = behind.get(body_len..payload_end);
    witness.payload = payload.filter(|payload| holds(payload, &witness.units)).map(<[u8]>::to_vec);
    witness.len = HEADER_LEN + payload_end.checked_next_multiple_of(8)?;
    Some(())
}

/// Whether the extents from `at` to the checksum can be a payload of this length.
fn extents_hold(body: &[u8], at: usize, payload_len: u64) -> bool {
    let Some(extents) = body.get(at..body.len() - 8) else { return false };
    let count = extents.len() / 32;
    let mut sum = 0_u64;
    let placed = (0..count).all(|index| {
        let (offset, len) = (number(extents, 32 * index + 16, 8), number(extents, 32 * index + 24, 8));
        sum = sum.saturating_add(len);
        len > 0
            && offset >= 4096
            && offset.is_multiple_of(4096)
            && offset.saturating_add(len) <= 1 << 30
            && (len.is_multiple_of(4096) || index + 1 == count)
    });
    placed
        && sum == payload_len
        && (1..=65535).contains(&count)
        && extents.len() == 32 * count
        && number(body, 4, 4) == count as u64
}

fn holds(payload: &[u8], units: &[UnitRow]) -> bool {
    let mut rest = payload;
    units.iter().all(|(len, crc, _)| {
        let unit = usize::try_from(*len).ok().and_then(|len| rest.split_at_checked(len));
        let Some((unit, behind)) = unit else { return false };
        rest = behind;
        crc64(unit) == *crc
    }) && rest.is_empty()
}

/// Every record that lies anywhere in the log, of whatever use, in a batch or not.
pub(crate) fn all(files: &Files) -> BTreeMap<ShardId, Vec<Witness>> {
    let mut found: BTreeMap<ShardId, Vec<Witness>> = BTreeMap::new();
    for name in log_names(files) {
        let bytes = &files[name];
        for at in (BLOCK..bytes.len()).step_by(8) {
            if bytes[at] == b'A'
                && let Some(witness) = record(bytes, at)
            {
                found.entry(witness.shard).or_default().push(witness);
            }
        }
    }
    found
}

/// A log segment as its header tells, or its first batch if the header does not verify.
struct Segment<'a> {
    id: u64,
    bytes: &'a [u8],
    epoch: u64,
    first_record: u64,
    previous: u64,
}

fn segment<'a>(name: &str, bytes: &'a [u8], drive: &[u8]) -> Option<Segment<'a>> {
    let id = u64::from_str_radix(name.strip_prefix("log/")?.strip_suffix(".seg")?, 16).ok()?;
    let header = bytes.get(..BLOCK)?;
    let right = header.starts_with(b"ASHLARSG")
        && is_sealed(header)
        && number(header, 8, 4) == 2
        && number(header, 12, 4) == 1
        && header[16..32] == *drive
        && number(header, 32, 8) == id
        && number(header, 64, 8) == 64 << 10
        && header[72..BLOCK - 8].iter().all(|byte| *byte == 0);
    // Damage of a header is another question than what the log holds.
    right.then(|| Segment {
        id,
        bytes,
        epoch: number(header, 40, 8),
        first_record: number(header, 48, 8),
        previous: number(header, 56, 8),
    })
}

/// The records that nobody can miss who reads a log without checkpoint: from the first one on, as long as batch
/// follows whole batch. `None` if a segment's header does not verify.
pub(crate) fn prefix(files: &Files, drive: &[u8]) -> Option<Vec<Witness>> {
    let segments: Option<Vec<Segment<'_>>> =
        log_names(files).map(|name| segment(name, &files[name], drive)).collect();
    let segments = segments?;
    let mut records = Vec::new();
    let (mut next, mut previous) = (1, 0);
    let mut seen = BTreeSet::new();
    loop {
        let later = |segment: &&Segment<'_>| segment.first_record >= next && !seen.contains(&segment.id);
        let segment = segments.iter().filter(later).min_by_key(|segment| (segment.first_record, segment.id));
        let Some(segment) =
            segment.filter(|segment| segment.first_record == next && segment.previous == previous)
        else {
            return Some(records);
        };
        seen.insert(segment.id);
        let mut at = BLOCK;
        while let Some((batch, len)) = batch(segment, at, next, previous) {
            next += batch.len() as u64;
            previous = number(segment.bytes, at + HEADER_LEN - 8, 8);
            records.extend(batch);
            at += len;
        }
        if (at..segment.bytes.len()).step_by(BLOCK).any(|at| segment.bytes[at..].starts_with(b"ASHLARBA")) {
            // What opening makes of the rest is its own matter.
            return Some(records);
        }
    }
}

/// The whole batch at a place of a segment, which has to be the next of the log, and its length.
fn batch(segment: &Segment<'_>, at: usize, next: u64, previous: u64) -> Option<(Vec<Witness>, usize)> {
    let bytes = segment.bytes;
    let header = bytes.get(at..at + HEADER_LEN)?;
    let len = size(header, 28, 4);
    let right = header.starts_with(b"ASHLARBA")
        && is_sealed(header)
        && number(header, 8, 8) == segment.epoch
        && number(header, 16, 8) == next
        && number(header, 32, 8) == previous
        && number(header, 48, 8) == 0
        && len > 0
        && len.is_multiple_of(BLOCK);
    let batch = bytes.get(at..at.checked_add(len)?).filter(|_| right)?;
    let mut records = Vec::new();
    let mut crcs = Vec::new();
    let mut place = HEADER_LEN;
    for _ in 0..number(header, 24, 4) {
        let record = record(batch, place).filter(|record| record.epoch == segment.epoch)?;
        if !record.sound || (record.is_small() && record.payload.is_none()) {
            return None;
        }
        crcs.extend_from_slice(&batch[place + HEADER_LEN - 8..place + HEADER_LEN]);
        place += record.len;
        records.push(record);
    }
    (crc64(&crcs) == number(header, 40, 8) && place <= batch.len() && !records.is_empty())
        .then_some((records, len))
}
