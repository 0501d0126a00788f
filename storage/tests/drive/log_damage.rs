//! Damage in the log, in segments and in checkpoints that is found when the drive is opened.

use super::{
    fixture::{get, payload, put, shard_id, unit, units, until},
    sim_drive::SimDrive,
};
use ashlar_runtime::disk::sim::Operation;
use ashlar_storage::{DamagedRegion, DriveStore, ShardUnit, StoreError};
use futures_util::{FutureExt, future::join_all};

const BLOCK: u64 = 4096;

fn content(number: u8) -> Vec<ShardUnit> {
    units(u64::from(number) * 10, &[usize::from(number) * 20, 7, 100])
}

fn large(number: u8) -> Vec<ShardUnit> {
    units(u64::from(number) * 10, &[10_000, 4000])
}

/// Whether the shard is as it was put; an error must say that it is damaged.
async fn is_right(store: &DriveStore, number: u8, expected: &[ShardUnit]) -> bool {
    match get(store, shard_id(number)).await {
        Ok(found) => {
            assert_eq!(found, payload(expected), "shard {number}");
            true
        }
        Err(StoreError::NotFound | StoreError::Corrupt { .. }) => false,
        Err(error) => panic!("shard {number}: {error}"),
    }
}

async fn wrong_ones(store: &DriveStore, numbers: std::ops::Range<u8>) -> Vec<u8> {
    let mut wrong = Vec::new();
    for number in numbers {
        if !is_right(store, number, &content(number)).await {
            wrong.push(number);
        }
    }
    wrong
}

/// A shard in each of ten batches.
async fn ten_batches() -> (SimDrive, DriveStore) {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..10 {
        put(&store, shard_id(number), &content(number)).await.unwrap();
    }
    (drive, store)
}

#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_named_and_costs_its_own_shard_only() {
    let (drive, store) = ten_batches().await;
    let place = store.locate(shard_id(5)).unwrap();
    let batch = place.offset / BLOCK * BLOCK;
    // In the batch's header, the record's header, its body, the payload; a sound record header tells whose they are.
    let spots =
        [(0, false), (20, false), (64 + 10, false), (64 + 64 + 8, true), (place.offset - batch + 60, true)];
    for (at, named) in spots {
        let drive = drive.killed();
        drive.flip(&place.path, batch + at, 0x10);
        let store = drive.open().await;
        let report = store.recovery().clone();
        let region = DamagedRegion { segment: 1, offset: batch, len: BLOCK };
        assert_eq!((&report.damaged[..], report.torn_tail), (&[region][..], false), "byte {at}");
        // A damaged batch header leaves the record itself whole.
        let whole = at < 64;
        assert_eq!(wrong_ones(&store, 0..10).await, if whole { vec![] } else { vec![5] }, "byte {at}");
        assert_eq!(report.lost, if named { vec![shard_id(5)] } else { vec![] }, "byte {at}");
        assert_eq!(store.damaged(), report.lost);
        assert_eq!(report.replayed_records, if named || whole { 10 } else { 9 }, "byte {at}");

        // The drive goes on, and the shard can be replaced.
        if at % 2 == 0 {
            store.delete(vec![shard_id(5)]).await.unwrap();
            assert!(matches!(get(&store, shard_id(5)).await, Err(StoreError::NotFound)));
        }
        put(&store, shard_id(5), &content(5)).await.unwrap();
        assert_eq!((store.damaged(), store.usage().shards), (vec![], 10));
        assert_eq!(wrong_ones(&store, 0..10).await, [0_u8; 0]);
        drop(store);
        let store = drive.open_after_drop().await;
        assert_eq!((wrong_ones(&store, 0..10).await, store.recovery().lost.len()), (vec![], 0));
        store.close().await;
        let store = drive.open().await;
        assert_eq!((wrong_ones(&store, 0..10).await, store.recovery().damaged.len()), (vec![], 0));
    }
}

#[tokio::test]
async fn a_lost_shard_stays_known_as_damaged_until_it_is_replaced_or_deleted() {
    let (drive, store) = ten_batches().await;
    let drive = {
        let place = store.locate(shard_id(5)).unwrap();
        let drive = drive.killed();
        drive.flip(&place.path, place.offset - 20, 1);
        drive
    };
    for _ in 0..3 {
        let store = drive.open().await;
        assert_eq!(store.damaged(), [shard_id(5)]);
        assert!(matches!(get(&store, shard_id(5)).await, Err(StoreError::Corrupt { .. })));
        assert_eq!(
            store.list(None, 100).await.unwrap().iter().filter(|s| s.meta.id == shard_id(5)).count(),
            0
        );
        store.checkpoint().await.unwrap();
        store.reclaim().await.unwrap();
        store.close().await;
    }
    let store = drive.open().await;
    store.delete(vec![shard_id(5)]).await.unwrap();
    store.close().await;
    let store = drive.open().await;
    assert_eq!((store.damaged(), store.usage().shards), (vec![], 9));
}

#[tokio::test]
async fn of_a_batch_of_many_records_only_the_damaged_one_is_lost() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let gate = drive.hold(Operation::SyncFile, "log/");
    let contents: Vec<_> = (0..12).map(content).collect();
    let mut puts: Vec<_> =
        (0..).zip(&contents).map(|(number, units)| Box::pin(put(&store, shard_id(number), units))).collect();
    assert!(puts[0].as_mut().now_or_never().is_none());
    until("the first flush", || gate.reached() == 1).await;
    for put in &mut puts[1..] {
        assert!(put.as_mut().now_or_never().is_none());
    }
    drive.disk.faults().clear();
    gate.open();
    for outcome in join_all(puts).await {
        outcome.unwrap();
    }
    put(&store, shard_id(20), &[]).await.unwrap();
    let places: Vec<_> = (0..12).map(|number| store.locate(shard_id(number)).unwrap()).collect();
    for damaged in [1_u8, 6, 11] {
        for back in [-30, 50_i64] {
            let drive = drive.killed();
            let place = &places[usize::from(damaged)];
            drive.flip(&place.path, place.offset.checked_add_signed(back).unwrap(), 1);
            let store = drive.open().await;
            assert_eq!(store.recovery().damaged.len(), 1);
            assert_eq!(wrong_ones(&store, 0..12).await, [damaged]);
            assert_eq!(store.recovery().lost, [shard_id(damaged)]);
        }
    }
}

#[tokio::test]
async fn damage_in_several_places_costs_what_is_there() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..60 {
        put(&store, shard_id(number), &content(number)).await.unwrap();
    }
    let damaged = [3_u8, 4, 17, 30, 31, 32, 58];
    let killed = drive.killed();
    for number in damaged {
        killed.damage(&store.locate(shard_id(number)).unwrap(), 20);
    }
    let store = killed.open().await;
    assert_eq!(wrong_ones(&store, 0..60).await, damaged);
    assert_eq!(store.recovery().lost, damaged.map(shard_id));
    assert!(!store.recovery().torn_tail);
    // A whole run of blocks gone takes the names of the shards with it.
    let killed = drive.killed();
    let path = killed.path(&killed.names("log")[1]);
    killed.overwrite(&path, &[0; 3 * 4096], 5 * BLOCK);
    let store = killed.open().await;
    let report = store.recovery();
    assert_eq!((report.damaged.len(), report.damaged[0].len), (1, 3 * BLOCK), "{report:?}");
    assert_eq!(wrong_ones(&store, 0..60).await.len(), 3);
}

/// A drive that was closed, with small shards below 30 and large ones from 30 on, in several segments.
async fn closed() -> (SimDrive, Vec<std::path::PathBuf>) {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..30 {
        put(&store, shard_id(number), &content(number)).await.unwrap();
        put(&store, shard_id(number + 30), &large(number)).await.unwrap();
    }
    let places = (0..60).map(|number| store.locate(shard_id(number)).unwrap().path).collect();
    store.close().await;
    (drive, places)
}

async fn check_but(
    drive: &SimDrive,
    store: &DriveStore,
    gone: &str,
    places: &[std::path::PathBuf],
    what: &str,
) {
    let gone = drive.path(gone);
    drive.disk.drop_caches();
    let mut hit = Vec::new();
    for number in 0..60_u8 {
        let expected = if number < 30 { content(number) } else { large(number - 30) };
        if !is_right(store, number, &expected).await {
            hit.push(number);
        }
    }
    let records_in = |number: u8| places[usize::from(number)] == gone;
    if gone.starts_with(drive.path("extents")) {
        // Only those whose first extent is there for certain; some have their second one there.
        assert!((0..60).filter(|number| records_in(*number)).all(|number| hit.contains(&number)), "{what}");
        assert!(hit.len() <= 7 && hit.iter().all(|number| *number >= 30), "{what}: {hit:?}");
    } else {
        assert!((0..30).all(|number| records_in(number) == hit.contains(&number)), "{what}: {hit:?}");
        assert!(hit.len() <= 16, "{what}: {hit:?}");
    }
    assert!(!hit.is_empty(), "{what}");
    for number in &hit {
        put(store, shard_id(*number), &content(*number)).await.unwrap();
        assert!(is_right(store, *number, &content(*number)).await);
    }
}

#[tokio::test]
async fn a_segment_that_is_missing_or_cut_or_emptied_costs_its_own_shards_only() {
    let (whole, places) = closed().await;
    for inner in ["log", "extents"] {
        for name in whole.names(inner) {
            if !places.contains(&whole.path(&name)) {
                continue;
            }
            for damage in ["missing", "empty", "zeros", "header only"] {
                let what = format!("{name} {damage}");
                let drive = whole.killed();
                match damage {
                    "missing" => drive.unlink(&name),
                    "empty" => drive.truncate(&name, 0),
                    "zeros" => drive.overwrite(&drive.path(&name), &[0; 64 << 10], 0),
                    _ => drive.truncate(&name, 4096),
                }
                let store = drive.open().await;
                assert!(!store.recovery().rebuilt, "{what}");
                check_but(&drive, &store, &name, &places, &what).await;
                put(&store, shard_id(99), &[unit(1, 20_000)]).await.unwrap();
                store.reclaim().await.unwrap();
                store.close().await;
                let store = drive.open().await;
                assert_eq!((store.usage().shards, store.recovery().lost.len()), (61, 0), "{what}");
                assert_eq!(get(&store, shard_id(99)).await.unwrap(), payload(&[unit(1, 20_000)]));
            }
        }
    }
}

#[tokio::test]
async fn a_missing_log_segment_behind_the_checkpoint_is_damage_and_the_rest_is_read() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..60 {
        put(&store, shard_id(number), &content(number)).await.unwrap();
    }
    let middle = store.locate(shard_id(30)).unwrap().path;
    let there: Vec<u8> =
        (0..60).filter(|number| store.locate(shard_id(*number)).unwrap().path == middle).collect();
    for damage in ["missing", "zeros"] {
        let drive = drive.killed();
        let name = format!("log/{}", middle.file_name().unwrap().to_str().unwrap());
        match damage {
            "missing" => drive.unlink(&name),
            _ => drive.overwrite(&middle, &[0; 64 << 10], 0),
        }
        let store = drive.open().await;
        assert_eq!(store.recovery().damaged.len(), 1, "{damage}: {:?}", store.recovery());
        assert_eq!(wrong_ones(&store, 0..60).await, there, "{damage}");
        for number in &there {
            put(&store, shard_id(*number), &content(*number)).await.unwrap();
        }
        drop(store);
        let store = drive.open_after_drop().await;
        assert_eq!(wrong_ones(&store, 0..60).await, [0_u8; 0], "{damage}");
    }
}

/// Two checkpoints, with shards put, replaced and deleted around them, and segments reclaimed.
async fn two_checkpoints() -> SimDrive {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for round in 0..3_u8 {
        for number in 0..40 {
            put(&store, shard_id(number), &content(number)).await.unwrap();
            if number % 4 == round {
                put(&store, shard_id(100 + number), &large(number)).await.unwrap();
            }
        }
        store.delete((0..40).map(|number| shard_id(200 + number)).collect()).await.unwrap();
        store.checkpoint().await.unwrap();
        store.reclaim().await.unwrap();
    }
    store.delete((30..40).map(shard_id).collect()).await.unwrap();
    put(&store, shard_id(200), &content(200)).await.unwrap();
    drive.killed()
}

async fn check_two(store: &DriveStore, what: &str) {
    for number in (0..30).chain([200]) {
        assert!(is_right(store, number, &content(number)).await, "{what}: {number}");
    }
    for number in (0..40).filter(|number| number % 4 < 3) {
        assert!(is_right(store, 100 + number, &large(number)).await, "{what}: {number}");
    }
}

fn damage_checkpoint(drive: &SimDrive, name: &str, damage: &str) {
    match damage {
        "missing" => drive.unlink(name),
        "short" => drive.truncate(name, 200),
        "flipped" => drive.flip(&drive.path(name), 150, 1),
        _ => drive.overwrite(&drive.path(name), &[0; 4096], 0),
    }
}

#[tokio::test]
async fn the_older_checkpoint_serves_when_the_newest_is_damaged() {
    let sound = two_checkpoints().await;
    let names = sound.names("index");
    let numbers: Vec<u64> = names.iter().map(|name| u64::from_str_radix(&name[6..22], 16).unwrap()).collect();
    for damage in ["missing", "short", "flipped", "zeros"] {
        let drive = sound.killed();
        damage_checkpoint(&drive, &names[1], damage);
        let store = drive.open().await;
        let report = store.recovery();
        assert_eq!((report.checkpoint, report.rebuilt), (Some(numbers[0]), false), "{damage}");
        assert!(report.damaged.is_empty() && report.lost.is_empty() && !report.torn_tail, "{report:?}");
        check_two(&store, damage).await;
        assert_eq!(store.usage().shards, 61, "{damage}: nothing deleted came back");
        store.checkpoint().await.unwrap();
        store.close().await;
        let store = drive.open().await;
        assert!(store.recovery().checkpoint > Some(numbers[1]) && !store.recovery().rebuilt, "{damage}");
        check_two(&store, damage).await;
    }
}

#[tokio::test]
async fn without_checkpoints_the_index_is_made_from_the_log() {
    let sound = two_checkpoints().await;
    for damage in ["missing", "short", "flipped", "zeros"] {
        let drive = sound.killed();
        for name in drive.names("index") {
            damage_checkpoint(&drive, &name, damage);
        }
        let store = drive.open().await;
        let report = store.recovery();
        assert_eq!((report.checkpoint, report.rebuilt), (None, true), "{damage}");
        check_two(&store, damage).await;
        put(&store, shard_id(201), &content(201)).await.unwrap();
        store.checkpoint().await.unwrap();
        store.reclaim().await.unwrap();
        check_two(&store, damage).await;
        store.close().await;
        let store = drive.open().await;
        assert!(!store.recovery().rebuilt && store.recovery().checkpoint.is_some(), "{damage}");
        assert!(is_right(&store, 201, &content(201)).await);
        check_two(&store, damage).await;
    }
}
