//! The target of a request: which bucket and key it names and what its query asks.
//!
//! Owns the one place where a request's path and query are decoded; every later reader sees typed names. Path style:
//! `/bucket/key`. A key is everything after the slash that ends the bucket's name, percent-decoded once: `//`, `.`
//! and `..` are characters of it, never steps of a path.

mod query;

pub use query::Query;

use crate::error::{ErrorCode, S3Error, S3Result};
use ashlar_types::{BucketName, KeyError, ObjectKey};
use http::Uri;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Service,
    Bucket(BucketName),
    Object(BucketName, ObjectKey),
}

/// The kinds of [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Service,
    Bucket,
    Object,
}

impl Level {
    /// As errors call it.
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Bucket => "BUCKET",
            Self::Object => "OBJECT",
        }
    }
}

/// Path and query of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    pub query: Query,
}

impl Resource {
    /// Reads a path, still percent-encoded.
    pub fn parse(path: &str) -> S3Result<Self> {
        let Some(path) = path.strip_prefix('/') else {
            return Err(invalid_uri());
        };
        if path.is_empty() {
            return Ok(Self::Service);
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let bucket = decode(bucket)?;
        let bucket = BucketName::parse(&bucket)
            .map_err(|_| S3Error::new(ErrorCode::InvalidBucketName).element("BucketName", bucket))?;
        if key.is_empty() {
            Ok(Self::Bucket(bucket))
        } else {
            Ok(Self::Object(bucket, parse_key(&decode(key)?)?))
        }
    }

    pub fn level(&self) -> Level {
        match self {
            Self::Service => Level::Service,
            Self::Bucket(_) => Level::Bucket,
            Self::Object(..) => Level::Object,
        }
    }

    pub fn bucket(&self) -> Option<&BucketName> {
        match self {
            Self::Service => None,
            Self::Bucket(bucket) | Self::Object(bucket, _) => Some(bucket),
        }
    }

    pub fn key(&self) -> Option<&ObjectKey> {
        match self {
            Self::Service | Self::Bucket(_) => None,
            Self::Object(_, key) => Some(key),
        }
    }
}

impl Target {
    pub fn parse(uri: &Uri) -> S3Result<Self> {
        Ok(Self {
            resource: Resource::parse(uri.path())?,
            query: Query::parse(uri.query().unwrap_or_default())?,
        })
    }
}

/// A key from decoded text of a path, header or document.
pub(crate) fn parse_key(key: &str) -> S3Result<ObjectKey> {
    ObjectKey::parse(key).map_err(|error| match error {
        KeyError::Empty => {
            S3Error::new(ErrorCode::UserKeyMustBeSpecified).message("A key must be specified.")
        }
        KeyError::TooLong => S3Error::new(ErrorCode::KeyTooLongError)
            .element("Size", key.len().to_string())
            .element("MaxSizeAllowed", ashlar_types::limits::KEY_MAX_LEN.to_string()),
    })
}

/// Percent-decodes once. A `%` without two hex digits, or bytes that are not UTF-8, are refused rather than guessed
/// at: the signature and the handler must mean the same name.
pub(crate) fn decode(text: &str) -> S3Result<String> {
    let mut digits = text.bytes();
    while let Some(byte) = digits.next() {
        let hex = |digit: Option<u8>| digit.is_some_and(|digit| digit.is_ascii_hexdigit());
        if byte == b'%' && !(hex(digits.next()) && hex(digits.next())) {
            return Err(invalid_uri());
        }
    }
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| invalid_uri())
}

fn invalid_uri() -> S3Error {
    S3Error::new(ErrorCode::InvalidURI)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str) -> (String, String) {
        match Resource::parse(path) {
            Ok(Resource::Object(bucket, key)) => (bucket.to_string(), key.to_string()),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn a_path_names_service_bucket_or_object() {
        assert_eq!(Resource::parse("/"), Ok(Resource::Service));
        for path in ["/bucket", "/bucket/"] {
            assert_eq!(Resource::parse(path).map(|r| r.level()), Ok(Level::Bucket), "{path}");
        }
        assert_eq!(object("/bucket/key"), ("bucket".into(), "key".into()));
    }

    #[test]
    fn a_key_is_literal_and_decoded_once() {
        for (path, key) in [
            ("/bucket//", "/"),
            ("/bucket//a//b/", "/a//b/"),
            ("/bucket/../../etc/passwd", "../../etc/passwd"),
            ("/bucket/.", "."),
            ("/bucket/a%2Fb", "a/b"),
            ("/bucket/a%252Fb", "a%2Fb"),
            ("/bucket/a+b%20c", "a+b c"),
            ("/bucket/%00%F0%9F%98%80", "\0\u{1F600}"),
        ] {
            assert_eq!(object(path), ("bucket".to_owned(), key.to_owned()), "{path}");
        }
    }

    #[test]
    fn malformed_targets_are_refused() {
        let long = format!("/bucket/{}", "k".repeat(1025));
        for (path, code) in [
            ("*", ErrorCode::InvalidURI),
            ("/bucket/%", ErrorCode::InvalidURI),
            ("/bucket/%4", ErrorCode::InvalidURI),
            ("/bucket/%zz", ErrorCode::InvalidURI),
            ("/bucket/%FF", ErrorCode::InvalidURI),
            ("//key", ErrorCode::InvalidBucketName),
            ("/Bucket", ErrorCode::InvalidBucketName),
            ("/a%2Fb/key", ErrorCode::InvalidBucketName),
            ("/../key", ErrorCode::InvalidBucketName),
            (&long, ErrorCode::KeyTooLongError),
        ] {
            assert_eq!(Resource::parse(path).map_err(|e| e.code), Err(code), "{path}");
        }
        assert!(Resource::parse(&long[..long.len() - 1]).is_ok());
    }
}
