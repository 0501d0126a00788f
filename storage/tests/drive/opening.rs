//! Which directories become drives, and which drives are opened.

use super::{
    fixture::{
        IDENTITY, SMALL_SEGMENTS, env, formatted, get, meta, open, payload, put, real_disk, shard_id, unit,
    },
    sim_drive::SimDrive,
};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::{
    Disk, SimDisk,
    disk::sim::{FaultKind, Operation, Survivors},
};
use ashlar_storage::{
    DriveIdentity, DriveOptions, DriveState, DriveStore, FormatOptions, OfflineDrive, OpenError, StoreError,
};
use ashlar_types::{ClusterId, DriveUuid};
use std::{fs, path::Path, sync::Arc};

const K: u64 = 1024;

#[tokio::test]
async fn an_absent_or_empty_directory_becomes_a_drive_once() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let dir = root.path().join("some/where");
    assert_eq!(DriveStore::identity(&disk, &dir).unwrap(), None);
    assert_eq!(DriveStore::identity(&disk, root.path()).unwrap(), None);
    assert!(matches!(open(&disk, &dir).await, Err(OpenError::NotFormatted { .. })));
    assert!(matches!(OfflineDrive::open(&disk, &dir), Err(OpenError::NotFormatted { .. })));

    let store = formatted(&disk, &dir).await;
    assert_eq!(DriveStore::identity(&disk, &dir).unwrap(), Some(IDENTITY));
    assert_eq!(store.state(), DriveState::Ok);
    store.close().await;
    let again = DriveStore::format(&disk, &dir, IDENTITY, SMALL_SEGMENTS);
    assert!(matches!(again, Err(OpenError::AlreadyFormatted { .. })), "{again:?}");
}

#[tokio::test]
async fn a_directory_with_other_files_is_left_alone() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    fs::write(root.path().join("holiday.jpg"), b"x").unwrap();
    for error in [
        DriveStore::format(&disk, root.path(), IDENTITY, SMALL_SEGMENTS).unwrap_err(),
        DriveStore::identity(&disk, root.path()).unwrap_err(),
        open(&disk, root.path()).await.unwrap_err(),
    ] {
        assert!(matches!(&error, OpenError::NotEmpty { name, .. } if name == "holiday.jpg"), "{error}");
    }
}

#[tokio::test]
async fn a_root_directory_as_mkfs_makes_it_becomes_a_drive() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    fs::create_dir(root.path().join("lost+found")).unwrap();
    let store = formatted(&disk, root.path()).await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
    store.close().await;
    assert_eq!(get(&open(&disk, root.path()).await.unwrap(), shard_id(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn segments_without_a_superblock_are_not_formatted_over() {
    let drive = SimDrive::new(64 * K);
    put(&drive.open().await, shard_id(1), &[unit(1, 10)]).await.unwrap();
    let drive = drive.killed();
    drive.unlink("superblock.a");
    drive.unlink("superblock.b");
    let disk = drive.shared_disk();
    let error = DriveStore::format(&disk, drive.dir(), IDENTITY, SMALL_SEGMENTS).unwrap_err();
    assert!(matches!(&error, OpenError::NotEmpty { name, .. } if name.starts_with("log/")), "{error}");
    assert!(matches!(drive.try_open().await, Err(OpenError::NotEmpty { .. })));
}

#[test]
fn segments_have_a_length_that_the_format_allows() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    for segment_bytes in [0, 4096, 60 * K, 64 * K + 512, 64 * K + 1, (1 << 30) + 4096, 1 << 31, u64::MAX] {
        let refused = DriveStore::format(&disk, Path::new("/d"), IDENTITY, FormatOptions { segment_bytes });
        assert!(
            matches!(refused, Err(OpenError::SegmentLength { segment_bytes: said }) if said == segment_bytes)
        );
        assert_eq!(DriveStore::identity(&disk, Path::new("/d")).unwrap(), None);
    }
    for segment_bytes in [64 * K, 68 * K, 1 << 30] {
        let dir = format!("/{segment_bytes}");
        DriveStore::format(&disk, Path::new(&dir), IDENTITY, FormatOptions { segment_bytes }).unwrap();
    }
}

#[test]
fn the_usual_segments_suit_the_capacity() {
    let chosen = |capacity, max| FormatOptions::for_capacity(capacity, max).segment_bytes;
    assert_eq!(chosen(0, 1 << 30), 4 << 20);
    assert_eq!(chosen(10 << 30, 1 << 30), 128 << 20);
    assert_eq!(chosen(10 << 30, 64 << 20), 64 << 20);
    assert_eq!(chosen(20 << 40, 1 << 30), 1 << 30);
    assert_eq!(chosen(20 << 40, u64::MAX), 1 << 30);
}

/// The directory after a crash is empty or a drive; it becomes one and works.
async fn finish_format(disk: SimDisk, what: &str) {
    let drive = SimDrive::on(disk);
    let disk = drive.shared_disk();
    match DriveStore::identity(&disk, drive.dir()).unwrap_or_else(|error| panic!("{what}: {error}")) {
        Some(identity) => {
            assert_eq!(identity, IDENTITY);
            let again = DriveStore::format(&disk, drive.dir(), IDENTITY, SMALL_SEGMENTS);
            assert!(matches!(again, Err(OpenError::AlreadyFormatted { .. })), "{what}");
        }
        None => DriveStore::format(&disk, drive.dir(), IDENTITY, FormatOptions { segment_bytes: 64 * K })
            .unwrap_or_else(|error| panic!("{what}: {error}")),
    }
    let store = drive.open().await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 10)]), "{what}");
    store.close().await;
}

#[tokio::test]
async fn a_format_cut_short_anywhere_can_be_repeated() {
    let drive = SimDrive::new(64 * K);
    let history = drive.disk.history();
    for end in 0..=history.events.len() {
        let subsets = 1_u64 << history.unsynced(end).min(5);
        let subsets = (0..subsets).map(Survivors::Subset);
        let torn = (0..4).map(|seed| Survivors::Random { seed });
        for survivors in subsets.chain(torn).chain([Survivors::All]) {
            let disk = SimDisk::with_image(history.crash(end, survivors));
            finish_format(disk, &format!("{end} events, {survivors:?}")).await;
        }
    }
    let done = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
    let found = DriveStore::identity(&(Arc::new(done) as Arc<dyn Disk>), drive.dir()).unwrap();
    assert_eq!(found, Some(IDENTITY), "a format that returned is durable");
}

#[tokio::test]
async fn a_format_that_failed_anywhere_can_be_repeated() {
    for operation in [Operation::Open, Operation::Write, Operation::SyncFile, Operation::SyncDir] {
        for nth in 0.. {
            let drive = SimDrive::on(SimDisk::new());
            drive.fail_from(operation, "", nth, FaultKind::Eio);
            let disk = drive.shared_disk();
            let options = FormatOptions { segment_bytes: 64 * K };
            let formatted = DriveStore::format(&disk, drive.dir(), IDENTITY, options);
            if drive.disk.faults().fired().is_empty() {
                formatted.unwrap();
                assert!(nth > 0);
                break;
            }
            assert!(matches!(formatted, Err(OpenError::Io { .. })), "{operation:?} {nth}: {formatted:?}");
            drive.disk.faults().clear();
            finish_format(drive.disk.clone(), &format!("{operation:?} {nth}")).await;
        }
    }
}

#[tokio::test]
async fn a_drive_of_another_cluster_or_in_another_place_is_refused() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    formatted(&disk, root.path()).await.close().await;
    let open_as = |expect| {
        let env = env(&disk);
        let dir = root.path().to_owned();
        async move { DriveStore::open(&env, &dir, expect, DriveOptions::default()).await.unwrap_err() }
    };
    let error = open_as(DriveIdentity { cluster: ClusterId(9), ..IDENTITY }).await;
    assert!(matches!(error, OpenError::OtherCluster { found: ClusterId(1), expected: ClusterId(9), .. }));
    assert!(error.to_string().contains("correct the path in `drives`"), "{error}");
    let error = open_as(DriveIdentity { drive: DriveUuid(9), ..IDENTITY }).await;
    assert!(matches!(error, OpenError::OtherDrive { found: DriveUuid(2), expected: DriveUuid(9), .. }));
    open(&disk, root.path()).await.unwrap();
}

/// A superblock of another version: the same beginning, its own length, a CRC at the end.
fn of_version(superblock: &[u8], version: u32, len: usize) -> Vec<u8> {
    let mut other = superblock.to_vec();
    other.resize(len - 8, 7);
    other[8..12].copy_from_slice(&version.to_le_bytes());
    other.extend(crc64nvme(&other).to_le_bytes());
    other
}

#[tokio::test]
async fn drives_of_other_formats_are_told_and_left_alone() {
    let formatted = SimDrive::new(64 * K);
    let sound = formatted.file("superblock.a");
    for (version, len) in [(3, 4096), (3, 512), (u32::MAX, 8192), (1, 4096)] {
        for name in ["superblock.a", "superblock.b"] {
            let drive = formatted.killed();
            drive.truncate(name, 0);
            drive.overwrite(&drive.path(name), &of_version(&sound, version, len), 0);
            let before = drive.disk.image();
            let disk = drive.shared_disk();
            for error in [
                drive.try_open().await.unwrap_err(),
                OfflineDrive::open(&disk, drive.dir()).unwrap_err(),
                DriveStore::identity(&disk, drive.dir()).unwrap_err(),
                DriveStore::format(&disk, drive.dir(), IDENTITY, SMALL_SEGMENTS).unwrap_err(),
            ] {
                let newer = matches!(error, OpenError::NewerFormat { supported: 2, .. });
                assert_eq!(newer, version > 2, "version {version} in {name}: {error}");
                let (OpenError::NewerFormat { found, .. } | OpenError::OlderFormat { found, .. }) = error
                else {
                    panic!("version {version} in {name}: {error}");
                };
                assert_eq!(found, version);
            }
            assert!(drive.disk.image() == before);
        }
    }
}

#[tokio::test]
async fn a_directory_of_format_1_is_told_and_left_alone() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    fs::write(root.path().join("superblock"), [b'x'; 56]).unwrap();
    fs::create_dir_all(root.path().join("shards/07")).unwrap();
    for error in [
        open(&disk, root.path()).await.unwrap_err(),
        DriveStore::identity(&disk, root.path()).unwrap_err(),
        DriveStore::format(&disk, root.path(), IDENTITY, SMALL_SEGMENTS).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::OlderFormat { found: 1, .. }), "{error}");
    }
    assert_eq!(fs::read(root.path().join("superblock")).unwrap(), [b'x'; 56]);
}

/// A drive with a shard, its superblocks written several times.
async fn used() -> SimDrive {
    let drive = SimDrive::new(64 * K);
    let store = drive.open().await;
    for _ in 0..3 {
        put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
        store.checkpoint().await.unwrap();
    }
    store.close().await;
    drive
}

#[tokio::test]
async fn both_superblocks_damaged_refuse_the_drive() {
    let drive = used().await;
    let sound = drive.file("superblock.a");
    let mut flipped = sound.clone();
    flipped[40] ^= 1;
    for damaged in [&sound[..20], &[], &[0; 4096], &flipped] {
        let drive = drive.killed();
        for name in ["superblock.a", "superblock.b"] {
            drive.truncate(name, 0);
            drive.overwrite(&drive.path(name), damaged, 0);
        }
        let error = drive.try_open().await.unwrap_err();
        assert!(matches!(error, OpenError::DamagedSuperblock { .. }), "{error}");
        let error = DriveStore::format(&drive.shared_disk(), drive.dir(), IDENTITY, SMALL_SEGMENTS);
        assert!(matches!(error, Err(OpenError::DamagedSuperblock { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn one_damaged_superblock_is_done_without_and_healed_by_the_next_checkpoint() {
    let used = used().await;
    for (name, other) in [("superblock.a", "superblock.b"), ("superblock.b", "superblock.a")] {
        for damage in ["missing", "empty", "short", "longer", "flipped", "zeros"] {
            let drive = used.killed();
            let path = drive.path(name);
            match damage {
                "missing" => drive.unlink(name),
                "empty" => drive.truncate(name, 0),
                "short" => drive.truncate(name, 1000),
                "longer" => drive.truncate(name, 5000),
                "flipped" => drive.flip(&path, 57, 1),
                _ => drive.overwrite(&path, &[0; 4096], 0),
            }
            let store = drive.open().await;
            assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 10)]));
            assert!(store.recovery().checkpoint.is_some() && !store.recovery().rebuilt);
            put(&store, shard_id(2), &[unit(2, 10)]).await.unwrap();
            store.checkpoint().await.unwrap();
            store.close().await;

            // The healed one is enough.
            drive.overwrite(&drive.path(other), &[0; 4096], 0);
            let opened = drive.try_open().await;
            let store = opened.unwrap_or_else(|error| panic!("{damage} {name} was not healed: {error}"));
            assert_eq!(get(&store, shard_id(2)).await.unwrap(), payload(&[unit(2, 10)]));
        }
    }
}

#[tokio::test]
async fn a_drive_is_open_once_at_a_time() {
    for disk in [real_disk(), Arc::new(SimDisk::new()) as Arc<dyn Disk>] {
        let root = tempfile::tempdir().unwrap();
        let first = formatted(&disk, root.path()).await;
        assert!(matches!(open(&disk, root.path()).await, Err(OpenError::Locked { .. })));
        assert!(matches!(OfflineDrive::open(&disk, root.path()), Err(OpenError::Locked { .. })));
        let writer = first.put(meta(shard_id(1))).await.unwrap();
        drop(first);
        assert!(
            matches!(open(&disk, root.path()).await, Err(OpenError::Locked { .. })),
            "a writer keeps the drive"
        );
        drop(writer);
        let offline = loop {
            match OfflineDrive::open(&disk, root.path()) {
                Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        assert!(matches!(open(&disk, root.path()).await, Err(OpenError::Locked { .. })));
        drop(offline);
        open(&disk, root.path()).await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_store_refuses_through_every_clone_and_frees_the_directory() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
    let clone = store.clone();
    let mut unfinished = store.put(meta(shard_id(2))).await.unwrap();
    for seed in 0..5 {
        unfinished.append(unit(seed, 100_000)).await.unwrap();
    }
    store.close().await;

    assert!(matches!(clone.read(shard_id(1), 0..1).await, Err(StoreError::Closed)));
    assert!(matches!(clone.put(meta(shard_id(3))).await, Err(StoreError::Closed)));
    assert!(matches!(clone.delete(vec![shard_id(1)]).await, Err(StoreError::Closed)));
    assert!(matches!(clone.list(None, 1).await, Err(StoreError::Closed)));
    assert!(matches!(clone.checkpoint().await, Err(StoreError::Closed)));
    assert!(matches!(clone.reclaim().await, Err(StoreError::Closed)));
    assert!(matches!(unfinished.commit().await, Err(StoreError::Closed)));

    let store = open(&disk, root.path()).await.unwrap();
    clone.clone().close().await;
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 10)]));
    assert_eq!((store.usage().shards, clone.usage().shards), (1, 1));
}

#[tokio::test]
async fn what_is_not_of_the_drive_is_left_alone() {
    let used = used().await;
    let strays = ["log/README", "log/0000000000000001.SEG", "extents/1.seg", "index/notes.ckpt", "notes"];
    for stray in strays {
        used.overwrite(&used.path(stray), b"x", 0);
    }
    let store = used.open().await;
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1);
    assert_eq!((store.recovery().lost.len(), store.recovery().damaged.len()), (0, 0));
    store.delete(vec![shard_id(1)]).await.unwrap();
    store.checkpoint().await.unwrap();
    store.reclaim().await.unwrap();
    store.close().await;
    for stray in strays {
        assert_eq!(used.file(stray), b"x", "{stray}");
    }
}

#[tokio::test]
async fn a_superblock_that_was_refused_is_written_again_and_not_over_the_other() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    put(&store, shard_id(1), &[unit(1, 100)]).await.unwrap();
    let sound = drive.file("superblock.b");
    drive.fail_once(Operation::Write, "superblock", 0, FaultKind::Enospc);
    assert!(matches!(store.checkpoint().await, Err(StoreError::Full)));
    store.checkpoint().await.unwrap();
    assert!(drive.file("superblock.b") == sound, "the only sound one was written over");
    store.checkpoint().await.unwrap();
    assert!(drive.file("superblock.b") != sound, "they are written in turn");
    store.close().await;
    assert_eq!(drive.offline().ids(), [shard_id(1)]);
}
