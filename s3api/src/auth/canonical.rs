//! The canonical request: the bytes that a signature covers
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! S3 encodes once: path and query are percent-decoded and encoded again, so that a client and a proxy which encode
//! differently agree. Two targets have the same canonical form exactly if they decode to the same bytes; the slash of
//! a path is the one character that may come encoded or not, and a key means the same either way. `+` stands for
//! itself.

use crate::error::{ErrorCode, S3Error, S3Result};
use http::{HeaderMap, HeaderName, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The parameter that carries the signature, and so is not covered by it.
pub(super) const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

/// What a canonical request is made of besides the headers' values.
pub(super) struct Signed<'a> {
    pub(super) method: &'a http::Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    /// Sorted, each once.
    pub(super) signed_headers: &'a [HeaderName],
    /// The last line: a digest or one of the words that stand for it.
    pub(super) payload: &'a str,
}

/// SHA-256 of the canonical request.
pub(super) fn digest(signed: &Signed<'_>) -> S3Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut line = |text: &[u8]| {
        hash.update(text);
        hash.update(b"\n");
    };
    line(signed.method.as_str().as_bytes());
    line(path(signed.uri.path())?.as_bytes());
    line(query(signed.uri.query().unwrap_or_default())?.as_bytes());
    for name in signed.signed_headers {
        let mut value = name.as_str().as_bytes().to_vec();
        value.push(b':');
        append_value(&mut value, name, signed)?;
        line(&value);
    }
    line(b"");
    line(signed_headers_text(signed.signed_headers).as_bytes());
    hash.update(signed.payload);
    Ok(hash.finalize().into())
}

pub(super) fn signed_headers_text(names: &[HeaderName]) -> String {
    names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";")
}

/// The host that a request is for: `Host`, or the authority of HTTP/2 and of absolute targets. Both may be there if
/// they say the same.
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> S3Result<&'a [u8]> {
    let refuse = |why: &str| S3Error::new(ErrorCode::InvalidRequest).message(why);
    let mut values = headers.get_all(header::HOST).iter();
    let host = values.next().map(|value| value.as_bytes().trim_ascii());
    if values.next().is_some() {
        return Err(refuse("The Host header is there more than once."));
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (host, authority) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Err(refuse("The Host header and the request target name different hosts."))
        }
        (Some(host), _) => Ok(host),
        (None, Some(authority)) => Ok(authority),
        (None, None) => Err(refuse("The Host header is missing.")),
    }
}

fn append_value(out: &mut Vec<u8>, name: &HeaderName, signed: &Signed<'_>) -> S3Result<()> {
    if *name == header::HOST {
        append_collapsed(out, host(signed.uri, signed.headers)?);
        return Ok(());
    }
    let mut values = signed.headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)
            .message(format!("The signed header {name} is not in the request.")));
    };
    append_collapsed(out, first.as_bytes());
    for value in values {
        out.push(b',');
        append_collapsed(out, value.as_bytes());
    }
    Ok(())
}

/// Trims, and makes one space of each run of white space.
fn append_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

pub(super) fn path(raw: &str) -> S3Result<String> {
    Ok(percent_encode(&decode(raw)?, ENCODED_IN_PATH).to_string())
}

/// Sorted by encoded name, then by encoded value.
fn query(raw: &str) -> S3Result<String> {
    let mut pairs = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if name != SIGNATURE_PARAMETER.as_bytes() {
            pairs.push((encode(&name), encode(&decode(value)?)));
        }
    }
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(pairs.join("&"))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

/// Refuses a `%` that no two hexadecimal digits follow, which decoders read differently.
pub(super) fn decode(raw: &str) -> S3Result<Vec<u8>> {
    let mut pieces = raw.as_bytes().split(|byte| *byte == b'%');
    pieces.next();
    for piece in pieces {
        if !matches!(piece, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            return Err(S3Error::new(ErrorCode::InvalidURI));
        }
    }
    Ok(percent_decode_str(raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_encoded_once_and_keep_their_slashes() {
        for (raw, canonical) in [
            ("/", "/"),
            ("/test$file.text", "/test%24file.text"),
            ("/a%2fb//c/../d", "/a/b//c/../d"),
            ("/a+b%20c~", "/a%2Bb%20c~"),
            ("/%e4%bd%a0", "/%E4%BD%A0"),
            ("/a%2520", "/a%2520"),
        ] {
            assert_eq!(path(raw).unwrap(), canonical, "{raw}");
        }
        for raw in ["/%", "/%4", "/%zz", "/%%41"] {
            assert_eq!(path(raw).map_err(|e| e.code), Err(ErrorCode::InvalidURI), "{raw}");
        }
    }

    #[test]
    fn parameters_are_sorted_in_their_encoded_form() {
        for (raw, canonical) in [
            ("", ""),
            ("acl", "acl="),
            ("b=1&a=2&a=1&a", "a=&a=1&a=2&b=1"),
            ("a-b=1&a=1&A=1&a%7E=1", "A=1&a=1&a-b=1&a~=1"),
            ("prefix=a/b+c&&x=1=2", "prefix=a%2Fb%2Bc&x=1%3D2"),
            ("X-Amz-Signature=00&X-Amz-Date=1", "X-Amz-Date=1"),
        ] {
            assert_eq!(query(raw).unwrap(), canonical, "{raw}");
        }
    }

    #[test]
    fn values_are_trimmed_and_collapsed() {
        let mut out = Vec::new();
        append_collapsed(&mut out, b"  a   b\t c ");
        assert_eq!(out, b"a b c");
    }

    #[test]
    fn the_host_is_unambiguous() {
        let host_of = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            host(&uri.parse().unwrap(), &headers).map(|host| String::from_utf8_lossy(host).into_owned()).ok()
        };
        assert_eq!(host_of("/k", &["a:1"]).as_deref(), Some("a:1"));
        assert_eq!(host_of("http://a:1/k", &[]).as_deref(), Some("a:1"));
        assert_eq!(host_of("http://A:1/k", &["a:1"]).as_deref(), Some("a:1"));
        assert_eq!(host_of("http://b/k", &["a"]), None);
        assert_eq!(host_of("/k", &["a", "a"]), None);
        assert_eq!(host_of("/k", &[]), None);
    }

    proptest! {
        #[test]
        fn paths_are_equal_exactly_if_they_decode_alike(a in "/(a|%41|A|%2F|/|%25|\\+|%2B){0,4}", b in "/(a|%41|A|%2F|/|%25|\\+|%2B){0,4}") {
            prop_assert_eq!(path(&a).unwrap() == path(&b).unwrap(), decode(&a).unwrap() == decode(&b).unwrap());
            prop_assert_eq!(decode(&path(&a).unwrap()).unwrap(), decode(&a).unwrap());
        }
    }
}
