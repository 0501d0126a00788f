//! Preconditions: read here, evaluated by the object service.

use super::{list, text};
use crate::{
    error::{S3Error, S3Result},
    http_date,
};
use ashlar_types::{ETag, EtagCondition, ReadCondition, Timestamp, VersionInfo, WriteCondition};
use http::HeaderMap;

/// Of Put, Copy, Create, Complete and Delete.
pub(crate) fn of_write(headers: &HeaderMap) -> S3Result<WriteCondition> {
    Ok(WriteCondition {
        if_match: tags(headers, "if-match")?,
        if_none_match: tags(headers, "if-none-match")?,
    })
}

/// Of GET and HEAD. A date that does not parse is no condition (RFC 9110 section 13.1.3).
pub(crate) fn of_read(headers: &HeaderMap) -> S3Result<ReadCondition> {
    let date =
        |name| -> S3Result<Option<Timestamp>> { Ok(text(headers, name)?.and_then(http_date::parse_http)) };
    Ok(ReadCondition {
        if_match: tags(headers, "if-match")?,
        if_none_match: tags(headers, "if-none-match")?,
        if_modified_since: date("if-modified-since")?,
        if_unmodified_since: date("if-unmodified-since")?,
    })
}

/// Of the source of a copy. A date that does not parse is refused: the copy would happen unguarded.
pub(crate) fn of_source(headers: &HeaderMap) -> S3Result<ReadCondition> {
    let date = |name| -> S3Result<Option<Timestamp>> {
        let Some(text) = text(headers, name)? else { return Ok(None) };
        match http_date::parse_http(text) {
            Some(date) => Ok(Some(date)),
            None => Err(S3Error::invalid_argument(name, text, "The header is not a valid date.")),
        }
    };
    Ok(ReadCondition {
        if_match: tags(headers, "x-amz-copy-source-if-match")?,
        if_none_match: tags(headers, "x-amz-copy-source-if-none-match")?,
        if_modified_since: date("x-amz-copy-source-if-modified-since")?,
        if_unmodified_since: date("x-amz-copy-source-if-unmodified-since")?,
    })
}

/// Whether `If-Range` allows to answer with a range of this version: a client that resumes must not join bytes of
/// two versions.
pub(crate) fn allows_range(headers: &HeaderMap, info: &VersionInfo) -> S3Result<bool> {
    let Some(validator) = text(headers, "if-range")? else {
        return Ok(true);
    };
    Ok(match http_date::parse_http(validator) {
        Some(date) => date.seconds() == info.last_modified.seconds(),
        None => !validator.starts_with("W/") && ETag::parse(validator) == info.etag,
    })
}

fn tags(headers: &HeaderMap, name: &'static str) -> S3Result<Option<EtagCondition>> {
    Ok(list(headers, name)?.map(|value| EtagCondition::parse(&value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_dates_are_ignored_on_reads_and_refused_on_copies() {
        let mut headers = HeaderMap::new();
        headers.insert("if-modified-since", "yesterday".parse().unwrap());
        assert_eq!(of_read(&headers), Ok(ReadCondition::default()));
        headers.insert("x-amz-copy-source-if-modified-since", "yesterday".parse().unwrap());
        assert!(of_source(&headers).is_err());
    }

    #[test]
    fn tags_of_several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("if-match", "\"a\"".parse().unwrap());
        headers.append("if-match", "\"b\"".parse().unwrap());
        let condition = of_write(&headers).unwrap().if_match.unwrap();
        assert!(condition.matches(&ETag::parse("a")) && condition.matches(&ETag::parse("b")));
        assert!(!condition.matches(&ETag::parse("c")));
    }
}
