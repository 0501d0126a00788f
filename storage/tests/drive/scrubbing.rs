//! Scrubbing and listing: everything is looked at, once, in order.

use super::{
    fixture::{meta, put, shard_id, unit, units},
    sim_drive::SimDrive,
};
use ashlar_runtime::{
    Clock, SimDisk,
    clock::Sleep,
    disk::sim::{FaultKind, Operation, SimCache},
};
use ashlar_storage::{CorruptUnit, DriveStore, ScrubLimits, ScrubPage, StoreError};
use ashlar_types::{ShardId, Timestamp};
use futures_util::future::join_all;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

const ALL: ScrubLimits = ScrubLimits { bytes_per_second: 0, bytes: u64::MAX };

/// Time passes only while somebody sleeps.
#[derive(Clone, Debug, Default)]
struct SleepClock(Arc<Mutex<Duration>>);

impl SleepClock {
    fn slept(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

impl Clock for SleepClock {
    fn monotonic(&self) -> Duration {
        self.slept()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        *self.0.lock().unwrap() += duration;
        Box::pin(std::future::ready(()))
    }
}

/// Shards of one unit of 1000 bytes below 100, and from 100 on large ones of three units.
async fn filled() -> (SimDrive, DriveStore) {
    let drive = SimDrive::formatted(SimDisk::new().with_cache(SimCache::Nothing), 64 << 10);
    let store = drive.open().await;
    for number in 0..100 {
        put(&store, shard_id(number), &[unit(number.into(), 1000)]).await.unwrap();
    }
    for number in 100..120 {
        put(&store, shard_id(number), &units(number.into(), &[4000, 4000, 4000])).await.unwrap();
    }
    (drive, store)
}

async fn scrub_all(store: &DriveStore, limits: ScrubLimits) -> (ScrubPage, usize) {
    let mut sum = ScrubPage::default();
    let mut pages = 0;
    loop {
        let page = store.scrub(sum.next, limits).await.unwrap();
        pages += 1;
        assert!(page.next.is_none() || page.next > sum.next, "it goes on");
        sum.next = page.next;
        sum.shards += page.shards;
        sum.units += page.units;
        sum.bytes += page.bytes;
        sum.corrupt.extend(page.corrupt);
        sum.unreadable.extend(page.unreadable);
        if page.next.is_none() {
            return (sum, pages);
        }
        assert!(page.bytes >= limits.bytes);
    }
}

#[tokio::test]
async fn a_sound_drive_is_read_once_whole_whatever_the_pages() {
    let (_drive, store) = filled().await;
    let (once, pages) = scrub_all(&store, ALL).await;
    assert_eq!((once.shards, once.units, pages), (120, 100 + 60, 1));
    assert!(once.bytes >= 100 * 1000 + 20 * 12_000 && once.bytes < 450_000, "{once:?}");
    assert!(once.corrupt.is_empty() && once.unreadable.is_empty());
    for bytes in [1, 20_000, 100_000] {
        let (paged, pages) = scrub_all(&store, ScrubLimits { bytes, ..ALL }).await;
        assert_eq!((&paged, pages > 1), (&once, true));
    }
    let empty = SimDrive::new(64 << 10);
    assert_eq!(empty.open().await.scrub(None, ALL).await.unwrap(), ScrubPage::default());
}

#[tokio::test]
async fn planted_damage_is_found_and_named() {
    let (drive, store) = filled().await;
    // Warm copies must not hide what the device has.
    store.list(None, 1000).await.unwrap();
    let place = |number| store.locate(shard_id(number)).unwrap();
    drive.damage(&place(7), 999);
    drive.damage(&place(42), 0);
    drive.flip(&place(50).path, place(50).offset - 20, 1);
    drive.damage(&place(110), 4000);
    drive.damage(&place(115), 11_999);
    let corrupt = |number, unit| CorruptUnit { shard: shard_id(number), unit };
    let expected = [corrupt(7, 0), corrupt(42, 0), corrupt(50, 0), corrupt(110, 1), corrupt(115, 2)];
    for bytes in [u64::MAX, 1] {
        let (found, _) = scrub_all(&store, ScrubLimits { bytes, ..ALL }).await;
        assert_eq!((&found.corrupt[..], found.shards), (&expected[..], 120));
    }
    // A page begins behind its cursor.
    let rest = store.scrub(Some(shard_id(42)), ALL).await.unwrap();
    assert_eq!(rest.corrupt, expected[2..]);
    // The same offline.
    store.close().await;
    let offline = drive.offline();
    let mut last = None;
    let verified = offline.verify(&mut |progress| last = Some(progress));
    assert_eq!((verified.corrupt, verified.shards), (expected.to_vec(), 120));
    let last = last.unwrap();
    assert_eq!((last.shards, last.shards_total), (120, 120));
    drop(offline);

    let store = drive.open().await;
    for number in [7, 42, 50, 110, 115] {
        put(&store, shard_id(number), &[unit(1, 5)]).await.unwrap();
    }
    assert!(scrub_all(&store, ALL).await.0.corrupt.is_empty(), "repaired");
}

#[tokio::test]
async fn what_the_device_does_not_read_is_named_apart() {
    let (drive, store) = filled().await;
    let bad = store.locate(shard_id(110)).unwrap().path;
    drive.fail_from(Operation::Read, bad.to_str().unwrap(), 0, FaultKind::Eio);
    let (found, _) = scrub_all(&store, ALL).await;
    assert!(found.unreadable.contains(&shard_id(110)) && found.unreadable.len() < 10, "{found:?}");
    assert!(found.corrupt.is_empty() && found.shards == 120);
    drive.disk.faults().clear();
    assert!(scrub_all(&store, ALL).await.0.unreadable.is_empty());
}

#[tokio::test]
async fn the_pace_is_kept() {
    let clock = SleepClock::default();
    let (drive, store) = filled().await;
    store.close().await;
    let drive = SimDrive { clock: Some(Arc::new(clock.clone())), ..drive };
    let store = drive.open().await;
    let whole = store.scrub(None, ALL).await.unwrap();
    assert_eq!(clock.slept(), Duration::ZERO, "as fast as it goes");
    let limits = ScrubLimits { bytes_per_second: 10_000, ..ALL };
    let paced = store.scrub(None, limits).await.unwrap();
    assert_eq!(paced, whole);
    let due = whole.bytes as f64 / 10_000.0;
    let slept = clock.slept().as_secs_f64();
    // What was read last need not be waited for.
    assert!(slept > due * 0.7 && slept <= due + 0.001, "{slept} s for {} bytes", whole.bytes);
}

#[tokio::test]
async fn a_scrub_beside_changes_and_compaction_finds_no_damage() {
    let (_drive, store) = filled().await;
    let changes = async {
        for round in 0..6_u8 {
            let puts = (0..30).map(|number| {
                let store = store.clone();
                async move {
                    let id = shard_id(number * 4 + round % 4);
                    if number % 3 == 0 {
                        store.delete(vec![id]).await.unwrap();
                    } else {
                        put(&store, id, &units(number.into(), &[usize::from(number) * 500])).await.unwrap();
                    }
                }
            });
            join_all(puts).await;
            store.reclaim().await.unwrap();
        }
    };
    let scrubs = async {
        for _ in 0..20 {
            let (found, _) = scrub_all(&store, ScrubLimits { bytes: 30_000, ..ALL }).await;
            assert!(found.corrupt.is_empty() && found.unreadable.is_empty(), "{found:?}");
        }
    };
    tokio::join!(changes, scrubs);
}

#[tokio::test]
async fn lists_are_in_order_and_keep_what_does_not_change() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let stable: BTreeSet<ShardId> = (0..=255).filter(|number| number % 2 == 0).map(shard_id).collect();
    for result in join_all(stable.iter().map(|id| put(&store, *id, &[]))).await {
        result.unwrap();
    }
    let changes = async {
        for round in 0..10_u8 {
            let puts = (0..128).filter(|number| number % 10 != round).map(|number| {
                let store = store.clone();
                async move {
                    let id = shard_id(number * 2 + 1);
                    if (number + round) % 3 == 0 {
                        store.delete(vec![id]).await.unwrap();
                    } else {
                        put(&store, id, &[unit(1, 10)]).await.unwrap();
                    }
                }
            });
            join_all(puts).await;
            store.reclaim().await.unwrap();
        }
    };
    let lists = async {
        for limit in [1, 7, 100, 1000, 13, 29] {
            let mut seen = Vec::new();
            loop {
                let page = store.list(seen.last().copied(), limit).await.unwrap();
                assert!(page.len() <= limit && page.iter().all(|stat| stat.meta == meta(stat.meta.id)));
                seen.extend(page.iter().map(|stat| stat.meta.id));
                if page.is_empty() {
                    break;
                }
            }
            assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
            assert!(stable.iter().all(|id| seen.binary_search(id).is_ok()), "none left out");
        }
    };
    tokio::join!(changes, lists);
    assert_eq!(store.list(None, 0).await.unwrap(), []);
    assert_eq!(store.list(Some(shard_id(255)), 10).await.unwrap(), []);
    let first = store.list(None, 1).await.unwrap();
    assert_eq!(first[0].meta.id, shard_id(0));
    store.clone().close().await;
    assert!(matches!(store.scrub(None, ALL).await, Err(StoreError::Closed)));
}
