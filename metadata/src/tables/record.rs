//! Values of the tables. A changed field is a new format version; a new one goes behind the others under a tag; see
//! `encoding`. `kept` holds those that this release does not know.
//!
//! `Requests` holds an [`Outcome`](crate::command::Outcome), `Directory` a
//! [`BucketRow`](crate::query::BucketRow) by name and a name by number, `Map` the cluster map, `Identities` an
//! access key, `Null` and `Owners` a sequence, `Outbox` an [`Event`](crate::event::Event), `Inline` bytes as they are,
//! `Due` nothing.

use crate::{
    command::FEATURE_LEVEL_FIRST,
    encoding::{Extensions, Row, kept},
    event::{EventRecording, OutboxLimits},
    query::Counters,
};
use ashlar_types::{
    Blob, BucketId, Checksum, ChecksumAlgorithm, ChecksumKind, Content, DriveId, DriveUuid, ETag, GroupId,
    Interval, Manifest, NodeId, ObjectChecksum, ObjectKey, ObjectMetadata, PartInfo, PgId, Sequence,
    ShardOwner, SlotIndex, Timestamp, UploadId, UploadInfo, VersionId, VersionInfo, VersionUid, Versioning,
    WriteCondition, WriteEpoch,
    service::{BucketInfo, Quota},
};
use serde::{Deserialize, Serialize};

/// `Meta`, row `group`: what is counted for the group as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The greatest stamp applied.
    pub clock: Timestamp,
    pub write_epoch: WriteEpoch,
    /// Number of the next row of `Gc`.
    pub next_garbage: u64,
    /// Group 0: the next bucket.
    pub next_bucket: u64,
    /// Rows of `Requests` of epochs below are gone.
    pub requests_pruned: WriteEpoch,
    /// The same for `Completed`.
    pub completed_pruned: WriteEpoch,
    /// What commands and rows all replicas understand: commands of a higher level are refused.
    pub feature_level: u32,
    pub outbox: OutboxState,
    #[serde(skip)]
    pub kept: Extensions,
}

/// Which events are in `Outbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// Number of the newest event; 0: there was none.
    pub last: u64,
    /// Those up to this one are gone.
    pub trimmed: u64,
    /// Of the rows that are there, keys included.
    pub bytes: u64,
    /// Dropped before they were trimmed.
    pub lost: u64,
    pub limits: OutboxLimits,
}

/// `Current` and `Versions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    pub sequence: Sequence,
    pub version_id: VersionId,
    pub last_modified: Timestamp,
    /// When a newer version took its place; `None` while it is the latest.
    pub noncurrent_since: Option<Timestamp>,
    pub body: VersionBody,
    #[serde(skip)]
    pub kept: Extensions,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionBody {
    Object(Box<ObjectRecord>),
    DeleteMarker { owner: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    pub uid: VersionUid,
    pub size: u64,
    pub etag: ETag,
    pub crc64: u64,
    pub metadata: ObjectMetadata,
    pub checksum: Option<ObjectChecksum>,
    /// The upload it was made by, and how many parts it has.
    pub upload: Option<(UploadId, u32)>,
    pub stored: Stored,
}

/// In which rows the bytes of a version are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// There are none.
    Nothing,
    /// `Inline` holds all of them, as one entry of part 0.
    Inline,
    /// `Manifest` has the entries, and `Inline` the bytes of the inline ones, if there are any.
    Manifest,
}

/// `Manifest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    pub manifest: Manifest,
    /// Of an object uploaded in parts: an empty part has no entry.
    pub parts: Vec<PartInfo>,
    #[serde(skip)]
    pub kept: Extensions,
}

/// `Uploads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    pub uid: VersionUid,
    pub initiated: Timestamp,
    pub metadata: ObjectMetadata,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    pub condition: WriteCondition,
}

/// `Parts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub size: u64,
    pub md5: [u8; 16],
    pub crc64: u64,
    pub checksum: Option<Checksum>,
    pub last_modified: Timestamp,
    pub content: Content,
    #[serde(skip)]
    pub kept: Extensions,
}

/// `Completed`: a Complete that names the same parts gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRecord {
    /// BLAKE3 over part numbers and tags.
    pub parts_digest: [u8; 32],
    pub written: crate::command::WrittenVersion,
}

/// `Reverse`: what the chunk is a part of; the owner is in the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReverseRecord {
    pub bucket: BucketId,
    pub key: ObjectKey,
}

/// `Repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRecord {
    pub pg: PgId,
    pub interval: Interval,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub owner: ShardOwner,
    /// The drive that the manifest names, where a reader found no good shard; `None` for a slot that was never
    /// acknowledged.
    pub bad_drive: Option<DriveId>,
    #[serde(skip)]
    pub kept: Extensions,
}

/// `Gc`.
pub type GarbageRecord = Vec<Blob>;

/// `Counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRecord {
    /// Of the next version or upload.
    pub next_sequence: Sequence,
    pub counters: Counters,
    #[serde(skip)]
    pub kept: Extensions,
}

/// `Buckets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    pub info: BucketInfo,
    pub versioning: Versioning,
    pub sealed: bool,
    pub quota: Quota,
    pub events: EventRecording,
    #[serde(skip)]
    pub kept: Extensions,
}

/// `Purged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgedRecord {
    pub purged: Timestamp,
}

/// `Fences`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRecord {
    /// Of the last fence.
    pub interval: Interval,
    /// Shards that a chunk needs to be committed.
    pub quorum: u8,
    /// In order of slot and drive.
    pub superseded: Vec<Superseded>,
    #[serde(skip)]
    pub kept: Extensions,
}

/// A drive that a slot was moved away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    pub slot: SlotIndex,
    pub drive: DriveId,
    /// Shards written there under older intervals do not count.
    pub since: Interval,
}

/// `Tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub expires: Timestamp,
    pub used: Option<TokenUse>,
    #[serde(skip)]
    pub kept: Extensions,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    pub node: NodeId,
    /// In order.
    pub drives: Vec<DriveUuid>,
}

kept!(
    GroupRecord,
    VersionRecord,
    ManifestRecord,
    PartRecord,
    RepairRecord,
    FenceRecord,
    CounterRecord,
    BucketRecord,
    TokenRecord,
    crate::query::BucketRow,
);

// Written once.
impl Row for UploadRecord {}
impl Row for CompletedRecord {}
impl Row for ReverseRecord {}
impl Row for PurgedRecord {}

impl VersionRecord {
    pub fn is_null(&self) -> bool {
        self.version_id == VersionId::Null
    }

    pub fn is_delete_marker(&self) -> bool {
        self.object().is_none()
    }

    pub fn object(&self) -> Option<&ObjectRecord> {
        match &self.body {
            VersionBody::Object(object) => Some(object),
            VersionBody::DeleteMarker { .. } => None,
        }
    }

    /// Bytes it counts for.
    pub fn size(&self) -> u64 {
        self.object().map_or(0, |object| object.size)
    }

    pub fn into_info(self, key: ObjectKey, is_latest: bool) -> VersionInfo {
        let Self { version_id, last_modified, body, sequence: _, noncurrent_since: _, kept: _ } = self;
        match body {
            VersionBody::Object(object) => VersionInfo {
                key,
                version_id,
                uid: object.uid,
                is_latest,
                delete_marker: false,
                size: object.size,
                etag: object.etag,
                last_modified,
                metadata: object.metadata,
                checksum: object.checksum,
                crc64: Some(object.crc64),
                parts_count: object.upload.map(|(_, parts)| parts),
            },
            VersionBody::DeleteMarker { owner } => VersionInfo {
                key,
                version_id,
                uid: VersionUid::default(),
                is_latest,
                delete_marker: true,
                size: 0,
                etag: ETag::parse(""),
                last_modified,
                metadata: ObjectMetadata { owner, ..ObjectMetadata::default() },
                checksum: None,
                crc64: None,
                parts_count: None,
            },
        }
    }
}

impl ObjectRecord {
    /// What the shards of an entry of this version were written for.
    pub fn owner(&self, part_number: u16) -> ShardOwner {
        match self.upload {
            Some((upload, _)) => ShardOwner::Part { upload, part_number },
            None => ShardOwner::Version(self.uid),
        }
    }
}

impl UploadRecord {
    pub fn into_info(self, key: ObjectKey, upload: UploadId) -> UploadInfo {
        UploadInfo {
            key,
            upload,
            initiated: self.initiated,
            metadata: self.metadata,
            checksum: self.checksum,
        }
    }
}

impl PartRecord {
    pub fn info(&self, part_number: u16) -> PartInfo {
        PartInfo {
            part_number,
            size: self.size,
            etag: ETag::from_md5(self.md5),
            last_modified: self.last_modified,
            checksum: self.checksum.clone(),
        }
    }
}

impl GroupRecord {
    pub fn new(group: GroupId) -> Self {
        // Buckets are numbered from 1; other groups make none.
        Self {
            next_bucket: u64::from(group == GroupId::SYSTEM),
            feature_level: FEATURE_LEVEL_FIRST,
            ..Self::default()
        }
    }

    /// The oldest write epoch whose requests are still applied.
    pub fn floor(&self) -> WriteEpoch {
        WriteEpoch(self.write_epoch.0.saturating_sub(FLOOR_DISTANCE))
    }
}

/// Write epochs are about ten minutes long: the floor is a day behind.
pub const FLOOR_DISTANCE: u64 = 144;
