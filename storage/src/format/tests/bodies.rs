//! The body of a record.

use super::{super::*, fixture::*};
use proptest::prelude::*;

fn parts(record: &Written) -> (RecordHeader, Body, Vec<u8>) {
    let body = record.body.clone().unwrap();
    let bytes = body.encode().unwrap();
    (record.header, body, bytes)
}

/// Decodes bytes whose CRC was made right, with a header that gives their length.
fn decode_resealed(header: RecordHeader, bytes: &mut [u8]) -> Option<Body> {
    reseal(bytes);
    Body::decode(bytes, &RecordHeader { body_len: u32::try_from(bytes.len()).unwrap(), ..header })
}

#[test]
fn the_bytes_of_a_body_do_not_change() {
    let (header, _, bytes) = parts(&large(shard(0x0f10), 1, 0x0203));
    assert_eq!(
        bytes,
        hex("1f000000 02000000
             901e 8d98ac50 0e 07 03 04 02 808004 80808020 01 808040 02 09 00 05 0b 03 612f62
             00100000 02000000 0100000000000000 0200000000000000 0300000000000000
             03020000 02000000 0400000000000000 0500000000000000 0600000000000000
             0000000000000000 0807060504030201 0010000000000000 0010000000000000
             0100000000000000 0807060504030201 0020000000000000 0302000000000000
             5719a05330cd6067")
    );
    assert_eq!((header.payload_len, header.units), (4096 + 0x0203, 2));
}

#[test]
fn every_flipped_bit_of_a_body_is_noticed() {
    for record in [small(shard(1), &[vec![1; 9], vec![2; 3]]), large(shard(1), 2, 5)] {
        let (header, body, bytes) = parts(&record);
        assert_eq!(Body::decode(&bytes, &header), Some(body));
        each_flip(&bytes, |bit, flipped| assert_eq!(Body::decode(flipped, &header), None, "bit {bit}"));
    }
}

#[test]
fn every_truncation_of_a_body_is_noticed() {
    let (header, _, bytes) = parts(&large(shard(1), 2, 5));
    for len in 0..bytes.len() {
        let mut cut = bytes[..len].to_vec();
        assert_eq!(Body::decode(&cut, &header), None, "{len} bytes");
        if len >= 8 {
            assert_eq!(decode_resealed(header, &mut cut), None, "{len} bytes under a right checksum");
        }
    }
    let mut longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(decode_resealed(header, &mut longer), None);
}

#[test]
fn a_body_of_another_header_is_refused() {
    for (header, _, bytes) in [parts(&small(shard(1), &[vec![1; 9]])), parts(&large(shard(1), 2, 5))] {
        let other_kind = if header.kind == RecordKind::Small { RecordKind::Large } else { RecordKind::Small };
        for other in [
            RecordHeader { shard: shard(2), ..header },
            RecordHeader { payload_len: header.payload_len + 1, ..header },
            RecordHeader { units: header.units - 1, ..header },
            RecordHeader { units: header.units + 1, ..header },
            RecordHeader { units: u32::MAX, ..header },
            RecordHeader { kind: other_kind, ..header },
            RecordHeader { kind: RecordKind::Delete, ..header },
        ] {
            assert_eq!(Body::decode(&bytes, &other), None, "{other:?}");
        }
    }
}

#[test]
fn counts_that_the_bytes_do_not_hold_reserve_nothing() {
    let (header, _, bytes) = parts(&large(shard(1), 2, 5));
    let meta_len = usize::try_from(u32::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    // Length of the metadata, count of extents, count of CRCs in the first unit.
    for at in [0, 4, 8 + meta_len + 4] {
        for count in [u32::MAX, u32::MAX / 8, 1 << 30, 1 << 20, 1000] {
            let mut hostile = bytes.clone();
            hostile[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert_eq!(decode_resealed(header, &mut hostile), None, "{count} at {at}");
        }
    }
    let hostile = RecordHeader { units: u32::MAX, ..header };
    assert_eq!(Body::decode(&bytes, &hostile), None);
}

#[test]
fn bytes_behind_the_metadata_are_refused() {
    let (header, _, mut bytes) = parts(&small(shard(1), &[vec![1; 9]]));
    let meta_len = bytes[0];
    bytes[0] += 1;
    bytes.insert(8 + usize::from(meta_len), 0);
    assert_eq!(decode_resealed(header, &mut bytes), None);
}

#[test]
fn extents_that_no_payload_lies_in_are_refused() {
    let (header, sound, _) = parts(&large(shard(1), 2, 5));
    let refused = |change: &dyn Fn(&mut Vec<Extent>)| {
        let mut body = sound.clone();
        change(&mut body.extents);
        let bytes = body.encode().unwrap();
        let header = RecordHeader { body_len: u32::try_from(bytes.len()).unwrap(), ..header };
        Body::decode(&bytes, &header).is_none()
    };
    assert!(!refused(&|_| {}));
    assert!(!refused(&|extents| extents[0].offset += 4096));
    assert!(refused(&|extents| extents[0].offset += 8), "not at a block");
    assert!(refused(&|extents| extents[0].offset = 0), "on the segment's header");
    assert!(refused(&|extents| extents[0].offset = SEGMENT_BYTES_MAX), "behind every segment");
    assert!(refused(&|extents| extents[0].offset = u64::MAX - 4095), "behind the end of numbers");
    assert!(refused(&|extents| extents[2].len += 1), "more than the payload");
    assert!(refused(&|extents| extents.swap(0, 2)), "a part of a block before the last");
    assert!(refused(&|extents| extents.truncate(2)), "less than the payload");
    assert!(refused(&|extents| extents.clear()), "none");
    assert!(refused(&|extents| extents.insert(0, Extent { len: 0, ..extents[0] })), "an empty one");
    assert!(refused(&|extents| extents[0].len = u64::MAX), "lengths beyond all numbers");
}

#[test]
fn more_extents_than_an_entry_holds_are_not_encoded() {
    let (_, mut body, _) = parts(&large(shard(1), 2, 5));
    body.extents = vec![body.extents[0]; EXTENTS_MAX];
    assert!(body.encode().is_some());
    assert!(record::extents_hold(&body.extents, 4096 * EXTENTS_MAX as u64));
    body.extents.push(body.extents[0]);
    assert_eq!(body.encode(), None);
    assert!(!record::extents_hold(&body.extents, 4096 * (EXTENTS_MAX as u64 + 1)));
}

#[test]
fn a_payload_is_its_units_and_nothing_else() {
    let units = [unit(b"abc", vec![]), unit(b"", vec![]), unit(b"de", vec![])];
    assert!(payload_matches(&units, b"abcde"));
    for bad in [b"abcdf".as_slice(), b"abcd", b"abcdef", b"abxde", b""] {
        assert!(!payload_matches(&units, bad), "{bad:?}");
    }
    assert!(payload_matches(&[], b""));
    assert!(!payload_matches(&[], b"a"));
}

proptest! {
    #[test]
    fn records_are_read_back(record in arb_record()) {
        prop_assert_eq!(RecordHeader::decode(&record.bytes), Some(record.header));
        prop_assert_eq!(record.header.stored_len(), record.bytes.len() as u64);
        prop_assert_eq!(record.header.read_record(&record.bytes), (record.body, true));
    }

    #[test]
    fn a_body_under_a_right_checksum_is_refused_or_means_something(
        record in arb_record(), damage in arb_damage(), end: prop::sample::Index,
    ) {
        let Some(body) = &record.body else { return Ok(()) };
        let mut bytes = body.encode().unwrap();
        overwrite(&mut bytes, &damage);
        for len in [bytes.len(), 8 + end.index(bytes.len() - 8)] {
            let mut bytes = bytes[..len].to_vec();
            if let Some(found) = decode_resealed(record.header, &mut bytes) {
                prop_assert_eq!(found.meta.id, record.header.shard);
                let again = found.encode().unwrap();
                let body_len = u32::try_from(again.len()).unwrap();
                prop_assert_eq!(Body::decode(&again, &RecordHeader { body_len, ..record.header }), Some(found));
            }
        }
    }

    #[test]
    fn any_bytes_under_a_right_checksum_are_no_body(
        mut bytes in prop::collection::vec(any::<u8>(), 8..400), units: u32, meta_len in 0..300_u32, small: bool,
    ) {
        if let Some(field) = bytes.first_chunk_mut::<4>() {
            *field = meta_len.to_le_bytes();
        }
        let kind = if small { RecordKind::Small } else { RecordKind::Large };
        let header = RecordHeader { kind, units, payload_len: 1, ..RecordHeader::delete(shard(1), EPOCH) };
        prop_assert_eq!(decode_resealed(header, &mut bytes), None);
    }
}
