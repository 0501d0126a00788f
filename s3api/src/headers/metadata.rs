//! What a writer says about an object, as headers in and out.

use super::{list, plain, single, stored_text, tagging, text};
use crate::{
    body,
    error::{ErrorCode, S3Error, S3Result},
};
use ashlar_types::{ObjectHeaders, ObjectMetadata, limits::USER_METADATA_MAX_LEN};
use http::{HeaderMap, HeaderName, HeaderValue, header};

const USER_PREFIX: &str = "x-amz-meta-";

/// What S3 answers for an object whose writer named no type.
const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

const WEBSITE_REDIRECT: &str = "x-amz-website-redirect-location";

/// Sum of the bytes of the system headers of one object; S3 bounds a request's headers to 8 KiB.
const SYSTEM_METADATA_MAX_LEN: usize = 8 << 10;

/// The names of S3 and of the compatible stores. All are kept as they were given.
const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "ARCHIVE",
    "DEEP_ARCHIVE",
];

/// All metadata that a write carries.
pub(crate) fn parse(headers: &HeaderMap, owner: &str) -> S3Result<ObjectMetadata> {
    Ok(ObjectMetadata {
        headers: system(headers)?,
        user: user(headers)?,
        tags: tags(headers)?,
        storage_class: storage_class(headers)?,
        owner: owner.to_owned(),
    })
}

pub(crate) fn system(headers: &HeaderMap) -> S3Result<ObjectHeaders> {
    let stored = |name| -> S3Result<Option<String>> {
        Ok(single(headers, name)?
            .filter(|value| !value.is_empty())
            .map(|value| stored_text::from_header(value.as_bytes())))
    };
    let system = ObjectHeaders {
        content_type: stored("content-type")?,
        cache_control: stored("cache-control")?,
        content_disposition: stored("content-disposition")?,
        content_encoding: body::content_encoding_without_aws_chunked(headers),
        content_language: stored("content-language")?,
        expires: stored("expires")?,
        website_redirect: website_redirect(headers)?,
    };
    let len: usize = fields(&system).iter().map(|(_, value)| value.as_ref().map_or(0, String::len)).sum();
    if len > SYSTEM_METADATA_MAX_LEN {
        return Err(too_large(len, SYSTEM_METADATA_MAX_LEN));
    }
    Ok(system)
}

fn website_redirect(headers: &HeaderMap) -> S3Result<Option<String>> {
    let Some(location) = text(headers, WEBSITE_REDIRECT)? else {
        return Ok(None);
    };
    if ["/", "http://", "https://"].iter().any(|prefix| location.starts_with(prefix)) {
        Ok(Some(location.to_owned()))
    } else {
        Err(S3Error::invalid_argument(
            WEBSITE_REDIRECT,
            location,
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        ))
    }
}

pub(crate) fn user(headers: &HeaderMap) -> S3Result<Vec<(String, String)>> {
    let mut user = Vec::new();
    let mut len = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(USER_PREFIX) else {
            continue;
        };
        // Several headers of one name are one list, as in HTTP.
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let value = values.join(&b',');
        len += short.len() + value.len();
        user.push((short.to_owned(), stored_text::from_header(&value)));
    }
    if len > USER_METADATA_MAX_LEN {
        return Err(too_large(len, USER_METADATA_MAX_LEN));
    }
    user.sort();
    Ok(user)
}

fn too_large(len: usize, max: usize) -> S3Error {
    S3Error::new(ErrorCode::MetadataTooLarge)
        .element("Size", len.to_string())
        .element("MaxSizeAllowed", max.to_string())
}

pub(crate) fn tags(headers: &HeaderMap) -> S3Result<Vec<(String, String)>> {
    list(headers, "x-amz-tagging")?.map_or_else(|| Ok(Vec::new()), |header| tagging::parse(&header))
}

pub(crate) fn storage_class(headers: &HeaderMap) -> S3Result<Option<String>> {
    match text(headers, "x-amz-storage-class")? {
        None | Some("STANDARD") => Ok(None),
        Some(class) if STORAGE_CLASSES.contains(&class) => Ok(Some(class.to_owned())),
        Some(class) => {
            Err(S3Error::new(ErrorCode::InvalidStorageClass).element("StorageClassRequested", class))
        }
    }
}

/// As listings show it.
pub(crate) fn class_name(metadata: &ObjectMetadata) -> &str {
    metadata.storage_class.as_deref().unwrap_or("STANDARD")
}

/// Shows an object's metadata on GET and HEAD.
pub(crate) fn show(metadata: &ObjectMetadata, out: &mut HeaderMap) {
    out.insert(header::CONTENT_TYPE, DEFAULT_CONTENT_TYPE);
    for (name, value) in fields(&metadata.headers) {
        if let Some(value) = value.as_deref().and_then(stored_text::to_header) {
            out.insert(name, value);
        }
    }
    for (name, value) in &metadata.user {
        let name = HeaderName::try_from(format!("{USER_PREFIX}{name}"));
        if let (Ok(name), Some(value)) = (name, stored_text::to_header(value)) {
            out.insert(name, value);
        }
    }
    if let Some(class) = &metadata.storage_class {
        out.insert("x-amz-storage-class", plain(class));
    }
    if !metadata.tags.is_empty() {
        out.insert("x-amz-tagging-count", HeaderValue::from(metadata.tags.len()));
    }
}

fn fields(headers: &ObjectHeaders) -> [(HeaderName, &Option<String>); 7] {
    [
        (header::CONTENT_TYPE, &headers.content_type),
        (header::CACHE_CONTROL, &headers.cache_control),
        (header::CONTENT_DISPOSITION, &headers.content_disposition),
        (header::CONTENT_ENCODING, &headers.content_encoding),
        (header::CONTENT_LANGUAGE, &headers.content_language),
        (header::EXPIRES, &headers.expires),
        (HeaderName::from_static(WEBSITE_REDIRECT), &headers.website_redirect),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn what_goes_in_comes_out() {
        let given = headers(&[
            ("content-type", b"text/plain; charset=utf-8"),
            ("cache-control", b"no-cache"),
            ("expires", b"never"),
            ("x-amz-meta-b", b"Hello World\xE9"),
            ("x-amz-meta-a", "ü".as_bytes()),
            ("x-amz-tagging", b"a=1&b=2"),
            ("x-amz-storage-class", b"STANDARD_IA"),
            ("x-amz-other", b"ignored"),
        ]);
        let mut shown = HeaderMap::new();
        show(&parse(&given, "owner").unwrap(), &mut shown);
        for name in [
            "content-type",
            "cache-control",
            "expires",
            "x-amz-meta-a",
            "x-amz-meta-b",
            "x-amz-storage-class",
        ] {
            assert_eq!(shown.get(name), given.get(name), "{name}");
        }
        assert_eq!(shown["x-amz-tagging-count"], "2");
        assert_eq!(shown.len(), 7);
    }

    #[test]
    fn an_untyped_object_has_the_default_type() {
        let mut shown = HeaderMap::new();
        show(&parse(&HeaderMap::new(), "owner").unwrap(), &mut shown);
        assert_eq!(shown, headers(&[("content-type", b"binary/octet-stream")]));
    }

    #[test]
    fn user_metadata_at_and_past_its_limit() {
        let of = |len: usize| user(&headers(&[("x-amz-meta-abcd", "v".repeat(len).as_bytes())]));
        assert!(of(2044).is_ok());
        assert_eq!(of(2045).map_err(|error| error.code), Err(ErrorCode::MetadataTooLarge));
        let twice = user(&headers(&[("x-amz-meta-a", b"1"), ("x-amz-meta-a", b"2")]));
        assert_eq!(twice, Ok(vec![("a".to_owned(), "1,2".to_owned())]));
    }

    #[test]
    fn unknown_classes_and_redirects_are_refused() {
        let class = |name: &[u8]| storage_class(&headers(&[("x-amz-storage-class", name)]));
        assert_eq!(class(b"STANDARD"), Ok(None));
        assert_eq!(class(b"standard_ia").map_err(|e| e.code), Err(ErrorCode::InvalidStorageClass));
        assert!(website_redirect(&headers(&[(WEBSITE_REDIRECT, b"javascript:x")])).is_err());
        assert!(website_redirect(&headers(&[(WEBSITE_REDIRECT, b"/index.html")])).is_ok());
    }
}
