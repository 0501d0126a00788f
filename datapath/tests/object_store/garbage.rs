//! What nothing names any more goes away, and nothing else does.

use crate::world::{Choice, GROUP, World, ms, profile, world};
use ashlar_placement::DriveState;
use ashlar_types::DriveId;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(3600);

async fn collect(world: &World) -> usize {
    world.store.collect_garbage(GROUP, GRACE).await.unwrap()
}

#[tokio::test]
async fn overwritten_and_deleted_bytes_are_gone_after_the_grace_and_not_before() {
    let world = world();
    let kept = world.bytes(30_000);
    world.put("kept", &kept).await.unwrap();
    let shards = world.drives.shards();
    world.put("k", &world.bytes(50_000)).await.unwrap();
    world.put("k", &world.bytes(50_000)).await.unwrap();
    world.delete("k").await;
    let all = world.drives.shards().len();
    world.metadata.pass(GRACE - ms(1000));
    assert_eq!((collect(&world).await, world.drives.shards().len()), (0, all));
    world.metadata.pass(ms(1000));
    assert_eq!(collect(&world).await, 2);
    assert_eq!((world.drives.shards(), world.garbage_rows()), (shards, 0));
    assert_eq!(world.read("kept").await.unwrap(), kept);
}

#[tokio::test]
async fn rows_of_drives_that_do_not_answer_stay_until_they_do() {
    for fault in [true, false] {
        let world = world();
        world.put("k", &world.bytes(20_000)).await.unwrap();
        world.delete("k").await;
        world.metadata.pass(GRACE);
        let (drive, _) = world.drives.shards()[0];
        world.drives.fault(drive, |faults| (faults.down, faults.fails_delete) = (fault, !fault));
        assert_eq!((collect(&world).await, world.garbage_rows()), (0, 1));
        assert!(world.drives.shards().iter().all(|(left, _)| *left == drive));
        world.drives.fault(drive, |faults| *faults = Default::default());
        assert_eq!((collect(&world).await, world.garbage_rows()), (1, 0));
        assert_eq!(world.drives.shards(), []);
    }
}

#[tokio::test]
async fn rows_that_wait_for_a_drive_do_not_hold_up_the_space_of_others() {
    let tune = |settings: &mut ashlar_datapath::Settings| settings.garbage_rows = 2;
    let world = World::new(Choice { tune, ..Choice::of(profile(4, 2, 100, 0)) });
    for number in 0..10 {
        let key = format!("k{number}");
        world.put(&key, &world.bytes(20_000)).await.unwrap();
        world.delete(&key).await;
    }
    world.metadata.pass(GRACE);
    let away = DriveId(3);
    world.drives.fault(away, |faults| faults.down = true);
    assert_eq!((collect(&world).await, world.garbage_rows()), (0, 10));
    assert!(world.drives.shards().iter().all(|(drive, _)| *drive == away));
    world.drives.fault(away, |faults| faults.down = false);
    let mut done = 0;
    while done < 10 {
        done += collect(&world).await;
    }
    assert_eq!((world.drives.shards(), world.garbage_rows()), (vec![], 0));
}

#[tokio::test]
async fn a_drive_that_is_out_is_not_waited_for() {
    let world = world();
    world.put("k", &world.bytes(20_000)).await.unwrap();
    world.delete("k").await;
    world.metadata.pass(GRACE);
    let (drive, _) = world.drives.shards()[0];
    world.drives.fault(drive, |faults| faults.down = true);
    world.metadata.set_map(|map| map.drives.get_mut(&drive).unwrap().state = DriveState::Out);
    assert_eq!(collect(&world).await, 1);
}

#[tokio::test]
async fn copies_that_repair_may_have_made_are_deleted_as_well() {
    let world = world();
    world.put("k", &world.bytes(20_000)).await.unwrap();
    let (from, shard) = world.drives.shards()[0];
    // The placement group has moved the slot since the write.
    let holds = |drive| world.drives.shards().iter().any(|(d, s)| *d == drive && s.chunk == shard.chunk);
    let to = (1..=8).map(DriveId).find(|drive| !holds(*drive)).unwrap();
    world.metadata.set_map(|map| {
        for pg in map.pgs.values_mut() {
            for slot in &mut pg.slots {
                if slot.current == Some(from) {
                    slot.current = Some(to);
                    pg.interval.0 += 1;
                }
            }
        }
    });
    world.drives.place(to, shard, world.drives.shard(from, shard).unwrap());
    world.delete("k").await;
    world.metadata.pass(GRACE);
    assert_eq!(collect(&world).await, 1);
    assert_eq!(world.drives.shards(), []);
}
