//! Entity tags.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An entity tag without its quotes: the MD5 of the bytes in hex, or `<md5 of part md5s>-<parts>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    pub fn from_md5(digest: [u8; 16]) -> Self {
        Self(hex(&digest))
    }

    /// The tag of a multipart object from the MD5 over its parts' binary MD5s.
    pub fn from_parts_md5(digest: [u8; 16], parts: usize) -> Self {
        Self(format!("{}-{parts}", hex(&digest)))
    }

    /// Takes a tag as clients send it, with or without quotes; a weak prefix is dropped, because S3 compares tags
    /// strongly and stores no weak ones.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text);
        Self(text.trim_matches('"').to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 16 bytes of a plain MD5 tag; `None` for a multipart or opaque one.
    pub fn md5(&self) -> Option<[u8; 16]> {
        if self.0.len() != 32 {
            return None;
        }
        let mut out = [0; 16];
        for (byte, pair) in out.iter_mut().zip(self.0.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(out)
    }

    /// As HTTP wants it: in quotes.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string does not fail");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_digest_and_lose_their_quotes() {
        let tag = ETag::from_md5([0xab; 16]);
        assert_eq!(tag.quoted(), format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(ETag::parse(&tag.quoted()), tag);
        assert_eq!(ETag::parse(&format!("W/{}", tag.quoted())), tag);
        assert_eq!(tag.md5(), Some([0xab; 16]));
        assert_eq!(ETag::from_parts_md5([1; 16], 3).md5(), None);
    }
}
