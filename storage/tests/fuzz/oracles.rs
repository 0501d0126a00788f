//! Each oracle is seen to fail.

use super::{
    drive::{SEEDS, WHOLE, WITHOUT_CHECKPOINTS},
    layout::{BLOCK, Repair, Structure, repair},
    measure::{BYTES_MAX, TIME_MAX, bounded, now},
    oracle::{Shown, examine, judge, judge_prefix},
};
use bytes::Bytes;

fn shown() -> Shown {
    examine(&WHOLE).unwrap().unwrap()
}

#[test]
fn a_call_that_holds_too_much_is_noticed() {
    assert!(bounded("a call", || vec![1_u8; BYTES_MAX - 4096].len()).is_ok());
    assert!(bounded("a call", || vec![0_u8; BYTES_MAX + 1].len()).is_err());
    let grows = || {
        let halves = [vec![0_u8; BYTES_MAX / 2], vec![0_u8; BYTES_MAX / 2 + 1]];
        halves.len()
    };
    assert!(bounded("a call", grows).is_err());
}

#[test]
fn a_call_that_takes_too_long_is_noticed() {
    let slow = || {
        let until = now() + TIME_MAX;
        while now() <= until {
            std::hint::spin_loop();
        }
    };
    assert!(bounded("a call", slow).is_err());
}

#[test]
fn bytes_that_no_record_vouches_for_are_noticed() {
    judge(&shown(), &WHOLE).unwrap();
    let (mut flipped, mut swapped) = (shown(), shown());
    let with_units = |shown: &mut Shown, change: fn(&mut ashlar_storage::UnitRead)| {
        let shard = shown.shards.values_mut().flatten().find(|shard| shard.stat.len > 0).unwrap();
        change(&mut shard.units.as_mut().unwrap()[0]);
    };
    with_units(&mut flipped, |unit| {
        let mut bytes = unit.bytes.to_vec();
        bytes[0] ^= 1;
        unit.bytes = Bytes::from(bytes);
    });
    assert!(judge(&flipped, &WHOLE).is_err());
    // Whole in itself, and never written.
    with_units(&mut swapped, |unit| {
        unit.bytes = vec![7; unit.bytes.len()].into();
        unit.sum.crc64 = super::bytes::crc64(&unit.bytes);
    });
    assert!(judge(&swapped, &WHOLE).is_err());
}

#[test]
fn a_description_that_no_record_has_is_noticed() {
    let mut shown = shown();
    shown.shards.values_mut().flatten().next().unwrap().stat.meta.chunk_len += 1;
    assert!(judge(&shown, &WHOLE).is_err());
}

#[test]
fn space_that_does_not_add_up_is_noticed() {
    let mut shown = shown();
    shown.usage.live += 1;
    assert!(judge(&shown, &WHOLE).is_err());
}

#[test]
fn a_record_that_is_not_shown_is_noticed() {
    let mut shown = examine(&WITHOUT_CHECKPOINTS).unwrap().unwrap();
    judge_prefix(&shown, &WITHOUT_CHECKPOINTS).unwrap();
    let some = *shown.shards.keys().next().unwrap();
    let kept = shown.shards.remove(&some).unwrap();
    assert!(judge_prefix(&shown, &WITHOUT_CHECKPOINTS).is_err());
    shown.shards.insert(some, kept);
    shown.report.replayed_records -= 1;
    assert!(judge_prefix(&shown, &WITHOUT_CHECKPOINTS).is_err());
}

/// Else mutations would be of no more use than noise: the files as they are need no repair.
#[test]
fn checksums_that_are_made_right_are_those_of_the_store() {
    let all = Repair { chain: true, epochs: true, units: true, counts: true };
    for (name, bytes) in SEEDS.iter().filter(|(name, _)| !name.starts_with("extents/")) {
        let structure = match name.split('/').next() {
            Some("log") => Structure::Segment,
            Some("index") => Structure::Checkpoint,
            Some(_) | None => Structure::Superblock,
        };
        let mut repaired = bytes.clone();
        repair(structure, &mut repaired, all);
        assert_eq!(&repaired, bytes, "{name}");
        let last = match structure {
            Structure::Superblock => bytes.len() - 1,
            Structure::Segment => BLOCK - 1,
            Structure::Checkpoint => bytes.len() - 1,
        };
        repaired[last] ^= 1;
        repair(structure, &mut repaired, all);
        assert_eq!(&repaired, bytes, "{name}");
    }
}
