//! `x-amz-copy-source`: `[/]bucket/key[?versionId=id]`, percent-encoded.

use super::{condition, text};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    target::{decode, parse_key},
};
use ashlar_types::{BucketName, RangeRequest, VersionId, service::CopySource};
use http::HeaderMap;

/// Reads the source and its conditions.
pub(crate) fn parse(headers: &HeaderMap) -> S3Result<CopySource> {
    let header = text(headers, "x-amz-copy-source")?.unwrap_or_default();
    let invalid = |message: &str| S3Error::invalid_argument("x-amz-copy-source", header, message);
    // The query is cut off before decoding: an encoded `?` belongs to the key.
    let (path, query) = header.split_once('?').unwrap_or((header, ""));
    let path = decode(path).map_err(|_| invalid("Copy Source must be URL-encoded UTF-8."))?;
    if path.starts_with("arn:") {
        return Err(S3Error::new(ErrorCode::NotImplemented).element("Header", "x-amz-copy-source"));
    }
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or_else(|| {
        invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    })?;
    let bucket = BucketName::parse(bucket)
        .map_err(|_| S3Error::new(ErrorCode::InvalidBucketName).element("BucketName", bucket))?;
    let version = match query {
        "" => None,
        query => {
            let id = query
                .strip_prefix("versionId=")
                .ok_or_else(|| invalid("Copy Source has no parameter but versionId."))?;
            let id = decode(id).map_err(|_| invalid("Invalid version id specified"))?;
            Some(id.parse::<VersionId>().map_err(|_| invalid("Invalid version id specified"))?)
        }
    };
    Ok(CopySource { bucket, key: parse_key(key)?, version, condition: condition::of_source(headers)? })
}

/// `x-amz-copy-source-range`: unlike `Range` it names both ends.
pub(crate) fn range(headers: &HeaderMap) -> S3Result<Option<RangeRequest>> {
    let Some(header) = text(headers, "x-amz-copy-source-range")? else {
        return Ok(None);
    };
    match RangeRequest::parse(header) {
        Some(range @ RangeRequest::Between { .. }) => Ok(Some(range)),
        Some(RangeRequest::From(_) | RangeRequest::Last(_)) | None => Err(S3Error::invalid_argument(
            "x-amz-copy-source-range",
            header,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(value: &str) -> Result<(String, String, Option<VersionId>), ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-copy-source", value.parse().unwrap());
        parse(&headers)
            .map(|source| (source.bucket.to_string(), source.key.to_string(), source.version))
            .map_err(|error| error.code)
    }

    #[test]
    fn sources_name_bucket_key_and_version() {
        let named = |key: &str, version| Ok(("bucket".to_owned(), key.to_owned(), version));
        assert_eq!(source("bucket/key"), named("key", None));
        assert_eq!(source("/bucket/a/b"), named("a/b", None));
        assert_eq!(source("bucket//a"), named("/a", None));
        assert_eq!(source("bucket%2Fa%3FversionId%3Dnull"), named("a?versionId=null", None));
        assert_eq!(source("bucket/a+b%20c?versionId=null"), named("a+b c", Some(VersionId::Null)));
        for (bad, code) in [
            ("", ErrorCode::InvalidArgument),
            ("bucket", ErrorCode::InvalidArgument),
            ("/bucket/", ErrorCode::InvalidArgument),
            ("bucket/%FF", ErrorCode::InvalidArgument),
            ("bucket/k?versionId=", ErrorCode::InvalidArgument),
            ("bucket/k?versionId=x", ErrorCode::InvalidArgument),
            ("bucket/k?acl", ErrorCode::InvalidArgument),
            ("//key/a", ErrorCode::InvalidBucketName),
            ("arn:aws:s3:::b/k", ErrorCode::NotImplemented),
        ] {
            assert_eq!(source(bad), Err(code), "{bad}");
        }
    }

    #[test]
    fn a_copied_range_names_both_ends() {
        let range = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-copy-source-range", value.parse().unwrap());
            range(&headers).map_err(|error| error.code)
        };
        assert_eq!(range("bytes=0-5"), Ok(Some(RangeRequest::Between { first: 0, last: 5 })));
        for bad in
            ["0-5", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=1-", "bytes=-1", "bytes=0-2,3-5"]
        {
            assert_eq!(range(bad), Err(ErrorCode::InvalidArgument), "{bad}");
        }
    }
}
