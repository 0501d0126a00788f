//! Bytes of objects that nobody has to keep: a seed and a length say what they are.

use crate::random::word_at;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{io::Write, path::Path};

/// What an object is made of. Every write of a story has a seed of its own, so that bytes of two writes are never
/// equal and a mixture of them is equal to neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    pub seed: u64,
    pub len: u64,
}

const WORD: u64 = 8;
/// Bytes made at a time where they need not be in memory all at once.
const PIECE: u64 = 1 << 20;

fn index(at: u64) -> usize {
    usize::try_from(at).expect("contents are smaller than the address space")
}

impl Content {
    pub fn new(seed: u64, len: u64) -> Self {
        Self { seed, len }
    }

    pub fn bytes(self) -> Bytes {
        self.range(0, self.len)
    }

    /// Bytes `start..end`.
    pub fn range(self, start: u64, end: u64) -> Bytes {
        assert!(start <= end && end <= self.len, "{start}..{end} is outside of {} bytes", self.len);
        let first = start / WORD;
        let words = end.div_ceil(WORD) - first;
        let mut bytes = vec![0; index(words * WORD)];
        for (word, index) in bytes.chunks_exact_mut(index(WORD)).zip(first..) {
            word.copy_from_slice(&word_at(self.seed, index).to_le_bytes());
        }
        Bytes::from(bytes).slice(index(start - first * WORD)..index(end - first * WORD))
    }

    pub fn sha256(self) -> [u8; 32] {
        self.range_sha256(0, self.len)
    }

    pub fn range_sha256(self, start: u64, end: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.pieces(start, end).for_each(|piece| hash.update(&piece));
        hash.finalize().into()
    }

    /// Writes a file without holding it in memory.
    pub fn write_to(self, path: &Path) -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        self.pieces(0, self.len).try_for_each(|piece| file.write_all(&piece))
    }

    /// Whether `bytes` are what stands at `offset`.
    pub fn matches_at(self, offset: u64, bytes: &[u8]) -> bool {
        let end = offset + bytes.len() as u64;
        end <= self.len && self.range(offset, end) == bytes
    }

    fn pieces(self, start: u64, end: u64) -> impl Iterator<Item = Bytes> {
        let step = index(PIECE);
        (start..end).step_by(step).map(move |at| self.range(at, end.min(at + PIECE)))
    }
}

/// As people compare them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_slices_of_the_whole() {
        let content = Content::new(5, 1000);
        let whole = content.bytes();
        assert_eq!(whole.len(), 1000);
        for (start, end) in [(0, 0), (0, 1), (7, 9), (8, 16), (3, 1000), (999, 1000), (1000, 1000)] {
            assert_eq!(content.range(start, end), whole[index(start)..index(end)], "{start}..{end}");
        }
        assert!(content.matches_at(10, &whole[10..20]));
        assert!(!content.matches_at(11, &whole[10..20]));
        assert!(!content.matches_at(995, &[0; 6]));
        assert_ne!(Content::new(6, 1000).bytes(), whole);
    }

    #[test]
    fn a_hash_in_pieces_is_the_hash_of_the_whole() {
        let content = Content::new(9, 2 * PIECE + 77);
        assert_eq!(content.sha256(), <[u8; 32]>::from(Sha256::digest(content.bytes())));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        content.write_to(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content.bytes());
    }
}
