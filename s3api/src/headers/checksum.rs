//! What a client declares about the bytes it sends: `Content-MD5`, `x-amz-checksum-*`, trailers.

use super::{list, plain, text};
use crate::error::{ErrorCode, S3Error, S3Result};
use ashlar_types::{
    Checksum, ChecksumAlgorithm, ChecksumKind, ObjectChecksum,
    service::{DeclaredChecksum, ExpectedChecksum},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};

pub(crate) fn content_md5(headers: &HeaderMap) -> S3Result<Option<[u8; 16]>> {
    let Some(value) = text(headers, "content-md5")? else {
        return Ok(None);
    };
    let digest = STANDARD.decode(value).ok().and_then(|digest| digest.try_into().ok());
    digest.map(Some).ok_or_else(|| {
        S3Error::new(ErrorCode::InvalidDigest)
            .message("The Content-MD5 you specified was invalid.")
            .element("Content-MD5", value)
    })
}

/// The checksum declared for the body of this request.
pub(crate) fn declared(headers: &HeaderMap) -> S3Result<Option<DeclaredChecksum>> {
    let named = named_algorithm(headers, "x-amz-sdk-checksum-algorithm")?;
    let trailer = trailer(headers)?;
    let mut values = ChecksumAlgorithm::ALL.into_iter().filter(|a| headers.contains_key(a.header()));
    let in_header = values.next();
    if values.next().is_some() || (in_header.is_some() && trailer.is_some()) {
        return Err(invalid(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    let declared = match (in_header, trailer) {
        (Some(algorithm), _) => {
            let value = text(headers, algorithm.header())?.unwrap_or_default();
            let checksum =
                Checksum::from_base64(algorithm, value).ok_or_else(|| invalid_value(algorithm.header()))?;
            Some(DeclaredChecksum { algorithm, expected: ExpectedChecksum::Value(checksum) })
        }
        (None, Some(algorithm)) => Some(DeclaredChecksum { algorithm, expected: ExpectedChecksum::Trailer }),
        (None, None) => {
            named.map(|algorithm| DeclaredChecksum { algorithm, expected: ExpectedChecksum::Compute })
        }
    };
    match (&declared, named) {
        (Some(declared), Some(named)) if declared.algorithm != named => {
            Err(invalid("Value for x-amz-sdk-checksum-algorithm header is invalid."))
        }
        _ => Ok(declared),
    }
}

/// The algorithm that `x-amz-trailer` promises a value of.
fn trailer(headers: &HeaderMap) -> S3Result<Option<ChecksumAlgorithm>> {
    let Some(names) = list(headers, "x-amz-trailer")? else {
        return Ok(None);
    };
    let mut names = names.split(',').map(str::trim_ascii).filter(|name| !name.is_empty());
    let unsupported = || invalid("The value specified in the x-amz-trailer header is not supported");
    match (names.next(), names.next()) {
        (None, _) => Ok(None),
        (Some(name), None) => ChecksumAlgorithm::from_header(name).map(Some).ok_or_else(unsupported),
        (Some(_), Some(_)) => Err(unsupported()),
    }
}

fn named_algorithm(headers: &HeaderMap, header: &'static str) -> S3Result<Option<ChecksumAlgorithm>> {
    text(headers, header)?
        .map(|name| {
            ChecksumAlgorithm::from_name(name)
                .ok_or_else(|| invalid(format!("Value for {header} header is invalid.")))
        })
        .transpose()
}

/// `x-amz-checksum-algorithm` of a copy.
pub(crate) fn algorithm(headers: &HeaderMap) -> S3Result<Option<ChecksumAlgorithm>> {
    named_algorithm(headers, "x-amz-checksum-algorithm")
}

pub(crate) fn kind(headers: &HeaderMap) -> S3Result<Option<ChecksumKind>> {
    text(headers, "x-amz-checksum-type")?
        .map(|name| {
            ChecksumKind::from_name(name)
                .ok_or_else(|| invalid("Value for x-amz-checksum-type header is invalid."))
        })
        .transpose()
}

/// What the parts and the object of a new upload are to carry
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>): CRC64NVME covers the
/// object, SHA-1 and SHA-256 its parts, CRC-32 and CRC-32C either.
pub(crate) fn of_upload(headers: &HeaderMap) -> S3Result<Option<(ChecksumAlgorithm, ChecksumKind)>> {
    match (algorithm(headers)?, kind(headers)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(invalid(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )),
        (Some(algorithm), kind) => {
            let kind = kind.unwrap_or(algorithm.default_kind());
            if algorithm.allows(kind) {
                Ok(Some((algorithm, kind)))
            } else {
                Err(invalid(format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind.name(),
                    algorithm.name().to_ascii_lowercase()
                )))
            }
        }
    }
}

/// The checksum of the whole object that CompleteMultipartUpload may declare. Composite values may carry the count of
/// parts, which then has to be right.
pub(crate) fn of_object(headers: &HeaderMap, parts: usize) -> S3Result<Option<Checksum>> {
    let mut values = ChecksumAlgorithm::ALL.into_iter().filter(|a| headers.contains_key(a.header()));
    let (Some(algorithm), None) = (values.next(), values.next()) else {
        return if ChecksumAlgorithm::ALL.iter().any(|a| headers.contains_key(a.header())) {
            Err(invalid(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ))
        } else {
            Ok(None)
        };
    };
    let value = text(headers, algorithm.header())?.unwrap_or_default();
    let digest = match value.rsplit_once('-') {
        None => value,
        Some((digest, count)) if count.parse() == Ok(parts) => digest,
        Some(_) => return Err(invalid_value(algorithm.header())),
    };
    Checksum::from_base64(algorithm, digest).map(Some).ok_or_else(|| invalid_value(algorithm.header()))
}

/// Whether a reader wants to see checksums.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"))
}

/// Shows the checksum of an object.
pub(crate) fn show(checksum: &ObjectChecksum, out: &mut HeaderMap) {
    out.insert(header_name(checksum.checksum.algorithm()), plain(checksum.display()));
    out.insert("x-amz-checksum-type", plain(checksum.kind.name()));
}

/// Shows the checksum of a part.
pub(crate) fn show_part(checksum: &Checksum, out: &mut HeaderMap) {
    out.insert(header_name(checksum.algorithm()), plain(checksum.to_base64()));
}

fn header_name(algorithm: ChecksumAlgorithm) -> HeaderName {
    HeaderName::from_static(algorithm.header())
}

pub(crate) fn invalid(message: impl Into<String>) -> S3Error {
    S3Error::new(ErrorCode::InvalidRequest).message(message)
}

fn invalid_value(header: &str) -> S3Error {
    invalid(format!("Value for {header} header is invalid."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn an_md5_is_16_bytes_of_base64() {
        let md5 = |value| content_md5(&headers(&[("content-md5", value)])).map_err(|error| error.code);
        assert_eq!(md5("AAAAAAAAAAAAAAAAAAAAAA=="), Ok(Some([0; 16])));
        for bad in ["", "YWJyYWNhZGFicmE=", "AWS HAHAHA", "AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(md5(bad), Err(ErrorCode::InvalidDigest), "{bad}");
        }
    }

    #[test]
    fn one_checksum_is_declared_and_consistently() {
        use ChecksumAlgorithm::{Crc32, Sha256};
        let declare = |pairs: &[(&'static str, &str)]| {
            declared(&headers(pairs))
                .map(|declared| declared.map(|declared| (declared.algorithm, declared.expected)))
                .map_err(|error| error.code)
        };
        let value = Checksum::new(Crc32, &[0; 4]).unwrap();
        let crc32 = ("x-amz-checksum-crc32", "AAAAAA==");
        let trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
        let named = ("x-amz-sdk-checksum-algorithm", "SHA256");
        assert_eq!(declare(&[]), Ok(None));
        assert_eq!(declare(&[crc32]), Ok(Some((Crc32, ExpectedChecksum::Value(value)))));
        assert_eq!(declare(&[trailer]), Ok(Some((Crc32, ExpectedChecksum::Trailer))));
        assert_eq!(declare(&[named]), Ok(Some((Sha256, ExpectedChecksum::Compute))));
        for refused in [
            &[crc32, ("x-amz-checksum-crc32c", "AAAAAA==")][..],
            &[crc32, trailer],
            &[crc32, named],
            &[trailer, named],
            &[("x-amz-checksum-crc32", "AAAA")],
            &[("x-amz-checksum-crc32", "")],
            &[("x-amz-trailer", "x-amz-meta-a")],
            &[("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")],
            &[("x-amz-sdk-checksum-algorithm", "MD5")],
        ] {
            assert_eq!(declare(refused), Err(ErrorCode::InvalidRequest), "{refused:?}");
        }
    }

    #[test]
    fn uploads_take_the_kinds_that_their_algorithm_allows() {
        for (algorithm, kind, expected) in [
            ("CRC32", "", Some(ChecksumKind::Composite)),
            ("CRC32", "FULL_OBJECT", Some(ChecksumKind::FullObject)),
            ("CRC32C", "COMPOSITE", Some(ChecksumKind::Composite)),
            ("CRC64NVME", "", Some(ChecksumKind::FullObject)),
            ("CRC64NVME", "COMPOSITE", None),
            ("SHA1", "FULL_OBJECT", None),
            ("SHA256", "", Some(ChecksumKind::Composite)),
            ("SHA512", "", None),
            ("", "FULL_OBJECT", None),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)] {
                if !value.is_empty() {
                    map.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(of_upload(&map).ok().flatten().map(|(_, kind)| kind), expected, "{algorithm} {kind}");
        }
    }

    #[test]
    fn a_composite_value_may_count_its_parts() {
        let of =
            |value| of_object(&headers(&[("x-amz-checksum-crc32", value)]), 3).is_ok_and(|c| c.is_some());
        assert!(of("AAAAAA==") && of("AAAAAA==-3"));
        assert!(!of("AAAAAA==-4") && !of("AAAAAA==-") && !of(""));
        assert_eq!(of_object(&HeaderMap::new(), 3), Ok(None));
    }
}
