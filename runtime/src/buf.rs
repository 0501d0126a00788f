//! Buffers aligned for direct I/O.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};

/// Alignment of direct I/O on every device we know.
pub const ALIGN: usize = 4096;

/// Bytes that start at a multiple of [`ALIGN`]: a window into a slightly larger allocation, which needs no unsafe
/// code.
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

    /// Empty, with room for this many bytes before it has to move.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buf = Self::zeroed(capacity);
        buf.len = 0;
        buf
    }

    /// Bytes that fit without an allocation.
    pub fn capacity(&self) -> usize {
        self.raw.len() - self.start
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Cuts off, or adds zeros.
    pub fn resize(&mut self, len: usize) {
        self.reserve(len);
        let (from, to) = (self.start + self.len.min(len), self.start + len);
        self.raw[from..to].fill(0);
        self.len = len;
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(self.len + bytes.len());
        let from = self.start + self.len;
        self.raw[from..from + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds zeros up to a multiple of [`ALIGN`].
    pub fn pad(&mut self) {
        self.resize(self.len.next_multiple_of(ALIGN));
    }

    fn reserve(&mut self, len: usize) {
        if len > self.capacity() {
            let mut larger = Self::zeroed(len.max(2 * self.capacity()));
            larger[..self.len].copy_from_slice(self);
            larger.len = self.len;
            *self = larger;
        }
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

    #[test]
    fn a_buffer_that_is_filled_again_keeps_its_memory_and_shows_nothing_old() {
        let mut buf = AlignedBuf::with_capacity(2 * ALIGN);
        let memory = buf.as_ptr();
        for round in 1..4_u8 {
            buf.clear();
            buf.extend_from_slice(&[round; 5]);
            buf.extend_from_slice(&[round; ALIGN]);
            buf.pad();
            assert_eq!((buf.len(), buf.as_ptr()), (2 * ALIGN, memory));
            let (written, padding) = buf.split_at(ALIGN + 5);
            assert!(written.iter().all(|byte| *byte == round) && padding.iter().all(|byte| *byte == 0));
        }
        buf.resize(3);
        buf.resize(5);
        assert_eq!(buf[..], [3, 3, 3, 0, 0]);
        buf.extend_from_slice(&[9; 5 * ALIGN]);
        assert_eq!(buf.as_ptr().addr() % ALIGN, 0, "aligned where it moved to");
        assert_eq!((&buf[..6], buf.len()), (&[3, 3, 3, 0, 0, 9][..], 5 + 5 * ALIGN));
    }
}
