//! The log as bytes; `docs/formats/raft-log.md` draws them.
//!
//! Every checksum begins with the salt of the log, so that bytes of clients inside a record are never taken for a part of
//! the log, and batches name the place they were written to, so that one elsewhere is none.

mod batch;
mod record;
mod segment;

pub(super) use self::{
    batch::{BatchHead, Section},
    record::{Kind, Record, RecordHead, Seed, State, record_len},
    segment::{Header, SegmentHead},
};

use ashlar_runtime::buf::ALIGN;
use ashlar_types::GroupId;
use crc_fast::{CrcAlgorithm, Digest};
use std::fmt;

/// Batches begin and end at multiples of this; a segment's first one begins behind its header.
pub(super) const BLOCK: usize = ALIGN;
/// The same as a length in a file.
pub(super) const BLOCK_BYTES: u64 = ALIGN as u64;
pub(super) const FORMAT_VERSION: u32 = 1;

/// A random number of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Salt(pub(super) u64);

/// A segment file; never used twice in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId(pub(super) u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Position of a batch in the log, from 1; later ones have higher numbers, whichever segment they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(pub(super) u64);

impl BatchNumber {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReplicaKey {
    pub(super) group: GroupId,
    pub(super) raft_id: u64,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}, replica {:x}", self.group, self.raft_id)
    }
}

/// CRC-64/NVME of the numbers, then the bytes.
fn checksum(numbers: &[u64], parts: &[&[u8]]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    for number in numbers {
        digest.update(&number.to_le_bytes());
    }
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A length that was checked against what it is a part of.
pub(super) fn memory(len: u64) -> usize {
    usize::try_from(len).expect("segments fit the address space")
}
