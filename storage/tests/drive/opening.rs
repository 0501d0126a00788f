//! Which directories become drives, and which drives are opened.

use super::fixture::{
    IDENTITY, SMALL_SEGMENTS, env, formatted, get, meta, open, payload, put, real_disk, shard_id, unit,
};
use ashlar_hashing::crc64nvme;
use ashlar_storage::{DriveIdentity, DriveOptions, DriveState, DriveStore, OpenError, StoreError};
use ashlar_types::{ClusterId, DriveUuid};
use std::fs;

#[tokio::test]
async fn an_absent_or_empty_directory_becomes_a_drive_once() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let dir = root.path().join("some/where");
    assert_eq!(DriveStore::identity(&disk, &dir).unwrap(), None);
    assert_eq!(DriveStore::identity(&disk, root.path()).unwrap(), None);
    assert!(matches!(open(&disk, &dir).await, Err(OpenError::NotFormatted { .. })));

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
    ] {
        assert!(matches!(&error, OpenError::NotEmpty { name, .. } if name == "holiday.jpg"), "{error}");
    }
}

#[tokio::test]
async fn shards_without_a_superblock_are_not_formatted_over() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
    store.close().await;
    fs::remove_file(root.path().join("superblock")).unwrap();
    let error = DriveStore::format(&disk, root.path(), IDENTITY, SMALL_SEGMENTS).unwrap_err();
    assert!(matches!(&error, OpenError::NotEmpty { name, .. } if name.starts_with("shards/00/")), "{error}");
}

#[tokio::test]
async fn an_interrupted_format_can_be_repeated() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    fs::create_dir_all(root.path().join("shards/07")).unwrap();
    fs::create_dir_all(root.path().join("lost+found")).unwrap();
    fs::create_dir_all(root.path().join("tmp")).unwrap();
    fs::write(root.path().join("tmp/superblock"), [b'x'; 100]).unwrap();
    assert_eq!(DriveStore::identity(&disk, root.path()).unwrap(), None);
    let store = formatted(&disk, root.path()).await;
    put(&store, shard_id(1), &[unit(1, 10)]).await.unwrap();
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
}

#[tokio::test]
async fn newer_and_damaged_superblocks_are_told_apart() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    formatted(&disk, root.path()).await.close().await;
    let path = root.path().join("superblock");
    let sound = fs::read(&path).unwrap();

    let mut newer = sound[..48].to_vec();
    newer[8] = 2;
    newer.extend(crc64nvme(&newer).to_le_bytes());
    fs::write(&path, &newer).unwrap();
    let error = open(&disk, root.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 2, supported: 1, .. }), "{error}");

    for damaged in [&sound[..20], &[], &[0; 56]] {
        fs::write(&path, damaged).unwrap();
        let error = open(&disk, root.path()).await.unwrap_err();
        assert!(matches!(error, OpenError::DamagedSuperblock { .. }), "{error}");
        let error = DriveStore::format(&disk, root.path(), IDENTITY, SMALL_SEGMENTS).unwrap_err();
        assert!(matches!(error, OpenError::DamagedSuperblock { .. }), "{error}");
    }
    fs::write(&path, &sound).unwrap();
    open(&disk, root.path()).await.unwrap();
}

#[tokio::test]
async fn a_drive_is_open_once_at_a_time() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let first = formatted(&disk, root.path()).await;
    assert!(matches!(open(&disk, root.path()).await, Err(OpenError::Locked { .. })));
    let writer = first.put(meta(shard_id(1))).await.unwrap();
    drop(first);
    assert!(
        matches!(open(&disk, root.path()).await, Err(OpenError::Locked { .. })),
        "a writer keeps the drive"
    );
    drop(writer);
    open(&disk, root.path()).await.unwrap();
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
    assert!(matches!(unfinished.commit().await, Err(StoreError::Closed)));
    clone.clone().close().await;

    let store = open(&disk, root.path()).await.unwrap();
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 10)]));
    assert_eq!((store.usage().shards, clone.usage().shards), (1, 1));
}

#[tokio::test]
async fn what_is_not_a_shard_is_neither_listed_nor_touched() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    formatted(&disk, root.path()).await.close().await;
    let stray = root.path().join("shards/00/README");
    // The name of a shard that belongs to another directory.
    let misplaced = root.path().join("shards/00/ff0000000000000000000000000000ab.1.2");
    fs::write(&stray, b"x").unwrap();
    fs::write(&misplaced, b"x").unwrap();
    let store = open(&disk, root.path()).await.unwrap();
    assert!(store.list(None, 10).await.unwrap().is_empty() && store.damaged().is_empty());
    assert!(stray.exists() && misplaced.exists());
}
