//! `x-amz-tagging`: tags in the form of a query string.

use crate::{
    error::{ErrorCode, S3Error, S3Result},
    target::decode,
};

const TAGS_MAX: usize = 10;
/// In characters.
const TAG_KEY_LEN_MAX: usize = 128;
const TAG_VALUE_LEN_MAX: usize = 256;

pub(crate) fn parse(header: &str) -> S3Result<Vec<(String, String)>> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // The form encoding writes a space as `+`.
        let part = |text: &str| {
            decode(&text.replace('+', " ")).map_err(|_| {
                S3Error::invalid_argument("x-amz-tagging", header, "The header is not a valid query string.")
            })
        };
        let (key, value) = (part(key)?, part(value)?);
        if key.is_empty() || key.chars().count() > TAG_KEY_LEN_MAX {
            return Err(S3Error::new(ErrorCode::InvalidTag)
                .message("The TagKey you have provided is invalid")
                .element("TagKey", key));
        }
        if value.chars().count() > TAG_VALUE_LEN_MAX {
            return Err(S3Error::new(ErrorCode::InvalidTag)
                .message("The TagValue you have provided is invalid")
                .element("TagKey", key)
                .element("TagValue", value));
        }
        if tags.iter().any(|(known, _)| *known == key) {
            return Err(S3Error::new(ErrorCode::InvalidTag)
                .message("Cannot provide multiple Tags with the same key")
                .element("TagKey", key));
        }
        tags.push((key, value));
    }
    if tags.len() > TAGS_MAX {
        return Err(S3Error::new(ErrorCode::InvalidTag).message("Object tags cannot be greater than 10"));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_at_and_past_the_limits() {
        assert_eq!(
            parse("a+b=c%26d&e&").unwrap(),
            [("a b".to_owned(), "c&d".to_owned()), ("e".to_owned(), String::new())]
        );
        let count = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join("&");
        for good in ["", &count(10), &format!("{}={}", "é".repeat(128), "v".repeat(256))] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            &count(11),
            "=v",
            "a=1&a=2",
            &format!("{}=v", "k".repeat(129)),
            &format!("k={}", "é".repeat(257)),
        ] {
            assert_eq!(parse(bad).map_err(|e| e.code), Err(ErrorCode::InvalidTag), "{bad}");
        }
        assert_eq!(parse("a=%zz").map_err(|e| e.code), Err(ErrorCode::InvalidArgument));
    }
}
