//! A device that fails: nothing is acknowledged that is not durable, and what verifies is still read.

use super::{
    fixture::{IDENTITY, get, meta, payload, put, shard_id, unit, units, until},
    sim_drive::SimDrive,
    starved_disk::StarvedDisk,
};
use ashlar_runtime::{
    Disk, Env, SimDisk,
    disk::sim::{FaultKind, Operation, SimCache},
};
use ashlar_storage::{DriveOptions, DriveState, DriveStore, ShardUnit, StoreError};
use std::{collections::BTreeMap, sync::Arc};

/// What a client that worked on a failing drive knows.
#[derive(Debug, Default)]
struct Known {
    /// What every shard was last acknowledged to be, `None` for deleted.
    acked: BTreeMap<u8, Option<Vec<ShardUnit>>>,
    /// Shards of which a later put or delete failed: it may have been done.
    doubtful: BTreeMap<u8, Vec<Option<Vec<ShardUnit>>>>,
    /// Calls that were acknowledged after one had failed for good.
    acked_after_failure: u32,
    failures: u32,
    refused: u32,
}

impl Known {
    fn outcome(
        &mut self,
        number: u8,
        becomes: Option<Vec<ShardUnit>>,
        outcome: Result<(), StoreError>,
        state: DriveState,
    ) {
        let failed = self.failures > 0;
        self.judge(&outcome, &state);
        match outcome {
            Ok(()) => {
                self.acked_after_failure += u32::from(failed);
                self.acked.insert(number, becomes);
                self.doubtful.remove(&number);
            }
            Err(_) => self.doubtful.entry(number).or_default().push(becomes),
        }
    }

    fn judge(&mut self, outcome: &Result<(), StoreError>, state: &DriveState) {
        if let Err(error) = outcome {
            if matches!(error, StoreError::Failed(_)) {
                assert_ne!(*state, DriveState::Ok, "a call failed for good and the drive goes on");
                self.failures += 1;
            } else {
                assert!(matches!(error, StoreError::Full | StoreError::Overloaded), "{error}");
                self.refused += 1;
            }
        }
    }

    /// What a reader may find.
    fn allows(&self, number: u8, found: Option<&Vec<bytes::Bytes>>) -> bool {
        let acked = self.acked.get(&number).cloned().unwrap_or_default();
        let doubtful = self.doubtful.get(&number).into_iter().flatten().cloned();
        doubtful.chain([acked]).any(|units| units.as_deref().map(payload).as_ref() == found)
    }

    async fn check(&self, store: &DriveStore, what: &str) {
        for number in 0..NUMBERS {
            let found = match get(store, shard_id(number)).await {
                Ok(found) => Some(found),
                Err(StoreError::NotFound) => None,
                Err(error) => panic!("{what}: shard {number}: {error}"),
            };
            assert!(self.allows(number, found.as_ref()), "{what}: shard {number} is another one");
        }
    }
}

const NUMBERS: u8 = 8;

/// Puts in both lanes, deletes, checkpoints and reclaiming, over several segments.
async fn work(store: &DriveStore) -> Known {
    let mut known = Known::default();
    for step in 0..36_u64 {
        let number = u8::try_from(step * 5 % u64::from(NUMBERS)).unwrap();
        let lens: &[usize] = match step % 6 {
            0 | 3 => &[100, 4000],
            1 | 4 => &[9000, 30_000],
            _ => &[],
        };
        match step {
            s if s % 12 == 8 => {
                let outcome = store.delete(vec![shard_id(number)]).await;
                known.outcome(number, None, outcome, store.state());
            }
            s if s % 12 == 5 => known.judge(&store.checkpoint().await, &store.state()),
            s if s % 12 == 11 => known.judge(&store.reclaim().await.map(drop), &store.state()),
            _ => {
                let units = units(step * 10, lens);
                let outcome = put(store, shard_id(number), &units).await;
                known.outcome(number, Some(units), outcome, store.state());
            }
        }
    }
    known
}

async fn assert_poisoned(store: &DriveStore, what: &str) {
    assert!(matches!(store.state(), DriveState::Failed { .. }), "{what}");
    assert!(matches!(store.put(meta(shard_id(99))).await, Err(StoreError::Failed(_))), "{what}");
    assert!(matches!(store.delete(vec![shard_id(1)]).await, Err(StoreError::Failed(_))), "{what}");
    assert!(matches!(store.delete(vec![]).await, Err(StoreError::Failed(_))), "{what}");
    assert!(matches!(store.checkpoint().await, Err(StoreError::Failed(_))), "{what}");
    assert!(matches!(store.reclaim().await, Err(StoreError::Failed(_))), "{what}");
}

#[tokio::test]
async fn a_failed_write_or_flush_ends_all_acknowledgements_until_the_drive_is_opened_again() {
    let fresh = SimDrive::new(64 << 10);
    for operation in [Operation::Write, Operation::SyncFile, Operation::SyncDir, Operation::Rename] {
        for nth in 0.. {
            let what = format!("{operation:?} {nth}");
            let drive = fresh.killed();
            let store = drive.open().await;
            drive.fail_from(operation, "", nth, FaultKind::Eio);
            let known = work(&store).await;
            if drive.disk.faults().fired().is_empty() {
                assert!(nth > 0 && store.state() == DriveState::Ok);
                break;
            }
            drive.disk.faults().clear();
            assert_eq!(known.acked_after_failure, 0, "{what}");
            assert!(known.failures > 0, "{what}");
            assert_poisoned(&store, &what).await;
            known.check(&store, &what).await;
            store.close().await;

            let store = drive.open().await;
            assert_eq!(store.state(), DriveState::Ok);
            known.check(&store, &format!("{what}, opened again")).await;
            put(&store, shard_id(99), &[unit(1, 10)]).await.unwrap();
            store.checkpoint().await.unwrap();
            store.reclaim().await.unwrap();
            known.check(&store, &format!("{what}, in use again")).await;
        }
    }
}

#[tokio::test]
async fn a_flush_that_fails_once_is_not_trusted_when_it_works_again() {
    let fresh = SimDrive::new(64 << 10);
    for kind in [FaultKind::SyncLosesPages, FaultKind::Enospc] {
        for nth in 0.. {
            let what = format!("{kind:?} {nth}");
            let drive = fresh.killed();
            let store = drive.open().await;
            drive.fail_once(Operation::SyncFile, "", nth, kind.clone());
            let known = work(&store).await;
            if drive.disk.faults().fired().is_empty() {
                assert!(nth > 0);
                break;
            }
            assert_eq!(known.acked_after_failure, 0, "{what}");
            assert_poisoned(&store, &what).await;
        }
    }
}

#[tokio::test]
async fn lack_of_space_refuses_the_call_and_not_the_drive() {
    let fresh = SimDrive::new(64 << 10);
    for operation in [Operation::Open, Operation::Write, Operation::Rename] {
        // A pass of reclaiming that has no room for what it would move does nothing and says nothing.
        let mut unsaid = 0;
        for nth in 0.. {
            let what = format!("{operation:?} {nth}");
            let drive = fresh.killed();
            let store = drive.open().await;
            drive.fail_from(operation, "", nth, FaultKind::Enospc);
            let known = work(&store).await;
            if drive.disk.faults().fired().is_empty() {
                assert!(nth > 0);
                break;
            }
            assert_eq!((known.failures, store.state()), (0, DriveState::Ok), "{what}");
            unsaid += u32::from(known.refused == 0);
            drive.disk.faults().clear();
            known.check(&store, &what).await;
            // Space came back.
            put(&store, shard_id(99), &[unit(1, 10)]).await.unwrap();
            put(&store, shard_id(98), &[unit(2, 50_000)]).await.unwrap();
            store.delete(vec![shard_id(99)]).await.unwrap();
            known.check(&store, &format!("{what}, in use again")).await;
            drop(store);
            let store = drive.open_after_drop().await;
            let report = store.recovery().clone();
            known.check(&store, &format!("{what}, opened again, {report:?}")).await;
            assert_eq!(get(&store, shard_id(98)).await.unwrap(), payload(&[unit(2, 50_000)]), "{what}");
            assert_eq!((report.damaged, report.lost), (vec![], vec![]), "{what}");
        }
        assert!(unsaid < 10, "{operation:?}: {unsaid} calls failed unsaid");
    }
}

#[tokio::test]
async fn a_device_smaller_than_the_capacity_is_full_and_not_broken() {
    let drive = SimDrive::formatted(SimDisk::new().with_capacity(400 << 10), 64 << 10);
    let store = drive.open().await;
    let mut stored = Vec::new();
    let refused = loop {
        let number = u8::try_from(stored.len()).unwrap();
        match put(&store, shard_id(number), &[unit(number.into(), 20_000)]).await {
            Ok(()) => stored.push(number),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full) && stored.len() > 5, "{refused:?}");
    assert_eq!(store.state(), DriveState::Ok);
    for number in &stored {
        assert_eq!(get(&store, shard_id(*number)).await.unwrap(), payload(&[unit((*number).into(), 20_000)]));
    }
    // Deletes are refused as well once the log has no room, but change nothing then.
    for number in 0..4 {
        match store.delete(vec![shard_id(number)]).await {
            Ok(()) => assert!(store.stat(shard_id(number)).await.unwrap().is_none()),
            Err(StoreError::Full) => assert!(store.stat(shard_id(number)).await.unwrap().is_some()),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.state(), DriveState::Ok);
    let _larger = drive.disk.clone().with_capacity(1 << 20);
    store.delete(stored.iter().copied().map(shard_id).collect()).await.unwrap();
    put(&store, shard_id(0), &[unit(9, 20_000)]).await.unwrap();
    drop(store);
    let store = drive.open_after_drop().await;
    assert_eq!(store.usage().shards, 1);
    assert_eq!(get(&store, shard_id(0)).await.unwrap(), payload(&[unit(9, 20_000)]));
}

#[tokio::test]
async fn lack_of_descriptors_is_overload() {
    let sim = SimDisk::new().with_cache(SimCache::Nothing);
    let drive = SimDrive::formatted(sim.clone(), 64 << 10);
    let starved = StarvedDisk::new(Arc::new(sim));
    let disk: Arc<dyn Disk> = Arc::new(starved.clone());
    let env = Env { disk, ..Env::real() };
    let open = async || DriveStore::open(&env, drive.dir(), IDENTITY, drive.options.clone()).await;
    let store = open().await.unwrap();
    put(&store, shard_id(1), &[unit(1, 100)]).await.unwrap();
    put(&store, shard_id(2), &[unit(2, 20_000)]).await.unwrap();
    store.close().await;

    starved.starve(true);
    open().await.unwrap_err();
    starved.starve(false);
    let store = open().await.unwrap();
    starved.starve(true);
    for number in [1, 2] {
        assert!(matches!(store.read(shard_id(number), 0..1).await, Err(StoreError::Overloaded)));
        assert!(matches!(store.stat(shard_id(number)).await, Err(StoreError::Overloaded)));
    }
    assert!(matches!(store.list(None, 10).await, Err(StoreError::Overloaded)), "not an empty drive");
    let refused = put(&store, shard_id(3), &[unit(3, 20_000)]).await;
    assert!(matches!(refused, Err(StoreError::Overloaded)), "{refused:?}");
    assert!(matches!(store.checkpoint().await, Err(StoreError::Overloaded)));
    assert_eq!(store.state(), DriveState::Ok);
    starved.starve(false);
    put(&store, shard_id(3), &[unit(3, 100)]).await.unwrap();
    put(&store, shard_id(4), &[unit(4, 20_000)]).await.unwrap();
    assert_eq!(store.list(None, 10).await.unwrap().len(), 4);
    drop(store);
    let store = drive.open_after_drop().await;
    for (number, len) in [(1, 100), (2, 20_000), (3, 100), (4, 20_000)] {
        let found = get(&store, shard_id(number)).await.unwrap();
        assert_eq!(found, payload(&[unit(number.into(), len)]));
    }
}

#[tokio::test]
async fn a_commit_in_progress_is_not_acknowledged_after_another_call_failed() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    put(&store, shard_id(1), &[unit(1, 100)]).await.unwrap();
    let gate = drive.hold(Operation::SyncFile, "log/");
    let units = [unit(4, 100)];
    let slow = put(&store, shard_id(4), &units);
    let failing = async {
        until("the slow commit waits in its flush", || gate.reached() == 1).await;
        drive.fail_from(Operation::Write, "extents/", 0, FaultKind::Eio);
        let mut writer = store.put(meta(shard_id(2))).await.unwrap();
        let refused = async {
            writer.append(unit(2, 300_000)).await?;
            writer.commit().await
        }
        .await;
        gate.open();
        refused
    };
    let (slow, refused) = tokio::join!(slow, failing);
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert!(matches!(slow, Err(StoreError::Failed(_))), "{slow:?}");
    drive.disk.faults().clear();
    assert_poisoned(&store, "after both").await;
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 100)]));
}

#[tokio::test]
async fn writers_begun_before_the_failure_fail_with_it() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let mut early = store.put(meta(shard_id(1))).await.unwrap();
    early.append(unit(1, 50_000)).await.unwrap();
    let small = store.put(meta(shard_id(2))).await.unwrap();
    let mut other = store.put(meta(shard_id(3))).await.unwrap();
    drive.fail_once(Operation::SyncFile, "log/", 0, FaultKind::Eio);
    let refused = put(&store, shard_id(4), &[unit(4, 10)]).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert!(matches!(early.commit().await, Err(StoreError::Failed(_))));
    assert!(matches!(small.commit().await, Err(StoreError::Failed(_))));
    let outcome = async {
        other.append(unit(5, 300_000)).await?;
        other.commit().await
    };
    assert!(matches!(outcome.await, Err(StoreError::Failed(_))));
    assert_eq!(store.usage().shards, 0);
}

#[tokio::test]
async fn a_shard_that_cannot_be_read_is_an_error_of_that_shard() {
    let drive = SimDrive::formatted(SimDisk::new().with_cache(SimCache::Nothing), 64 << 10);
    let store = drive.open().await;
    put(&store, shard_id(1), &[unit(1, 100)]).await.unwrap();
    // Enough to let the next one begin in another segment.
    for number in 10..30 {
        put(&store, shard_id(number), &[unit(number.into(), 6000)]).await.unwrap();
    }
    put(&store, shard_id(9), &[unit(9, 100)]).await.unwrap();
    put(&store, shard_id(8), &[unit(8, 30_000)]).await.unwrap();
    let (good, bad) = (store.locate(shard_id(1)).unwrap().path, store.locate(shard_id(9)).unwrap().path);
    assert_ne!(good, bad);

    drive.fail_from(Operation::Read, bad.to_str().unwrap(), 0, FaultKind::Eio);
    assert!(matches!(store.read(shard_id(9), 0..1).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.stat(shard_id(9)).await, Err(StoreError::Failed(_))));
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 100)]));
    let listed = store.list(None, 100).await.unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|stat| stat.meta.id != shard_id(9)), "the readable ones");
    assert_eq!(store.state(), DriveState::Ok);
    put(&store, shard_id(2), &[unit(2, 100)]).await.unwrap();
    drive.disk.faults().clear();

    // The record is there, its extents cannot be read.
    drive.fail_from(Operation::Read, "extents/", 0, FaultKind::Eio);
    assert!(matches!(store.read(shard_id(8), 0..1).await, Err(StoreError::Failed(_))));
    assert_eq!(store.stat(shard_id(8)).await.unwrap().unwrap().len, 30_000);
    assert_eq!(get(&store, shard_id(9)).await.unwrap(), payload(&[unit(9, 100)]));
    drive.disk.faults().clear();

    drive.fail_from(Operation::Read, "", 0, FaultKind::Eio);
    assert!(matches!(store.list(None, 100).await, Err(StoreError::Failed(_))), "not an empty drive");
    assert_eq!(store.state(), DriveState::Ok);
    drive.disk.faults().clear();
    assert_eq!(store.list(None, 100).await.unwrap().len(), 24);
    assert_eq!(get(&store, shard_id(8)).await.unwrap(), payload(&[unit(8, 30_000)]));
}

#[tokio::test]
async fn a_bit_that_flips_on_its_way_from_the_device_is_read_again() {
    let drive = SimDrive::formatted(SimDisk::new().with_cache(SimCache::Nothing), 64 << 10);
    let store = drive.open().await;
    for (number, len) in [(1, 100), (2, 30_000)] {
        put(&store, shard_id(number), &[unit(1, len)]).await.unwrap();
        for bit in (0..3000).step_by(101) {
            for nth in 0..2 {
                drive.fail_once(Operation::Read, "/drive", nth, FaultKind::BitFlip { bit });
                let read = get(&store, shard_id(number)).await.unwrap();
                assert_eq!(read, payload(&[unit(1, len)]));
                drive.disk.faults().clear();
            }
        }
    }
}

#[tokio::test]
async fn segments_that_cannot_be_read_when_the_drive_is_opened_cost_their_own_shards_only() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..30 {
        put(&store, shard_id(number), &[unit(number.into(), 5000)]).await.unwrap();
    }
    let bad = store.locate(shard_id(3)).unwrap().path;
    let on_bad: Vec<u8> =
        (0..30).filter(|number| store.locate(shard_id(*number)).unwrap().path == bad).collect();
    store.close().await;
    drive.fail_from(Operation::Read, bad.to_str().unwrap(), 0, FaultKind::Eio);
    let options = DriveOptions { readers: 1, ..drive.options.clone() };
    let store = SimDrive { options, ..drive.clone() }.open().await;
    drive.disk.drop_caches();
    for number in 0..30 {
        let read = get(&store, shard_id(number)).await;
        match on_bad.contains(&number) {
            true => assert!(matches!(read, Err(StoreError::Failed(_) | StoreError::Corrupt { .. }))),
            false => assert_eq!(read.unwrap(), payload(&[unit(number.into(), 5000)])),
        }
    }
    assert!(!on_bad.is_empty() && on_bad.len() < 30);
    put(&store, shard_id(3), &[unit(3, 5000)]).await.unwrap();
    assert_eq!(get(&store, shard_id(3)).await.unwrap(), payload(&[unit(3, 5000)]));
}
