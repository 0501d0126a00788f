//! What a fence does to writes that were on their way when a slot was moved.

use super::fixture::{BUCKET, Group, blob, completion, key, of_blob};
use crate::{
    command::{Done, FencePg, FillSlot, PartitionCommand, Refusal, SupersededSlot},
    query::VersionAnswer,
};
use ashlar_types::{
    Blob, BlobId, ChunkId, DriveId, Interval, PgId, ShardOwner, SlotIndex, Versioning, WriteCondition,
};
use proptest::{collection::vec, prelude::*};

/// Drives 1, 2 and 3 in the slots 0, 1 and 2 of PG 1, written at interval 3.
const ACKED: &[&[bool]] = &[&[true, true, true]];

fn fence(interval: u64, slots: &[(u8, u32)]) -> PartitionCommand {
    let superseded =
        |(slot, drive): &(u8, u32)| SupersededSlot { slot: SlotIndex(*slot), drive: DriveId(*drive) };
    PartitionCommand::FencePg(FencePg {
        pg: PgId(1),
        interval: Interval(interval),
        quorum: 2,
        superseded: slots.iter().map(superseded).collect(),
    })
}

fn drives(group: &Group, name: &str) -> Vec<Vec<Option<u32>>> {
    match group.get(name, None) {
        VersionAnswer::Found { content: Some(content), .. } => {
            let chunks = content.manifest.blobs().flat_map(|blob| &blob.chunks);
            chunks.map(|chunk| chunk.slots.iter().map(|drive| drive.map(|drive| drive.0)).collect()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn put(group: &mut Group, name: &str, blob: &Blob) -> Result<(), Refusal> {
    group.try_put(name, of_blob(blob), WriteCondition::default()).map(|_| ())
}

#[test]
fn a_shard_that_was_acknowledged_where_its_slot_was_before_is_missing() {
    let mut group = Group::new(Versioning::Unversioned);
    assert_eq!(group.run(fence(4, &[(1, 2)])), Ok(Done::Nothing));
    put(&mut group, "a", &blob(1, 20_000, ACKED)).unwrap();
    assert_eq!(drives(&group, "a"), [[Some(1), None, Some(3)]]);
    let rows = group.repairs();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].slot.slot, rows[0].slot.interval), (SlotIndex(1), Interval(4)));

    let fill = |interval, drive| {
        PartitionCommand::FillSlot(FillSlot {
            bucket: BUCKET,
            key: key("a"),
            owner: rows[0].owner,
            chunk: rows[0].slot.chunk,
            slot: SlotIndex(1),
            interval: Interval(interval),
            drive: DriveId(drive),
        })
    };
    // The gateway's late shard, under the map it began with.
    assert_eq!(group.run(fill(3, 2)), Err(Refusal::NoSuchVersion));
    assert_eq!(group.run(fill(3, 9)), Err(Refusal::NoSuchVersion));
    assert_eq!(group.run(fill(4, 9)), Ok(Done::Nothing));
    assert_eq!(drives(&group, "a"), [[Some(1), Some(9), Some(3)]]);
}

#[test]
fn a_late_shard_on_a_superseded_drive_does_not_fill_a_slot_that_was_short_before() {
    let mut group = Group::new(Versioning::Unversioned);
    put(&mut group, "a", &blob(1, 20_000, &[&[true, false, true]])).unwrap();
    group.run(fence(4, &[(1, 2)])).unwrap();
    let row = group.repairs().remove(0);
    let fill = |interval, drive| {
        PartitionCommand::FillSlot(FillSlot {
            bucket: BUCKET,
            key: key("a"),
            owner: row.owner,
            chunk: row.slot.chunk,
            slot: SlotIndex(1),
            interval: Interval(interval),
            drive: DriveId(drive),
        })
    };
    assert_eq!(group.run(fill(3, 2)), Err(Refusal::NoSuchVersion));
    assert_eq!(group.repairs().len(), 1);
    assert_eq!(group.run(fill(3, 7)), Ok(Done::Nothing), "another drive is where it says");
}

#[test]
fn a_write_with_too_few_shards_left_is_to_be_done_again() {
    let mut group = Group::new(Versioning::Unversioned);
    group.run(fence(4, &[(0, 1), (1, 2)])).unwrap();
    assert_eq!(put(&mut group, "a", &blob(1, 20_000, ACKED)), Err(Refusal::Retry));
    assert_eq!(group.garbage(), [[BlobId(1)]]);
    assert_eq!((group.repairs(), group.counters()), (vec![], Default::default()));
    let upload = group.create_upload("a");
    assert_eq!(group.put_part("a", upload, 1, of_blob(&blob(2, 20_000, ACKED))), Err(Refusal::Retry));
    assert_eq!(group.garbage(), [[BlobId(1)], [BlobId(2)]]);
    assert_eq!(group.counters().upload_bytes, 0);
}

#[test]
fn parts_are_fenced_like_objects() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    let before = group.put_part("a", upload, 1, of_blob(&blob(1, 5 << 20, ACKED))).unwrap();
    group.run(fence(4, &[(2, 3)])).unwrap();
    let after = group.put_part("a", upload, 2, of_blob(&blob(2, 20_000, ACKED))).unwrap();
    let owner = ShardOwner::Part { upload, part_number: 2 };
    let expected = (owner, ChunkId { blob: BlobId(2), index: 0 }, SlotIndex(2));
    let rows: Vec<_> = group.repairs().iter().map(|row| (row.owner, row.slot.chunk, row.slot.slot)).collect();
    assert_eq!(rows, [expected]);
    // What was committed before the fence is found in the reverse index by the pass that follows it.
    group.complete(completion("a", upload, &[(1, before), (2, after)])).unwrap();
    assert_eq!(drives(&group, "a"), [[Some(1), Some(2), Some(3)], [Some(1), Some(2), None]]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_counts_exactly_if_no_later_fence_took_its_slot_from_its_drive(
        steps in vec((
            prop::option::weighted(0.5, (0u64..8, vec((0u8..3, 1u32..5), 0..3))),
            1u32..3, 0u64..8, vec(prop::option::weighted(0.8, 1u32..5), 3),
        ), 1..20),
    ) {
        let mut group = Group::new(Versioning::Unversioned);
        let mut fences: Vec<(u64, u8, u32)> = vec![];
        for (fenced, pg, interval, slots) in steps {
            if let Some((interval, moved)) = fenced {
                group.run(fence(interval, &moved)).unwrap();
                fences.extend(moved.into_iter().map(|(slot, drive)| (interval, slot, drive)));
                continue;
            }
            let mut written = blob(group.fresh(), 20_000, ACKED);
            let chunk = &mut written.chunks[0];
            chunk.pg = PgId(pg);
            chunk.interval = Interval(interval);
            chunk.slots = slots.iter().map(|drive| drive.map(DriveId)).collect();
            let stays = |(slot, drive): (u8, &Option<u32>)| {
                let taken = |(since, fenced_slot, fenced_drive): &(u64, u8, u32)| {
                    pg == 1 && interval < *since && *fenced_slot == slot && Some(*fenced_drive) == *drive
                };
                drive.filter(|_| !fences.iter().any(taken))
            };
            let expected: Vec<_> = (0..).zip(&slots).map(stays).collect();
            let result = put(&mut group, "a", &written);
            if expected != slots && expected.iter().flatten().count() < 2 {
                prop_assert_eq!(result, Err(Refusal::Retry));
                prop_assert!(group.garbage().concat().contains(&written.id));
            } else {
                prop_assert_eq!(result, Ok(()));
                prop_assert_eq!(drives(&group, "a"), [expected]);
            }
        }
    }
}
