//! The words every other crate speaks: ids, keys, ranges, checksum values, versions and S3 limits.
//!
//! Owns no I/O, no clock and no randomness; every type proves its range when it is made.

pub mod body;
pub mod bucket;
pub mod checksum;
pub mod condition;
pub mod error;
pub mod etag;
pub mod ids;
pub mod key;
pub mod limits;
pub mod listing;
pub mod manifest;
pub mod object;
pub mod profile;
pub mod range;
pub mod service;
pub mod shard;
pub mod time;
pub mod upload;
pub mod version;

pub use body::{BodyError, BodyFrame, BodyStream, ReadStream};
pub use bucket::{BucketName, BucketNameError, Versioning};
pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumKind, ObjectChecksum};
pub use condition::{EtagCondition, ReadCondition, WriteCondition};
pub use error::ObjectError;
pub use etag::ETag;
pub use ids::{
    BlobId, BucketId, ChunkId, ClusterId, DriveId, DriveUuid, GroupId, Incarnation, Interval, MapEpoch,
    NodeId, PgId, ProfileId, ReplicaId, RequestId, Sequence, SessionId, ShardId, SlotIndex, VersionUid,
    WriteEpoch,
};
pub use key::{KeyError, ObjectKey};
pub use listing::{ListEntry, ListPage, ListQuery, UploadPage, UploadQuery, VersionPage, VersionQuery};
pub use manifest::{Blob, Chunk, Content, ExtentSource, Manifest, ManifestEntry, MissingSlot};
pub use object::{ObjectHeaders, ObjectMetadata, VersionInfo};
pub use profile::{FailureDomain, Profile, ProfileError};
pub use range::{ByteRange, RangeError, RangeRequest};
pub use shard::{ShardMeta, ShardOwner, ShardStat, UnitSum};
pub use time::Timestamp;
pub use upload::{CompletedPart, PartInfo, UploadId, UploadInfo};
pub use version::{VersionId, VersionIdError};
