//! The bytes of a drive, format version 2 (`docs/formats/drive.md`).
//!
//! Owns how each structure is encoded and what makes it valid. Does no I/O, and knows neither files nor the order in
//! which they are written.
//!
//! Invariants:
//!  - what decodes is whole: every byte was under a CRC, and every count and length agrees with the others;
//!  - hostile bytes are refused without a panic, and a count in them never reserves more than their own length
//!    justifies.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod batch;
mod checkpoint;
mod fields;
mod record;
mod salvage;
mod segment;
mod superblock;

pub(crate) use batch::{BatchFault, BatchHeader, ParsedBatch, parse_batch, records_crc};
pub(crate) use checkpoint::{
    CheckpointHeader, CheckpointWriter, Entry, LogPosition, SegmentRow, SegmentState, decode_checkpoint,
};
#[cfg(test)]
use record::payload_matches;
pub(crate) use record::{Body, Extent, RecordHeader, RecordKind};
pub(crate) use salvage::salvage_batch;
pub(crate) use segment::{Epoch, SegmentHeader, SegmentId, SegmentKind, parse_number};
pub use superblock::DriveIdentity;
pub(crate) use superblock::Superblock;

/// Format of the drive directory that this crate writes, and the only one that it reads.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// Batches, extents, superblocks and segment headers begin and end at multiples of this.
pub(crate) const BLOCK: u64 = 4096;
/// Batches and records grow in steps of 8 bytes, so that a record is found by looking there only.
pub(crate) const RECORD_ALIGN: u64 = 8;
pub(crate) const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Payload of the largest small shard, on a drive whose segments are not small.
pub(crate) const SMALL_PAYLOAD_MAX: u64 = 128 * 1024;
/// No drive comes to a record of a higher number: sums of numbers do not overflow.
pub(crate) const RECORD_NUMBER_MAX: u64 = 1 << 62;
/// Extents of one shard: what fits the field of a checkpoint's entry.
pub(crate) const EXTENTS_MAX: usize = u16::MAX as usize;

/// Why bytes are not the structure that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{0}")]
    Damaged(&'static str),
    /// Whole, and of a version that did not exist yet.
    #[error("format version {0} is newer than {FORMAT_VERSION}")]
    Newer(u32),
    /// Whole, and of a version that is no longer read.
    #[error("format version {0} is older than {FORMAT_VERSION}")]
    Older(u32),
}

/// Whether every segment of a drive may be this long.
pub(crate) fn is_segment_len(bytes: u64) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(BLOCK)
}

/// The version check that all structures with a version share; the CRC over them was right.
fn check_version(found: u32) -> Result<(), DecodeError> {
    match found {
        FORMAT_VERSION => Ok(()),
        newer if newer > FORMAT_VERSION => Err(DecodeError::Newer(newer)),
        0 => Err(DecodeError::Damaged("its format version never existed")),
        older => Err(DecodeError::Older(older)),
    }
}

#[cfg(test)]
mod tests;
