//! Digests of object bytes: MD5, SHA-1, SHA-256 and CRCs, incremental and combinable.
//!
//! Owns which algorithm is computed how, and how digests of parts become the digest of a whole. Does not know
//! headers, files or units; the values' types are those of `ashlar-types`.

mod checksum;
mod combine;
mod crc;
mod etag;
mod object;
mod sha256;

pub use checksum::{ChecksumHasher, checksum, combine_checksum, composite_checksum};
pub use crc::{
    Crc32, Crc32c, Crc64Nvme, combine_crc32, combine_crc32c, combine_crc64nvme, crc32, crc32c, crc64nvme,
};
pub use etag::{EtagHasher, multipart_etag};
pub use object::{ObjectDigests, ObjectHasher};
pub use sha256::{Sha256Hasher, sha256};
