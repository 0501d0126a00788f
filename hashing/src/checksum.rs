//! The checksums that clients declare: of a stream, of a concatenation, and of a list of parts.

use crate::{
    crc::{Crc32, Crc32c, Crc64Nvme, combine_crc32, combine_crc32c, combine_crc64nvme},
    sha256::Sha256Hasher,
};
use ashlar_types::{Checksum, ChecksumAlgorithm, ChecksumKind};
use sha1::Digest;

/// Incremental checksum of the algorithm that a request names.
#[derive(Clone, Debug)]
pub struct ChecksumHasher(State);

#[derive(Clone, Debug)]
enum State {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(sha1::Sha1),
    Sha256(Sha256Hasher),
}

impl ChecksumHasher {
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        Self(match algorithm {
            ChecksumAlgorithm::Crc32 => State::Crc32(Crc32::new()),
            ChecksumAlgorithm::Crc32c => State::Crc32c(Crc32c::new()),
            ChecksumAlgorithm::Crc64Nvme => State::Crc64Nvme(Crc64Nvme::new()),
            ChecksumAlgorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            ChecksumAlgorithm::Sha256 => State::Sha256(Sha256Hasher::new()),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Crc32c(hasher) => hasher.update(bytes),
            State::Crc64Nvme(hasher) => hasher.update(bytes),
            State::Sha1(hasher) => hasher.update(bytes),
            State::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Checksum {
        match self.0 {
            State::Crc32(hasher) => value(ChecksumAlgorithm::Crc32, &hasher.finish().to_be_bytes()),
            State::Crc32c(hasher) => value(ChecksumAlgorithm::Crc32c, &hasher.finish().to_be_bytes()),
            State::Crc64Nvme(hasher) => value(ChecksumAlgorithm::Crc64Nvme, &hasher.finish().to_be_bytes()),
            State::Sha1(hasher) => value(ChecksumAlgorithm::Sha1, &hasher.finalize()),
            State::Sha256(hasher) => value(ChecksumAlgorithm::Sha256, &hasher.finish()),
        }
    }
}

pub fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
    let mut hasher = ChecksumHasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// The checksum of the bytes of `a` followed by the `len_b` bytes of `b`: how a FULL_OBJECT checksum follows from
/// those of the parts. `None` if the algorithms differ or cannot combine (SHA-1, SHA-256).
pub fn combine_checksum(a: &Checksum, b: &Checksum, len_b: u64) -> Option<Checksum> {
    let algorithm = a.algorithm();
    if algorithm != b.algorithm() {
        return None;
    }
    match algorithm {
        ChecksumAlgorithm::Crc32 => {
            let crc = combine_crc32(u32_value(a)?, u32_value(b)?, len_b);
            Some(value(algorithm, &crc.to_be_bytes()))
        }
        ChecksumAlgorithm::Crc32c => {
            let crc = combine_crc32c(u32_value(a)?, u32_value(b)?, len_b);
            Some(value(algorithm, &crc.to_be_bytes()))
        }
        ChecksumAlgorithm::Crc64Nvme => {
            let crc = combine_crc64nvme(u64_value(a)?, u64_value(b)?, len_b);
            Some(value(algorithm, &crc.to_be_bytes()))
        }
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

/// The COMPOSITE checksum of a multipart object: the algorithm over the binary checksums of its parts in order.
/// `None` if there is no part, the algorithms differ, or the algorithm has no composite form (CRC-64/NVME).
pub fn composite_checksum(parts: &[Checksum]) -> Option<Checksum> {
    let algorithm = parts.first()?.algorithm();
    if !algorithm.allows(ChecksumKind::Composite) {
        return None;
    }
    let mut hasher = ChecksumHasher::new(algorithm);
    for part in parts {
        if part.algorithm() != algorithm {
            return None;
        }
        hasher.update(part.value());
    }
    Some(hasher.finish())
}

/// A CRC-64/NVME as clients see it.
pub(crate) fn crc64_checksum(crc: u64) -> Checksum {
    value(ChecksumAlgorithm::Crc64Nvme, &crc.to_be_bytes())
}

fn value(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
    Checksum::new(algorithm, bytes).expect("the algorithm's own digest has its length")
}

/// `None` for a value that was deserialised with a wrong length.
fn u32_value(checksum: &Checksum) -> Option<u32> {
    checksum.value().try_into().ok().map(u32::from_be_bytes)
}

fn u64_value(checksum: &Checksum) -> Option<u64> {
    checksum.value().try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base64(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
        checksum(algorithm, bytes).to_base64()
    }

    #[test]
    fn known_values_in_the_form_of_headers() {
        assert_eq!(base64(ChecksumAlgorithm::Crc32, b"123456789"), "y/Q5Jg==");
        assert_eq!(base64(ChecksumAlgorithm::Crc32c, b"123456789"), "4waSgw==");
        assert_eq!(base64(ChecksumAlgorithm::Crc64Nvme, b"123456789"), "rosUhgp5mIg=");
        // FIPS 180-2, appendices A.1 and B.1: "abc".
        assert_eq!(base64(ChecksumAlgorithm::Sha1, b"abc"), "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
        assert_eq!(base64(ChecksumAlgorithm::Sha256, b"abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(crate::sha256(b"abc"), checksum(ChecksumAlgorithm::Sha256, b"abc").value());
    }

    #[test]
    fn composites_hash_binary_values_in_order() {
        let composite =
            |algorithm| composite_checksum(&[checksum(algorithm, b"a"), checksum(algorithm, b"b")]);
        let text = |algorithm| composite(algorithm).map(|checksum| checksum.to_base64());
        assert_eq!(text(ChecksumAlgorithm::Sha1).as_deref(), Some("AFZUCsYjfQJj3Q+qRcccc7xIDzQ="));
        assert_eq!(
            text(ChecksumAlgorithm::Sha256).as_deref(),
            Some("5aAf7hTg7VxIcU8iGA8lrYNltT+XefedxKPX6Tlj+Uo=")
        );
        assert_eq!(text(ChecksumAlgorithm::Crc32).as_deref(), Some("7pJxdw=="));
        assert_eq!(composite(ChecksumAlgorithm::Crc64Nvme), None);
        assert_eq!(composite_checksum(&[]), None);
        let mixed = [checksum(ChecksumAlgorithm::Sha1, b"a"), checksum(ChecksumAlgorithm::Sha256, b"b")];
        assert_eq!(composite_checksum(&mixed), None);
    }

    #[test]
    fn only_crcs_of_one_kind_combine() {
        for a in ChecksumAlgorithm::ALL {
            for b in ChecksumAlgorithm::ALL {
                let combined = combine_checksum(&checksum(a, b"left"), &checksum(b, b"right"), 5);
                let combines = a == b && a.allows(ChecksumKind::FullObject);
                assert_eq!(combined, combines.then(|| checksum(a, b"leftright")), "{a:?} {b:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_digest_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let whole = pieces.concat();
            for algorithm in ChecksumAlgorithm::ALL {
                let mut hasher = ChecksumHasher::new(algorithm);
                pieces.iter().for_each(|piece| hasher.update(piece));
                prop_assert_eq!(hasher.finish(), checksum(algorithm, &whole));
            }
        }

        #[test]
        fn parts_combine_to_the_checksum_of_the_object(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
        ) {
            for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
                let combined = parts[1..].iter().try_fold(checksum(algorithm, &parts[0]), |whole, part| {
                    combine_checksum(&whole, &checksum(algorithm, part), part.len() as u64)
                });
                prop_assert_eq!(combined, Some(checksum(algorithm, &parts.concat())));
            }
        }
    }
}
