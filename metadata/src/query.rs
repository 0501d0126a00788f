//! Questions to a group's tables, and their answers. Each is answered from one snapshot.

use crate::command::GarbageId;
use ashlar_placement::ClusterMap;
use ashlar_types::{
    Blob, BucketId, BucketName, Content, ListPage, ListQuery, MissingSlot, ObjectKey, PartInfo, Sequence,
    ShardOwner, Timestamp, UploadId, UploadInfo, UploadPage, UploadQuery, VersionId, VersionInfo,
    VersionPage, VersionQuery, Versioning, WriteEpoch,
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
            | Self::GroupState => false,
            Self::Buckets { .. }
            | Self::BucketRows
            | Self::Users
            | Self::List { .. }
            | Self::Versions { .. }
            | Self::Uploads { .. }
            | Self::Parts { .. }
            | Self::Garbage { .. }
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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    pub info: BucketInfo,
    pub phase: BucketPhase,
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
}
