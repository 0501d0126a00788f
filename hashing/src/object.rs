//! All digests of an object's bytes in one pass.

use crate::{
    checksum::{ChecksumHasher, crc64_checksum},
    crc::Crc64Nvme,
    etag::EtagHasher,
};
use ashlar_types::{Checksum, ChecksumAlgorithm};

/// Every algorithm reads a piece before the next piece is touched, so that all but the first find it in the
/// first-level cache.
const PIECE_BYTES: usize = 16 * 1024;

/// MD5 and CRC-64/NVME of every object, and the checksum that its request declares.
#[derive(Clone, Debug)]
pub struct ObjectHasher {
    md5: EtagHasher,
    crc64: Crc64Nvme,
    declared: Declared,
    len: u64,
}

#[derive(Clone, Debug)]
enum Declared {
    Nothing,
    /// CRC-64/NVME, which is computed anyway.
    Crc64,
    Other(Box<ChecksumHasher>),
}

/// What [`ObjectHasher`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDigests {
    pub md5: [u8; 16],
    /// CRC-64/NVME.
    pub crc64: u64,
    /// Of the algorithm given to [`ObjectHasher::new`].
    pub declared: Option<Checksum>,
    /// Bytes hashed.
    pub len: u64,
}

impl ObjectHasher {
    /// `extra` is the algorithm that the client declares, if any.
    pub fn new(extra: Option<ChecksumAlgorithm>) -> Self {
        let declared = match extra {
            None => Declared::Nothing,
            Some(ChecksumAlgorithm::Crc64Nvme) => Declared::Crc64,
            Some(algorithm) => Declared::Other(Box::new(ChecksumHasher::new(algorithm))),
        };
        Self { md5: EtagHasher::new(), crc64: Crc64Nvme::new(), declared, len: 0 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.md5.update(piece);
            self.crc64.update(piece);
            match &mut self.declared {
                Declared::Other(hasher) => hasher.update(piece),
                Declared::Nothing | Declared::Crc64 => {}
            }
            self.len += piece.len() as u64;
        }
    }

    pub fn finish(self) -> ObjectDigests {
        let crc64 = self.crc64.finish();
        let declared = match self.declared {
            Declared::Nothing => None,
            Declared::Crc64 => Some(crc64_checksum(crc64)),
            Declared::Other(hasher) => Some(hasher.finish()),
        };
        ObjectDigests { md5: self.md5.finish(), crc64, declared, len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checksum, crc64nvme};
    use proptest::prelude::*;

    fn assert_digests(pieces: &[Vec<u8>]) {
        let whole = pieces.concat();
        let mut md5 = EtagHasher::new();
        md5.update(&whole);
        let md5 = md5.finish();
        for extra in ChecksumAlgorithm::ALL.into_iter().map(Some).chain([None]) {
            let mut hasher = ObjectHasher::new(extra);
            pieces.iter().for_each(|piece| hasher.update(piece));
            let declared = extra.map(|algorithm| checksum(algorithm, &whole));
            let wanted = ObjectDigests { md5, crc64: crc64nvme(&whole), declared, len: whole.len() as u64 };
            assert_eq!(hasher.finish(), wanted);
        }
    }

    #[test]
    fn updates_longer_than_a_piece_are_hashed_whole() {
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 7] {
            assert_digests(&[(0..len).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect()]);
        }
    }

    proptest! {
        #[test]
        fn one_pass_gives_what_each_algorithm_gives_alone(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            assert_digests(&pieces);
        }
    }
}
