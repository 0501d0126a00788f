//! The border from the object service's refusals to S3's.

use super::{ErrorCode, S3Error};
use ashlar_types::{BodyError, ObjectError, VersionId};
use http::{HeaderName, HeaderValue};

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

impl From<ObjectError> for S3Error {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoSuchBucket => Self::new(ErrorCode::NoSuchBucket),
            ObjectError::BucketAlreadyExists => Self::new(ErrorCode::BucketAlreadyExists),
            ObjectError::BucketAlreadyOwnedByYou => Self::new(ErrorCode::BucketAlreadyOwnedByYou),
            ObjectError::BucketNotEmpty => Self::new(ErrorCode::BucketNotEmpty),
            ObjectError::BucketBusy => Self::new(ErrorCode::OperationAborted),
            ObjectError::TooManyBuckets => Self::new(ErrorCode::TooManyBuckets),
            ObjectError::QuotaExceeded => Self::new(ErrorCode::QuotaExceeded),
            ObjectError::NoSuchKey { delete_marker: None } => Self::new(ErrorCode::NoSuchKey),
            ObjectError::NoSuchKey { delete_marker: Some(version_id) } => {
                with_delete_marker(Self::new(ErrorCode::NoSuchKey), version_id)
            }
            ObjectError::NoSuchVersion => Self::new(ErrorCode::NoSuchVersion),
            ObjectError::IsDeleteMarker { version_id } => with_delete_marker(
                Self::new(ErrorCode::MethodNotAllowed).element("ResourceType", "DeleteMarker"),
                version_id,
            ),
            ObjectError::NoSuchUpload => Self::new(ErrorCode::NoSuchUpload),
            ObjectError::InvalidPart { part_number } => {
                Self::new(ErrorCode::InvalidPart).element("PartNumber", part_number.to_string())
            }
            ObjectError::InvalidPartOrder => Self::new(ErrorCode::InvalidPartOrder),
            ObjectError::EntityTooSmall { part_number } => {
                Self::new(ErrorCode::EntityTooSmall).element("PartNumber", part_number.to_string())
            }
            ObjectError::EntityTooLarge => Self::new(ErrorCode::EntityTooLarge),
            ObjectError::PreconditionFailed => Self::new(ErrorCode::PreconditionFailed),
            ObjectError::ConditionalConflict => Self::new(ErrorCode::ConditionalRequestConflict),
            ObjectError::BadContentMd5 => Self::new(ErrorCode::BadDigest)
                .message("The Content-MD5 you specified did not match what we received."),
            ObjectError::BadChecksum(algorithm) => Self::new(ErrorCode::BadDigest).message(format!(
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            )),
            ObjectError::InvalidChecksum(why) => Self::new(ErrorCode::InvalidRequest).message(why),
            ObjectError::InvalidRange => Self::new(ErrorCode::InvalidRange),
            ObjectError::InvalidPartNumber { part_number } => Self::new(ErrorCode::InvalidPartNumber)
                .element("PartNumberRequested", part_number.to_string()),
            ObjectError::Body(error) => error.into(),
            ObjectError::SlowDown(_) => Self::new(ErrorCode::SlowDown),
            // The reason stays inside: it is about the cluster, not about the request.
            ObjectError::Unavailable(_) => Self::new(ErrorCode::ServiceUnavailable),
            // Every SDK retries 500 and 503 alike. 500 is the honest one: 503 says that nothing was done, and here
            // the write may have been.
            ObjectError::Ambiguous(_) => Self::new(ErrorCode::InternalError).message(
                "The outcome of the request is not known. Read the resource to learn it, or try again.",
            ),
            ObjectError::Unreadable => Self::new(ErrorCode::ServiceUnavailable),
            ObjectError::Internal(_) => Self::new(ErrorCode::InternalError),
        }
    }
}

impl From<BodyError> for S3Error {
    /// Closes the connection, since where the next request would begin is not known; but for a digest, which is
    /// compared after the last byte.
    fn from(error: BodyError) -> Self {
        let (code, message) = match error {
            BodyError::ContentSha256 => return Self::new(ErrorCode::XAmzContentSHA256Mismatch),
            BodyError::Incomplete => (ErrorCode::IncompleteBody, None),
            BodyError::TooLong => (
                ErrorCode::IncompleteBody,
                Some("The request body has more bytes than the request declared."),
            ),
            BodyError::Malformed => {
                (ErrorCode::IncompleteBody, Some("The chunk framing of the request body is malformed."))
            }
            BodyError::Signature => (ErrorCode::SignatureDoesNotMatch, None),
            BodyError::Timeout => (ErrorCode::RequestTimeout, None),
            BodyError::Disconnected => {
                (ErrorCode::IncompleteBody, Some("The connection ended before the request body."))
            }
        };
        let error = Self::new(code).closing();
        match message {
            Some(message) => error.message(message),
            None => error,
        }
    }
}

fn with_delete_marker(error: S3Error, version_id: VersionId) -> S3Error {
    let version_id = HeaderValue::try_from(version_id.to_string())
        .expect("a version id is made of letters, digits, '-' and '_'");
    error.header(DELETE_MARKER, HeaderValue::from_static("true")).header(VERSION_ID, version_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::ChecksumAlgorithm;
    use http::StatusCode;

    #[test]
    fn delete_markers_are_shown_in_headers() {
        for (error, status) in [
            (ObjectError::NoSuchKey { delete_marker: Some(VersionId::Null) }, StatusCode::NOT_FOUND),
            (ObjectError::IsDeleteMarker { version_id: VersionId::Null }, StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let error = S3Error::from(error);
            assert_eq!(error.status(), status);
            assert!(error.headers.contains(&(DELETE_MARKER, HeaderValue::from_static("true"))));
            assert!(error.headers.contains(&(VERSION_ID, HeaderValue::from_static("null"))));
        }
        assert!(S3Error::from(ObjectError::NoSuchKey { delete_marker: None }).headers.is_empty());
    }

    #[test]
    fn a_body_that_failed_before_its_end_closes_the_connection() {
        for (error, code) in [
            (BodyError::Incomplete, ErrorCode::IncompleteBody),
            (BodyError::TooLong, ErrorCode::IncompleteBody),
            (BodyError::Malformed, ErrorCode::IncompleteBody),
            (BodyError::Signature, ErrorCode::SignatureDoesNotMatch),
            (BodyError::Timeout, ErrorCode::RequestTimeout),
            (BodyError::Disconnected, ErrorCode::IncompleteBody),
        ] {
            let error = S3Error::from(ObjectError::Body(error));
            assert_eq!(error.code, code);
            assert!(error.close, "{error}");
        }
        let error = S3Error::from(ObjectError::Body(BodyError::ContentSha256));
        assert_eq!((error.code, error.close), (ErrorCode::XAmzContentSHA256Mismatch, false));
    }

    #[test]
    fn checksum_failures_are_bad_digests() {
        for error in [ObjectError::BadContentMd5, ObjectError::BadChecksum(ChecksumAlgorithm::Crc32c)] {
            assert_eq!(S3Error::from(error).code, ErrorCode::BadDigest);
        }
    }

    #[test]
    fn the_inside_of_the_cluster_is_not_told() {
        for error in [
            ObjectError::SlowDown("canary"),
            ObjectError::Unavailable("canary"),
            ObjectError::Ambiguous("canary"),
            ObjectError::Internal("canary"),
        ] {
            let error = S3Error::from(error);
            assert!(error.status().is_server_error());
            assert!(!String::from_utf8_lossy(&error.to_xml("/", "", "")).contains("canary"));
        }
    }
}
