//! Segments: their ids and names, the epoch of a use, and the header each begins with.

use super::{
    DecodeError, FORMAT_VERSION, RECORD_NUMBER_MAX, check_version,
    fields::{Fields, Sealed, verified},
    is_segment_len,
};
use ashlar_types::DriveUuid;
use std::fmt;

const MAGIC: &[u8; 8] = b"ASHLARSG";
const LEN: usize = 4096;
const RESERVED: usize = 4016;
const SUFFIX: &str = ".seg";
const DIGITS: usize = 16;

/// A segment file; used once on a drive, over both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId(pub(crate) u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        format!("{self}{SUFFIX}")
    }

    /// `None` for a name that is not exactly what [`Self::file_name`] makes.
    pub(crate) fn parse_file_name(name: &str) -> Option<Self> {
        parse_number(name.strip_suffix(SUFFIX)?).map(Self)
    }
}

/// A number in exactly 16 lower-case hex digits, as file names on a drive have it.
pub(crate) fn parse_number(digits: &str) -> Option<u64> {
    let canonical = digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A random number that tells one use of a segment from all others.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(pub(crate) u64);

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({:016x})", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SegmentKind {
    Log,
    Extents,
}

impl SegmentKind {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Log => 1,
            Self::Extents => 2,
        }
    }

    pub(super) fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Log),
            2 => Some(Self::Extents),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) kind: SegmentKind,
    pub(crate) drive: DriveUuid,
    pub(crate) id: SegmentId,
    pub(crate) epoch: Epoch,
    /// Number of the first record of this use; 0 in a log segment that was not used yet, and in all of extents.
    pub(crate) first_record: u64,
    /// CRC field of the header of the last batch before this segment; 0 if there is none, and in all of extents.
    pub(crate) previous: u64,
    pub(crate) segment_bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Sealed::<LEN>::new()
            .put(MAGIC)
            .u32(FORMAT_VERSION)
            .u32(self.kind.code())
            .u128(self.drive.0)
            .u64(self.id.0)
            .u64(self.epoch.0)
            .u64(self.first_record)
            .u64(self.previous)
            .u64(self.segment_bytes)
            .seal()
            .to_vec()
    }

    /// `bytes` is the first block of the segment.
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
        let header = Self {
            kind: SegmentKind::from_code(fields.u32()?)?,
            drive: DriveUuid(fields.u128()?),
            id: SegmentId(fields.u64()?),
            epoch: Epoch(fields.u64()?),
            first_record: fields.u64()?,
            previous: fields.u64()?,
            segment_bytes: fields.u64()?,
        };
        fields.zeros(RESERVED)?;
        let agrees = match header.kind {
            SegmentKind::Log => header.first_record <= RECORD_NUMBER_MAX,
            SegmentKind::Extents => header.first_record == 0 && header.previous == 0,
        };
        (agrees && fields.is_empty() && is_segment_len(header.segment_bytes)).then_some(header)
    }
}
