//! CRC-64/NVME, CRC-32 (ISO-HDLC, of zlib) and CRC-32C (iSCSI): in one call, incremental, and of concatenations.

use crate::combine::CrcRing;
use crc_fast::{CrcAlgorithm, Digest};

macro_rules! crc {
    (
        $(#[$doc:meta])* $Hasher:ident($value:ty), $one_shot:ident, $combine:ident,
        $algorithm:expr, $ring:ident($polynomial:expr)
    ) => {
        static $ring: CrcRing = CrcRing::new(<$value>::BITS, $polynomial);

        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $Hasher(Digest);

        impl $Hasher {
            pub fn new() -> Self {
                Self(Digest::new($algorithm))
            }

            pub fn update(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }

            pub fn finish(self) -> $value {
                narrow(self.0.finalize())
            }
        }

        impl Default for $Hasher {
            fn default() -> Self {
                Self::new()
            }
        }

        pub fn $one_shot(bytes: &[u8]) -> $value {
            narrow(crc_fast::checksum($algorithm, bytes))
        }

        /// The CRC of the bytes of `a` followed by the `len_b` bytes of `b`.
        pub fn $combine(a: $value, b: $value, len_b: u64) -> $value {
            narrow($ring.combine(a.into(), b.into(), len_b))
        }
    };
}

crc!(
    /// Incremental CRC-64/NVME, the checksum of units, blobs and objects.
    Crc64Nvme(u64), crc64nvme, combine_crc64nvme,
    CrcAlgorithm::Crc64Nvme, CRC64_NVME(0x9a6c_9329_ac4b_c9b5)
);

crc!(
    /// Incremental CRC-32 (ISO-HDLC).
    Crc32(u32), crc32, combine_crc32,
    CrcAlgorithm::Crc32IsoHdlc, CRC32_ISO_HDLC(0xedb8_8320)
);

crc!(
    /// Incremental CRC-32C (iSCSI, Castagnoli).
    Crc32c(u32), crc32c, combine_crc32c,
    CrcAlgorithm::Crc32Iscsi, CRC32_ISCSI(0x82f6_3b78)
);

fn narrow<T: TryFrom<u64>>(value: u64) -> T {
    T::try_from(value).ok().expect("a CRC has no bits above its width")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        // https://reveng.sourceforge.io/crc-catalogue/all.htm
        assert_eq!(crc64nvme(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!((crc64nvme(b""), crc32(b""), crc32c(b"")), (0, 0, 0));
    }

    /// Bit by bit, as the catalogue defines a reflected CRC with all ones before and inverted after.
    fn defined(width: u32, polynomial: u64, bytes: &[u8]) -> u64 {
        let ones = u64::MAX >> (64 - width);
        let crc = bytes.iter().fold(ones, |crc, byte| {
            (0..8)
                .fold(crc ^ u64::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 0 { 0 } else { polynomial })
        });
        crc ^ ones
    }

    #[test]
    fn every_length_to_600_at_any_misalignment_follows_the_definition() {
        let bytes: Vec<u8> = (0..620u32).map(|i| (i * i * 31 + i * 7).to_le_bytes()[1]).collect();
        for len in 0..=600 {
            let slice = &bytes[len % 17..][..len];
            assert_eq!(crc64nvme(slice), defined(64, 0x9a6c_9329_ac4b_c9b5, slice), "{len}");
            assert_eq!(u64::from(crc32(slice)), defined(32, 0xedb8_8320, slice), "{len}");
            assert_eq!(u64::from(crc32c(slice)), defined(32, 0x82f6_3b78, slice), "{len}");
        }
    }

    #[test]
    fn combining_lengths_that_no_buffer_has_agrees_with_matrices() {
        for len in [0, 1, 65_536, (1 << 26) - 1, 1 << 32, (1 << 45) + 12_345, u64::MAX] {
            let (a, b) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
            let wanted = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, a, b, len);
            assert_eq!(combine_crc64nvme(a, b, len), wanted, "{len}");
            let (a, b) = (0x89ab_cdef, 0x7654_3210);
            let combine = |algorithm| crc_fast::checksum_combine(algorithm, a, b, len);
            let (a, b) = (0x89ab_cdef_u32, 0x7654_3210_u32);
            assert_eq!(u64::from(combine_crc32(a, b, len)), combine(CrcAlgorithm::Crc32IsoHdlc), "{len}");
            assert_eq!(u64::from(combine_crc32c(a, b, len)), combine(CrcAlgorithm::Crc32Iscsi), "{len}");
        }
    }

    proptest! {
        #[test]
        fn the_crcs_of_two_parts_combine_to_that_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            split: prop::sample::Index,
        ) {
            let (a, b) = bytes.split_at(split.index(bytes.len() + 1));
            let len = b.len() as u64;
            prop_assert_eq!(combine_crc64nvme(crc64nvme(a), crc64nvme(b), len), crc64nvme(&bytes));
            prop_assert_eq!(combine_crc32(crc32(a), crc32(b), len), crc32(&bytes));
            prop_assert_eq!(combine_crc32c(crc32c(a), crc32c(b), len), crc32c(&bytes));
        }
    }
}
