//! Little-endian fields in sequence: read from a slice that may end anywhere, written to a structure of fixed length.

use ashlar_hashing::crc64nvme;
use ashlar_types::ShardId;

/// Length of the CRC that ends every structure.
pub(super) const CRC_LEN: usize = 8;

/// Reads fields from the front of a slice; each is `None` once the bytes do not suffice.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(super) fn shard(&mut self) -> Option<ShardId> {
        ShardId::decode(&self.take::<{ ShardId::ENCODED_LEN }>()?)
    }

    /// Bytes that no version has used yet.
    pub(super) fn zeros(&mut self, len: usize) -> Option<()> {
        all_zero(self.slice(len)?).then_some(())
    }

    pub(super) fn magic(&mut self, magic: &[u8]) -> Option<()> {
        (self.slice(magic.len())? == magic).then_some(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows to reserve for: the claimed count, but not more than the bytes that are left can hold.
    pub(super) fn plausible(&self, count: usize, row_len: usize) -> usize {
        count.min(self.len() / row_len)
    }
}

pub(super) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What precedes the CRC at the end of `bytes`, if that is right.
pub(super) fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (content, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
    (crc64nvme(content) == u64::from_le_bytes(*crc)).then_some(content)
}

/// Ends a structure with the CRC of all of it.
pub(super) fn seal(bytes: &mut Vec<u8>) -> u64 {
    let crc = crc64nvme(bytes);
    bytes.extend(crc.to_le_bytes());
    crc
}

/// A structure of `N` bytes that ends with its CRC; bytes not written are zero.
pub(super) struct Sealed<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Sealed<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    pub(super) fn put(mut self, field: &[u8]) -> Self {
        let end = self.at + field.len();
        let place = self.bytes.get_mut(self.at..end).expect("the structure is as long as its fields");
        place.copy_from_slice(field);
        self.at = end;
        self
    }

    pub(super) fn u32(self, field: u32) -> Self {
        self.put(&field.to_le_bytes())
    }

    pub(super) fn u64(self, field: u64) -> Self {
        self.put(&field.to_le_bytes())
    }

    pub(super) fn u128(self, field: u128) -> Self {
        self.put(&field.to_le_bytes())
    }

    pub(super) fn zeros(mut self, len: usize) -> Self {
        self.at += len;
        self
    }

    pub(super) fn seal(mut self) -> [u8; N] {
        let (content, crc) =
            self.bytes.split_last_chunk_mut::<CRC_LEN>().expect("the structure is longer than its CRC");
        assert!(self.at <= content.len(), "the fields end before the CRC");
        *crc = crc64nvme(content).to_le_bytes();
        self.bytes
    }
}
