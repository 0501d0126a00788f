//! How the data path reaches drives: the only way it does.
//!
//! Implemented by `node` (local drives by call, remote ones by gRPC) and by an in-memory cluster in tests.

use ashlar_types::{DriveId, Interval, ShardId, ShardMeta, ShardStat, UnitSum};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;

/// One stripe unit with its checksum, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub bytes: Bytes,
    pub sum: UnitSum,
}

/// Why a drive did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The drive does not own the slot any more: refresh the map.
    #[error("the drive does not own this slot")]
    NotMine,
    #[error("the placement group is at {current:?}")]
    StaleInterval { current: Interval },
    /// Full queue or full drive: another drive may take it.
    #[error("the drive is overloaded or full")]
    Overloaded,
    /// A unit fails its checksum: its bytes are not returned.
    #[error("unit {unit} is corrupt")]
    Corrupt { unit: u32 },
    #[error("no such shard")]
    NotFound,
    /// The drive is out of service.
    #[error("the drive has failed")]
    Failed,
    /// The node does not answer.
    #[error("the node is unreachable")]
    Unreachable,
}

#[async_trait]
pub trait ShardIo: Send + Sync + 'static {
    /// Opens a shard for writing; the drive checks interval and ownership here. Dropping the writer without commit
    /// leaves nothing.
    async fn put(&self, drive: DriveId, meta: ShardMeta) -> Result<Box<dyn ShardSink>, ShardError>;

    /// Units of one shard, each verified by the drive. The stream is bounded: a slow reader holds the drive back.
    async fn get(
        &self,
        drive: DriveId,
        shard: ShardId,
        units: Range<u32>,
    ) -> Result<Box<dyn ShardSource>, ShardError>;

    /// Durable on return; shards that do not exist are fine.
    async fn delete(&self, drive: DriveId, shards: Vec<ShardId>) -> Result<(), ShardError>;

    async fn list(
        &self,
        drive: DriveId,
        after: Option<ShardId>,
        limit: u32,
    ) -> Result<Vec<ShardStat>, ShardError>;

    async fn stat(&self, drive: DriveId, shard: ShardId) -> Result<Option<ShardStat>, ShardError>;

    /// Whether the drive is known to be out of reach or out of service now, without asking it.
    fn is_usable(&self, drive: DriveId) -> bool;
}

#[async_trait]
pub trait ShardSink: Send {
    /// Waits while the drive's queue is full.
    async fn append(&mut self, unit: Unit) -> Result<(), ShardError>;

    /// Durable on return.
    async fn commit(self: Box<Self>) -> Result<(), ShardError>;
}

#[async_trait]
pub trait ShardSource: Send {
    /// The next unit; `None` after the last.
    async fn next(&mut self) -> Result<Option<Unit>, ShardError>;
}
