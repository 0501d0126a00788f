//! Batches, whole and damaged.

use super::{super::*, fixture::*};
use proptest::prelude::*;

fn three() -> Vec<Written> {
    vec![small(shard(1), &[vec![7; 20], vec![8; 5]]), delete(shard(2)), large(shard(3), 1, 9)]
}

fn content_len(records: &[Written]) -> usize {
    BatchHeader::LEN + records.iter().map(|record| record.bytes.len()).sum::<usize>()
}

fn found(batch: &ParsedBatch) -> Vec<(RecordHeader, Option<Body>)> {
    batch.records.iter().map(|record| (record.header, record.body.clone())).collect()
}

fn expected(records: &[Written]) -> Vec<(RecordHeader, Option<Body>)> {
    records.iter().map(|record| (record.header, record.body.clone())).collect()
}

/// Where each record begins.
fn offsets(records: &[Written]) -> Vec<u32> {
    let mut at = BatchHeader::LEN;
    let mut offsets = Vec::new();
    for record in records {
        offsets.push(u32::try_from(at).unwrap());
        at += record.bytes.len();
    }
    offsets
}

#[test]
fn the_bytes_of_a_batch_do_not_change() {
    let mut expected =
        hex("4153484c41524241 0807060504030201 2900000000000000 02000000 00100000 0403020100000000
         9dc4b9563c3a5ce7 0000000000000000 88ac4b5a6943d73b
         41534c52 01 03 0000 00000000000000000000000000000002 0a0b0c0d 0e 000000
         0000000000000000 00000000 00000000 0807060504030201 90684c7b2dea2ec7
         41534c52 01 01 0000 00000000000000000000000000000001 0a0b0c0d 0e 000000
         0300000000000000 3e000000 01000000 0807060504030201 b9709410ce92654d
         1e000000 00000000
         01 8d98ac50 0e 07 03 04 02 808004 80808020 01 808040 02 09 00 05 0b 03 612f62
         03000000 00000000 ebfac13fbbcae505
         616fec6bb2c42f23
         616263");
    expected.resize(4096, 0);
    let records = [delete(shard(2)), small(shard(1), &[b"abc".to_vec()])];
    assert_eq!(batch(&records, 41, 0x0102_0304), expected);
}

#[test]
fn every_flipped_bit_of_a_batch_is_noticed() {
    let records = three();
    let bytes = batch(&records, 41, 0);
    // The padding of each record, which no one reads.
    let padding: Vec<usize> = offsets(&records)
        .iter()
        .zip(&records)
        .flat_map(|(offset, record)| {
            let payload = if record.header.kind == RecordKind::Small { record.header.payload_len } else { 0 };
            let end = usize::try_from(record.header.payload_offset() + payload).unwrap();
            let begin = usize::try_from(*offset).unwrap();
            begin + end..begin + record.bytes.len()
        })
        .collect();
    let whole = parse_batch(&bytes, EPOCH);
    each_flip(&bytes, |bit, flipped| {
        let parsed = parse_batch(flipped, EPOCH);
        if bit / 8 >= content_len(&records) || padding.contains(&(bit / 8)) {
            assert_eq!(parsed, whole, "bit {bit} is padding");
        } else {
            assert!(parsed.is_err(), "bit {bit}");
        }
    });
}

#[test]
fn every_truncation_of_a_batch_is_noticed() {
    let bytes = batch(&three(), 41, 0);
    for len in 0..bytes.len() {
        let fault = parse_batch(&bytes[..len], EPOCH).unwrap_err();
        if len < BatchHeader::LEN {
            assert_eq!(fault, BatchFault::NoHeader);
        } else {
            assert!(matches!(fault, BatchFault::Cut { header } if header.first_record == 41), "{len} bytes");
        }
    }
}

#[test]
fn a_batch_or_record_of_another_epoch_does_not_count() {
    let mut records = three();
    let bytes = batch(&records, 41, 0);
    assert!(matches!(parse_batch(&bytes, Epoch(1)), Err(BatchFault::OtherEpoch { .. })));
    assert!(salvage_batch(&bytes, Epoch(1)).is_empty());
    records[1].header.epoch = Epoch(1);
    records[1].bytes = records[1].header.encode().to_vec();
    let bytes = batch(&records, 41, 0);
    assert!(matches!(
        parse_batch(&bytes, EPOCH),
        Err(BatchFault::Damaged { offset, .. }) if offset == offsets(&records)[1]
    ));
    assert_eq!(salvage_batch(&bytes, EPOCH).len(), 2);
}

#[test]
fn records_that_are_sound_but_not_those_of_the_batch_are_refused() {
    let (records, mut others) = (three(), three());
    others[1] = delete(shard(9));
    let mut bytes = batch(&others, 41, 0);
    bytes[..BatchHeader::LEN].copy_from_slice(&batch(&records, 41, 0)[..BatchHeader::LEN]);
    assert!(matches!(parse_batch(&bytes, EPOCH), Err(BatchFault::Damaged { offset: 0, .. })));
}

#[test]
fn a_record_that_ends_behind_its_batch_is_refused() {
    let mut records = vec![delete(shard(1)), small(shard(2), &[vec![1; 8000]])];
    let sound = batch(&records, 1, 0);
    assert!(parse_batch(&sound, EPOCH).is_ok());
    records[1].bytes.truncate(2000);
    let mut bytes = batch(&records, 1, 0);
    bytes.resize(4096, 0);
    bytes.extend(&sound[4096..]);
    let offset = offsets(&records)[1];
    assert!(
        matches!(parse_batch(&bytes, EPOCH), Err(BatchFault::Damaged { offset: at, .. }) if at == offset)
    );
}

#[test]
fn a_record_inside_a_payload_is_never_taken_for_one() {
    let inner = delete(shard(99));
    let mut foreign = inner.clone();
    foreign.header.epoch = Epoch(5);
    foreign.bytes = foreign.header.encode().to_vec();
    // A payload that knows the epoch is skipped while the header before it is right.
    let shards = |bytes: &[u8]| {
        salvage_batch(bytes, EPOCH).iter().map(|record| record.header.shard).collect::<Vec<_>>()
    };
    for shift in 0..8 {
        let outer = small(shard(1), &[vec![0; shift], inner.bytes.repeat(20)]);
        let mut bytes = batch(&[outer, delete(shard(2))], 1, 0);
        assert_eq!(shards(&bytes), [shard(1), shard(2)]);
        bytes[BatchHeader::LEN + RecordHeader::LEN] ^= 1;
        assert_eq!(shards(&bytes), [shard(1), shard(2)], "behind a damaged body");
        // One that does not is refused anyway.
        let outer = small(shard(1), &[vec![0; shift], foreign.bytes.repeat(20)]);
        let mut bytes = batch(&[outer, delete(shard(2))], 1, 0);
        bytes[BatchHeader::LEN + 20] ^= 1;
        assert_eq!(shards(&bytes), [shard(2)]);
    }
}

#[test]
fn a_damaged_body_or_payload_is_salvaged_as_not_sound() {
    let records = three();
    let sound = batch(&records, 1, 0);
    let body_at = BatchHeader::LEN + RecordHeader::LEN;
    let payload_at = BatchHeader::LEN + usize::try_from(records[0].header.payload_offset()).unwrap();
    for (at, body) in [(body_at, None), (payload_at, records[0].body.clone())] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        let salvaged = salvage_batch(&bytes, EPOCH);
        assert_eq!(salvaged.iter().map(|record| record.sound).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(salvaged[0].body, body);
        assert_eq!(salvaged[0].header, records[0].header);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn batches_are_read_back(
        records in prop::collection::vec(arb_record(), 1..12), first in 1..=super::super::RECORD_NUMBER_MAX, previous: u64,
    ) {
        let bytes = batch(&records, first, previous);
        let parsed = parse_batch(&[bytes.as_slice(), &[9; 100]].concat(), EPOCH).unwrap();
        prop_assert_eq!(found(&parsed), expected(&records));
        prop_assert_eq!(parsed.records.iter().map(|r| r.offset).collect::<Vec<_>>(), offsets(&records));
        prop_assert_eq!(parsed.header.previous, previous);
        prop_assert_eq!(parsed.header.next_record(), first + records.len() as u64);
        let salvaged = salvage_batch(&bytes, EPOCH);
        prop_assert!(salvaged.iter().all(|record| record.sound));
        prop_assert_eq!(
            salvaged.into_iter().map(|r| (r.header, r.offset, r.body)).collect::<Vec<_>>(),
            parsed.records.into_iter().map(|r| (r.header, r.offset, r.body)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn damage_costs_no_record_but_those_it_hits(
        records in prop::collection::vec(arb_record(), 1..12), at: prop::sample::Index, value: u8, len in 1..300_usize,
    ) {
        let mut bytes = batch(&records, 1, 0);
        let begin = at.index(content_len(&records));
        let end = (begin + len).min(bytes.len());
        bytes[begin..end].fill(value);
        let salvaged = salvage_batch(&bytes, EPOCH);
        let offsets = offsets(&records);
        let by_offset = |offset: u32| offsets.iter().position(|at| *at == offset).map(|at| &records[at]);
        for record in &salvaged {
            let written = by_offset(record.offset).expect("a record was written where it was salvaged");
            prop_assert_eq!(record.header, written.header);
            prop_assert!(record.body.is_none() || record.body == written.body);
            prop_assert!(!record.sound || record.body == written.body);
        }
        for (offset, record) in offsets.iter().zip(&records) {
            let from = usize::try_from(*offset).unwrap();
            let untouched = end <= from || begin >= from + record.bytes.len();
            let sound = salvaged.iter().any(|found| found.offset == *offset && found.sound);
            prop_assert!(sound || !untouched);
        }
    }

    #[test]
    fn batches_with_impossible_records_under_right_checksums_are_refused(
        records in prop::collection::vec(arb_record(), 1..8), which: prop::sample::Index,
        kind in 0..3_usize, payload_len: u64, body_len: u32, units: u32, field in 0..4,
    ) {
        let mut records = records;
        let which = which.index(records.len());
        let header = &mut records[which].header;
        let before = *header;
        match field {
            0 => header.kind = [RecordKind::Small, RecordKind::Large, RecordKind::Delete][kind],
            1 => header.payload_len = payload_len,
            2 => header.body_len = body_len,
            _ => header.units = units,
        }
        let changed = *header != before;
        let encoded = header.encode();
        records[which].bytes[..RecordHeader::LEN].copy_from_slice(&encoded);
        let bytes = batch(&records, 1, 0);
        prop_assert_eq!(parse_batch(&bytes, EPOCH).is_err(), changed);
        for found in salvage_batch(&bytes, EPOCH) {
            prop_assert!(found.offset as usize + RecordHeader::LEN <= bytes.len());
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 64..6000), records in prop::collection::vec(arb_record(), 1..4),
        damage in arb_damage(),
    ) {
        prop_assert_eq!(parse_batch(&bytes, EPOCH), Err(BatchFault::NoHeader));
        prop_assert!(salvage_batch(&bytes, EPOCH).is_empty());
        // Behind a header that is right.
        let mut sound = batch(&records, 1, 0);
        bytes[..64].copy_from_slice(&sound[..64]);
        prop_assert!(parse_batch(&bytes, EPOCH).is_err());
        overwrite(&mut sound, &damage);
        if let Ok(parsed) = parse_batch(&sound, EPOCH) {
            prop_assert_eq!(found(&parsed), expected(&records));
        }
        salvage_batch(&sound, EPOCH);
    }
}
