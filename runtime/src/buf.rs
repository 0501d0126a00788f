//! Buffers aligned for direct I/O.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};

/// Alignment of direct I/O on every device we know.
pub const ALIGN: usize = 4096;

/// Zeroed bytes that start at a multiple of [`ALIGN`]: a window into a slightly larger allocation, which needs no
/// unsafe code.
#[derive(Debug)]
pub struct AlignedBuf {
    raw: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    pub fn zeroed(len: usize) -> Self {
        let raw = vec![0; len + ALIGN];
        let start = raw.as_ptr().addr().next_multiple_of(ALIGN) - raw.as_ptr().addr();
        Self { raw, start, len }
    }

    /// Hands the bytes over without a copy; they return to the allocator with the last reference.
    pub fn freeze(self) -> Bytes {
        let (start, len) = (self.start, self.len);
        Bytes::from(self.raw).slice(start..start + len)
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_exactly_as_long_as_asked() {
        for len in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let mut buf = AlignedBuf::zeroed(len);
            assert_eq!((buf.len(), buf.as_ptr().addr() % ALIGN), (len, 0));
            assert!(buf.iter().all(|byte| *byte == 0));
            buf.fill(7);
            let bytes = buf.freeze();
            assert_eq!(bytes.as_ptr().addr() % ALIGN, 0);
            assert!(bytes.len() == len && bytes.iter().all(|byte| *byte == 7));
        }
    }
}
