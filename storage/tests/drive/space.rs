//! Space: what is accounted, when new shards are refused, and how it comes back.

use super::{
    fixture::{IDENTITY, Seeded, below, env, get, payload, put, real_disk, shard_id, unit, units, until},
    sim_drive::SimDrive,
};
use ashlar_runtime::{Clock, RealClock};
use ashlar_storage::{
    DriveOptions, DriveStore, DriveUsage, FormatOptions, Housekeeping, ShardUnit, StoreError,
};
use ashlar_types::ShardId;
use futures_util::future::join_all;
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

const SEGMENT: u64 = 64 << 10;

type Model = BTreeMap<u8, Vec<ShardUnit>>;

fn check_usage(usage: DriveUsage) {
    assert!(usage.live + usage.dead + usage.free <= usage.capacity, "{usage:?}");
    assert_eq!(usage.used, usage.live + usage.dead);
}

async fn check(store: &DriveStore, model: &Model) {
    check_usage(store.usage());
    assert_eq!(store.usage().shards, model.len() as u64);
    for (number, units) in model {
        assert!(get(store, shard_id(*number)).await.unwrap() == payload(units), "shard {number}");
    }
}

/// Segments and checkpoints keep to the capacity; the superblocks and the lock come on top.
fn check_allocated(drive: &SimDrive) {
    let capacity = drive.options.capacity.unwrap();
    assert!(drive.allocated() <= capacity + (16 << 10), "{} of {capacity}", drive.allocated());
}

/// Sizes of both lanes.
fn some_units(random: &Seeded) -> Vec<ShardUnit> {
    let len = match below(random, 4) {
        0 => below(random, 100),
        1 => below(random, 8000),
        _ => 8193 + below(random, 60_000),
    };
    units(
        below(random, 1 << 30),
        &[usize::try_from(len / 3).unwrap(), usize::try_from(len - len / 3).unwrap()],
    )
}

/// Puts shards until the drive has had enough of them.
async fn fill(store: &DriveStore, model: &mut Model, random: &Seeded) -> u32 {
    let mut stored = 0;
    loop {
        let number = u8::try_from(below(random, 256)).unwrap();
        let units = some_units(random);
        match put(store, shard_id(number), &units).await {
            Ok(()) => {
                model.insert(number, units);
                stored += 1;
            }
            Err(StoreError::Full) => return stored,
            Err(error) => panic!("{error}"),
        }
        check_usage(store.usage());
    }
}

/// Deletes, giving space back first if the drive has not even a record's room; tells how often.
async fn delete(store: &DriveStore, shards: Vec<ShardId>) -> u32 {
    for passes in 0..2 {
        match store.delete(shards.clone()).await {
            Ok(()) => return passes,
            Err(StoreError::Full) => drop(store.reclaim().await.unwrap()),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("deletes do not come through again: {:?}", store.usage());
}

#[tokio::test]
async fn a_full_drive_takes_deletes_and_then_shards_again_round_after_round() {
    let drive = SimDrive::new(SEGMENT).with_capacity(48 * SEGMENT);
    let mut store = drive.open().await;
    let (mut model, random) = (Model::new(), Seeded::new(7));
    for round in 0..30 {
        let stored = fill(&store, &mut model, &random).await;
        assert!(stored > 3, "round {round}: {stored} shards, {:?}", store.usage());
        check_allocated(&drive);
        // All that lives must be a good part of the capacity, or space leaks.
        let live = store.usage().live;
        assert!(live > 48 * SEGMENT / 4 || round % 7 == 6, "round {round}: {:?}", store.usage());
        let kept = if round % 7 == 5 { 0 } else { 2 };
        let gone: Vec<u8> = model.keys().copied().filter(|_| below(&random, 3) >= kept).collect();
        for number in &gone {
            delete(&store, vec![shard_id(*number)]).await;
            model.remove(number);
        }
        for _ in 0..6 {
            store.reclaim().await.unwrap();
            check_allocated(&drive);
        }
        check(&store, &model).await;
        if round % 5 == 4 {
            drop(store);
            store = drive.open_after_drop().await;
            check(&store, &model).await;
        }
    }
    delete(&store, (0..=255).map(shard_id).collect()).await;
    for _ in 0..4 {
        store.reclaim().await.unwrap();
    }
    let usage = store.usage();
    assert!(usage.shards == 0 && usage.live == 0 && usage.dead <= 2 * SEGMENT, "{usage:?}");
    assert!(usage.free > 48 * SEGMENT * 3 / 4, "{usage:?}");
}

#[tokio::test]
async fn deletes_go_on_when_nothing_else_does() {
    let drive = SimDrive::new(SEGMENT).with_capacity(24 * SEGMENT);
    let store = drive.open().await;
    let mut count = 0_u32;
    // Full of small shards, then of deletes and new ones in turn, without anything being given back.
    let id = |count: u32| {
        let mut id = shard_id(u8::try_from(count % 256).unwrap());
        id.chunk.index = count;
        id
    };
    loop {
        match put(&store, id(count), &[unit(1, 3000)]).await {
            Ok(()) => count += 1,
            Err(error) => break assert!(matches!(error, StoreError::Full), "{error}"),
        }
    }
    assert!(count > 100 && store.usage().free == 0, "{count} {:?}", store.usage());
    let mut passes = 0;
    for number in 0..count {
        // Each delete is a batch of its own, and one segment is kept for them.
        passes += delete(&store, vec![id(number)]).await;
        assert!(passes == 0 || number >= 15, "delete {number} of {count}");
        check_usage(store.usage());
    }
    assert_eq!(store.usage().shards, 0);
    for _ in 0..3 {
        store.reclaim().await.unwrap();
    }
    put(&store, id(0), &[unit(1, 30_000)]).await.unwrap();
}

#[tokio::test]
async fn past_the_watermark_new_shards_are_refused_at_once() {
    let drive = SimDrive::new(SEGMENT).with_capacity(200 * SEGMENT);
    let store = drive.open().await;
    let mut number = 0;
    while store.usage().free > 0 {
        let mut id = shard_id(0);
        id.chunk.index = number;
        let outcome = put(&store, id, &[unit(1, 55_000)]).await;
        assert!(outcome.is_ok() || matches!(outcome, Err(StoreError::Full)));
        number += 1;
        assert!(number < 1000);
    }
    let refused = store.put(super::fixture::meta(shard_id(1))).await;
    assert!(matches!(refused, Err(StoreError::Full)));
    let usage = store.usage();
    assert!(usage.used > usage.capacity * 85 / 100 && usage.used <= usage.capacity * 97 / 100, "{usage:?}");
    check_allocated(&drive);
    store
        .delete(vec![{
            let mut id = shard_id(0);
            id.chunk.index = 3;
            id
        }])
        .await
        .unwrap();
}

#[tokio::test]
async fn reclaiming_beside_users_changes_nothing_they_see() {
    let drive = SimDrive::new(SEGMENT).with_capacity(128 * SEGMENT);
    let mut store = drive.open().await;
    let mut models = vec![Model::new(); 4];
    for round in 0..6_u64 {
        // Each client has ids of its own and knows what they are at any time.
        let clients = models.iter_mut().enumerate().map(|(client, model)| {
            let store = store.clone();
            let random = Seeded::new(round * 10 + client as u64);
            async move {
                for _ in 0..60 {
                    let number = u8::try_from(below(&random, 12) * 4 + client as u64).unwrap();
                    match below(&random, 6) {
                        0 | 1 => {
                            let units = some_units(&random);
                            match put(&store, shard_id(number), &units).await {
                                Ok(()) => drop(model.insert(number, units)),
                                Err(StoreError::Full) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        2 => {
                            store.delete(vec![shard_id(number)]).await.unwrap();
                            model.remove(&number);
                        }
                        _ => {
                            let found = get(&store, shard_id(number)).await;
                            match (found, model.get(&number)) {
                                (Ok(found), Some(units)) => assert!(found == payload(units)),
                                (Err(StoreError::NotFound), None) => {}
                                (found, expected) => panic!("{number}: {found:?}, not {expected:?}"),
                            }
                        }
                    }
                    check_usage(store.usage());
                }
            }
        });
        let reclaiming = async {
            let mut moved = 0;
            for _ in 0..12 {
                moved += store.reclaim().await.unwrap().moved_shards;
                tokio::task::yield_now().await;
            }
            moved
        };
        tokio::join!(join_all(clients), reclaiming);
        let all: Model = models.iter().flatten().map(|(number, units)| (*number, units.clone())).collect();
        check(&store, &all).await;
        if round % 2 == 1 {
            drop(store);
            store = drive.open_after_drop().await;
            check(&store, &all).await;
        }
    }
}

#[tokio::test]
async fn what_lives_in_mostly_dead_segments_is_moved_and_the_segments_used_again() {
    let drive = SimDrive::new(SEGMENT);
    let store = drive.open().await;
    let mut model = Model::new();
    for number in 0..=255 {
        let units = units(number.into(), &[if number % 2 == 0 { 3000 } else { 14_000 }]);
        put(&store, shard_id(number), &units).await.unwrap();
        if number % 8 < 2 {
            model.insert(number, units);
        }
    }
    store.delete((0..=255).filter(|number| number % 8 >= 2).map(shard_id).collect()).await.unwrap();
    let (before, files) = (store.usage(), drive.names("log").len() + drive.names("extents").len());
    let mut passes = Vec::new();
    for _ in 0..20 {
        passes.push(store.reclaim().await.unwrap());
    }
    let moved: u64 = passes.iter().map(|pass| pass.moved_shards).sum();
    assert!((64..300).contains(&moved), "{moved} moves of 64 shards, {passes:?}");
    assert_eq!(passes[19].moved_shards + passes[19].segments, 0, "it comes to an end: {passes:?}");
    let after = store.usage();
    assert!(after.dead < before.dead / 4 && after.live <= before.live + 8192, "{before:?} {after:?}");
    let left = drive.names("log").len() + drive.names("extents").len();
    assert!(
        left <= files + 2,
        "{left} files after {files}: what was emptied is kept for use again, not made anew"
    );
    check(&store, &model).await;
    drop(store);
    let store = drive.open_after_drop().await;
    check(&store, &model).await;
    // What a segment's last use left untouched at its end may count as dead now.
    let reopened = store.usage().dead;
    assert!(reopened < before.dead / 4, "{reopened} bytes are dead, {} were", after.dead);
}

fn allocated_on(dir: &Path) -> u64 {
    let files = ["log", "extents"].into_iter().flat_map(|inner| fs::read_dir(dir.join(inner)).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[tokio::test]
async fn dead_runs_of_segments_that_stay_are_given_back_to_the_file_system() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let dir = root.path();
    DriveStore::format(&disk, dir, IDENTITY, FormatOptions { segment_bytes: 2 << 20 }).unwrap();
    let options = DriveOptions {
        capacity: Some(1 << 30),
        readers: 2,
        housekeeping: Housekeeping::OnRequest,
        ..DriveOptions::default()
    };
    let open = async || DriveStore::open(&env(&disk), dir, IDENTITY, options.clone()).await.unwrap();
    let store = open().await;
    let mut model = Model::new();
    for number in 0..60 {
        let units = units(number.into(), &[200_000]);
        put(&store, shard_id(number), &units).await.unwrap();
        model.insert(number, units);
    }
    store.checkpoint().await.unwrap();
    let before = allocated_on(dir);
    for number in (0..60).filter(|number| number % 3 == 0) {
        store.delete(vec![shard_id(number)]).await.unwrap();
        model.remove(&number);
    }
    let mut punched = 0;
    for _ in 0..3 {
        punched += store.reclaim().await.unwrap().punched_bytes;
    }
    let freed = before - allocated_on(dir);
    // The segment still open is left alone: it holds at most ten of the shards.
    assert!(freed >= 16 * 190_000 && punched >= freed / 2, "{freed} bytes came back, {punched} were punched");
    check(&store, &model).await;
    store.close().await;
    let store = open().await;
    check(&store, &model).await;
    for number in 0..60 {
        let units = units(number.into(), &[200_000]);
        put(&store, shard_id(number), &units).await.unwrap();
        model.insert(number, units);
    }
    check(&store, &model).await;
    store.close().await;
    check(&open().await, &model).await;
}

#[tokio::test]
async fn holes_in_the_log_are_no_damage_even_when_all_of_it_is_read() {
    let drive = SimDrive::new(1 << 20);
    let store = drive.open().await;
    let mut model = Model::new();
    for number in 0..=255 {
        let units = units(number.into(), &[100_000]);
        let small = units[0].bytes.len() / 10;
        let units = vec![unit(number.into(), small)];
        put(&store, shard_id(number), &units).await.unwrap();
        model.insert(number, units);
    }
    store.checkpoint().await.unwrap();
    // Runs of ten in each thirty die.
    let gone: Vec<u8> = (0..=255).filter(|number| number % 30 < 10).collect();
    store.delete(gone.iter().copied().map(shard_id).collect()).await.unwrap();
    model.retain(|number, _| !gone.contains(number));
    store.checkpoint().await.unwrap();
    store.checkpoint().await.unwrap();
    let before = drive.allocated();
    let reclaimed = store.reclaim().await.unwrap();
    assert!(reclaimed.punched_bytes > 300_000 && drive.allocated() < before - 300_000, "{reclaimed:?}");
    check(&store, &model).await;
    let killed = drive.killed();
    check(&killed.open().await, &model).await;
    let rebuilt = drive.killed();
    for name in rebuilt.names("index") {
        rebuilt.unlink(&name);
    }
    let store = rebuilt.open().await;
    assert!(store.recovery().rebuilt);
    for (number, units) in &model {
        assert!(get(&store, shard_id(*number)).await.unwrap() == payload(units), "shard {number}");
    }
}

#[tokio::test]
async fn a_drive_left_alone_keeps_itself_in_order() {
    let mut drive = SimDrive::new(SEGMENT).with_capacity(64 * SEGMENT);
    drive.options.housekeeping = Housekeeping::Background;
    drive.options.checkpoint_bytes = 4 * SEGMENT;
    let store = drive.open().await;
    let (mut model, random) = (Model::new(), Seeded::new(3));
    let mut written = 0;
    let clock = RealClock::new();
    // Ten times the capacity, a third of it alive at a time.
    while written < 640 * SEGMENT {
        assert!(clock.monotonic() < super::fixture::DEADLINE, "no space came back: {:?}", store.usage());
        let number = u8::try_from(below(&random, 40)).unwrap();
        let units = some_units(&random);
        let len: u64 = units.iter().map(|unit| unit.bytes.len() as u64).sum();
        match put(&store, shard_id(number), &units).await {
            Ok(()) => drop(model.insert(number, units)),
            Err(StoreError::Full) => {
                // What it does about that takes a moment.
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        written += len;
        if below(&random, 5) == 0 {
            let number = u8::try_from(below(&random, 40)).unwrap();
            store.delete(vec![shard_id(number)]).await.unwrap();
            model.remove(&number);
        }
    }
    until("files keep to the capacity", || drive.allocated() <= 64 * SEGMENT + (16 << 10)).await;
    check(&store, &model).await;
    drop(store);
    let store = drive.open_after_drop().await;
    assert!(store.recovery().checkpoint > Some(5), "{:?}", store.recovery());
    check(&store, &model).await;
}
