//! What the listings share: page sizes, `encoding-type`, owners, entries.

use crate::{
    call::Call,
    error::{S3Error, S3Result},
    headers::{metadata, number},
    http_date,
    target::Query,
    xml::XmlWriter,
};
use ashlar_types::{ETag, ListEntry, ObjectChecksum, VersionInfo, limits::PAGE_MAX};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;

/// `encoding-type=url` keeps the unreserved characters and the slash.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');

/// How names are written in a listing. Tokens are never encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn parse(query: &Query) -> S3Result<Self> {
        match query.filled("encoding-type") {
            None => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(other) => Err(S3Error::invalid_argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    pub(super) fn encode(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Url => utf8_percent_encode(text, ENCODED).into(),
        }
    }

    pub(super) fn show(self, xml: &mut XmlWriter) {
        if self == Self::Url {
            xml.element("EncodingType", "url");
        }
    }

    pub(super) fn common_prefixes<'a>(self, xml: &mut XmlWriter, prefixes: impl Iterator<Item = &'a str>) {
        for prefix in prefixes {
            xml.open("CommonPrefixes").element("Prefix", self.encode(prefix)).close();
        }
    }
}

/// The size of a page: at most 1000 whatever is asked for; 0 asks for nothing.
pub(super) fn page_size(query: &Query, name: &'static str) -> S3Result<u32> {
    let Some(value) = query.filled(name) else {
        return Ok(PAGE_MAX);
    };
    // More digits than any type holds are still a large number.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match number::<u32>(name, value) {
        Ok(asked) => Ok(asked.min(PAGE_MAX)),
        Err(_) if digits => Ok(PAGE_MAX),
        Err(error) => Err(error),
    }
}

/// An `Owner` or `Initiator`. Only the caller's own name is known here, and only owners see a bucket.
pub(super) fn person(xml: &mut XmlWriter, element: &'static str, call: &Call<'_>, id: &str) {
    let user = &call.identity.user;
    let display_name = if user.id == id { &user.display_name } else { id };
    xml.open(element).element("ID", id).element("DisplayName", display_name).close();
}

/// `ETag` element.
pub(super) fn etag(xml: &mut XmlWriter, etag: &ETag) {
    xml.element("ETag", etag.quoted());
}

/// The checksum as results of writes show it: the value by its algorithm's name, and its type.
pub(super) fn checksum(xml: &mut XmlWriter, checksum: Option<&ObjectChecksum>) {
    if let Some(checksum) = checksum {
        xml.element(checksum.checksum.algorithm().element(), checksum.display());
        xml.element("ChecksumType", checksum.kind.name());
    }
}

/// The elements of an object that ListObjects and ListObjectVersions share, from `LastModified` on.
pub(super) fn object(xml: &mut XmlWriter, info: &VersionInfo) {
    xml.element("LastModified", http_date::format_iso(info.last_modified));
    etag(xml, &info.etag);
    if let Some(checksum) = &info.checksum {
        xml.element("ChecksumAlgorithm", checksum.checksum.algorithm().name());
        xml.element("ChecksumType", checksum.kind.name());
    }
    xml.element("Size", info.size);
    xml.element("StorageClass", metadata::class_name(&info.metadata));
}

/// The common prefixes among entries.
pub(super) fn prefixes(entries: &[ListEntry]) -> impl Iterator<Item = &str> {
    entries.iter().filter_map(|entry| match entry {
        ListEntry::CommonPrefix(prefix) => Some(prefix.as_str()),
        ListEntry::Object(_) => None,
    })
}

/// The objects or versions among entries.
pub(super) fn versions(entries: &[ListEntry]) -> impl Iterator<Item = &VersionInfo> {
    entries.iter().filter_map(|entry| match entry {
        ListEntry::Object(info) => Some(&**info),
        ListEntry::CommonPrefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_capped_and_checked() {
        let size =
            |value: &str| page_size(&Query::parse(&format!("max-keys={value}")).unwrap(), "max-keys").ok();
        for (value, expected) in [
            ("", Some(1000)),
            ("0", Some(0)),
            ("7", Some(7)),
            ("1000", Some(1000)),
            ("1001", Some(1000)),
            ("99999999999999999999999", Some(1000)),
            ("-1", None),
            ("blah", None),
            ("1.5", None),
        ] {
            assert_eq!(size(value), expected, "{value}");
        }
    }

    #[test]
    fn url_encoding_keeps_slashes() {
        assert_eq!(Encoding::Url.encode("quux ab/foo+1/é\u{1}"), "quux%20ab/foo%2B1/%C3%A9%01");
        assert_eq!(Encoding::Plain.encode("a b"), "a b");
    }
}
