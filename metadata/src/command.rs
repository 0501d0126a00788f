//! What the log of a group carries, and what applying it answers.
//!
//! Everything that an outcome depends on is in the command or in the tables: the state machine knows no clock and
//! no randomness, so salts, ids and stamps come with the command.

use crate::event::{EventRecording, OutboxLimits};
#[cfg(test)]
mod golden;

use ashlar_placement::{ClusterMap, Labels};
use ashlar_types::{
    BucketId, BucketName, Checksum, ChecksumAlgorithm, ChecksumKind, ChunkId, CompletedPart, Content,
    DriveId, DriveUuid, ETag, GroupId, Interval, MapEpoch, MissingSlot, NodeId, ObjectChecksum, ObjectKey,
    ObjectMetadata, PartInfo, PgId, RequestId, ShardOwner, SlotIndex, Timestamp, UploadId, UploadInfo,
    VersionId, VersionUid, Versioning, WriteCondition, WriteEpoch,
    service::{AccessKey, BucketInfo, DeleteKey, Deleted, Quota},
};
use serde::{Deserialize, Serialize};

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// With it a retry is recognised; housekeeping that is idempotent by itself carries none.
    pub request: Option<RequestId>,
    /// The leader's group clock at the proposal. Applying takes the greater of it and the last stamp.
    pub stamp: Timestamp,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    System(SystemCommand),
    Partition(PartitionCommand),
    /// Any group: raises the write epoch by one if it is still `from`; outcomes older than the floor are forgotten.
    AdvanceWriteEpoch {
        from: WriteEpoch,
    },
    /// Any group: read by a leader that wants to know that it can still commit.
    Nothing,
    /// Any group: every replica keeps the digests that its tables have at this entry, to be compared with those of the
    /// others. Marks count up; one that is not greater than the last is passed over, so that a mark names one entry.
    DigestMark {
        mark: u64,
    },
    /// Any group: commands and rows up to this level may be used from here on. Never lowered. Proposed when all replicas
    /// run a release that knows the level; one that does not stops here rather than guess.
    SetFeatureLevel {
        level: u32,
    },
}

/// The level that groups begin with.
pub const FEATURE_LEVEL_FIRST: u32 = 1;
/// The highest level that this release understands.
pub const FEATURE_LEVEL: u32 = 1;

impl Command {
    /// From which level of its group on the command is understood by all replicas. A new command is given the level
    /// that its release adds.
    pub fn feature_level(&self) -> u32 {
        match self {
            // What it takes to get anywhere.
            Self::Nothing | Self::AdvanceWriteEpoch { .. } | Self::SetFeatureLevel { .. } => 0,
            Self::System(_) | Self::Partition(_) | Self::DigestMark { .. } => 1,
        }
    }

    /// What kind of command it is, never what is in it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::AdvanceWriteEpoch { .. } => "advance write epoch",
            Self::DigestMark { .. } => "digest mark",
            Self::SetFeatureLevel { .. } => "set feature level",
            Self::System(command) => match command {
                SystemCommand::Form { .. } => "form",
                SystemCommand::UpdateMap { .. } => "update map",
                SystemCommand::JoinNode(_) => "join node",
                SystemCommand::PutJoinToken { .. } => "put join token",
                SystemCommand::ReserveBucket { .. } => "reserve bucket",
                SystemCommand::ActivateBucket { .. } => "activate bucket",
                SystemCommand::RemoveBucket { .. } => "remove bucket",
                SystemCommand::PutAccessKey { .. } => "put access key",
                SystemCommand::DeleteAccessKey { .. } => "delete access key",
                SystemCommand::AbandonBucket { .. } => "abandon bucket",
            },
            Self::Partition(command) => match command {
                PartitionCommand::CreateBucket { .. } => "create bucket",
                PartitionCommand::SealBucket { .. } => "seal bucket",
                PartitionCommand::UnsealBucket { .. } => "unseal bucket",
                PartitionCommand::PurgeBucket { .. } => "purge bucket",
                PartitionCommand::SetVersioning { .. } => "set versioning",
                PartitionCommand::SetQuota { .. } => "set quota",
                PartitionCommand::FencePg(_) => "fence placement group",
                PartitionCommand::SetEvents { .. } => "set events",
                PartitionCommand::SetOutboxLimits(_) => "set outbox limits",
                PartitionCommand::TrimOutbox { .. } => "trim outbox",
                PartitionCommand::PutVersion(_) => "put version",
                PartitionCommand::DeleteVersions { .. } => "delete versions",
                PartitionCommand::CreateUpload(_) => "create upload",
                PartitionCommand::PutPart(_) => "put part",
                PartitionCommand::CompleteUpload(_) => "complete upload",
                PartitionCommand::AbortUpload { .. } => "abort upload",
                PartitionCommand::FillSlot(_) => "fill slot",
                PartitionCommand::ReportSlots { .. } => "report slots",
                PartitionCommand::QueueGarbage { .. } => "queue garbage",
                PartitionCommand::GarbageDone { .. } => "garbage done",
            },
        }
    }
}

/// Group 0: the map, the bucket directory, identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemCommand {
    /// The first entry of a cluster.
    Form {
        map: Box<ClusterMap>,
    },
    /// Replaces the map if its epoch is still `expected`; the new one must be `expected + 1`.
    UpdateMap {
        expected: MapEpoch,
        map: Box<ClusterMap>,
    },
    /// Adds a node and its drives under the next free numbers and makes it a learner of group 0. A node whose drive
    /// uuids are all known already gets its old numbers again.
    JoinNode(JoinNode),
    PutJoinToken {
        token_hash: [u8; 32],
        expires: Timestamp,
    },
    /// Takes the name; the bucket can be used after `ActivateBucket`. Answers the bucket that has the name if it
    /// belongs to the same owner.
    ReserveBucket {
        name: BucketName,
        owner: String,
        location: String,
        group: GroupId,
    },
    ActivateBucket {
        bucket: BucketId,
    },
    /// Frees the name of a bucket that its group has sealed.
    RemoveBucket {
        bucket: BucketId,
    },
    PutAccessKey {
        key: AccessKey,
    },
    DeleteAccessKey {
        id: String,
    },
    /// Frees the name of a bucket that was reserved and that its group will not make any more. Does nothing to an active
    /// one.
    AbandonBucket {
        bucket: BucketId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNode {
    pub token_hash: [u8; 32],
    pub rpc: String,
    pub s3: String,
    pub labels: Labels,
    pub drives: Vec<JoinDrive>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinDrive {
    pub uuid: DriveUuid,
    pub capacity_bytes: u64,
}

/// Groups 1..: objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionCommand {
    /// Idempotent.
    CreateBucket {
        bucket: BucketInfo,
    },
    /// Refuses new objects from here on, if there is none (versions and delete markers count, open uploads do not:
    /// the purge aborts them).
    SealBucket {
        bucket: BucketId,
    },
    /// Back to use, when a delete gave up before the name was removed.
    UnsealBucket {
        bucket: BucketId,
    },
    /// Drops at most `limit` rows of a sealed bucket, and the bucket itself when none is left. Refused with
    /// `BucketNotEmpty` if it is not sealed.
    PurgeBucket {
        bucket: BucketId,
        limit: u32,
    },
    SetVersioning {
        bucket: BucketId,
        versioning: Versioning,
    },
    PutVersion(Box<PutVersion>),
    /// At most 1000, applied in order, one result each.
    DeleteVersions {
        bucket: BucketId,
        keys: Vec<DeleteKey>,
        owner: String,
        salt: u128,
    },
    CreateUpload(Box<CreateUpload>),
    PutPart(Box<PutPart>),
    CompleteUpload(Box<CompleteUpload>),
    AbortUpload {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
    },
    /// A slot that was missing at the commit has been written after all, or repaired. Answers a repetition like the
    /// first; refused with `NoSuchVersion` when nothing needs the shard, so that its writer deletes it: the version
    /// or part is gone, another drive was faster, or the slot was found bad under a later interval.
    FillSlot(FillSlot),
    /// Shards found missing or corrupt by a reader. The manifest keeps naming their drives until they are repaired.
    ReportSlots {
        bucket: BucketId,
        key: ObjectKey,
        owner: ShardOwner,
        slots: Vec<MissingSlot>,
    },
    /// Blobs that a writer gave up without a commit and could not delete itself.
    QueueGarbage {
        blobs: Vec<ashlar_types::Blob>,
    },
    /// Their shards are gone from all drives.
    GarbageDone {
        rows: Vec<GarbageId>,
    },
    /// Writes that would make the bucket hold more are refused from here on.
    SetQuota {
        bucket: BucketId,
        quota: Quota,
    },
    /// Slots were moved: what is committed from here on under an older interval has its shards on the drives they were
    /// moved away from treated as missing, or is refused with `Retry`.
    FencePg(FencePg),
    /// Whether what happens to the bucket's objects is put in the outbox.
    SetEvents {
        bucket: BucketId,
        recording: EventRecording,
    },
    /// Of the group.
    SetOutboxLimits(OutboxLimits),
    /// A reader has passed on all events up to this one. Answers `Purged`.
    TrimOutbox {
        through: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutVersion {
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub uid: VersionUid,
    /// Becomes part of the S3 version id.
    pub salt: u128,
    pub condition: WriteCondition,
    pub metadata: ObjectMetadata,
    pub size: u64,
    pub etag: ETag,
    pub crc64: u64,
    pub checksum: Option<ObjectChecksum>,
    /// Repair rows follow from its empty slots.
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateUpload {
    pub bucket: BucketId,
    pub key: ObjectKey,
    /// The version that Complete will make.
    pub uid: VersionUid,
    pub salt: u128,
    pub metadata: ObjectMetadata,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    pub condition: WriteCondition,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutPart {
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub upload: UploadId,
    pub part_number: u16,
    pub size: u64,
    /// The part's tag: its MD5.
    pub md5: [u8; 16],
    pub crc64: u64,
    pub checksum: Option<Checksum>,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteUpload {
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub upload: UploadId,
    pub salt: u128,
    pub parts: Vec<CompletedPart>,
    pub condition: WriteCondition,
    /// Of the whole object, as the client sent it: must agree with what the parts give.
    pub checksum: Option<Checksum>,
    pub checksum_kind: Option<ChecksumKind>,
    pub size: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSlot {
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub owner: ShardOwner,
    pub chunk: ChunkId,
    pub slot: SlotIndex,
    pub interval: Interval,
    pub drive: DriveId,
}

/// In every metadata group, before the verifying pass of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencePg {
    pub pg: PgId,
    /// The placement group's, since the move began.
    pub interval: Interval,
    /// Shards that a chunk of its profile needs to be committed: k + ceil(m/2).
    pub quorum: u8,
    pub superseded: Vec<SupersededSlot>,
}

/// A slot and the drive that takes no more shards for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SupersededSlot {
    pub slot: SlotIndex,
    pub drive: DriveId,
}

/// A gc row: rows sort by the time since which they are garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GarbageId {
    pub since: Timestamp,
    pub number: u64,
}

/// What applying answers. Kept with the request id, so that a retry gets the same.
pub type Outcome = Result<Done, Refusal>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    Nothing,
    Map(MapEpoch),
    Joined {
        node: NodeId,
        drives: Vec<(DriveUuid, DriveId)>,
        map: Box<ClusterMap>,
    },
    Bucket(BucketInfo),
    /// More rows are left to purge.
    Purged {
        more: bool,
    },
    Written(Box<WrittenVersion>),
    Deleted(Vec<Result<Deleted, Refusal>>),
    Upload(Box<UploadInfo>),
    Part(PartInfo),
    WriteEpoch(WriteEpoch),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenVersion {
    pub etag: ETag,
    /// `None` on a bucket that was never versioned.
    pub version_id: Option<VersionId>,
    pub last_modified: Timestamp,
    pub size: u64,
    pub checksum: Option<ObjectChecksum>,
}

/// Decided at apply: nothing was changed, but for the garbage of the refused write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The write epoch of the request is below the floor: never applied, its blobs are not touched.
    Expired,
    MapChanged {
        epoch: MapEpoch,
    },
    BadToken,
    DriveKnownElsewhere {
        uuid: DriveUuid,
    },
    NoSuchBucket,
    BucketTaken,
    BucketSealed,
    BucketNotEmpty,
    NoSuchKey {
        delete_marker: Option<VersionId>,
    },
    NoSuchVersion,
    NoSuchUpload,
    InvalidPart {
        part_number: u16,
    },
    InvalidPartOrder,
    EntityTooSmall {
        part_number: u16,
    },
    EntityTooLarge,
    PreconditionFailed,
    BadChecksum(ChecksumAlgorithm),
    /// The upload was created for other checksums, or the size given does not match.
    InvalidChecksum,
    SizeMismatch,
    /// A command for another kind of group, or of a newer feature level.
    NotUnderstood,
    QuotaExceeded,
    /// Placement changed while the bytes were written, and too few of them are where they belong: write them again.
    Retry,
    /// It was purged, or its reservation is too old to be used.
    BucketGone,
}
