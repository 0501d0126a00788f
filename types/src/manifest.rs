//! Manifests: which bytes, on which drives, make up a version.

use crate::ids::{BlobId, ChunkId, DriveId, GroupId, Interval, PgId, ProfileId, SlotIndex, WriteEpoch};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The ordered entries that make up a version. A plain PUT has one (none when it is empty), a multipart object
/// one a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub entries: Vec<ManifestEntry>,
}

/// `len` bytes of the object; entries follow each other without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// 0 for an object that was not uploaded in parts.
    pub part_number: u16,
    pub len: u64,
    /// CRC-64/NVME of these bytes.
    pub crc64: u64,
    pub source: ExtentSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtentSource {
    /// Bytes `offset..offset + len` of the version's (or part's) inline row.
    Inline { offset: u32 },
    /// Bytes `offset..offset + len` of a blob.
    Blob { blob: Blob, offset: u64 },
}

/// Bytes written once, never changed, cut into chunks of the profile's `chunk_size`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub id: BlobId,
    pub len: u64,
    /// CRC-64/NVME of all its bytes.
    pub crc64: u64,
    pub profile: ProfileId,
    /// The group that the blob was written for and its write epoch then: what decides whether a shard that no
    /// row names is an orphan.
    pub group: GroupId,
    pub write_epoch: WriteEpoch,
    pub chunks: Vec<Chunk>,
}

/// Where one chunk's shards are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub pg: PgId,
    /// The placement group's interval when the chunk was written.
    pub interval: Interval,
    /// Drive per slot, k+m of them; `None` is a slot that was not acknowledged and awaits repair.
    pub slots: Vec<Option<DriveId>>,
}

/// A slot that a commit left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MissingSlot {
    pub chunk: ChunkId,
    pub slot: SlotIndex,
    pub pg: PgId,
    pub interval: Interval,
}

/// What a version or a part is made of, as a commit carries it: entries, and the bytes of the inline ones in
/// order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub manifest: Manifest,
    pub inline: Bytes,
}

impl Manifest {
    pub fn len(&self) -> u64 {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.entries.iter().filter_map(|entry| match &entry.source {
            ExtentSource::Blob { blob, .. } => Some(blob),
            ExtentSource::Inline { .. } => None,
        })
    }
}

impl Blob {
    /// Slots without a shard: what the repair table must name.
    pub fn missing(&self) -> impl Iterator<Item = MissingSlot> + '_ {
        self.chunks.iter().zip(0u32..).flat_map(move |(chunk, index)| {
            chunk.slots.iter().zip(0u8..).filter(|(drive, _)| drive.is_none()).map(move |(_, slot)| {
                MissingSlot {
                    chunk: ChunkId { blob: self.id, index },
                    slot: SlotIndex(slot),
                    pg: chunk.pg,
                    interval: chunk.interval,
                }
            })
        })
    }
}
