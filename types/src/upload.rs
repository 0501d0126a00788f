//! Multipart uploads and their parts.

use crate::{
    checksum::{Checksum, ChecksumAlgorithm, ChecksumKind},
    etag::ETag,
    ids::Sequence,
    key::ObjectKey,
    object::ObjectMetadata,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Identity of an upload: sorts by initiation, both as a value and as text (48 hex digits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId {
    pub sequence: Sequence,
    pub salt: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id")]
pub struct UploadIdError;

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:032x}", self.sequence.0, self.salt)
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 48 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(UploadIdError);
        }
        let (sequence, salt) = text.split_at(16);
        Ok(Self {
            sequence: Sequence(u64::from_str_radix(sequence, 16).map_err(|_| UploadIdError)?),
            salt: u128::from_str_radix(salt, 16).map_err(|_| UploadIdError)?,
        })
    }
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadInfo {
    pub key: ObjectKey,
    pub upload: UploadId,
    pub initiated: Timestamp,
    pub metadata: ObjectMetadata,
    /// What the parts' checksums and the object's are to be.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A part as ListParts shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartInfo {
    pub part_number: u16,
    pub size: u64,
    pub etag: ETag,
    pub last_modified: Timestamp,
    pub checksum: Option<Checksum>,
}

/// A part as CompleteMultipartUpload names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedPart {
    pub part_number: u16,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_sorts_like_the_id(a: (u64, u128), b: (u64, u128)) {
            let id = |(sequence, salt)| UploadId { sequence: Sequence(sequence), salt };
            prop_assert_eq!(id(a).to_string().cmp(&id(b).to_string()), id(a).cmp(&id(b)));
            prop_assert_eq!(id(a).to_string().parse(), Ok(id(a)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "0", &"g".repeat(48), &"A".repeat(48), &"+".repeat(48)] {
            assert!(text.parse::<UploadId>().is_err(), "{text}");
        }
    }
}
