//! Checksums of an object from those of its parts (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>):
//! combined where the algorithm allows it, or a checksum of checksums.

use crate::tables::record::PartRecord;
use ashlar_hashing::{combine_checksum, composite_checksum};
use ashlar_types::{Checksum, ChecksumAlgorithm};

/// The checksum of all bytes; `None` if a part has none of this algorithm, or the algorithm cannot be combined.
pub(super) fn combined<'p>(
    algorithm: ChecksumAlgorithm,
    mut parts: impl Iterator<Item = &'p PartRecord>,
) -> Option<Checksum> {
    let of_part = |part: &PartRecord| match &part.checksum {
        Some(checksum) if checksum.algorithm() == algorithm => Some(checksum.clone()),
        // Every part has its CRC-64, whatever the client declared.
        Some(_) | None if algorithm == ChecksumAlgorithm::Crc64Nvme => {
            Checksum::new(algorithm, &part.crc64.to_be_bytes())
        }
        Some(_) | None => None,
    };
    // The CRC of no bytes is 0 for each of them.
    let empty = Checksum::new(algorithm, &vec![0; algorithm.value_len()])?;
    parts.try_fold(empty, |whole, part| combine_checksum(&whole, &of_part(part)?, part.size))
}

/// The checksum of the checksums of the parts; `None` if one has none of this algorithm.
pub(super) fn composite<'p>(
    algorithm: ChecksumAlgorithm,
    parts: impl Iterator<Item = &'p PartRecord>,
) -> Option<Checksum> {
    let of_part =
        |part: &PartRecord| part.checksum.clone().filter(|checksum| checksum.algorithm() == algorithm);
    composite_checksum(&parts.map(of_part).collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_hashing::{checksum, crc64nvme, sha256};
    use ashlar_types::{Content, Timestamp};
    use proptest::prelude::*;

    const CRCS: [ChecksumAlgorithm; 3] =
        [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme];

    fn part(bytes: &[u8], checksum: Option<Checksum>) -> PartRecord {
        PartRecord {
            size: bytes.len() as u64,
            md5: [0; 16],
            crc64: crc64nvme(bytes),
            checksum,
            last_modified: Timestamp(0),
            content: Content::default(),
            kept: Default::default(),
        }
    }

    proptest! {
        #[test]
        fn crcs_of_parts_combine_to_the_crc_of_the_object(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        ) {
            let whole = parts.concat();
            for algorithm in CRCS {
                let records: Vec<_> =
                    parts.iter().map(|bytes| part(bytes, Some(checksum(algorithm, bytes)))).collect();
                prop_assert_eq!(combined(algorithm, records.iter()), Some(checksum(algorithm, &whole)));
            }
        }
    }

    #[test]
    fn composites_digest_the_digests() {
        // From the S3 user guide's recipe: hash the concatenated binary digests of the parts.
        let digest = |bytes: &[u8]| Checksum::new(ChecksumAlgorithm::Sha256, &sha256(bytes)).unwrap();
        let parts = [part(b"a", Some(digest(b"a"))), part(b"b", Some(digest(b"b")))];
        let both = [sha256(b"a"), sha256(b"b")].concat();
        assert_eq!(composite(ChecksumAlgorithm::Sha256, parts.iter()), Some(digest(&both)));
        assert_eq!(composite(ChecksumAlgorithm::Sha1, parts.iter()), None);
        assert_eq!(combined(ChecksumAlgorithm::Sha256, parts.iter()), None);
        assert_eq!(combined(ChecksumAlgorithm::Crc32, parts.iter()), None);
        assert!(combined(ChecksumAlgorithm::Crc64Nvme, parts.iter()).is_some());
    }
}
