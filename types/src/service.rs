//! Questions to the object service, in the words of S3, free of its protocol: what the S3 front end asks and the
//! data path answers.

use crate::{
    body::{BodyStream, ReadStream},
    bucket::{BucketName, Versioning},
    checksum::{Checksum, ChecksumAlgorithm, ChecksumKind, ObjectChecksum},
    condition::{ReadCondition, WriteCondition},
    etag::ETag,
    ids::{BucketId, GroupId},
    key::ObjectKey,
    object::{ObjectMetadata, VersionInfo},
    range::{ByteRange, RangeRequest},
    time::Timestamp,
    upload::{CompletedPart, PartInfo, UploadId, UploadInfo},
    version::VersionId,
};
use serde::{Deserialize, Serialize};

/// A bucket as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    pub id: BucketId,
    pub name: BucketName,
    /// User id.
    pub owner: String,
    pub created: Timestamp,
    /// As the client gave it; empty for the default region.
    pub location: String,
    /// The group of its (first) partition.
    pub group: GroupId,
}

/// An identity that may sign requests.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
    pub user: User,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    pub display_name: String,
    pub email: String,
}

impl std::fmt::Debug for AccessKey {
    /// The secret is never shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("user", &self.user.id).finish_non_exhaustive()
    }
}

/// A checksum that the client declares for a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredChecksum {
    pub algorithm: ChecksumAlgorithm,
    pub expected: ExpectedChecksum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedChecksum {
    /// In a header.
    Value(Checksum),
    /// In the trailer named [`ChecksumAlgorithm::header`]; missing there is an error.
    Trailer,
    /// Only the algorithm was named: compute and keep it.
    Compute,
}

/// The bytes of a PutObject or UploadPart.
pub struct Payload {
    pub body: BodyStream,
    /// Decoded length, if the client declared it.
    pub len: Option<u64>,
    pub content_md5: Option<[u8; 16]>,
    pub checksum: Option<DeclaredChecksum>,
}

pub struct PutObject {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub metadata: ObjectMetadata,
    pub condition: WriteCondition,
    pub payload: Payload,
}

/// What a committed write answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub etag: ETag,
    /// `None` on a bucket that was never versioned.
    pub version_id: Option<VersionId>,
    pub last_modified: Timestamp,
    pub size: u64,
    pub checksum: Option<ObjectChecksum>,
}

/// Which bytes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    Whole,
    Range(RangeRequest),
    Part(u16),
}

pub struct GetObject {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub version: Option<VersionId>,
    pub selection: Selection,
    pub condition: ReadCondition,
    /// HEAD: no body is read.
    pub head: bool,
}

/// A version and its selected bytes.
pub struct ObjectRead {
    pub info: VersionInfo,
    /// The bucket was versioned at some time, so the version id is shown.
    pub show_version_id: bool,
    pub range: ByteRange,
    /// The condition `If-None-Match` or `If-Modified-Since` failed: 304, no body. Other failed conditions are
    /// `ObjectError::PreconditionFailed`.
    pub not_modified: bool,
    /// Checksum and size of the selected part for `Selection::Part`.
    pub part: Option<PartInfo>,
    /// `None` for HEAD and 304.
    pub body: Option<ReadStream>,
}

pub struct CopySource {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub version: Option<VersionId>,
    pub condition: ReadCondition,
}

pub struct CopyObject {
    pub source: CopySource,
    pub bucket: BucketName,
    pub key: ObjectKey,
    /// REPLACE: this; COPY: `None`, the source's (with `owner` as the new owner).
    pub replace_metadata: Option<ObjectMetadata>,
    pub owner: String,
    pub condition: WriteCondition,
    pub checksum: Option<ChecksumAlgorithm>,
}

pub struct Copied {
    pub written: Written,
    pub source_version_id: Option<VersionId>,
}

/// One key of a DeleteObject or DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteKey {
    pub key: ObjectKey,
    pub version: Option<VersionId>,
    pub condition: WriteCondition,
}

/// What became of it. Deleting what does not exist succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub key: ObjectKey,
    /// The version id that was asked for, or `None`.
    pub version_id: Option<VersionId>,
    /// The deleted version was a delete marker, or a delete marker was made: its id.
    pub delete_marker: Option<VersionId>,
}

pub struct CreateUpload {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub metadata: ObjectMetadata,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// Kept, and evaluated again at Complete.
    pub condition: WriteCondition,
}

pub struct UploadPart {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub upload: UploadId,
    /// 1 to 10000.
    pub part_number: u16,
    pub payload: Payload,
}

pub struct UploadPartCopy {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub upload: UploadId,
    pub part_number: u16,
    pub source: CopySource,
    /// `bytes=first-last` of `x-amz-copy-source-range`; must lie within the source.
    pub range: Option<RangeRequest>,
}

pub struct CompleteUpload {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub upload: UploadId,
    pub parts: Vec<CompletedPart>,
    pub condition: WriteCondition,
    /// Checksum of the whole object, if the client sent one.
    pub checksum: Option<Checksum>,
    pub checksum_kind: Option<ChecksumKind>,
    /// `x-amz-mp-object-size`.
    pub size: Option<u64>,
}

pub struct ListParts {
    pub bucket: BucketName,
    pub key: ObjectKey,
    pub upload: UploadId,
    pub part_number_after: u16,
    pub max_parts: u32,
}

pub struct PartPage {
    pub upload: UploadInfo,
    pub parts: Vec<PartInfo>,
    /// There are more after the last.
    pub truncated: bool,
}

/// What a bucket may hold at most; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Of all versions, and of parts that are not completed yet.
    pub bytes: Option<u64>,
    /// Versions that hold bytes; delete markers do not count.
    pub objects: Option<u64>,
}

/// A bucket's state besides its directory row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketConfig {
    pub versioning: Versioning,
}
