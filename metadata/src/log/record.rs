//! Records of the log file as bytes.
//!
//! ```text
//! file header, 32 bytes        record, 40 bytes + payload
//!  0 magic "ashlrlog"           0 magic "aLgR"
//!  8 format version  u32        4 payload length    u32
//! 12 zero            u32        8 CRC-64/NVME       u64  of salt, bytes 0..8, 16..40 and payload
//! 16 salt            u64       16 batch             u64
//! 24 CRC-64/NVME     u64       24 index             u64
//!                              32 kind u8, closes u8, zero [u8; 6]
//! ```
//!
//! The salt is random and goes into every checksum, so that bytes of clients inside a payload are never taken for
//! records. A batch is what one flush made durable; its last record closes it.

use crc_fast::{CrcAlgorithm, Digest};

pub(super) const FILE_HEADER_LEN: usize = 32;
pub(super) const HEADER_LEN: usize = 40;
pub(super) const MAGIC: [u8; 4] = *b"aLgR";
/// No entry is larger: proposals are limited far below.
pub(super) const PAYLOAD_MAX: usize = 64 * 1024 * 1024;

const FILE_MAGIC: [u8; 8] = *b"ashlrlog";
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    /// Entries from `index` on are gone.
    Truncate = 4,
    /// Entries up to and with `index` are gone.
    Purge = 5,
    /// Closes a batch that a crash had cut.
    Mark = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Entry, Self::Vote, Self::Committed, Self::Truncate, Self::Purge, Self::Mark]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) batch: u64,
    pub(super) index: u64,
    pub(super) closes: bool,
}

/// A random number of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(pub(super) u64);

pub(super) fn file_header(salt: Salt) -> [u8; FILE_HEADER_LEN] {
    let mut out = [0; FILE_HEADER_LEN];
    out[..8].copy_from_slice(&FILE_MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&salt.0.to_le_bytes());
    let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &out[..24]);
    out[24..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn parse_file_header(bytes: &[u8; FILE_HEADER_LEN]) -> Option<Salt> {
    let salt = Salt(u64_at(bytes, 16)?);
    (file_header(salt) == *bytes).then_some(salt)
}

/// Appends one record.
pub(super) fn write(out: &mut Vec<u8>, salt: Salt, head: Head, payload: &[u8]) {
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    let len = u32::try_from(payload.len()).expect("appends are refused above PAYLOAD_MAX");
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[16..24].copy_from_slice(&head.batch.to_le_bytes());
    header[24..32].copy_from_slice(&head.index.to_le_bytes());
    header[32] = head.kind as u8;
    header[33] = u8::from(head.closes);
    let crc = checksum(salt, &header, payload);
    header[8..16].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Length of the payload that a header announces, if it can be one.
pub(super) fn payload_len(header: &[u8; HEADER_LEN]) -> Option<usize> {
    let len = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let len = usize::try_from(len).ok()?;
    (header[..4] == MAGIC && len <= PAYLOAD_MAX).then_some(len)
}

/// The record's head if its checksum holds.
pub(super) fn verify(salt: Salt, header: &[u8; HEADER_LEN], payload: &[u8]) -> Option<Head> {
    let head = Head {
        kind: Kind::from_byte(header[32])?,
        batch: u64_at(header, 16)?,
        index: u64_at(header, 24)?,
        closes: header[33] == 1,
    };
    (u64_at(header, 8)? == checksum(salt, header, payload)).then_some(head)
}

fn checksum(salt: Salt, header: &[u8; HEADER_LEN], payload: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(&salt.0.to_le_bytes());
    digest.update(&header[..8]);
    digest.update(&header[16..]);
    digest.update(payload);
    digest.finalize()
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
