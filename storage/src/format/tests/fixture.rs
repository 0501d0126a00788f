//! Values and bytes of structures, for the tests beside this one.

use super::super::*;
use ashlar_hashing::crc64nvme;
use ashlar_types::{
    BlobId, BucketId, ChunkId, FailureDomain, GroupId, Interval, ObjectKey, PgId, Profile, ShardId,
    ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use proptest::prelude::*;

pub(super) const EPOCH: Epoch = Epoch(0x0102_0304_0506_0708);

pub(super) fn shard(blob: u128) -> ShardId {
    ShardId { chunk: ChunkId { blob: BlobId(blob), index: 0x0a0b_0c0d }, slot: SlotIndex(0x0e) }
}

pub(super) fn meta(id: ShardId) -> ShardMeta {
    ShardMeta {
        id,
        pg: PgId(7),
        interval: Interval(3),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: 1 << 20,
        group: GroupId(2),
        write_epoch: WriteEpoch(9),
        owner: ShardOwner::Version(VersionUid(5)),
        bucket: BucketId(11),
        key: ObjectKey::parse("a/b").unwrap(),
    }
}

/// Bytes from hex digits; spaces and line ends only part them.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Makes the CRC at the end right for what precedes it.
pub(super) fn reseal(bytes: &mut [u8]) {
    let (content, crc) = bytes.split_last_chunk_mut::<8>().unwrap();
    *crc = crc64nvme(content).to_le_bytes();
}

/// All versions of `bytes` with one bit flipped.
pub(super) fn each_flip(bytes: &[u8], mut check: impl FnMut(usize, &[u8])) {
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(bit, &flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

pub(super) fn unit(payload: &[u8], data: Vec<u64>) -> UnitSum {
    UnitSum { len: u32::try_from(payload.len()).unwrap(), crc64: crc64nvme(payload), data }
}

/// A record as it is in a batch: with all its bytes, padded.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) header: RecordHeader,
    pub(super) body: Option<Body>,
    pub(super) bytes: Vec<u8>,
}

fn written(kind: RecordKind, body: Body, payload: &[u8]) -> Written {
    let encoded = body.encode().unwrap();
    let header = RecordHeader {
        kind,
        shard: body.meta.id,
        payload_len: body.units.iter().map(|unit| u64::from(unit.len)).sum(),
        body_len: u32::try_from(encoded.len()).unwrap(),
        units: u32::try_from(body.units.len()).unwrap(),
        epoch: EPOCH,
    };
    let mut bytes = [header.encode().as_slice(), encoded.as_slice(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    Written { header, body: Some(body), bytes }
}

pub(super) fn small(id: ShardId, units: &[Vec<u8>]) -> Written {
    let sums = units.iter().map(|payload| unit(payload, Vec::new())).collect();
    written(RecordKind::Small, Body { meta: meta(id), units: sums, extents: Vec::new() }, &units.concat())
}

/// A large shard of so many blocks and `tail` bytes, in extents of one block each, but for the last one.
pub(super) fn large(id: ShardId, blocks: u32, tail: u32) -> Written {
    let units = vec![
        UnitSum { len: blocks * 4096, crc64: 1, data: vec![2, 3] },
        UnitSum { len: tail, crc64: 4, data: vec![5, 6] },
    ];
    let extent = |at: u32, len: u32| Extent {
        segment: SegmentId(u64::from(at)),
        epoch: EPOCH,
        offset: BLOCK * (1 + u64::from(at)),
        len: u64::from(len),
    };
    let mut extents: Vec<_> = (0..blocks).map(|at| extent(at, 4096)).collect();
    extents.push(extent(blocks, tail));
    written(RecordKind::Large, Body { meta: meta(id), units, extents }, &[])
}

pub(super) fn delete(id: ShardId) -> Written {
    let header = RecordHeader::delete(id, EPOCH);
    Written { header, body: None, bytes: header.encode().to_vec() }
}

pub(super) fn batch(records: &[Written], first_record: u64, previous: u64) -> Vec<u8> {
    let content: Vec<u8> = records.iter().flat_map(|record| record.bytes.clone()).collect();
    let len = (BatchHeader::LEN + content.len()).next_multiple_of(4096);
    let headers: Vec<_> = records.iter().map(|record| record.header.encode()).collect();
    let header = BatchHeader {
        epoch: EPOCH,
        first_record,
        count: u32::try_from(records.len()).unwrap(),
        len: u32::try_from(len).unwrap(),
        previous,
        headers_crc: records_crc(&headers),
    };
    let mut bytes = [header.encode().as_slice(), &content].concat();
    bytes.resize(len, 0);
    bytes
}

pub(super) fn arb_shard() -> impl Strategy<Value = ShardId> {
    (any::<u128>(), any::<u32>(), any::<u8>()).prop_map(|(blob, index, slot)| ShardId {
        chunk: ChunkId { blob: BlobId(blob), index },
        slot: SlotIndex(slot),
    })
}

pub(super) fn arb_record() -> impl Strategy<Value = Written> {
    let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..5);
    prop_oneof![
        (arb_shard(), payloads).prop_map(|(id, payloads)| small(id, &payloads)),
        (arb_shard(), 0..4_u32, 1..5000_u32).prop_map(|(id, blocks, tail)| large(id, blocks, tail)),
        arb_shard().prop_map(delete),
    ]
}

/// Places to overwrite and with what.
pub(super) fn arb_damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(
        (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff)]),
        1..12,
    )
}

pub(super) fn overwrite(bytes: &mut [u8], damage: &[(prop::sample::Index, u8)]) {
    for (at, value) in damage {
        bytes[at.index(bytes.len())] = *value;
    }
}
