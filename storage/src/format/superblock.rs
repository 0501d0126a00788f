//! The superblock: whose drive this is, how long its segments are, and which checkpoint is whole.

use super::{
    BLOCK, DecodeError, FORMAT_VERSION, check_version,
    fields::{Fields, Sealed, verified},
    is_segment_len,
};
use ashlar_types::{ClusterId, DriveUuid};

const MAGIC: &[u8; 8] = b"ASHLARSB";
const LEN: usize = 4096;
const LEN_FIELD: u32 = 4096;
const RESERVED: usize = 4016;
const _: () = assert!(LEN as u64 == BLOCK && LEN as u64 == LEN_FIELD as u64);

/// Which drive of which cluster a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveIdentity {
    pub cluster: ClusterId,
    pub drive: DriveUuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) identity: DriveIdentity,
    /// Raised by each write; of two valid superblocks the higher one counts.
    pub(crate) generation: u64,
    pub(crate) segment_bytes: u64,
    /// Number of the newest whole checkpoint; 0 before the first.
    pub(crate) checkpoint: u64,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Sealed::<LEN>::new()
            .put(MAGIC)
            .u32(FORMAT_VERSION)
            .u32(LEN_FIELD)
            .u128(self.identity.cluster.0)
            .u128(self.identity.drive.0)
            .u64(self.generation)
            .u64(self.segment_bytes)
            .u64(self.checkpoint)
            .seal()
            .to_vec()
    }

    /// `bytes` is the whole file: a superblock of another version ends where its file does.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields(bytes);
        fields.magic(MAGIC).ok_or(DecodeError::Damaged("it does not begin with the magic number"))?;
        let content = verified(bytes).ok_or(DecodeError::Damaged("its checksum does not match"))?;
        let mut fields = Fields(content);
        fields.magic(MAGIC).ok_or(DecodeError::Damaged("it is too short"))?;
        check_version(fields.u32().ok_or(DecodeError::Damaged("it is too short"))?)?;
        Self::fields(fields).ok_or(DecodeError::Damaged("a field has a value that never existed"))
    }

    fn fields(mut fields: Fields<'_>) -> Option<Self> {
        if fields.u32()? != LEN_FIELD {
            return None;
        }
        let superblock = Self {
            identity: DriveIdentity { cluster: ClusterId(fields.u128()?), drive: DriveUuid(fields.u128()?) },
            generation: fields.u64()?,
            segment_bytes: fields.u64()?,
            checkpoint: fields.u64()?,
        };
        fields.zeros(RESERVED)?;
        (fields.is_empty() && is_segment_len(superblock.segment_bytes)).then_some(superblock)
    }
}
