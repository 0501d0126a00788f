//! Where the fields of a drive's files are, by `docs/formats/drive.md`, and how checksums are made right again after
//! some were changed.
//!
//! Follows the lengths that the bytes claim as far as they lie inside, and never fails.

use super::bytes::{crc64, number, seal, set, size};
use std::ops::Range;

pub(crate) const BLOCK: usize = 4096;
/// Places that one walk visits: hostile counts are not followed further.
const PARTS_MAX: usize = 4096;
const HEADER_LEN: usize = 64;
const BATCH_MAGIC: &[u8] = b"ASHLARBA";
const RECORD_MAGIC: &[u8] = b"ASLR";
const CHECKPOINT_HEADER_LEN: usize = 96;
const ROW_LEN: usize = 40;
const ENTRY_LEN: usize = 68;
const EXTENT_LEN: usize = 32;
const FOOTER_LEN: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Superblock,
    /// A log segment.
    Segment,
    Checkpoint,
}

/// A number of at most 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// What is made right, beside the checksums over each structure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repair {
    /// The name that each batch has for the one before; the footer's checksum over those of a checkpoint's blocks.
    pub(crate) chain: bool,
    /// Epochs are those of the segment's header.
    pub(crate) epochs: bool,
    /// Checksums of small shards' units.
    pub(crate) units: bool,
    /// Counts of a checkpoint's entries.
    pub(crate) counts: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) at: usize,
    pub(crate) body: Range<usize>,
    pub(crate) payload: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) at: usize,
    pub(crate) records: Vec<Record>,
}

/// Entries of one block of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct EntryBlock {
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) entries: Vec<Range<usize>>,
}

fn row(fields: &mut Vec<Field>, mut at: usize, lens: &[usize]) {
    for len in lens {
        fields.push(Field { at, len: *len });
        at += len;
    }
}

/// Number fields of a structure, those of what it holds included.
pub(crate) fn fields(structure: Structure, bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    match structure {
        Structure::Superblock => row(&mut fields, 0, &[8, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]),
        Structure::Segment => {
            row(&mut fields, 0, &[8, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]);
            for batch in batches(bytes) {
                row(&mut fields, batch.at, &[8, 8, 8, 4, 4, 8, 8, 8]);
                for record in &batch.records {
                    row(&mut fields, record.at, &[4, 1, 1, 2, 8, 8, 4, 1, 3, 8, 4, 4, 8]);
                    body_fields(&mut fields, bytes, record);
                }
            }
        }
        Structure::Checkpoint => {
            row(&mut fields, 0, &[8, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]);
            for at in rows(bytes) {
                row(&mut fields, at, &[8, 8, 4, 4, 8, 8]);
            }
            for block in entry_blocks(bytes) {
                row(&mut fields, block.at, &[4, 4]);
                for entry in block.entries {
                    row(&mut fields, entry.start, &[8, 8, 4, 1, 1, 2, 4, 8, 8, 8, 4, 4, 8]);
                    for extent in (entry.start + ENTRY_LEN..entry.end).step_by(EXTENT_LEN) {
                        row(&mut fields, extent, &[8, 8, 8, 8]);
                    }
                }
            }
            row(&mut fields, bytes.len().saturating_sub(FOOTER_LEN), &[4, 4, 8]);
        }
    }
    fields.retain(|field| field.at + field.len <= bytes.len());
    fields
}

fn body_fields(fields: &mut Vec<Field>, bytes: &[u8], record: &Record) {
    let body = &record.body;
    if body.len() < 16 {
        return;
    }
    row(fields, body.start, &[4, 4]);
    let meta = body.start + 8..(body.start + 8).saturating_add(size(bytes, body.start, 4)).min(body.end - 8);
    fields.extend(meta.clone().map(|at| Field { at, len: 1 }));
    for unit in units(bytes, record) {
        row(fields, unit, &[4, 4, 8]);
    }
    for from_end in 0..number(bytes, body.start + 4, 4).min(8) {
        let back = 8 + EXTENT_LEN * (usize::try_from(from_end).expect("at most 8") + 1);
        if let Some(at) = body.end.checked_sub(back).filter(|at| *at >= body.start + 8) {
            row(fields, at, &[8, 8, 8, 8]);
        }
    }
}

/// Where the rows of a record's unit table are.
pub(crate) fn units(bytes: &[u8], record: &Record) -> Vec<usize> {
    let mut units = Vec::new();
    let mut at = (record.body.start + 8).saturating_add(size(bytes, record.body.start, 4));
    for _ in 0..number(bytes, record.at + 44, 4).min(PARTS_MAX as u64) {
        if at.saturating_add(16) > record.body.end {
            break;
        }
        units.push(at);
        at = at.saturating_add(16).saturating_add(size(bytes, at + 4, 4).saturating_mul(8));
    }
    units
}

/// Batches of a log segment, wherever a block begins like one.
pub(crate) fn batches(bytes: &[u8]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut at = BLOCK;
    while at + HEADER_LEN <= bytes.len() {
        if !bytes[at..].starts_with(BATCH_MAGIC) {
            at += BLOCK;
            continue;
        }
        let records = records(bytes, at, size(bytes, at + 24, 4).min(PARTS_MAX));
        batches.push(Batch { at, records });
        let len = size(bytes, at + 28, 4);
        let whole = len > 0 && len.is_multiple_of(BLOCK) && at + len <= bytes.len();
        at += if whole { len } else { BLOCK };
    }
    batches
}

fn records(bytes: &[u8], batch: usize, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = batch + HEADER_LEN;
    while records.len() < count && at + HEADER_LEN <= bytes.len() && bytes[at..].starts_with(RECORD_MAGIC) {
        let start = at + HEADER_LEN;
        let body = start..start.saturating_add(size(bytes, at + 40, 4));
        let payload_len = if bytes[at + 5] == 1 { size(bytes, at + 32, 8) } else { 0 };
        let payload = body.end..body.end.saturating_add(payload_len);
        let inside = |range: Range<usize>| if range.end <= bytes.len() { range } else { start..start };
        let end = payload.end;
        records.push(Record { at, body: inside(body), payload: inside(payload) });
        at = end.checked_next_multiple_of(8).unwrap_or(usize::MAX).min(bytes.len());
    }
    records
}

/// Where the rows of a checkpoint's segment table are.
pub(crate) fn rows(bytes: &[u8]) -> Vec<usize> {
    let header = size(bytes, 12, 4).min(bytes.len());
    let count = size(bytes, 88, 8).min(PARTS_MAX);
    (0..count)
        .map(|row| CHECKPOINT_HEADER_LEN + ROW_LEN * row)
        .take_while(|at| at + ROW_LEN + 8 <= header)
        .collect()
}

pub(crate) fn entry_blocks(bytes: &[u8]) -> Vec<EntryBlock> {
    let mut blocks = Vec::new();
    let mut at = size(bytes, 12, 4);
    while blocks.len() < PARTS_MAX && at.saturating_add(FOOTER_LEN) < bytes.len() {
        let end = at + 8 + size(bytes, at, 4);
        if end + 8 > bytes.len() {
            break;
        }
        let mut entries = Vec::new();
        let mut entry = at + 8;
        while entry + ENTRY_LEN <= end && entries.len() < PARTS_MAX {
            let entry_end = (entry + ENTRY_LEN + EXTENT_LEN * size(bytes, entry + 22, 2)).min(end);
            entries.push(entry..entry_end);
            entry = entry_end;
        }
        blocks.push(EntryBlock { at, end: end + 8, entries });
        at = end + 8;
    }
    blocks
}

/// Makes the checksums right, from the inside out.
pub(crate) fn repair(structure: Structure, bytes: &mut [u8], repair: Repair) {
    match structure {
        Structure::Superblock => seal(bytes, 0, bytes.len()),
        Structure::Segment => repair_segment(bytes, repair),
        Structure::Checkpoint => repair_checkpoint(bytes, repair),
    }
}

fn repair_segment(bytes: &mut [u8], repair: Repair) {
    seal(bytes, 0, BLOCK);
    let epoch = number(bytes, 40, 8);
    let mut previous = number(bytes, 56, 8);
    for batch in batches(bytes) {
        let mut crcs = Vec::new();
        for record in &batch.records {
            if repair.epochs {
                set(bytes, record.at + 48, 8, epoch);
            }
            if repair.units {
                repair_units(bytes, record);
            }
            if record.body.len() >= 8 {
                seal(bytes, record.body.start, record.body.end);
            }
            seal(bytes, record.at, record.at + HEADER_LEN);
            crcs.extend_from_slice(&bytes[record.at + HEADER_LEN - 8..record.at + HEADER_LEN]);
        }
        if repair.epochs {
            set(bytes, batch.at + 8, 8, epoch);
        }
        if repair.chain {
            set(bytes, batch.at + 32, 8, previous);
        }
        set(bytes, batch.at + 40, 8, crc64(&crcs));
        seal(bytes, batch.at, batch.at + HEADER_LEN);
        previous = number(bytes, batch.at + HEADER_LEN - 8, 8);
    }
}

fn repair_units(bytes: &mut [u8], record: &Record) {
    let mut at = record.payload.start;
    for unit in units(bytes, record) {
        let end = at.saturating_add(size(bytes, unit, 4));
        if end > record.payload.end {
            return;
        }
        let crc = crc64(&bytes[at..end]);
        set(bytes, unit + 8, 8, crc);
        at = end;
    }
}

fn repair_checkpoint(bytes: &mut [u8], repair: Repair) {
    let header = size(bytes, 12, 4);
    seal(bytes, 0, header);
    let mut crcs = Vec::new();
    let mut count = 0;
    crcs.extend_from_slice(&number(bytes, header.saturating_sub(8), 8).to_le_bytes());
    for block in entry_blocks(bytes) {
        if repair.counts {
            set(bytes, block.at + 4, 4, block.entries.len() as u64);
        }
        count += block.entries.len() as u64;
        seal(bytes, block.at, block.end);
        crcs.extend_from_slice(&bytes[block.end - 8..block.end]);
    }
    let footer = bytes.len().saturating_sub(FOOTER_LEN);
    if repair.counts {
        set(bytes, footer + 8, 8, count);
    }
    if repair.chain {
        set(bytes, footer + 16, 8, crc64(&crcs));
    }
}
