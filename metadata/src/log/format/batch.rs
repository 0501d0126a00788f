//! Batches: what one write and one flush make durable, and whose records are in it.
//!
//! The header has a checksum of its own and lists the replicas with a checksum over each one's records: a payload that is
//! damaged later tells whose it was.

use super::{BLOCK, BatchNumber, ReplicaKey, Salt, SegmentId, checksum, memory, u32_at, u64_at};
use ashlar_types::GroupId;

const MAGIC: &[u8; 8] = b"aLgBatch";
const CRC_AT: usize = 8;
const FIXED: usize = 64;
const SECTION: usize = 32;
/// More replicas than any node has.
const SECTIONS_MAX: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::log) struct BatchHead {
    pub(in crate::log) number: BatchNumber,
    /// Checksum of the header of the batch before; 0 for the first of a log.
    pub(in crate::log) previous: u64,
    /// The first batch that is still needed once this one is durable.
    pub(in crate::log) oldest: BatchNumber,
    pub(in crate::log) segment: SegmentId,
    pub(in crate::log) offset: u64,
    /// Header and padding included; a multiple of the block.
    pub(in crate::log) len: u32,
    /// In the order of their records, which follow the header without a gap.
    pub(in crate::log) sections: Vec<Section>,
}

/// The records of one replica in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct Section {
    pub(in crate::log) key: ReplicaKey,
    pub(in crate::log) records: u32,
    pub(in crate::log) len: u32,
    /// Over the checksums of the records.
    pub(in crate::log) crc: u64,
}

impl BatchHead {
    pub(in crate::log) fn encoded_len(sections: usize) -> usize {
        FIXED + SECTION * sections
    }

    /// Writes the header to the front of a batch and returns its checksum.
    pub(in crate::log) fn encode(&self, salt: Salt, batch: &mut [u8]) -> u64 {
        let len = Self::encoded_len(self.sections.len());
        let head = &mut batch[..len];
        head[..8].copy_from_slice(MAGIC);
        let numbers = [self.number.0, self.previous, self.oldest.0, self.segment.0, self.offset];
        for (number, at) in numbers.iter().zip((16..).step_by(8)) {
            head[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        head[56..60].copy_from_slice(&self.len.to_le_bytes());
        let sections = u32::try_from(self.sections.len()).expect("a node has few replicas");
        head[60..64].copy_from_slice(&sections.to_le_bytes());
        for (section, out) in self.sections.iter().zip(head[FIXED..].chunks_exact_mut(SECTION)) {
            out[..4].copy_from_slice(&section.key.group.0.to_le_bytes());
            out[4..8].copy_from_slice(&section.records.to_le_bytes());
            out[8..16].copy_from_slice(&section.key.raft_id.to_le_bytes());
            out[16..20].copy_from_slice(&section.len.to_le_bytes());
            out[20..24].fill(0);
            out[24..32].copy_from_slice(&section.crc.to_le_bytes());
        }
        let crc = checksum(&[salt.0], &[&head[16..]]);
        head[CRC_AT..16].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Length of the header that may begin here, as far as its first bytes tell.
    pub(in crate::log) fn announced_len(bytes: &[u8]) -> Option<usize> {
        let sections = usize::try_from(u32_at(bytes, 60)?).ok()?;
        (bytes.starts_with(MAGIC) && sections <= SECTIONS_MAX).then(|| Self::encoded_len(sections))
    }

    /// The header at the front of `bytes`, with its checksum.
    pub(in crate::log) fn decode(salt: Salt, bytes: &[u8]) -> Option<(Self, u64)> {
        let bytes = bytes.get(..Self::announced_len(bytes)?)?;
        let crc = u64_at(bytes, CRC_AT)?;
        if crc != checksum(&[salt.0], &[&bytes[16..]]) {
            return None;
        }
        let sections =
            bytes[FIXED..].chunks_exact(SECTION).map(Section::decode).collect::<Option<Vec<_>>>()?;
        let head = Self {
            number: BatchNumber(u64_at(bytes, 16)?),
            previous: u64_at(bytes, 24)?,
            oldest: BatchNumber(u64_at(bytes, 32)?),
            segment: SegmentId(u64_at(bytes, 40)?),
            offset: u64_at(bytes, 48)?,
            len: u32_at(bytes, 56)?,
            sections,
        };
        head.is_sound().then_some((head, crc))
    }

    fn is_sound(&self) -> bool {
        let len = u64::from(self.len);
        let records: u64 = self.sections.iter().map(|section| u64::from(section.len)).sum();
        let header = Self::encoded_len(self.sections.len()) as u64;
        (1..u64::MAX / 2).contains(&self.number.0)
            && self.oldest <= self.number
            && memory(len).is_multiple_of(BLOCK)
            && header + records <= len
    }

    /// Where each section begins in the batch.
    pub(in crate::log) fn sections_at(&self) -> impl Iterator<Item = (usize, &Section)> {
        let mut at = Self::encoded_len(self.sections.len());
        self.sections.iter().map(move |section| {
            let start = at;
            at += memory(section.len.into());
            (start, section)
        })
    }
}

impl Section {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            key: ReplicaKey { group: GroupId(u32_at(bytes, 0)?), raft_id: u64_at(bytes, 8)? },
            records: u32_at(bytes, 4)?,
            len: u32_at(bytes, 16)?,
            crc: u64_at(bytes, 24)?,
        })
    }

    /// Checksum of a section whose records have these.
    pub(in crate::log) fn checksum(records: impl IntoIterator<Item = u64>) -> u64 {
        let crcs: Vec<u64> = records.into_iter().collect();
        checksum(&crcs, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> BatchHead {
        let section = |group, crc| Section {
            key: ReplicaKey { group: GroupId(group), raft_id: 0x1_0000_0002 },
            records: 2,
            len: 96,
            crc,
        };
        BatchHead {
            number: BatchNumber(12),
            previous: 0xabc,
            oldest: BatchNumber(3),
            segment: SegmentId(4),
            offset: 8192,
            len: 4096,
            sections: vec![section(0, 5), section(7, 6)],
        }
    }

    #[test]
    fn a_header_is_read_back_and_any_wrong_bit_of_it_is_seen() {
        let head = head();
        let mut bytes = vec![0; BLOCK];
        let crc = head.encode(Salt(1), &mut bytes);
        assert_eq!(BatchHead::decode(Salt(1), &bytes), Some((head.clone(), crc)));
        assert_eq!(BatchHead::decode(Salt(2), &bytes), None, "of another log");
        assert_eq!(head.sections_at().map(|(at, _)| at).collect::<Vec<_>>(), [128, 224]);
        for bit in 0..8 * BatchHead::encoded_len(2) {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHead::decode(Salt(1), &wrong), None, "bit {bit}");
        }
        for len in 0..BatchHead::encoded_len(2) {
            assert_eq!(BatchHead::decode(Salt(1), &bytes[..len]), None, "{len} bytes of it");
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_none() {
        let wrong: [fn(&mut BatchHead); 5] = [
            |head| head.number = BatchNumber(0),
            |head| head.oldest = BatchNumber(13),
            |head| head.len = 4095,
            |head| head.len = 0,
            |head| head.sections[1].len = 4000,
        ];
        for change in wrong {
            let mut head = head();
            change(&mut head);
            let mut bytes = vec![0; BLOCK];
            head.encode(Salt(1), &mut bytes);
            assert_eq!(BatchHead::decode(Salt(1), &bytes), None, "{head:?}");
        }
    }
}
