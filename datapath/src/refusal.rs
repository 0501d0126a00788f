//! The border from metadata's refusals and failures to those of the object service.

use ashlar_metadata::{MetadataError, command::Refusal};
use ashlar_types::ObjectError;

/// What the S3 front end is told of a refused command.
pub fn object_error(refusal: Refusal) -> ObjectError {
    match refusal {
        // An earlier sending of the same command may have been applied before its outcome was forgotten.
        Refusal::Expired => ObjectError::Ambiguous("the write epoch of the request has expired"),
        Refusal::NoSuchBucket => ObjectError::NoSuchBucket,
        Refusal::BucketTaken => ObjectError::BucketAlreadyExists,
        // Both pass: the name is free, or has another bucket, in a moment.
        Refusal::BucketSealed | Refusal::BucketGone => ObjectError::BucketBusy,
        Refusal::BucketNotEmpty => ObjectError::BucketNotEmpty,
        Refusal::Retry => ObjectError::SlowDown("placement changed while the bytes were written"),
        Refusal::QuotaExceeded => ObjectError::QuotaExceeded,
        Refusal::NoSuchKey { delete_marker } => ObjectError::NoSuchKey { delete_marker },
        Refusal::NoSuchVersion => ObjectError::NoSuchVersion,
        Refusal::NoSuchUpload => ObjectError::NoSuchUpload,
        Refusal::InvalidPart { part_number } => ObjectError::InvalidPart { part_number },
        Refusal::InvalidPartOrder => ObjectError::InvalidPartOrder,
        Refusal::EntityTooSmall { part_number } => ObjectError::EntityTooSmall { part_number },
        Refusal::EntityTooLarge => ObjectError::EntityTooLarge,
        Refusal::PreconditionFailed => ObjectError::PreconditionFailed,
        Refusal::BadChecksum(algorithm) => ObjectError::BadChecksum(algorithm),
        Refusal::InvalidChecksum => {
            ObjectError::InvalidChecksum("The checksum is not of the kind that the upload was created with.")
        }
        Refusal::SizeMismatch => {
            ObjectError::InvalidChecksum("The object size does not match the sum of the part sizes.")
        }
        Refusal::MapChanged { .. }
        | Refusal::BadToken
        | Refusal::DriveKnownElsewhere { .. }
        | Refusal::NotUnderstood => ObjectError::Internal("metadata did not understand an object command"),
    }
}

/// A query or the begin of a request failed: nothing was proposed.
pub fn query_error(error: MetadataError) -> ObjectError {
    match error {
        MetadataError::Unavailable { reason, .. } => ObjectError::Unavailable(reason),
        MetadataError::Ambiguous { .. } => ObjectError::Unavailable("metadata gave no answer"),
        MetadataError::Failed(reason) => ObjectError::Unavailable(reason),
    }
}

/// A proposal failed. A replica that fails may have sent it on before.
pub fn propose_error(error: MetadataError) -> ObjectError {
    match error {
        MetadataError::Unavailable { reason, .. } => ObjectError::Unavailable(reason),
        MetadataError::Ambiguous { .. } => ObjectError::Ambiguous("metadata gave no outcome"),
        MetadataError::Failed(reason) => ObjectError::Ambiguous(reason),
    }
}
