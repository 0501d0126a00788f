//! Checkpoints of the index.

use super::{super::*, fixture::*};
use ashlar_hashing::crc64nvme;
use ashlar_types::{DriveUuid, ShardId};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn header() -> CheckpointHeader {
    let row = |id, kind, state| SegmentRow { id: SegmentId(id), epoch: EPOCH, kind, state, written: 8192 };
    CheckpointHeader {
        drive: DriveUuid(0x0102),
        number: 0x0304,
        position: LogPosition {
            segment: SegmentId(1),
            epoch: EPOCH,
            offset: 8192,
            next_record: 0x0506,
            previous: 0x0708,
        },
        next_segment: SegmentId(4),
        segments: vec![
            row(1, SegmentKind::Log, SegmentState::Open),
            row(3, SegmentKind::Extents, SegmentState::Sealed),
        ],
    }
}

fn small_entry() -> Entry {
    Entry {
        record: 0x0102,
        segment: SegmentId(1),
        offset: 4096 + 64,
        stored_len: 64 + 104 + 24,
        body_len: 103,
        payload_len: 20,
        units: 2,
        damaged: false,
        extents: Box::default(),
    }
}

fn large_entry() -> Entry {
    let extent = |segment, offset, len| Extent { segment: SegmentId(segment), epoch: EPOCH, offset, len };
    Entry {
        stored_len: 64 + 104,
        payload_len: 8192 + 5,
        extents: [extent(3, 4096, 8192), extent(3, 16384, 5)].into(),
        ..small_entry()
    }
}

fn write<'a>(
    header: &CheckpointHeader,
    entries: impl IntoIterator<Item = (&'a ShardId, &'a Entry)>,
) -> Vec<u8> {
    let mut writer = CheckpointWriter::new(header);
    let mut bytes = writer.header_bytes().to_vec();
    for (shard, entry) in entries {
        bytes.extend(writer.push(*shard, entry).unwrap_or_default());
    }
    bytes.extend(writer.finish());
    bytes
}

fn two() -> Vec<u8> {
    write(&header(), [(&shard(1), &small_entry()), (&shard(2), &large_entry())])
}

/// The header with its CRC, here: two segments.
const HEADER_LEN: usize = 104 + 80;

/// Makes all CRCs of a checkpoint with the header and one block right.
fn reseal_all(bytes: &mut [u8]) {
    let (header, rest) = bytes.split_at_mut(HEADER_LEN);
    let (block, footer) = rest.split_at_mut(rest.len() - 24);
    reseal(header);
    reseal(block);
    let crcs = [&header[header.len() - 8..], &block[block.len() - 8..]].concat();
    footer[16..].copy_from_slice(&crc64nvme(&crcs).to_le_bytes());
}

fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = two();
    bytes[at..at + value.len()].copy_from_slice(value);
    reseal_all(&mut bytes);
    bytes
}

#[test]
fn the_bytes_of_a_checkpoint_do_not_change() {
    let bytes = two();
    let expected_header =
        hex("4153484c4152434b 02000000 b8000000 02010000000000000000000000000000 0403000000000000
         0100000000000000 0807060504030201 0020000000000000 0605000000000000 0807000000000000
         0400000000000000 0200000000000000
         0100000000000000 0807060504030201 01000000 01000000 0020000000000000 0000000000000000
         0300000000000000 0807060504030201 02000000 02000000 0020000000000000 0000000000000000");
    let expected_block = hex("c8000000 02000000
         00000000000000000000000000000001 0a0b0c0d 0e 00 0000 02000000 0201000000000000 0100000000000000
         4010000000000000 c0000000 67000000 1400000000000000
         00000000000000000000000000000002 0a0b0c0d 0e 00 0200 02000000 0201000000000000 0100000000000000
         4010000000000000 a8000000 67000000 0520000000000000
         0300000000000000 0807060504030201 0010000000000000 0020000000000000
         0300000000000000 0807060504030201 0040000000000000 0500000000000000");
    let mut expected = expected_header;
    // The CRCs are from a bit by bit CRC-64/NVME.
    expected.extend(0xdc42_147a_ed14_964d_u64.to_le_bytes());
    expected.extend(expected_block);
    expected.extend(0x7eec_b320_2c5a_90da_u64.to_le_bytes());
    expected.extend(hex("00000000 00000000 0200000000000000"));
    expected.extend(0x585f_d54b_0ca4_f430_u64.to_le_bytes());
    assert_eq!(bytes, expected);
    let damaged = write(&header(), [(&shard(1), &Entry { damaged: true, ..small_entry() })]);
    assert_eq!(damaged[HEADER_LEN + 8 + 21], 1);
}

#[test]
fn a_checkpoint_is_read_back() {
    let entries = vec![(shard(1), small_entry()), (shard(2), large_entry())];
    assert_eq!(decode_checkpoint(&two()), Ok((header(), entries)));
    let empty = CheckpointHeader { segments: Vec::new(), ..header() };
    assert_eq!(decode_checkpoint(&write(&empty, [])), Ok((empty, Vec::new())));
    let found = Entry { damaged: true, extents: Box::default(), ..large_entry() };
    let bytes = write(&header(), [(&shard(1), &found)]);
    assert_eq!(decode_checkpoint(&bytes), Ok((header(), vec![(shard(1), found)])));
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_noticed() {
    each_flip(&two(), |bit, bytes| {
        assert!(matches!(decode_checkpoint(bytes), Err(DecodeError::Damaged(_))), "bit {bit}");
    });
}

#[test]
fn every_truncation_of_a_checkpoint_is_noticed() {
    let bytes = two();
    for len in 0..bytes.len() {
        assert!(decode_checkpoint(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(decode_checkpoint(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(decode_checkpoint(&[bytes.as_slice(), &[0; 24]].concat()).is_err());
}

#[test]
fn another_version_is_told_from_damage() {
    assert_eq!(decode_checkpoint(&with(8, &[3])), Err(DecodeError::Newer(3)));
    assert_eq!(decode_checkpoint(&with(8, &[1])), Err(DecodeError::Older(1)));
}

#[test]
fn blocks_under_another_header_are_refused() {
    let mut other = write(&CheckpointHeader { number: 9, ..header() }, []);
    other.truncate(HEADER_LEN);
    other.extend(&two()[HEADER_LEN..]);
    assert!(decode_checkpoint(&other).is_err());
}

#[test]
fn a_large_index_goes_out_in_blocks_and_none_can_be_missing_or_moved() {
    let shards: Vec<_> = (0..12_000).map(shard).collect();
    let mut writer = CheckpointWriter::new(&header());
    let mut pieces = vec![writer.header_bytes().to_vec()];
    for id in &shards {
        pieces.extend(writer.push(*id, &small_entry()));
    }
    assert_eq!(pieces.len(), 4, "three blocks are full");
    for block in &pieces[1..] {
        assert!((256 * 1024..257 * 1024).contains(&block.len()), "{} bytes", block.len());
    }
    pieces.push(writer.finish());
    let (found, entries) = decode_checkpoint(&pieces.concat()).unwrap();
    assert_eq!(found, header());
    assert!(entries.iter().map(|(id, _)| id).eq(&shards));
    for block in 1..=3 {
        let mut missing = pieces.clone();
        missing.remove(block);
        assert!(decode_checkpoint(&missing.concat()).is_err());
        let mut twice = pieces.clone();
        twice.insert(block, pieces[block].clone());
        assert!(decode_checkpoint(&twice.concat()).is_err());
    }
}

#[test]
fn counts_that_the_bytes_do_not_hold_reserve_nothing() {
    let sound = two();
    assert_eq!(with(0, b"ASHLARCK"), sound);
    for count in [u64::MAX, u64::MAX / 40, 1 << 60, 1 << 40, 1 << 32, 1 << 31, 1 << 20, 3, 1, 0] {
        assert!(decode_checkpoint(&with(88, &count.to_le_bytes())).is_err(), "{count} segments");
        let short = u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        assert!(decode_checkpoint(&with(12, &short)).is_err(), "a header of {count} bytes");
        assert!(decode_checkpoint(&with(HEADER_LEN, &short)).is_err(), "a block of {count} bytes");
        assert!(decode_checkpoint(&with(HEADER_LEN + 4, &short)).is_err(), "{count} entries in a block");
        let footer = sound.len() - 24;
        assert!(decode_checkpoint(&with(footer + 8, &count.to_le_bytes())).is_err(), "{count} entries");
    }
    // Extents of the second entry.
    assert!(decode_checkpoint(&with(HEADER_LEN + 8 + 68 + 22, &[0xff, 0xff])).is_err());
}

#[test]
fn entries_out_of_order_are_refused() {
    let first = HEADER_LEN + 8;
    // Blob ids are big-endian: this one goes before, as, and behind the second.
    assert!(decode_checkpoint(&with(first + 15, &[0])).is_ok());
    assert!(decode_checkpoint(&with(first + 15, &[2])).is_err());
    assert!(decode_checkpoint(&with(first + 15, &[3])).is_err());
}

#[test]
fn entries_that_no_record_can_be_are_refused() {
    assert!(small_entry().is_sound() && large_entry().is_sound());
    let extent = large_entry().extents[0];
    for bad in [
        Entry { offset: 4096, ..small_entry() },
        Entry { offset: 4096 + 4, ..small_entry() },
        Entry { offset: u64::MAX - 7, ..small_entry() },
        Entry { offset: SEGMENT_BYTES_MAX - 8, ..small_entry() },
        Entry { stored_len: 8, ..small_entry() },
        Entry { body_len: u32::MAX, ..small_entry() },
        Entry { payload_len: u64::MAX, ..small_entry() },
        Entry { payload_len: 0, ..large_entry() },
        Entry { payload_len: 8192, ..large_entry() },
        Entry { extents: [extent].into(), ..large_entry() },
        Entry { extents: Box::default(), ..large_entry() },
        Entry { extents: [extent].into(), ..small_entry() },
        Entry { extents: [extent].into(), damaged: true, ..large_entry() },
        Entry { extents: [Extent { offset: 1, ..extent }].into(), payload_len: 8192, ..large_entry() },
    ] {
        assert!(!bad.is_sound(), "{bad:?}");
    }
    // The offset of the first entry, in the middle of its segment's header.
    let offset = HEADER_LEN + 8 + 21 + 1 + 2 + 4 + 8 + 8;
    assert_eq!(with(offset, &(4096 + 64_u64).to_le_bytes()), two());
    assert!(decode_checkpoint(&with(offset, &64_u64.to_le_bytes())).is_err());
    assert!(decode_checkpoint(&with(HEADER_LEN + 8 + 21, &[2])).is_err(), "an unknown flag");
}

#[test]
fn a_block_holds_entries_and_all_of_them_count() {
    // The block says one entry and the footer agrees, so that the second is left over.
    let footer = two().len() - 24;
    let mut left_over = with(HEADER_LEN + 4, &[1]);
    left_over[footer + 8] = 1;
    assert!(decode_checkpoint(&left_over).is_err());

    let mut empty = two()[..HEADER_LEN].to_vec();
    empty.extend([0; 16 + 24]);
    reseal_all(&mut empty);
    assert!(decode_checkpoint(&empty).is_err());
}

#[test]
fn positions_behind_the_end_of_a_segment_are_refused() {
    let beyond = (SEGMENT_BYTES_MAX + BLOCK).to_le_bytes();
    let end = SEGMENT_BYTES_MAX.to_le_bytes();
    // The position's offset, and the bytes written of the first segment.
    for at in [56, 96 + 24] {
        assert!(decode_checkpoint(&with(at, &end)).is_ok());
        assert!(decode_checkpoint(&with(at, &beyond)).is_err());
    }
    assert!(decode_checkpoint(&with(56, &8_u64.to_le_bytes())).is_err(), "not at a block");
}

#[test]
#[should_panic(expected = "no record can be")]
fn a_checkpoint_with_an_impossible_entry_is_not_written() {
    write(&header(), [(&shard(1), &Entry { stored_len: 8, ..small_entry() })]);
}

#[test]
#[should_panic(expected = "in the order of their ids")]
fn a_checkpoint_out_of_order_is_not_written() {
    write(&header(), [(&shard(2), &small_entry()), (&shard(2), &small_entry())]);
}

fn arb_entry() -> impl Strategy<Value = Entry> {
    let place = (any::<u64>(), any::<u64>(), 1..1000_u64, 16..5000_u32, any::<u32>(), any::<bool>());
    let payload = prop_oneof![
        (0..=SMALL_PAYLOAD_MAX).prop_map(Err),
        (prop::collection::vec((any::<u64>(), any::<u64>(), 1..1000_u64, 1..100_u64), 0..4), 1..9000_u64)
            .prop_map(Ok),
    ];
    (place, payload).prop_map(|((record, segment, at, body_len, units, damaged), payload)| {
        let (payload_len, inline, extents) = match payload {
            Err(len) => (len, len, Vec::new()),
            Ok((whole, tail)) => {
                let extent = |(segment, epoch, at, blocks): (u64, u64, u64, u64)| Extent {
                    segment: SegmentId(segment),
                    epoch: Epoch(epoch),
                    offset: at * BLOCK,
                    len: blocks * BLOCK,
                };
                let mut extents: Vec<_> = whole.into_iter().map(extent).collect();
                extents.push(Extent { segment: SegmentId(1), epoch: EPOCH, offset: BLOCK, len: tail });
                (extents.iter().map(|extent| extent.len).sum(), 0, extents)
            }
        };
        let stored_len = (64 + u64::from(body_len) + inline).next_multiple_of(8);
        Entry {
            record,
            segment: SegmentId(segment),
            offset: BLOCK + 8 * at,
            stored_len: u32::try_from(stored_len).unwrap(),
            body_len,
            payload_len,
            units,
            damaged,
            extents: extents.into(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn checkpoints_are_read_back(
        entries in prop::collection::btree_map(arb_shard(), arb_entry(), 0..60), number: u64,
        rows in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), 0..=SEGMENT_BYTES_MAX), 0..9),
    ) {
        let segments = rows
            .into_iter()
            .map(|(id, epoch, log, open, written)| SegmentRow {
                id: SegmentId(id),
                epoch: Epoch(epoch),
                kind: if log { SegmentKind::Log } else { SegmentKind::Extents },
                state: if open { SegmentState::Open } else { SegmentState::Sealed },
                written,
            })
            .collect();
        let header = CheckpointHeader { number, segments, ..header() };
        let (found, index) = decode_checkpoint(&write(&header, &entries)).unwrap();
        prop_assert_eq!(found, header);
        prop_assert!(index.is_sorted_by_key(|(shard, _)| *shard));
        prop_assert_eq!(index.into_iter().collect::<BTreeMap<_, _>>(), entries);
    }

    #[test]
    fn what_is_under_right_checksums_is_refused_or_all_there_is_to_it(damage in arb_damage()) {
        let mut bytes = two();
        overwrite(&mut bytes, &damage);
        reseal_all(&mut bytes);
        if let Ok((header, entries)) = decode_checkpoint(&bytes) {
            prop_assert_eq!(write(&header, entries.iter().map(|(shard, entry)| (shard, entry))), bytes);
        }
    }

    #[test]
    fn any_bytes_are_no_checkpoint(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), begin in 0..HEADER_LEN) {
        prop_assert!(decode_checkpoint(&bytes).is_err());
        let sound = two();
        bytes.splice(..begin.min(bytes.len()), sound[..begin].iter().copied());
        prop_assert!(decode_checkpoint(&bytes).is_err());
        let behind_a_header = [&sound[..HEADER_LEN], &bytes].concat();
        prop_assert!(decode_checkpoint(&behind_a_header).is_err());
    }
}
