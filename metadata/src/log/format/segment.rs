//! The first block of a segment file. It is written once, when the file is made, and never again.

use super::{BLOCK, FORMAT_VERSION, Salt, SegmentId, checksum, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ashlrlog";
const CRC_AT: usize = 32;
const SUFFIX: &str = ".seg";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct SegmentHead {
    pub(in crate::log) salt: Salt,
    pub(in crate::log) id: SegmentId,
}

/// What a first block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) enum Header {
    Sound(SegmentHead),
    /// Sound, but of a release that came later.
    Newer(u32),
    Damaged,
}

impl SegmentHead {
    pub(in crate::log) fn encode(self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.salt.0.to_le_bytes());
        block[24..32].copy_from_slice(&self.id.0.to_le_bytes());
        let crc = checksum(&[], &[&block[..CRC_AT]]);
        block[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
        block
    }

    pub(in crate::log) fn decode(block: &[u8]) -> Header {
        Self::fields(block).unwrap_or(Header::Damaged)
    }

    fn fields(block: &[u8]) -> Option<Header> {
        let content = block.get(..CRC_AT)?;
        if !content.starts_with(MAGIC) || u64_at(block, CRC_AT)? != checksum(&[], &[content]) {
            return None;
        }
        let version = u32_at(block, 8)?;
        if version > FORMAT_VERSION {
            return Some(Header::Newer(version));
        }
        let head = Self { salt: Salt(u64_at(block, 16)?), id: SegmentId(u64_at(block, 24)?) };
        Some(Header::Sound(head))
    }
}

impl SegmentId {
    pub(in crate::log) fn file_name(self) -> String {
        format!("{self}{SUFFIX}")
    }

    /// `None` for a name that is not exactly what [`Self::file_name`] makes.
    pub(in crate::log) fn parse_file_name(name: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?);
        (id.file_name() == name).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_any_wrong_bit_of_it_is_seen() {
        let head = SegmentHead { salt: Salt(7), id: SegmentId(9) };
        let block = head.encode();
        assert_eq!(SegmentHead::decode(&block), Header::Sound(head));
        assert_eq!(
            block[..40],
            *b"ashlrlog\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x4c\x16\xf3\x88\xaa\x4b\x39\x88"
        );
        for bit in 0..320 {
            let mut wrong = block.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::decode(&wrong), Header::Damaged, "bit {bit}");
        }
        assert_eq!(SegmentHead::decode(&[]), Header::Damaged);
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut block = SegmentHead { salt: Salt(7), id: SegmentId(9) }.encode();
        block[8] = 2;
        assert_eq!(SegmentHead::decode(&block), Header::Damaged);
        let crc = checksum(&[], &[&block[..CRC_AT]]);
        block[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHead::decode(&block), Header::Newer(2));
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(SegmentId::parse_file_name("00000000000000ff.seg"), Some(SegmentId(255)));
        for name in ["ff.seg", "00000000000000FF.seg", "00000000000000ff", "00000000000000ff.seg.new", "id"] {
            assert_eq!(SegmentId::parse_file_name(name), None, "{name}");
        }
    }
}
