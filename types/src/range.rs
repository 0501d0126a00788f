//! Byte ranges.

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of something whose length is known; never empty unless that something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

impl ByteRange {
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn whole(len: u64) -> Self {
        Self { start: 0, end: len }
    }

    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

/// One range as a client asks for it, before the length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=first-last`, both inclusive.
    Between { first: u64, last: u64 },
    /// `bytes=first-`
    From(u64),
    /// `bytes=-count`
    Last(u64),
}

/// The range names no byte of the object: 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range names no byte of the object")]
pub struct RangeError;

impl RangeRequest {
    /// Parses a `Range` header. `None` for anything but one well-formed byte range: such a header is ignored and
    /// the whole object served (RFC 9110 section 14.2; S3 ignores lists of ranges).
    pub fn parse(header: &str) -> Option<Self> {
        let (first, last) = header.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", count) => Some(Self::Last(number(count)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between { first, last })
            }
        }
    }

    /// The bytes meant in an object of `len` bytes; a range that reaches past the end is cut.
    pub fn resolve(self, len: u64) -> Result<ByteRange, RangeError> {
        let range = match self {
            Self::Between { first, last } => ByteRange { start: first, end: last.saturating_add(1).min(len) },
            Self::From(first) => ByteRange { start: first, end: len },
            Self::Last(count) => ByteRange { start: len.saturating_sub(count), end: len },
        };
        if range.is_empty() { Err(RangeError) } else { Ok(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_resolve_as_http_says() {
        let resolve =
            |header, len| RangeRequest::parse(header).map(|r| r.resolve(len).ok().map(|r| (r.start, r.end)));
        assert_eq!(resolve("bytes=0-0", 10), Some(Some((0, 1))));
        assert_eq!(resolve("bytes=4-", 10), Some(Some((4, 10))));
        assert_eq!(resolve("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(resolve("bytes=-30", 10), Some(Some((0, 10))));
        assert_eq!(resolve("bytes=5-500", 10), Some(Some((5, 10))));
        assert_eq!(resolve("bytes=10-", 10), Some(None));
        assert_eq!(resolve("bytes=-0", 10), Some(None));
        assert_eq!(resolve("bytes=0-", 0), Some(None));
        for ignored in ["bytes=5-4", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2", "bytes=-", "bytes=+1-2"] {
            assert_eq!(resolve(ignored, 10), None, "{ignored}");
        }
    }
}
