//! S3 version ids.

use crate::ids::Sequence;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The id of an S3 version as clients see it: 32 characters `[A-Za-z0-9_-]` that carry the partition's sequence
/// (so that the version can be looked up) and a salt from the command (so that ids are not guessed), or `null`
/// for versions written while versioning was not enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VersionId {
    Null,
    Id { sequence: Sequence, salt: u128 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version id")]
pub struct VersionIdError;

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id { sequence, salt } => {
                let mut raw = [0; 24];
                raw[..8].copy_from_slice(&sequence.0.to_be_bytes());
                raw[8..].copy_from_slice(&salt.to_be_bytes());
                f.write_str(&URL_SAFE_NO_PAD.encode(raw))
            }
        }
    }
}

impl FromStr for VersionId {
    type Err = VersionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "null" {
            return Ok(Self::Null);
        }
        let raw: [u8; 24] =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|v| v.try_into().ok()).ok_or(VersionIdError)?;
        let (sequence, salt) = raw.split_first_chunk::<8>().ok_or(VersionIdError)?;
        Ok(Self::Id {
            sequence: Sequence(u64::from_be_bytes(*sequence)),
            salt: u128::from_be_bytes(salt.try_into().map_err(|_| VersionIdError)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_round_trip_as_32_safe_characters(sequence: u64, salt: u128) {
            let id = VersionId::Id { sequence: Sequence(sequence), salt };
            let text = id.to_string();
            prop_assert_eq!(text.len(), 32);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(text.parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "Null", "x", &"a".repeat(31), &"a".repeat(33), &"!".repeat(32)] {
            assert_eq!(text.parse::<VersionId>(), Err(VersionIdError), "{text}");
        }
        assert_eq!("null".parse(), Ok(VersionId::Null));
    }
}
