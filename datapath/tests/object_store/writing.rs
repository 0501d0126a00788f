//! Writes while drives fail, lag or are full, and writes that do not happen.

use crate::{
    cluster::Drives,
    metadata::Trouble,
    world::{Choice, GROUP, World, body, broken_body, ms, payload, profile, put, world, world_of},
};
use ashlar_metadata::command::{Command, PartitionCommand};
use ashlar_types::{
    BodyError, BodyFrame, DriveId, EtagCondition, ObjectError, ShardId, WriteCondition, service::Selection,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, time::Duration};

/// Slots of the chunk with this index, as the drives have them.
fn slots_of(drives: &Drives, chunk: u32) -> BTreeSet<u8> {
    drives.shards().into_iter().filter(|(_, s)| s.chunk.index == chunk).map(|(_, s)| s.slot.0).collect()
}

fn drives_of(drives: &Drives) -> BTreeSet<DriveId> {
    drives.shards().into_iter().map(|(drive, _)| drive).collect()
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass in steps until the work is done. Between steps everything happens that needs no time; only coding
/// may still be under way, and it is timed by nobody.
async fn while_time_passes<T>(world: &World, step: Duration, work: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            settle().await;
            world.clock.advance(step);
        }
    };
    tokio::select! {
        result = work => result,
        never = passing => never,
    }
}

#[tokio::test]
async fn a_slot_of_a_bad_drive_goes_to_another() {
    for set in [
        (|faults| faults.down = true) as fn(&mut crate::cluster::Faults),
        |faults| faults.full = true,
        |faults| faults.unreachable = true,
    ] {
        let world = world();
        for drive in [2, 5] {
            world.drives.fault(DriveId(drive), set);
        }
        let bytes = world.bytes(60_000);
        world.put("k", &bytes).await.unwrap();
        for chunk in 0..6 {
            assert_eq!(slots_of(&world.drives, chunk), (0..6).collect(), "{chunk}");
        }
        assert!(drives_of(&world.drives).is_disjoint(&[DriveId(2), DriveId(5)].into()));
        assert_eq!(world.repairs(), []);
        assert_eq!(world.read("k").await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn no_two_slots_of_a_chunk_share_a_drive() {
    let world = world();
    world.drives.fault(DriveId(1), |faults| faults.full = true);
    for number in 0..20 {
        world.put(&format!("k{number}"), &world.bytes(20_000)).await.unwrap();
    }
    let shards = world.drives.shards();
    let places: BTreeSet<_> = shards.iter().map(|(drive, shard)| (*drive, shard.chunk)).collect();
    assert_eq!(places.len(), shards.len());
}

#[tokio::test]
async fn without_another_drive_the_slot_is_missing_and_a_repair_row_says_so() {
    let world = world_of(profile(4, 2, 2, 0));
    world.drives.fault(DriveId(3), |faults| faults.down = true);
    let bytes = world.bytes(20_000);
    world.put("k", &bytes).await.unwrap();
    // Three chunks of 8 KiB.
    assert_eq!((world.repairs().len(), world.drives.shards().len()), (3, 15));
    assert_eq!(world.read("k").await.unwrap(), bytes);
}

#[tokio::test]
async fn below_the_quorum_nothing_is_written() {
    let world = world_of(profile(4, 2, 2, 0));
    for drive in [1, 6] {
        world.drives.fault(DriveId(drive), |faults| faults.down = true);
    }
    let refused = world.put("k", &world.bytes(20_000)).await;
    assert!(matches!(refused, Err(ObjectError::SlowDown(_))), "{refused:?}");
    world.until_nothing_is_left().await;
    // What needs no drive still works.
    assert!(world.put("small", &Bytes::from_static(b"small")).await.is_ok());
}

#[tokio::test]
async fn a_drive_that_dies_in_a_long_chunk_leaves_one_slot_missing() {
    let world = world_of(profile(4, 2, 100, 0));
    world.drives.fault(DriveId(4), |faults| faults.fails_at_unit = Some(10));
    let bytes = world.bytes(100_000);
    world.put("k", &bytes).await.unwrap();
    assert_eq!(world.repairs().len(), 1);
    assert_eq!(world.read("k").await.unwrap(), bytes);
}

#[tokio::test]
async fn a_drive_that_takes_no_unit_is_replaced_however_long_the_chunk() {
    let world = World::new(Choice { drives: 8, seed: 5, ..Choice::of(profile(4, 2, 100, 0)) });
    for drive in [1, 4] {
        world.drives.fault(DriveId(drive), |faults| faults.fails_at_unit = Some(0));
    }
    for len in [20_000, 100_000] {
        let bytes = world.bytes(len);
        world.put("k", &bytes).await.unwrap();
        assert_eq!(world.repairs(), []);
        assert_eq!(world.read("k").await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_drive_that_fails_to_flush_a_small_object_is_replaced() {
    let world = world_with_wide_rows();
    world.drives.fault(DriveId(2), |faults| faults.fails_commit = true);
    for number in 0..8 {
        let bytes = world.bytes(20_000);
        world.put("k", &bytes).await.unwrap();
        assert_eq!(world.repairs(), [], "{number}");
        assert_eq!(world.read("k").await.unwrap(), bytes);
    }
}

/// Objects of 20,000 bytes are one row.
fn world_with_wide_rows() -> World {
    use ashlar_types::{FailureDomain, Profile};
    let profile = Profile::new(4, 2, FailureDomain::Drive).unwrap();
    World::new(Choice { drives: 8, seed: 3, ..Choice::of(profile) })
}

#[tokio::test]
async fn a_straggler_is_waited_for_a_second_and_filled_in_later() {
    let world = world_of(profile(4, 2, 100, 0));
    let slow = DriveId(5);
    world.drives.fault(slow, |faults| faults.holds_commit = true);
    let bytes = world.bytes(20_000);
    let finished = std::cell::Cell::new(false);
    let write = async {
        let written = world.put("k", &bytes).await;
        finished.set(true);
        written
    };
    let wait = async {
        world.drives.until(|drives| drives.commits() == 5).await;
        settle().await;
        world.clock.advance(ms(999));
        settle().await;
        assert!(!finished.get(), "acknowledged before the straggler had its second");
        world.clock.advance(ms(1));
    };
    let (written, ()) = tokio::join!(write, wait);
    assert_eq!(written.unwrap().size, 20_000);
    assert_eq!(world.repairs().len(), 1);

    world.drives.fault(slow, |faults| faults.holds_commit = false);
    let is_fill = |command: &Command| matches!(command, Command::Partition(PartitionCommand::FillSlot(_)));
    world.metadata.until_proposed(is_fill, 1).await;
    assert_eq!((world.repairs(), slots_of(&world.drives, 0)), (vec![], (0..6).collect()));
    world.until_memory_is_free().await;
    let explained = world.store.explain(&world.bucket, crate::world::key("k"), None).await.unwrap();
    assert_eq!(explained.margin_now, Some(2));
}

#[tokio::test]
async fn a_late_slot_of_an_object_that_is_gone_leaves_no_shard() {
    let world = world_of(profile(4, 2, 100, 0));
    let slow = DriveId(5);
    world.drives.fault(slow, |faults| faults.holds_commit = true);
    let bytes = world.bytes(20_000);
    let wait = async {
        world.drives.until(|drives| drives.commits() == 5).await;
        settle().await;
        world.clock.advance(ms(1000));
    };
    let (written, ()) = tokio::join!(world.put("k", &bytes), wait);
    written.unwrap();
    world.delete("k").await;
    world.drives.fault(slow, |faults| faults.holds_commit = false);
    world.drives.until(|drives| drives.commits() == 6 && drives.shards().len() == 5).await;
    world.metadata.pass(ms(3_600_000));
    world.store.collect_garbage(GROUP, ms(3_600_000)).await.unwrap();
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_drive_that_takes_no_bytes_is_left_behind_after_a_second() {
    for held in [0, 5] {
        let world = world_of(profile(4, 2, 100, 0));
        let slow = DriveId(2);
        world.drives.fault(slow, |faults| faults.holds_unit = Some(held));
        let bytes = world.bytes(100_000);
        let written = while_time_passes(&world, ms(1000), world.put("k", &bytes)).await;
        assert_eq!(written.unwrap().size, 100_000);
        assert_eq!(world.repairs().len(), 1);
        assert_eq!(world.read("k").await.unwrap(), bytes);
        world.drives.fault(slow, |faults| faults.holds_unit = None);
        world.until_memory_is_free().await;
    }
}

#[tokio::test]
async fn too_few_flushes_in_time_are_an_error_and_leave_nothing() {
    let world = world_of(profile(4, 2, 100, 0));
    for drive in [1, 2] {
        world.drives.fault(DriveId(drive), |faults| faults.holds_commit = true);
    }
    let wait = async {
        world.drives.until(|drives| drives.commits() == 4).await;
        settle().await;
        world.clock.advance(ms(30_000));
        settle().await;
        for drive in [1, 2] {
            world.drives.fault(DriveId(drive), |faults| faults.holds_commit = false);
        }
    };
    let bytes = world.bytes(20_000);
    let (refused, ()) = tokio::join!(world.put("k", &bytes), wait);
    assert!(matches!(refused, Err(ObjectError::Unavailable(_))), "{refused:?}");
    // The two that were late flush all the same; what they flushed goes away too.
    world.drives.until(|drives| drives.commits() == 6).await;
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_body_that_fails_leaves_nothing() {
    for len in [10_000, 100_000] {
        let world = world();
        let bytes = world.bytes(len);
        let more = len + 1;
        for (payload, wanted) in [
            (broken_body(bytes.clone(), more, BodyError::Disconnected), BodyError::Disconnected),
            (broken_body(bytes.clone(), more, BodyError::Signature), BodyError::Signature),
            (body(vec![bytes.clone()], Some(more)), BodyError::Incomplete),
            (body(vec![bytes.clone()], Some(len - 1)), BodyError::TooLong),
        ] {
            let refused = world.store.put_object(&world.bucket, put("k", payload)).await;
            assert_eq!(refused, Err(ObjectError::Body(wanted)));
            world.until_nothing_is_left().await;
        }
        let mut wrong = body(vec![bytes.clone()], Some(len));
        wrong.content_md5 = Some([7; 16]);
        let refused = world.store.put_object(&world.bucket, put("k", wrong)).await;
        assert_eq!(refused, Err(ObjectError::BadContentMd5));
        world.until_nothing_is_left().await;
        assert!(matches!(world.open("k", Selection::Whole).await.err(), Some(ObjectError::NoSuchKey { .. })));
        assert_eq!(world.garbage_rows(), 0);
    }
}

#[tokio::test]
async fn an_object_above_5_gib_is_refused_at_its_declaration() {
    let world = world();
    let untouched = stream::once(async { panic!("the body must not be read") });
    let mut payload = payload(Box::pin(untouched), None);
    payload.len = Some((5 << 30) + 1);
    let refused = world.store.put_object(&world.bucket, put("k", payload)).await;
    assert_eq!(refused, Err(ObjectError::EntityTooLarge));
}

#[tokio::test]
async fn a_write_whose_client_goes_away_leaves_nothing() {
    let world = world();
    let bytes = world.bytes(30_000);
    let sent = stream::iter([Ok(BodyFrame::Data(bytes))]).chain(stream::pending());
    let write = world.store.put_object(&world.bucket, put("k", payload(Box::pin(sent), Some(90_000))));
    // Two chunks of 10 KiB are durable, and the third is on its way.
    tokio::select! {
        written = write => panic!("{written:?}"),
        () = world.drives.until(|drives| drives.shards().len() == 12) => {}
    }
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn shards_that_cannot_be_deleted_are_queued_as_garbage() {
    let world = world();
    let bytes = world.bytes(30_000);
    let sent = stream::iter([Ok(BodyFrame::Data(bytes))]).chain(stream::pending());
    let write = world.store.put_object(&world.bucket, put("k", payload(Box::pin(sent), Some(90_000))));
    tokio::select! {
        written = write => panic!("{written:?}"),
        () = world.drives.until(|drives| drives.shards().len() == 12) => {}
    }
    let stubborn = world.drives.shards()[0].0;
    world.drives.fault(stubborn, |faults| faults.fails_delete = true);
    let queued =
        |command: &Command| matches!(command, Command::Partition(PartitionCommand::QueueGarbage { .. }));
    world.metadata.until_proposed(queued, 1).await;
    assert!(!world.drives.shards().is_empty());
    assert!(world.drives.shards().iter().all(|(drive, _)| *drive == stubborn));
    world.drives.fault(stubborn, |faults| faults.fails_delete = false);
    world.store.collect_garbage(GROUP, ms(0)).await.unwrap();
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_refused_condition_leaves_nothing() {
    let world = world();
    let small = Bytes::from_static(b"first");
    world.put("k", &small).await.unwrap();
    for len in [100, 30_000] {
        let mut conditional = put("k", body(vec![world.bytes(len)], Some(len)));
        conditional.condition =
            WriteCondition { if_none_match: Some(EtagCondition::Any), ..Default::default() };
        let refused = world.store.put_object(&world.bucket, conditional).await;
        assert_eq!(refused, Err(ObjectError::PreconditionFailed));
        world.until_nothing_is_left().await;
    }
    assert_eq!(world.read("k").await.unwrap(), small);
}

#[tokio::test]
async fn metadata_that_is_away_means_nothing_was_written() {
    let world = world();
    world.metadata.trouble.send_replace(Trouble::Unavailable);
    let refused = world.put("k", &world.bytes(30_000)).await;
    assert!(matches!(refused, Err(ObjectError::Unavailable(_))), "{refused:?}");
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn an_ambiguous_commit_keeps_its_shards() {
    let world = world();
    world.metadata.trouble.send_replace(Trouble::AppliedInSilence);
    let bytes = world.bytes(30_000);
    let refused = world.put("k", &bytes).await;
    assert!(matches!(refused, Err(ObjectError::Ambiguous(_))), "{refused:?}");
    world.until_memory_is_free().await;
    settle().await;
    assert_eq!(world.read("k").await.unwrap(), bytes);
}

#[tokio::test]
async fn a_client_that_goes_away_during_the_commit_does_not_undo_it() {
    let world = world();
    world.metadata.trouble.send_replace(Trouble::Held);
    let bytes = world.bytes(30_000);
    let is_put = |command: &Command| matches!(command, Command::Partition(PartitionCommand::PutVersion(_)));
    tokio::select! {
        written = world.put("k", &bytes) => panic!("{written:?}"),
        () = world.metadata.until_proposed(is_put, 1) => {}
    }
    settle().await;
    world.metadata.trouble.send_replace(Trouble::None);
    world.until_memory_is_free().await;
    assert_eq!(world.read("k").await.unwrap(), bytes);
}

#[tokio::test]
async fn a_drive_with_a_newer_map_makes_the_writer_wait_for_it() {
    let world = world_of(profile(4, 2, 100, 0));
    for drive in 1..=6 {
        world.drives.fault(DriveId(drive), |faults| faults.stale_interval = true);
    }
    let bytes = world.bytes(20_000);
    let newer = async {
        world.drives.until(|drives| drives.opens() > 0).await;
        world.metadata.set_map(|map| map.pgs.values_mut().for_each(|pg| pg.interval.0 += 1));
        for drive in 1..=6 {
            world.drives.fault(DriveId(drive), |faults| faults.stale_interval = false);
        }
        std::future::pending::<()>().await;
    };
    let write = while_time_passes(&world, ms(10), world.put("k", &bytes));
    tokio::select! {
        written = write => written.map(|_| ()).unwrap(),
        () = newer => {}
    }
    let shards: Vec<(DriveId, ShardId)> = world.drives.shards();
    assert!(shards.iter().all(|(d, s)| world.drives.shard(*d, *s).unwrap().meta.interval.0 == 2));
}
