//! How the object service refuses. One variant for each thing that a caller does differently.

use crate::{body::BodyError, checksum::ChecksumAlgorithm, version::VersionId};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("no such bucket")]
    NoSuchBucket,
    /// The name is taken by another owner.
    #[error("the bucket name is taken")]
    BucketAlreadyExists,
    /// By the caller itself.
    #[error("the bucket exists and is yours")]
    BucketAlreadyOwnedByYou,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// Being created or deleted: retry.
    #[error("the bucket is being created or deleted")]
    BucketBusy,
    #[error("the caller's buckets are at their limit")]
    TooManyBuckets,
    #[error("the bucket's quota does not allow it")]
    QuotaExceeded,
    #[error("no such key")]
    NoSuchKey {
        /// The latest version is this delete marker.
        delete_marker: Option<VersionId>,
    },
    #[error("no such version")]
    NoSuchVersion,
    /// The version named is a delete marker: it can be deleted, not read.
    #[error("the version is a delete marker")]
    IsDeleteMarker { version_id: VersionId },
    #[error("no such upload")]
    NoSuchUpload,
    #[error("part {part_number} was not uploaded or does not match")]
    InvalidPart { part_number: u16 },
    #[error("parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {part_number} is smaller than a part may be")]
    EntityTooSmall { part_number: u16 },
    #[error("the object is larger than an object may be")]
    EntityTooLarge,
    #[error("a precondition failed")]
    PreconditionFailed,
    /// A conditional write raced with another.
    #[error("a conflicting conditional operation is in progress")]
    ConditionalConflict,
    #[error("the body does not match its Content-MD5")]
    BadContentMd5,
    #[error("the body does not match its {} checksum", .0.name())]
    BadChecksum(ChecksumAlgorithm),
    /// A checksum value that does not parse, is missing from the promised trailer, or is not of the upload's kind.
    #[error("the declared checksum is invalid: {0}")]
    InvalidChecksum(&'static str),
    #[error("the range names no byte of the object")]
    InvalidRange,
    #[error("part {part_number} is not a part of the object")]
    InvalidPartNumber { part_number: u16 },
    #[error("the request body failed: {0}")]
    Body(#[from] BodyError),
    /// Memory, queues or drives are full for now: try again after a moment.
    #[error("overloaded: {0}")]
    SlowDown(&'static str),
    /// No quorum, no leader or too few drives: nothing was decided.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// The command may or may not have been applied; the client has to look.
    #[error("the outcome is not known: {0}")]
    Ambiguous(&'static str),
    /// More shards than parity are unreadable: the data may be lost.
    #[error("too few shards are readable")]
    Unreadable,
    /// A broken invariant; the log has the details.
    #[error("internal error: {0}")]
    Internal(&'static str),
}
