//! Request headers that ask for something which does not exist here yet.
//!
//! Ignoring them would be a lie: a client that asks for encryption, a lock or a grant relies on it. They are refused
//! with 501 before anything else is looked at.

use crate::error::{ErrorCode, S3Error, S3Result};
use crate::operation::Operation;
use ashlar_types::ChecksumAlgorithm;
use http::HeaderMap;

const PREFIXES: &[&str] = &[
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-grant-",
    "x-amz-object-annotation",
];

const NAMES: &[&str] = &[
    "x-amz-write-offset-bytes",
    "x-amz-rename-source",
    "x-amz-if-match-size",
    "x-amz-if-match-last-modified-time",
    "x-minio-extract",
];

/// Refuses what cannot be done.
pub(crate) fn refuse(operation: Operation, headers: &HeaderMap) -> S3Result<()> {
    for (name, value) in headers {
        let name = name.as_str();
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = value.trim_ascii();
        let unsupported = NAMES.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (name == "x-amz-acl" && value != "private")
            || (name == "x-amz-bucket-object-lock-enabled" && !value.eq_ignore_ascii_case("false"))
            || (name == "x-amz-object-ownership" && value != "BucketOwnerEnforced")
            || is_unknown_checksum(name)
            || (name == "if-unmodified-since" && !reads_only(operation));
        if unsupported {
            return Err(S3Error::new(ErrorCode::NotImplemented).element("Header", name));
        }
    }
    Ok(())
}

/// A checksum that would go unverified.
fn is_unknown_checksum(name: &str) -> bool {
    name.strip_prefix("x-amz-checksum-").is_some_and(|rest| !matches!(rest, "algorithm" | "type" | "mode"))
        && ChecksumAlgorithm::from_header(name).is_none()
}

fn reads_only(operation: Operation) -> bool {
    matches!(operation.row().method, http::Method::GET | http::Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &'static str, value: &'static str) -> Result<(), ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        refuse(Operation::PutObject, &headers).map_err(|error| error.code)
    }

    #[test]
    fn promises_that_cannot_be_kept_are_refused() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "k"),
            ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-acl", "public-read"),
            ("x-amz-acl", ""),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-checksum-sha512", "AA=="),
            ("x-amz-object-ownership", "ObjectWriter"),
            ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(verdict(name, value), Err(ErrorCode::NotImplemented), "{name}: {value}");
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-bucket-object-lock-enabled", "false"),
            ("x-amz-website-redirect-location", "/a"),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-algorithm", "CRC32"),
            ("x-amz-meta-x-amz-acl", "public-read"),
        ] {
            assert_eq!(verdict(name, value), Ok(()), "{name}: {value}");
        }
    }
}
