//! Reads of what is damaged: right bytes or an error, never others.

use crate::world::{Choice, World, collect, ms, profile, world, world_of};
use ashlar_metadata::command::{Command, PartitionCommand};
use ashlar_types::{DriveId, ObjectError, RangeRequest, ShardId, service::Selection};
use proptest::prelude::*;

/// One of the ways in which a slot can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Missing,
    /// The drive finds every unit corrupt.
    Corrupt,
    /// The drive hands out corrupt units.
    CorruptOnTheWay,
    Unreachable,
    Down,
}

const LOSSES: [Loss; 5] =
    [Loss::Missing, Loss::Corrupt, Loss::CorruptOnTheWay, Loss::Unreachable, Loss::Down];

fn lose(world: &World, drive: DriveId, loss: Loss) {
    let shards: Vec<ShardId> =
        world.drives.shards().into_iter().filter(|(d, _)| *d == drive).map(|(_, shard)| shard).collect();
    for shard in shards {
        match loss {
            Loss::Missing => world.drives.remove(drive, shard),
            Loss::Corrupt | Loss::CorruptOnTheWay => {
                let units = world.drives.shard(drive, shard).unwrap().units;
                for (unit, index) in units.iter().zip(0..) {
                    if !unit.bytes.is_empty() {
                        world.drives.flip(drive, shard, index, unit.bytes.len() / 2);
                    }
                }
            }
            Loss::Unreachable | Loss::Down => {}
        }
    }
    world.drives.fault(drive, |faults| {
        faults.unverified = loss == Loss::CorruptOnTheWay;
        faults.unreachable = loss == Loss::Unreachable;
        faults.down = loss == Loss::Down;
    });
}

fn is_report(command: &Command) -> bool {
    matches!(command, Command::Partition(PartitionCommand::ReportSlots { .. }))
}

#[tokio::test]
async fn every_loss_of_up_to_m_drives_reads_the_right_bytes() {
    for (k, m) in [(1, 1), (2, 2), (4, 2)] {
        for lost in 1u32..1 << (k + m) {
            if lost.count_ones() > u32::from(m) {
                continue;
            }
            let world = world_of(profile(k, m, 2, 1030));
            let bytes = world.bytes(20_000);
            world.put("k", &bytes).await.unwrap();
            for (drive, position) in (1..=u32::from(k + m)).zip(0u32..) {
                if lost >> position & 1 == 1 {
                    let loss = LOSSES[usize::try_from(lost + position).unwrap() % LOSSES.len()];
                    lose(&world, DriveId(drive), loss);
                }
            }
            assert_eq!(world.read("k").await.unwrap(), bytes, "{k}+{m} without {lost:b}");
            let range = RangeRequest::Between { first: 3_000, last: 11_111 };
            assert_eq!(world.read_range("k", range).await.unwrap(), bytes.slice(3_000..11_112));
        }
    }
}

/// A slot that is read for its own unit at the start of a range may be asked again at the end of it, in the place of
/// another.
#[tokio::test]
async fn ranges_that_begin_and_end_anywhere_are_read_around_two_corrupt_slots() {
    let world = world_of(profile(4, 2, 8, 0));
    let bytes = world.bytes(25 * 1024 + 100);
    world.put("k", &bytes).await.unwrap();
    let chunk = world.drives.shards()[0].1.chunk;
    for (drive, shard) in world.drives.shards() {
        if shard.chunk == chunk && [0, 3].contains(&shard.slot.0) {
            lose(&world, drive, Loss::Corrupt);
        }
    }
    let len = bytes.len();
    for first in (0..len).step_by(1024) {
        for last in (first..len).step_by(1024) {
            let range = RangeRequest::Between { first: first as u64, last: last as u64 };
            assert_eq!(
                world.read_range("k", range).await.unwrap(),
                bytes.slice(first..last + 1),
                "{first}-{last}"
            );
        }
    }
}

#[tokio::test]
async fn more_than_m_losses_are_an_error_before_the_first_byte() {
    for loss in LOSSES {
        let world = world_of(profile(4, 2, 2, 0));
        world.put("k", &world.bytes(20_000)).await.unwrap();
        for drive in [1, 2, 4] {
            lose(&world, DriveId(drive), loss);
        }
        assert_eq!(world.open("k", Selection::Whole).await.err(), Some(ObjectError::Unreadable), "{loss:?}");
        assert_eq!(world.memory.available(), world.memory.limit());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn flipped_bytes_are_never_read(
        seed: u64, len in 16_500usize..40_000, flips in 1usize..14, unverified: bool,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let choice = Choice { drives: 6, seed, ..Choice::of(profile(3, 2, 2, 500)) };
            let world = World::new(choice);
            let bytes = world.bytes(len);
            world.put("k", &bytes).await.unwrap();
            for drive in (1..=6).map(DriveId) {
                world.drives.fault(drive, |faults| faults.unverified = unverified);
            }
            let shards = world.drives.shards();
            let pick = |below: usize| usize::try_from(world.rng.next() >> 1).unwrap() % below;
            for _ in 0..flips {
                let (drive, shard) = shards[pick(shards.len())];
                let units = world.drives.shard(drive, shard).unwrap().units;
                let unit = pick(units.len());
                if !units[unit].bytes.is_empty() {
                    world.drives.flip(drive, shard, unit, pick(units[unit].bytes.len()));
                }
            }
            match world.open("k", Selection::Whole).await {
                Ok(read) => match collect(read.body.unwrap()).await {
                    Ok(read) => assert_eq!(read, bytes),
                    Err(error) => assert_eq!(error, ObjectError::Unreadable),
                },
                Err(error) => assert_eq!(error, ObjectError::Unreadable),
            }
        });
    }
}

/// The shard of a slot of the first chunk.
fn shard_of(world: &World, slot: u8) -> (DriveId, ShardId) {
    let shards = world.drives.shards();
    *shards.iter().find(|(_, shard)| shard.chunk.index == 0 && shard.slot.0 == slot).unwrap()
}

#[tokio::test]
async fn a_whole_object_of_wrong_bytes_under_right_checksums_is_never_completed() {
    let world = world();
    let bytes = world.bytes(20_000);
    world.put("k", &bytes).await.unwrap();
    let (drive, shard) = shard_of(&world, 2);
    world.drives.replace(drive, shard, 0);
    let read = match world.open("k", Selection::Whole).await {
        Ok(read) => collect(read.body.unwrap()).await,
        Err(error) => Err(error),
    };
    assert_eq!(read, Err(ObjectError::Unreadable));
}

#[tokio::test]
async fn a_unit_that_does_not_belong_is_left_out_of_a_reconstruction() {
    for wrong in [0, 2, 4, 5] {
        let world = world_of(profile(4, 2, 2, 0));
        let bytes = world.bytes(20_000);
        world.put("k", &bytes).await.unwrap();
        let (drive, shard) = shard_of(&world, 1);
        world.drives.remove(drive, shard);
        let (drive, shard) = shard_of(&world, wrong);
        world.drives.replace(drive, shard, 0);
        // The bytes of slot 1 of the first stripe.
        let range = RangeRequest::Between { first: 1024, last: 2047 };
        assert_eq!(world.read_range("k", range).await.unwrap(), bytes.slice(1024..2048), "{wrong}");
    }
}

#[tokio::test]
async fn units_that_never_fit_together_are_unreadable() {
    let world = world_of(profile(4, 2, 2, 0));
    world.put("k", &world.bytes(20_000)).await.unwrap();
    let (drive, shard) = shard_of(&world, 1);
    world.drives.remove(drive, shard);
    for wrong in [4, 5] {
        let (drive, shard) = shard_of(&world, wrong);
        world.drives.replace(drive, shard, 0);
    }
    let range = RangeRequest::Between { first: 1024, last: 2047 };
    assert_eq!(world.read_range("k", range).await, Err(ObjectError::Unreadable));
}

#[tokio::test]
async fn a_drive_that_keeps_a_read_waiting_is_stood_in_for() {
    let world = world_of(profile(4, 2, 100, 0));
    let bytes = world.bytes(100_000);
    world.put("k", &bytes).await.unwrap();
    let (slow, _) = shard_of(&world, 1);
    world.drives.fault(slow, |faults| faults.holds_get = true);
    let wait = async {
        world.drives.until(|drives| drives.gets() == 4).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(ms(200));
    };
    let (read, ()) = tokio::join!(world.read("k"), wait);
    assert_eq!(read.unwrap(), bytes);
    // Asked once, and not again for the stripes that follow.
    assert_eq!(world.drives.gets_of(slow), 1);
}

#[tokio::test]
async fn a_read_that_nobody_answers_ends() {
    let world = world_of(profile(2, 1, 100, 0));
    world.put("k", &world.bytes(20_000)).await.unwrap();
    for drive in 1..=3 {
        world.drives.fault(DriveId(drive), |faults| faults.holds_get = true);
    }
    let wait = async {
        world.drives.until(|drives| drives.gets() == 2).await;
        for step in [200, 200, 40_000] {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            world.clock.advance(ms(step));
        }
    };
    let (read, ()) = tokio::join!(world.read("k"), wait);
    assert_eq!(read, Err(ObjectError::Unreadable));
}

#[tokio::test]
async fn drives_known_down_are_not_asked_while_others_suffice() {
    let world = world_of(profile(4, 2, 2, 0));
    let bytes = world.bytes(20_000);
    world.put("k", &bytes).await.unwrap();
    let (down, _) = shard_of(&world, 0);
    world.drives.fault(down, |faults| faults.down = true);
    assert_eq!(world.read("k").await.unwrap(), bytes);
    assert_eq!(world.drives.gets_of(down), 0);
}

#[tokio::test]
async fn damaged_slots_are_reported_once_and_lost_drives_never() {
    let world = world_of(profile(4, 2, 100, 0));
    let bytes = world.bytes(20_000);
    world.put("k", &bytes).await.unwrap();
    let (missing, shard) = shard_of(&world, 1);
    world.drives.remove(missing, shard);
    let (away, _) = shard_of(&world, 2);
    world.drives.fault(away, |faults| faults.unreachable = true);
    for _ in 0..3 {
        assert_eq!(world.read("k").await.unwrap(), bytes);
    }
    world.metadata.until_proposed(is_report, 1).await;
    let rows = world.repairs();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].slot.chunk, rows[0].slot.slot), (shard.chunk, shard.slot));
    assert_eq!(world.metadata.proposals.borrow().iter().filter(|command| is_report(command)).count(), 1);
}

#[tokio::test]
async fn explain_shows_each_slot_and_the_margin() {
    use ashlar_datapath::{ExplainedSource, SlotState};
    let world = world_of(profile(4, 2, 100, 0));
    world.put("k", &world.bytes(20_000)).await.unwrap();
    let explain = || world.store.explain(&world.bucket, crate::world::key("k"), None);
    let healthy = explain().await.unwrap();
    assert_eq!((healthy.margin_now, healthy.margin_at_ack), (Some(2), Some(2)));

    let (missing, shard) = shard_of(&world, 1);
    world.drives.remove(missing, shard);
    let (away, _) = shard_of(&world, 5);
    world.drives.fault(away, |faults| faults.unreachable = true);
    let damaged = explain().await.unwrap();
    assert_eq!((damaged.margin_now, damaged.margin_at_ack), (Some(0), Some(2)));
    let ExplainedSource::Blob { chunks, .. } = &damaged.entries[0].source else { panic!("a blob") };
    let states: Vec<SlotState> = chunks[0].slots.iter().map(|slot| slot.state).collect();
    use SlotState::{Missing, Ok as Good, Unreachable};
    assert_eq!(states, [Good, Missing, Good, Good, Good, Unreachable]);

    world.put("small", &world.bytes(100)).await.unwrap();
    let inline = world.store.explain(&world.bucket, crate::world::key("small"), None).await.unwrap();
    assert!(inline.margin_now.is_none() && matches!(inline.entries[0].source, ExplainedSource::Inline));
}

#[tokio::test]
async fn a_slot_that_moved_is_found_where_its_group_has_it_now() {
    let world = world();
    let bytes = world.bytes(20_000);
    world.put("k", &bytes).await.unwrap();
    // All shards move one drive on, and so do the slots of the map.
    let next = |drive: DriveId| DriveId(drive.0 % 8 + 1);
    let moved: Vec<_> = world
        .drives
        .shards()
        .into_iter()
        .map(|(drive, shard)| (drive, shard, world.drives.shard(drive, shard).unwrap()))
        .collect();
    moved.iter().for_each(|(drive, shard, _)| world.drives.remove(*drive, *shard));
    moved.into_iter().for_each(|(drive, shard, stored)| world.drives.place(next(drive), shard, stored));
    world.metadata.set_map(|map| {
        for pg in map.pgs.values_mut() {
            pg.interval.0 += 1;
            pg.slots.iter_mut().for_each(|slot| slot.current = slot.current.map(next));
        }
    });
    assert_eq!(world.read("k").await.unwrap(), bytes);
    assert_eq!(world.repairs(), []);
}
