//! What a shard says about itself, and what a drive says about a shard.

use crate::{
    ids::{BucketId, GroupId, Interval, PgId, ShardId, VersionUid, WriteEpoch},
    key::ObjectKey,
    profile::Profile,
    upload::UploadId,
};
use serde::{Deserialize, Serialize};

/// Written with every shard, so that a drive can be reconciled, and in the worst case metadata rebuilt, from
/// drives alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMeta {
    pub id: ShardId,
    pub pg: PgId,
    pub interval: Interval,
    pub profile: Profile,
    /// Data bytes of the whole chunk; 0 if the writer did not know them when it began (a body of unknown length), no
    /// chunk being empty: then the units of the shards tell.
    pub chunk_len: u64,
    pub group: GroupId,
    pub write_epoch: WriteEpoch,
    pub owner: ShardOwner,
    pub bucket: BucketId,
    pub key: ObjectKey,
}

/// What the shard was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardOwner {
    Version(VersionUid),
    Part { upload: UploadId, part_number: u16 },
}

/// Length and checksum of one stripe unit, without padding. In a parity shard `data` carries the CRCs of the k
/// data units of the stripe, so that bytes reconstructed from it are verified too; in a data shard it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSum {
    pub len: u32,
    /// CRC-64/NVME.
    pub crc64: u64,
    pub data: Vec<u64>,
}

/// A shard as a drive lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStat {
    pub meta: ShardMeta,
    /// Payload bytes.
    pub len: u64,
    pub units: u32,
}
