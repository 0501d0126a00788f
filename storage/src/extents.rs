//! Room for the data of large shards: extents of the open extent segment, front to back.
//!
//! Owns the allocation and the writing of one piece. A piece that never gets a record is dead space until its segment
//! is emptied.

use crate::{
    drive::{Drive, Purpose},
    error::{FileOperation, StoreError},
    format::{BLOCK, Extent, SegmentKind},
    queue::Claim,
    segment_file::SegmentFile,
    sync::Arc,
    tables::{Tables, Use},
    width,
};
use ashlar_runtime::{AlignedBuf, buf::ALIGN};
use ashlar_types::ShardId;
use bytes::Bytes;

/// Writes one piece of a shard to an extent and returns the claim on it. Only the last piece of a shard may have a
/// length that is not a multiple of a block. Blocks.
pub(crate) fn write_piece(
    drive: &Arc<Drive>,
    shard: ShardId,
    parts: &[Bytes],
    purpose: Purpose,
) -> Result<Claim, StoreError> {
    drive.check()?;
    let len = parts.iter().map(|part| width::file(part.len())).sum();
    let (file, claim) = allocate(drive, len, purpose)?;
    let offset = claim.extent.offset;
    let failed = |operation, error| drive.write_error(operation, Some(shard), error);
    let writer = file.writer().map_err(|error| failed(FileOperation::Open, error))?;
    let written = if parts.iter().all(is_aligned) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        writer.write_parts_at(&parts, offset)
    } else {
        let mut blocks = AlignedBuf::zeroed(width::memory(len).next_multiple_of(ALIGN));
        let mut at = 0;
        for part in parts {
            blocks[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        writer.write_all_at(&blocks, offset)
    };
    written.map_err(|error| failed(FileOperation::Write, error))?;
    Ok(claim)
}

fn is_aligned(part: &Bytes) -> bool {
    part.as_ptr().addr().is_multiple_of(ALIGN) && part.len().is_multiple_of(ALIGN)
}

fn allocate(drive: &Arc<Drive>, len: u64, purpose: Purpose) -> Result<(Arc<SegmentFile>, Claim), StoreError> {
    loop {
        let room = drive.change_tables(|tables| reserve(tables, len, drive.segment_bytes));
        if let Some((file, extent)) = room {
            return Ok((file, Claim { drive: Arc::clone(drive), extent }));
        }
        open_segment(drive, len, purpose)?;
    }
}

/// Takes room at the end of the open extent segment; seals it if there is too little. `None` if none is open.
fn reserve(tables: &mut Tables, len: u64, segment_bytes: u64) -> Option<(Arc<SegmentFile>, Extent)> {
    let id = tables.open_extents?;
    let segment = tables.segments.get_mut(&id)?;
    let end = segment.written + len.next_multiple_of(BLOCK);
    if end > segment_bytes {
        tables.open_extents = None;
        tables.set_use(id, Use::Sealed);
        return None;
    }
    let extent = Extent { segment: id, epoch: segment.epoch, offset: segment.written, len };
    segment.written = end;
    segment.pending += 1;
    Some((Arc::clone(&segment.file), extent))
}

/// Makes another segment the open one, unless somebody else just did.
fn open_segment(drive: &Arc<Drive>, len: u64, purpose: Purpose) -> Result<(), StoreError> {
    if len.next_multiple_of(BLOCK) + BLOCK > drive.segment_bytes {
        return Err(StoreError::TooLarge);
    }
    let _one = crate::sync::locked(&drive.opening_extents);
    if drive.read_tables(|tables| tables.open_extents.is_some()) {
        return Ok(());
    }
    let (file, epoch) = drive.take_segment(SegmentKind::Extents, purpose)?;
    if let Err((operation, error)) = drive.write_header(&file, epoch, 0, 0) {
        drive.change_segments(|tables| tables.set_use(file.id, Use::Junk));
        return Err(drive.write_error(operation, None, error));
    }
    drive.change_tables(|tables| tables.open_extents = Some(file.id));
    Ok(())
}

/// Joins extents that follow each other.
pub(crate) fn merge(extents: impl Iterator<Item = Extent>) -> Box<[Extent]> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last)
                if last.segment == extent.segment
                    && last.epoch == extent.epoch
                    && last.offset + last.len == extent.offset =>
            {
                last.len += extent.len;
            }
            Some(_) | None => merged.push(extent),
        }
    }
    merged.into_boxed_slice()
}
