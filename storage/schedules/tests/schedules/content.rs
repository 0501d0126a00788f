//! What the shards of these tests hold: two units, filled with one number, from which their lengths follow.

use ashlar_hashing::crc64nvme;
use ashlar_storage::{ShardUnit, UnitRead};
use ashlar_types::{
    BlobId, BucketId, ChunkId, FailureDomain, GroupId, Interval, ObjectKey, PgId, Profile, ShardId,
    ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;

/// Units of every shard, so that one read gets all of any content.
pub(crate) const UNITS: u32 = 2;

/// How large a content is, on a drive with segments of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Small,
    /// As long as the log takes; five of them fill a log segment.
    Middle,
    /// In one piece; five of them fill an extent segment.
    Large,
    /// In two pieces.
    TwoPieces,
}

/// A content of its own for each `number`.
pub(crate) fn value(class: Class, number: u64) -> u64 {
    0x5eed_0000_0000 + number * 16 + class as u64
}

fn unit_lens(value: u64) -> [usize; 2] {
    match value % 16 {
        0 => [304, 200],
        1 => [4096, 4000],
        2 => [5000, 4504],
        3 => [12_000, 10_000],
        class => panic!("{value:x} has no class {class}"),
    }
}

pub(crate) fn units(value: u64) -> Vec<ShardUnit> {
    let unit = |len: usize| {
        let bytes = value.to_le_bytes().repeat(len / 8);
        let sum =
            UnitSum { len: u32::try_from(bytes.len()).unwrap(), crc64: crc64nvme(&bytes), data: Vec::new() };
        ShardUnit { sum, bytes: Bytes::from(bytes) }
    };
    unit_lens(value).map(unit).into()
}

/// The content of which all these bytes are.
pub(crate) fn identify(read: &[UnitRead]) -> Result<u64, String> {
    let bytes: Vec<u8> = read.iter().flat_map(|unit| unit.bytes.iter().copied()).collect();
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let value = words.next().ok_or("a shard is empty")?;
    if let Some(other) = words.find(|word| *word != value) {
        return Err(format!("bytes of {value:x} and of {other:x} are mixed"));
    }
    let lens: Vec<usize> = read.iter().map(|unit| unit.bytes.len()).collect();
    if lens != unit_lens(value) {
        return Err(format!("{value:x} has units of {lens:?} bytes"));
    }
    Ok(value)
}

pub(crate) fn shard_id(number: u8) -> ShardId {
    ShardId { chunk: ChunkId { blob: BlobId(u128::from(number)), index: 0 }, slot: SlotIndex(number % 6) }
}

/// Says the content too, so that a description alone tells what is there.
pub(crate) fn meta(number: u8, value: u64) -> ShardMeta {
    ShardMeta {
        id: shard_id(number),
        pg: PgId(1),
        interval: Interval(2),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: value,
        group: GroupId(1),
        write_epoch: WriteEpoch(4),
        owner: ShardOwner::Version(VersionUid(u128::from(value))),
        bucket: BucketId(5),
        key: ObjectKey::parse("key").unwrap(),
    }
}
