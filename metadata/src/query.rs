//! Questions to a group's tables, and their answers. Each is answered from one snapshot.

#[cfg(test)]
mod golden;

use crate::{command::GarbageId, encoding::Extensions, event::Event, tables::record::FenceRecord};
use ashlar_placement::ClusterMap;
use ashlar_types::{
    Blob, BucketId, BucketName, Chunk, ChunkId, Content, Interval, ListPage, ListQuery, MissingSlot,
    ObjectKey, PartInfo, PgId, ProfileId, Sequence, ShardOwner, SlotIndex, Timestamp, UploadId, UploadInfo,
    UploadPage, UploadQuery, VersionId, VersionInfo, VersionPage, VersionQuery, Versioning, WriteEpoch,
    service::{AccessKey, BucketInfo, Quota, User},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Group 0.
    Map,
    /// Group 0: an active or reserved bucket by name.
    Bucket {
        name: BucketName,
    },
    /// Group 0: the active buckets of an owner, by name.
    Buckets {
        owner: String,
    },
    /// Group 0: all buckets, in any state; for finishing what a gateway began.
    BucketRows,
    AccessKey {
        id: String,
    },
    Users,

    /// Partition group: also tells whether the group knows and has not sealed the bucket.
    BucketState {
        bucket: BucketId,
    },
    /// A version with what its bytes are made of.
    Version {
        bucket: BucketId,
        key: ObjectKey,
        version: Option<VersionId>,
        content: ContentWanted,
    },
    List {
        bucket: BucketId,
        query: ListQuery,
    },
    Versions {
        bucket: BucketId,
        query: VersionQuery,
    },
    Uploads {
        bucket: BucketId,
        query: UploadQuery,
    },
    Upload {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
    },
    /// The upload and its parts after a number.
    Parts {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
        after: u16,
        limit: u32,
    },
    Counters {
        bucket: BucketId,
    },
    /// Garbage rows not younger than `before`, oldest first.
    Garbage {
        before: Timestamp,
        limit: u32,
    },
    /// Repair rows, in order, after one.
    Repairs {
        after: Option<MissingSlot>,
        limit: u32,
    },
    /// Any group: write epoch and clock.
    GroupState,
    /// Partition group: what a bucket holds, and what it may.
    BucketStats {
        bucket: BucketId,
    },
    /// Partition group: sealed buckets, which somebody has to finish removing.
    SealedBuckets,
    /// Chunks of a placement group, in order, after one.
    Reverse {
        pg: PgId,
        after: Option<ReversePosition>,
        limit: u32,
    },
    /// A chunk by the primary rows of what it was written for: whether it is needed, and where its shards are.
    Chunk {
        bucket: BucketId,
        key: ObjectKey,
        owner: ShardOwner,
        chunk: ChunkId,
    },
    /// What a placement group was fenced for.
    Fence {
        pg: PgId,
    },
    /// Rows that wait for their time, the oldest first of each kind.
    Due {
        limit: u32,
    },
    /// Events after a number.
    Outbox {
        after: u64,
        limit: u32,
    },
}

impl Query {
    /// Whether answering may read many rows.
    pub fn scans(&self) -> bool {
        match self {
            Self::Map
            | Self::Bucket { .. }
            | Self::AccessKey { .. }
            | Self::BucketState { .. }
            | Self::Version { .. }
            | Self::Upload { .. }
            | Self::Counters { .. }
            | Self::BucketStats { .. }
            | Self::Chunk { .. }
            | Self::Fence { .. }
            | Self::GroupState => false,
            Self::Buckets { .. }
            | Self::BucketRows
            | Self::Users
            | Self::List { .. }
            | Self::Versions { .. }
            | Self::Uploads { .. }
            | Self::Parts { .. }
            | Self::Garbage { .. }
            | Self::SealedBuckets
            | Self::Reverse { .. }
            | Self::Due { .. }
            | Self::Outbox { .. }
            | Self::Repairs { .. } => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentWanted {
    No,
    Yes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Map(Option<Box<ClusterMap>>),
    Bucket(Option<BucketRow>),
    Buckets(Vec<BucketRow>),
    AccessKey(Option<AccessKey>),
    Users(Vec<User>),
    BucketState(Option<BucketState>),
    Version(Box<VersionAnswer>),
    List(ListPage),
    Versions(VersionPage),
    Uploads(UploadPage),
    Upload(Option<Box<UploadInfo>>),
    Parts(Option<Box<PartsAnswer>>),
    Counters(Counters),
    Garbage(Vec<GarbageRow>),
    Repairs(Vec<RepairRow>),
    GroupState(GroupState),
    /// The group does not know the bucket.
    NoSuchBucket,
    BucketStats(BucketStats),
    SealedBuckets(Vec<BucketInfo>),
    Reverse(Vec<ReverseRow>),
    Chunk(Option<Box<ChunkAnswer>>),
    Fence(Option<Box<FenceRecord>>),
    Due(Vec<DueRow>),
    Outbox(Box<OutboxPage>),
}

/// A row of the reverse index within its placement group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReversePosition {
    pub owner: ShardOwner,
    pub chunk: ChunkId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReverseRow {
    pub position: ReversePosition,
    pub bucket: BucketId,
    pub key: ObjectKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkAnswer {
    pub profile: ProfileId,
    pub blob_len: u64,
    pub chunk: Chunk,
    /// Slots to repair, with the interval at which they were known bad.
    pub repairs: Vec<(SlotIndex, Interval)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DueRow {
    /// What the Complete answered is kept until the epoch is below the floor.
    CompletedUpload { epoch: WriteEpoch, bucket: BucketId, key: ObjectKey, upload: UploadId },
    /// That the bucket is gone is kept for a while.
    PurgedBucket { purged: Timestamp, bucket: BucketId },
}

/// Events `trimmed + 1 ..= last` are there. A reader that stands before `trimmed` has missed those between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxPage {
    pub events: Vec<OutboxRow>,
    pub trimmed: u64,
    pub last: u64,
    /// Events ever dropped before a reader trimmed them.
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    pub number: u64,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    pub info: BucketInfo,
    pub phase: BucketPhase,
    #[serde(skip)]
    pub kept: Extensions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketPhase {
    /// The name is taken, the group may not know the bucket yet.
    Reserved,
    Active,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketState {
    pub versioning: Versioning,
    pub sealed: bool,
    pub write_epoch: WriteEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionAnswer {
    NoSuchBucket,
    NoSuchKey {
        delete_marker: Option<VersionId>,
    },
    NoSuchVersion,
    Found {
        info: Box<VersionInfo>,
        sequence: Sequence,
        versioning: Versioning,
        content: Option<Content>,
        /// Of an object uploaded in parts; empty if content was not asked for.
        parts: Vec<PartInfo>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsAnswer {
    pub upload: UploadInfo,
    pub parts: Vec<PartInfo>,
    pub truncated: bool,
}

/// Exact, changed in the apply that changes what they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Live latest versions.
    pub objects: u64,
    /// Other versions that hold bytes.
    pub noncurrent: u64,
    pub delete_markers: u64,
    pub bytes: u64,
    pub uploads: u64,
    pub upload_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketStats {
    pub counters: Counters,
    pub quota: Quota,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageRow {
    pub id: GarbageId,
    pub blobs: Vec<Blob>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRow {
    pub slot: MissingSlot,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub owner: ShardOwner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    pub write_epoch: WriteEpoch,
    /// The oldest write epoch whose requests are still applied.
    pub floor: WriteEpoch,
    /// Last stamp applied.
    pub clock: Timestamp,
    /// Commands of a higher level are refused.
    pub feature_level: u32,
}
