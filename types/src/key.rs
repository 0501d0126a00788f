//! Object keys.

use crate::limits::KEY_MAX_LEN;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An object key: 1 to 1024 bytes of UTF-8, compared as bytes. A key is parsed once, at the border, and is never
/// a path: `a/../b` and `a//b` are ordinary keys, `a/b` and `a/b/c` coexist.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key has at least one byte")]
    Empty,
    #[error("a key has at most {KEY_MAX_LEN} bytes")]
    TooLong,
}

impl ObjectKey {
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        match key.len() {
            0 => Err(KeyError::Empty),
            1..=KEY_MAX_LEN => Ok(Self(key.to_owned())),
            _ => Err(KeyError::TooLong),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = KeyError;

    fn try_from(key: String) -> Result<Self, Self::Error> {
        Self::parse(&key)
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_at_and_past_the_limits() {
        assert!(ObjectKey::parse(&"k".repeat(1024)).is_ok());
        assert!(ObjectKey::parse("../..//\u{0}\u{1F600}").is_ok());
        assert_eq!(ObjectKey::parse(""), Err(KeyError::Empty));
        assert_eq!(ObjectKey::parse(&"k".repeat(1025)), Err(KeyError::TooLong));
    }
}
