//! Request headers that several operations read, and the headers that show a version.
//!
//! Owns names, single-value rules and the meaning of values; an operation asks for a typed thing and never looks at
//! a raw header. Authentication has its own reader of the headers that it signs.

pub(crate) mod checksum;
pub(crate) mod condition;
pub(crate) mod copy_source;
pub(crate) mod hoisted;
pub(crate) mod metadata;
pub(crate) mod stored_text;
pub(crate) mod tagging;
pub(crate) mod unsupported;
pub(crate) mod version;

use crate::error::{S3Error, S3Result};
use http::{HeaderMap, HeaderValue};

/// The one value of a header. Two values are refused, whether or not they agree.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> S3Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(S3Error::invalid_argument(name, "", "The header is there more than once.")),
    }
}

/// The one value of a header as text, without white space around it.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> S3Result<Option<&'a str>> {
    let Some(value) = single(headers, name)? else {
        return Ok(None);
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.trim_ascii())),
        Err(_) => Err(S3Error::invalid_argument(name, "", "The header is not UTF-8.")),
    }
}

/// All values of a list header, joined.
pub(crate) fn list(headers: &HeaderMap, name: &'static str) -> S3Result<Option<String>> {
    let mut joined: Option<String> = None;
    for value in headers.get_all(name) {
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| S3Error::invalid_argument(name, "", "The header is not UTF-8."))?;
        match &mut joined {
            Some(joined) => {
                joined.push(',');
                joined.push_str(value);
            }
            None => joined = Some(value.to_owned()),
        }
    }
    Ok(joined)
}

/// A decimal number without sign.
pub(crate) fn number<N: std::str::FromStr>(name: &'static str, value: &str) -> S3Result<N> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| {
        S3Error::invalid_argument(name, value, format!("Provided {name} is not a valid number."))
    })
}

/// A value made of letters, digits and punctuation that headers can carry.
pub(crate) fn plain(text: impl AsRef<str>) -> HeaderValue {
    HeaderValue::from_str(text.as_ref()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_header_is_there_once() {
        let mut headers = HeaderMap::new();
        assert_eq!(text(&headers, "content-md5"), Ok(None));
        headers.append("content-md5", " a ".parse().unwrap());
        assert_eq!(text(&headers, "content-md5"), Ok(Some("a")));
        headers.append("content-md5", "a".parse().unwrap());
        assert!(text(&headers, "content-md5").is_err());
        assert_eq!(list(&headers, "content-md5"), Ok(Some(" a ,a".to_owned())));
    }

    #[test]
    fn numbers_have_digits_only() {
        assert_eq!(number::<u16>("n", "007"), Ok(7));
        for bad in ["", "+1", "-1", " 1", "1.0", "65536", "x"] {
            assert!(number::<u16>("n", bad).is_err(), "{bad}");
        }
    }
}
