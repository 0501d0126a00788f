//! Numbers in byte strings, the checksum of the format and repeatable dice.
//!
//! Shares no code with the store, so that neither hides a fault of the other.

const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;
const TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// CRC-64/NVME.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(u64::MAX, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

/// The little-endian number of `len` bytes, at most 8; 0 where there are none.
pub(crate) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let Some(field) = at.checked_add(len).and_then(|end| bytes.get(at..end)) else { return 0 };
    let mut raw = [0; 8];
    raw[..len].copy_from_slice(field);
    u64::from_le_bytes(raw)
}

/// [`number`] as a length or an offset in memory.
pub(crate) fn size(bytes: &[u8], at: usize, len: usize) -> usize {
    usize::try_from(number(bytes, at, len)).unwrap_or(usize::MAX)
}

/// Writes the low bytes of a number, if its place is there.
pub(crate) fn set(bytes: &mut [u8], at: usize, len: usize, value: u64) {
    if let Some(field) = at.checked_add(len).and_then(|end| bytes.get_mut(at..end)) {
        field.copy_from_slice(&value.to_le_bytes()[..len]);
    }
}

/// Whether the last 8 bytes are the checksum of those before.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<8>().is_some_and(|(content, crc)| crc64(content) == u64::from_le_bytes(*crc))
}

/// Puts the checksum at the end of `start..end`, if that is there.
pub(crate) fn seal(bytes: &mut [u8], start: usize, end: usize) {
    if let Some((content, crc)) =
        bytes.get_mut(start..end).and_then(|bytes| bytes.split_last_chunk_mut::<8>())
    {
        *crc = crc64(content).to_le_bytes();
    }
}

/// Repeatable randomness (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.u64() % bound).expect("it is below a number of this type")
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
