//! Limits of the S3 protocol and of Ashlar's formats
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const TIB: u64 = 1 << 40;

pub const BUCKET_NAME_MIN_LEN: usize = 3;
pub const BUCKET_NAME_MAX_LEN: usize = 63;
/// Bytes of UTF-8 in an object key.
pub const KEY_MAX_LEN: usize = 1024;
/// Bytes of one PutObject, UploadPart or copied part.
pub const PUT_MAX_LEN: u64 = 5 * GIB;
/// Bytes of an object made of parts.
pub const OBJECT_MAX_LEN: u64 = 50 * TIB;
/// Every part but the last has at least this many bytes.
pub const PART_MIN_LEN: u64 = 5 * MIB;
pub const PART_NUMBER_MAX: u16 = 10_000;
/// Entries of one page of any listing, and keys of one DeleteObjects.
pub const PAGE_MAX: u32 = 1000;
/// Sum of the bytes of names and values of user metadata.
pub const USER_METADATA_MAX_LEN: usize = 2048;

/// Objects and parts up to this size live in the metadata group: one Raft commit instead of k+m shards.
pub const INLINE_MAX: u64 = 16 * KIB;
/// Data shards plus parity shards of a profile, bounded by the codec's stack-allocated decode plan.
pub const SLOTS_MAX: u8 = 32;
