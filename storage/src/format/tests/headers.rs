//! Structures of fixed length: superblock, segment header, batch header, record header.

use super::{super::*, fixture::*};
use ashlar_hashing::crc64nvme;
use ashlar_types::{ClusterId, DriveUuid};
use proptest::prelude::*;

const SUPERBLOCK: Superblock = Superblock {
    identity: DriveIdentity { cluster: ClusterId(0x0102), drive: DriveUuid(u128::MAX - 7) },
    generation: 0x0304,
    segment_bytes: 64 << 20,
    checkpoint: 0x0506,
};
const SEGMENT: SegmentHeader = SegmentHeader {
    kind: SegmentKind::Log,
    drive: DriveUuid(0x0102),
    id: SegmentId(0x0304),
    epoch: EPOCH,
    first_record: 0x0506,
    previous: 0x0708,
    segment_bytes: 64 << 10,
};
const BATCH: BatchHeader = BatchHeader {
    epoch: EPOCH,
    first_record: 0x0102,
    count: 3,
    len: 8192,
    previous: 0x0304,
    headers_crc: 0x0506,
};

/// CRC fields of these, from a bit by bit CRC-64/NVME.
const SUPERBLOCK_CRC: u64 = 0x7284_00dd_755a_c69d;
const SEGMENT_CRC: u64 = 0x953e_e1a6_0ca2_db33;
const BATCH_CRC: u64 = 0x6b89_3859_afc8_f8b1;
const RECORD_CRC: u64 = 0x51dc_8f14_ee00_d301;

fn record() -> RecordHeader {
    RecordHeader {
        kind: RecordKind::Large,
        shard: shard(0x0f10),
        payload_len: 0x0001_0203,
        body_len: 0x0405,
        units: 6,
        epoch: EPOCH,
    }
}

/// The structure of `len` bytes that begins with `fields`, goes on with zeros, and ends with its CRC.
fn sealed(fields: &str, len: usize) -> Vec<u8> {
    let mut bytes = hex(fields);
    bytes.resize(len, 0);
    reseal(&mut bytes);
    bytes
}

fn crc_field(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.last_chunk().unwrap())
}

#[test]
fn the_bytes_of_the_superblock_do_not_change() {
    let expected = sealed(
        "4153484c41525342 02000000 00100000
         02010000000000000000000000000000 f8ffffffffffffffffffffffffffffff
         0403000000000000 0000000400000000 0605000000000000",
        4096,
    );
    assert_eq!(SUPERBLOCK.encode(), expected);
    assert_eq!(crc_field(&expected), SUPERBLOCK_CRC);
}

#[test]
fn the_bytes_of_a_segment_header_do_not_change() {
    let expected = sealed(
        "4153484c41525347 02000000 01000000 02010000000000000000000000000000
         0403000000000000 0807060504030201 0605000000000000 0807000000000000 0000010000000000",
        4096,
    );
    assert_eq!(SEGMENT.encode(), expected);
    assert_eq!(crc_field(&expected), SEGMENT_CRC);
    let extents =
        SegmentHeader { kind: SegmentKind::Extents, first_record: 0, previous: 0, ..SEGMENT }.encode();
    assert_eq!(extents[12..16], [2, 0, 0, 0]);
}

#[test]
fn the_bytes_of_a_batch_header_do_not_change() {
    let expected = sealed(
        "4153484c41524241 0807060504030201 0201000000000000 03000000 00200000
         0403000000000000 0605000000000000",
        64,
    );
    assert_eq!(BATCH.encode().as_slice(), expected);
    assert_eq!(BATCH.crc(), crc_field(&expected));
    assert_eq!(BATCH.crc(), BATCH_CRC);
}

#[test]
fn the_bytes_of_a_record_header_do_not_change() {
    let expected = sealed(
        "41534c52 01 02 0000 00000000000000000000000000000f10 0a0b0c0d 0e 000000
         0302010000000000 05040000 06000000 0807060504030201",
        64,
    );
    assert_eq!(record().encode().as_slice(), expected);
    assert_eq!(crc_field(&expected), RECORD_CRC);
    assert_eq!(small(shard(1), &[vec![1]]).header.encode()[5], 1);
    assert_eq!(delete(shard(1)).header.encode()[5], 3);
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    each_flip(&SUPERBLOCK.encode(), |bit, bytes| {
        assert!(matches!(Superblock::decode(bytes), Err(DecodeError::Damaged(_))), "bit {bit}");
    });
    each_flip(&SEGMENT.encode(), |bit, bytes| {
        assert!(matches!(SegmentHeader::decode(bytes), Err(DecodeError::Damaged(_))), "bit {bit}");
    });
    each_flip(&BATCH.encode(), |bit, bytes| assert_eq!(BatchHeader::decode(bytes), None, "bit {bit}"));
    each_flip(&record().encode(), |bit, bytes| assert_eq!(RecordHeader::decode(bytes), None, "bit {bit}"));
}

#[test]
fn every_truncation_of_a_header_is_noticed() {
    let (superblock, segment) = (SUPERBLOCK.encode(), SEGMENT.encode());
    for len in 0..4096 {
        let damaged = |error| matches!(error, Some(DecodeError::Damaged(_)));
        assert!(damaged(Superblock::decode(&superblock[..len]).err()), "{len} bytes");
        assert!(damaged(SegmentHeader::decode(&segment[..len]).err()), "{len} bytes");
    }
    for len in 0..64 {
        assert_eq!(BatchHeader::decode(&BATCH.encode()[..len]), None, "{len} bytes");
        assert_eq!(RecordHeader::decode(&record().encode()[..len]), None, "{len} bytes");
    }
}

#[test]
fn other_versions_are_told_from_damage() {
    let mut later = SUPERBLOCK.encode()[..80].to_vec();
    later[8] = 3;
    later.extend([9; 5000]);
    later.extend([0; 8]);
    assert!(matches!(Superblock::decode(&later), Err(DecodeError::Damaged(_))));
    reseal(&mut later);
    assert_eq!(Superblock::decode(&later), Err(DecodeError::Newer(3)));

    let first = sealed(
        "4153484c41525342 01000000 38000000
         02010000000000000000000000000000 f8ffffffffffffffffffffffffffffff",
        56,
    );
    assert_eq!(Superblock::decode(&first), Err(DecodeError::Older(1)));

    let mut never = SUPERBLOCK.encode();
    never[8] = 0;
    reseal(&mut never);
    assert!(matches!(Superblock::decode(&never), Err(DecodeError::Damaged(_))));

    let mut segment = SEGMENT.encode();
    segment[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    reseal(&mut segment);
    assert_eq!(SegmentHeader::decode(&segment), Err(DecodeError::Newer(u32::MAX)));
}

#[test]
fn bytes_behind_a_structure_are_no_part_of_it() {
    for mut bytes in [SUPERBLOCK.encode(), SEGMENT.encode()] {
        bytes.truncate(4088);
        bytes.extend([0; 16]);
        reseal(&mut bytes);
        assert!(Superblock::decode(&bytes).is_err() && SegmentHeader::decode(&bytes).is_err());
    }
}

#[test]
fn no_more_rows_are_reserved_than_the_bytes_can_hold() {
    let fields = fields::Fields(&[0; 100]);
    assert_eq!(fields.plausible(usize::MAX, 16), 6);
    assert_eq!(fields.plausible(3, 16), 3);
}

#[test]
fn lengths_and_counts_that_cannot_be_are_refused_under_a_right_checksum() {
    for segment_bytes in [0, 4096, (64 << 10) - 4096, (64 << 10) + 1, (1 << 30) + 4096, u64::MAX] {
        assert!(Superblock::decode(&Superblock { segment_bytes, ..SUPERBLOCK }.encode()).is_err());
        assert!(SegmentHeader::decode(&SegmentHeader { segment_bytes, ..SEGMENT }.encode()).is_err());
    }
    assert!(
        SegmentHeader::decode(&SegmentHeader { kind: SegmentKind::Extents, ..SEGMENT }.encode()).is_err()
    );
    for bad in [
        BatchHeader { count: 0, ..BATCH },
        BatchHeader { count: 128, ..BATCH },
        BatchHeader { count: u32::MAX, ..BATCH },
        BatchHeader { len: 0, ..BATCH },
        BatchHeader { len: 8200, ..BATCH },
        BatchHeader { len: u32::MAX - 4095, ..BATCH },
        BatchHeader { first_record: 0, ..BATCH },
        BatchHeader { first_record: (1 << 62) + 1, ..BATCH },
        BatchHeader { first_record: u64::MAX - 2, ..BATCH },
    ] {
        assert_eq!(BatchHeader::decode(&bad.encode()), None, "{bad:?}");
    }
    assert!(BatchHeader::decode(&BatchHeader { count: 127, ..BATCH }.encode()).is_some());
    let sound = record();
    for bad in [
        RecordHeader { body_len: 0, ..sound },
        RecordHeader { body_len: u32::MAX, ..sound },
        RecordHeader { units: 64, ..sound },
        RecordHeader { units: u32::MAX, ..sound },
        RecordHeader { payload_len: 0, ..sound },
        RecordHeader { kind: RecordKind::Small, payload_len: SMALL_PAYLOAD_MAX + 1, ..sound },
        RecordHeader { kind: RecordKind::Small, payload_len: u64::MAX, ..sound },
        RecordHeader { kind: RecordKind::Delete, ..sound },
    ] {
        assert_eq!(RecordHeader::decode(&bad.encode()), None, "{bad:?}");
        assert!(bad.stored_len() >= 64);
    }
    assert!(RecordHeader::decode(&RecordHeader { units: 63, ..sound }.encode()).is_some());
    assert_eq!(RecordHeader { payload_len: u64::MAX, ..sound }.stored_len(), 64 + 0x0405 + 3);
}

#[test]
fn segment_file_names_are_read_back_and_others_refused() {
    assert_eq!(SegmentId(0xab).file_name(), "00000000000000ab.seg");
    for id in [0, 1, 0xab, u64::MAX] {
        assert_eq!(SegmentId::parse_file_name(&SegmentId(id).file_name()), Some(SegmentId(id)));
    }
    for bad in [
        "00000000000000AB.seg",
        "0000000000000ab.seg",
        "000000000000000ab.seg",
        "+0000000000000ab.seg",
        "00000000000000ab",
        "00000000000000ab.seg.seg",
        "00000000000000ab.ckpt",
        "000000000000000é.seg",
        ".seg",
        "",
    ] {
        assert_eq!(SegmentId::parse_file_name(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn headers_are_read_back(
        (a, b, c, d) in any::<(u128, u128, u64, u64)>(), (e, f) in any::<(u64, u64)>(),
        blocks in 16..=262_144_u64, shard in arb_shard(), log: bool,
    ) {
        let segment_bytes = blocks * BLOCK;
        let identity = DriveIdentity { cluster: ClusterId(a), drive: DriveUuid(b) };
        let superblock = Superblock { identity, generation: c, segment_bytes, checkpoint: d };
        prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
        let kind = if log { SegmentKind::Log } else { SegmentKind::Extents };
        let (first_record, previous) = if log { (e >> 2, f) } else { (0, 0) };
        let segment = SegmentHeader {
            kind, drive: DriveUuid(b), id: SegmentId(c), epoch: Epoch(d), first_record, previous, segment_bytes,
        };
        prop_assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        let len = u32::try_from(segment_bytes).unwrap();
        let count = u32::try_from(e % 1000 + 1).unwrap();
        let batch = BatchHeader {
            epoch: Epoch(c), first_record: d >> 3 | 1, count, len, previous: e, headers_crc: f,
        };
        prop_assert_eq!(BatchHeader::decode(&batch.encode()), Some(batch));
        let record = RecordHeader {
            kind: if log { RecordKind::Small } else { RecordKind::Large },
            shard,
            payload_len: if log { c % SMALL_PAYLOAD_MAX } else { c | 1 },
            body_len: 16 + count * 16 + 5,
            units: count,
            epoch: Epoch(d),
        };
        prop_assert_eq!(RecordHeader::decode(&record.encode()), Some(record));
    }

    #[test]
    fn what_is_under_a_right_checksum_is_refused_or_all_there_is_to_it(damage in arb_damage(), which in 0..4) {
        let mut bytes = match which {
            0 => SUPERBLOCK.encode()[..4096].to_vec(),
            1 => SEGMENT.encode(),
            2 => BATCH.encode().to_vec(),
            _ => record().encode().to_vec(),
        };
        // The fields, which are more worth damaging than zeros behind them.
        overwrite(&mut bytes[..56], &damage);
        reseal(&mut bytes);
        let again = match which {
            0 => Superblock::decode(&bytes).ok().map(|found| found.encode()),
            1 => SegmentHeader::decode(&bytes).ok().map(|found| found.encode()),
            2 => BatchHeader::decode(&bytes).map(|found| found.encode().to_vec()),
            _ => RecordHeader::decode(&bytes).map(|found| found.encode().to_vec()),
        };
        prop_assert!(again.is_none_or(|again| again == bytes));
    }

    #[test]
    fn reserved_bytes_are_zero(at in 0..4016_usize, value in 1..=u8::MAX) {
        for mut bytes in [SUPERBLOCK.encode(), SEGMENT.encode()] {
            bytes[72 + at] = value;
            reseal(&mut bytes);
            prop_assert!(Superblock::decode(&bytes).is_err() && SegmentHeader::decode(&bytes).is_err());
        }
    }

    #[test]
    fn any_bytes_are_no_header(mut bytes in prop::collection::vec(any::<u8>(), 8..200)) {
        reseal(&mut bytes);
        prop_assert_eq!(crc64nvme(&bytes[..bytes.len() - 8]), crc_field(&bytes));
        prop_assert!(Superblock::decode(&bytes).is_err() && SegmentHeader::decode(&bytes).is_err());
        prop_assert!(BatchHeader::decode(&bytes).is_none() && RecordHeader::decode(&bytes).is_none());
    }
}
