//! Checksums of an object from those of its parts, without its bytes.
//!
//! A CRC is the remainder of the bytes, read as a polynomial over GF(2), by the CRC's polynomial. Appending n bytes
//! multiplies what came before by x^(8n), so the CRC of a concatenation is `a * x^(8n) + b` (initial value and final
//! inversion cancel). `crc_fast::checksum_combine` does it with matrices, a thousand times slower: too slow for
//! 10,000 parts inside one apply; it is the oracle of the tests.

use crate::tables::record::PartRecord;
use ashlar_types::{Checksum, ChecksumAlgorithm};
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Arithmetic modulo one CRC polynomial, in reflected bit order: the top bit is x^0.
struct CrcRing {
    one: u64,
    polynomial: u64,
}

const CRC32: CrcRing = CrcRing { one: 1 << 31, polynomial: 0xedb8_8320 };
const CRC32C: CrcRing = CrcRing { one: 1 << 31, polynomial: 0x82f6_3b78 };
const CRC64_NVME: CrcRing = CrcRing { one: 1 << 63, polynomial: 0x9a6c_9329_ac4b_c9b5 };

impl CrcRing {
    fn combine(&self, a: u64, b: u64, len_b: u64) -> u64 {
        let (mut shifted, mut rest) = (a, len_b);
        // x^8, then its squares.
        let mut power = self.one >> 8;
        while rest > 0 {
            if rest & 1 == 1 {
                shifted = self.multiply(shifted, power);
            }
            power = self.multiply(power, power);
            rest >>= 1;
        }
        shifted ^ b
    }

    fn multiply(&self, a: u64, mut b: u64) -> u64 {
        let (mut bit, mut product) = (self.one, 0);
        while bit != 0 {
            if a & bit != 0 {
                product ^= b;
            }
            b = (b >> 1) ^ if b & 1 == 0 { 0 } else { self.polynomial };
            bit >>= 1;
        }
        product
    }
}

/// CRC-64/NVME of bytes with CRC `a` followed by `len_b` bytes with CRC `b`.
pub(super) fn combine_crc64(a: u64, b: u64, len_b: u64) -> u64 {
    CRC64_NVME.combine(a, b, len_b)
}

/// The checksum of all bytes; `None` if a part has none of this algorithm, or the algorithm cannot be combined.
pub(super) fn combined<'p>(
    algorithm: ChecksumAlgorithm,
    mut parts: impl Iterator<Item = &'p PartRecord>,
) -> Option<Checksum> {
    let (ring, width) = match algorithm {
        ChecksumAlgorithm::Crc32 => (CRC32, 4),
        ChecksumAlgorithm::Crc32c => (CRC32C, 4),
        ChecksumAlgorithm::Crc64Nvme => (CRC64_NVME, 8),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => return None,
    };
    // The CRC of no bytes is 0 for each of them.
    let value = parts.try_fold(0, |crc, part| {
        let next = match (&part.checksum, algorithm) {
            (Some(checksum), _) if checksum.algorithm() == algorithm => {
                checksum.value().iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte))
            }
            (_, ChecksumAlgorithm::Crc64Nvme) => part.crc64,
            (Some(_) | None, _) => return None,
        };
        Some(ring.combine(crc, next, part.size))
    })?;
    Checksum::new(algorithm, value.to_be_bytes().get(8 - width..)?)
}

/// The checksum of the checksums of the parts; `None` if one has none of this algorithm.
pub(super) fn composite<'p>(
    algorithm: ChecksumAlgorithm,
    mut parts: impl Iterator<Item = &'p PartRecord>,
) -> Option<Checksum> {
    let values = parts.try_fold(Vec::new(), |mut values, part| {
        let checksum = part.checksum.as_ref().filter(|checksum| checksum.algorithm() == algorithm)?;
        values.extend_from_slice(checksum.value());
        Some(values)
    })?;
    let crc = |crc: CrcAlgorithm| crc_fast::checksum(crc, &values).to_be_bytes();
    match algorithm {
        ChecksumAlgorithm::Crc32 => Checksum::new(algorithm, &crc(CrcAlgorithm::Crc32IsoHdlc)[4..]),
        ChecksumAlgorithm::Crc32c => Checksum::new(algorithm, &crc(CrcAlgorithm::Crc32Iscsi)[4..]),
        ChecksumAlgorithm::Crc64Nvme => Checksum::new(algorithm, &crc(CrcAlgorithm::Crc64Nvme)),
        ChecksumAlgorithm::Sha1 => Checksum::new(algorithm, &Sha1::digest(&values)),
        ChecksumAlgorithm::Sha256 => Checksum::new(algorithm, &Sha256::digest(&values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::{Content, Timestamp};
    use proptest::prelude::*;

    const CRCS: [(ChecksumAlgorithm, CrcAlgorithm); 3] = [
        (ChecksumAlgorithm::Crc32, CrcAlgorithm::Crc32IsoHdlc),
        (ChecksumAlgorithm::Crc32c, CrcAlgorithm::Crc32Iscsi),
        (ChecksumAlgorithm::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
    ];

    fn part(bytes: &[u8], checksum: Option<Checksum>) -> PartRecord {
        PartRecord {
            size: bytes.len() as u64,
            md5: [0; 16],
            crc64: crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes),
            checksum,
            last_modified: Timestamp(0),
            content: Content::default(),
        }
    }

    fn checksum(algorithm: ChecksumAlgorithm, crc: CrcAlgorithm, bytes: &[u8]) -> Checksum {
        let value = crc_fast::checksum(crc, bytes).to_be_bytes();
        Checksum::new(algorithm, &value[8 - algorithm.value_len()..]).unwrap()
    }

    proptest! {
        #[test]
        fn crcs_of_parts_combine_to_the_crc_of_the_object(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        ) {
            let whole = parts.concat();
            for (algorithm, crc) in CRCS {
                let records: Vec<_> =
                    parts.iter().map(|bytes| part(bytes, Some(checksum(algorithm, crc, bytes)))).collect();
                prop_assert_eq!(combined(algorithm, records.iter()), Some(checksum(algorithm, crc, &whole)));
            }
        }

        #[test]
        fn combining_agrees_with_the_matrix_method(a: u64, b: u64, len in 0u64..1 << 45) {
            prop_assert_eq!(
                combine_crc64(a, b, len),
                crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, a, b, len)
            );
        }
    }

    #[test]
    fn composites_digest_the_digests() {
        // From the S3 user guide's recipe: hash the concatenated binary digests of the parts.
        let digest = |bytes: &[u8]| Checksum::new(ChecksumAlgorithm::Sha256, &Sha256::digest(bytes)).unwrap();
        let parts = [part(b"a", Some(digest(b"a"))), part(b"b", Some(digest(b"b")))];
        let both = [Sha256::digest(b"a"), Sha256::digest(b"b")].concat();
        assert_eq!(composite(ChecksumAlgorithm::Sha256, parts.iter()), Some(digest(&both)));
        assert_eq!(composite(ChecksumAlgorithm::Sha1, parts.iter()), None);
        assert_eq!(combined(ChecksumAlgorithm::Sha256, parts.iter()), None);
        assert_eq!(combined(ChecksumAlgorithm::Crc32, parts.iter()), None);
        // Every part has its CRC-64, whatever the client declared.
        assert!(combined(ChecksumAlgorithm::Crc64Nvme, parts.iter()).is_some());
    }
}
