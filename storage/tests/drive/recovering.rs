//! What opening reads, and what it says of that.

use super::{
    fixture::{get, payload, put, shard_id, unit, units, until},
    sim_drive::SimDrive,
};
use ashlar_runtime::disk::sim::{Change, Event};
use ashlar_storage::{Housekeeping, OfflineDrive, RecoveryReport};

const K: u64 = 1024;

/// Without the time it took.
fn report(report: &RecoveryReport) -> RecoveryReport {
    RecoveryReport { took: std::time::Duration::ZERO, ..report.clone() }
}

#[tokio::test]
async fn a_new_drive_has_nothing_to_recover() {
    let drive = SimDrive::new(64 * K);
    assert_eq!(report(drive.open().await.recovery()), RecoveryReport::default());
}

#[tokio::test]
async fn after_a_clean_close_nothing_is_read_again() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for number in 0..30 {
        put(&store, shard_id(number), &[unit(number.into(), 3000)]).await.unwrap();
    }
    put(&store, shard_id(40), &[unit(40, 50_000)]).await.unwrap();
    store.close().await;
    let store = drive.open().await;
    let expected = RecoveryReport { checkpoint: Some(1), ..RecoveryReport::default() };
    assert_eq!(report(store.recovery()), expected);
    assert_eq!(store.usage().shards, 31);
    // Nothing happened, so there is nothing to write either.
    store.close().await;
    assert_eq!(report(drive.open().await.recovery()), expected);
}

#[tokio::test]
async fn after_a_drop_the_log_behind_the_checkpoint_is_read_and_no_more() {
    let mut replayed = Vec::new();
    for before in [0_u8, 100, 200] {
        let drive = SimDrive::new(64 * K);
        let store = drive.open().await;
        for number in 0..before {
            put(&store, shard_id(number), &[unit(1, 1000)]).await.unwrap();
        }
        store.checkpoint().await.unwrap();
        for number in 200..240 {
            put(&store, shard_id(number), &units(2, &[1000, 17])).await.unwrap();
        }
        store.delete(vec![shard_id(200), shard_id(201), shard_id(255)]).await.unwrap();
        drop(store);
        let store = drive.open_after_drop().await;
        let report = report(store.recovery());
        // One record for each put and for each delete of a shard that was there.
        assert_eq!((report.checkpoint, report.replayed_records), (Some(1), 42), "{report:?}");
        assert!(!report.torn_tail && !report.rebuilt && report.damaged.is_empty() && report.lost.is_empty());
        assert_eq!(store.usage().shards, u64::from(before) + 38);
        replayed.push(report.replayed_bytes);
    }
    // 41 batches of one block each: 40 puts, one by one, and the delete.
    assert_eq!(replayed, [41 * 4096; 3]);
}

#[tokio::test]
async fn without_any_checkpoint_all_of_the_log_is_read() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for number in 0..100 {
        put(&store, shard_id(number), &[unit(number.into(), 1000)]).await.unwrap();
    }
    drop(store);
    let store = drive.open_after_drop().await;
    let expected =
        RecoveryReport { replayed_records: 100, replayed_bytes: 100 * 4096, ..RecoveryReport::default() };
    assert_eq!(report(store.recovery()), expected);
    assert_eq!(get(&store, shard_id(99)).await.unwrap(), payload(&[unit(99, 1000)]));
}

#[tokio::test]
async fn opening_changes_nothing_and_can_be_repeated() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for number in 0..60 {
        put(&store, shard_id(number % 20), &[unit(number.into(), 2000 * usize::from(number % 7))])
            .await
            .unwrap();
        if number == 30 {
            store.checkpoint().await.unwrap();
        }
    }
    let killed = drive.killed();
    let before = killed.disk.image();
    let mut first = None;
    for _ in 0..3 {
        let store = killed.open_after_drop().await;
        let offline = killed.killed().offline();
        assert_eq!(report(offline.recovery()), report(store.recovery()));
        assert_eq!(&report(store.recovery()), first.get_or_insert_with(|| report(store.recovery())));
        drop(store);
        killed.open_after_drop().await;
    }
    let changes =
        |event: &&Event| matches!(event, Event::Change(Change::Write { .. } | Change::Unlink { .. }));
    assert_eq!(killed.disk.history().events.iter().filter(changes).count(), 0);
    assert!(killed.disk.image() == before);
}

#[tokio::test]
async fn damage_in_the_last_batch_cannot_be_told_from_a_torn_tail_and_is_said_to_be_one() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for number in 0..3 {
        put(&store, shard_id(number), &[unit(number.into(), 1000)]).await.unwrap();
    }
    let last = store.locate(shard_id(2)).unwrap();
    let killed = drive.killed();
    killed.damage(&last, 500);
    let store = killed.open().await;
    let expected = RecoveryReport {
        replayed_records: 2,
        replayed_bytes: 2 * 4096,
        torn_tail: true,
        ..RecoveryReport::default()
    };
    assert_eq!(report(store.recovery()), expected);
    assert_eq!(store.stat(shard_id(2)).await.unwrap(), None);
    // The log goes on over it.
    put(&store, shard_id(3), &[unit(3, 1000)]).await.unwrap();
    drop(store);
    let store = killed.open_after_drop().await;
    assert_eq!((store.recovery().replayed_records, store.recovery().torn_tail), (3, false));
    assert_eq!(get(&store, shard_id(3)).await.unwrap(), payload(&[unit(3, 1000)]));
}

#[tokio::test]
async fn checkpoints_are_written_unasked_so_that_little_is_left_to_read() {
    let mut drive = SimDrive::new(64 * K);
    drive.options.housekeeping = Housekeeping::Background;
    drive.options.checkpoint_bytes = 128 * K;
    let store = drive.open().await;
    let checkpoints = || drive.names("index").iter().filter(|name| name.ends_with(".ckpt")).count();
    for number in 0..200 {
        put(&store, shard_id(number % 50), &[unit(number.into(), 3000)]).await.unwrap();
    }
    until("two checkpoints", || checkpoints() == 2).await;
    drop(store);
    let store = drive.open_after_drop().await;
    let report = report(store.recovery());
    assert!(report.checkpoint >= Some(2) && report.replayed_bytes < 150 * 4096, "{report:?}");
    assert_eq!(store.usage().shards, 50);
    let latest = (150..200_u8).map(|number| (shard_id(number % 50), unit(number.into(), 3000)));
    for (id, unit) in latest {
        assert_eq!(get(&store, id).await.unwrap(), payload(&[unit]));
    }
}

#[tokio::test]
async fn the_newest_two_checkpoints_are_kept() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for number in 0..6 {
        put(&store, shard_id(number), &[unit(1, 10)]).await.unwrap();
        store.checkpoint().await.unwrap();
    }
    store.close().await;
    assert_eq!(drive.names("index"), ["index/0000000000000005.ckpt", "index/0000000000000006.ckpt"]);
    let offline: OfflineDrive = drive.offline();
    assert_eq!((offline.superblock().checkpoint, offline.superblock().generation), (6, 8));
}

#[tokio::test]
async fn a_draft_that_a_crash_left_is_in_nobodys_way() {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
    store.close().await;
    for name in ["index/0000000000000002.tmp", "log/0000000000000009.seg"] {
        drive.overwrite(&drive.path(name), &[b'x'; 10_000], 0);
    }
    let store = drive.open().await;
    put(&store, shard_id(2), &[unit(2, 10)]).await.unwrap();
    store.checkpoint().await.unwrap();
    store.reclaim().await.unwrap();
    assert_eq!(drive.names("index"), ["index/0000000000000001.ckpt", "index/0000000000000002.ckpt"]);
    assert!(!drive.names("log").contains(&"log/0000000000000009.seg".to_owned()), "a half-made segment");
    store.close().await;
    assert_eq!(get(&drive.open().await, shard_id(2)).await.unwrap(), payload(&[unit(2, 10)]));
}
