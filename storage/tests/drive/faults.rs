//! A device that fails: nothing is acknowledged that is not durable, and what verifies is still read.

use super::{
    faulty_disk::{Call, FaultyDisk},
    fixture::{formatted, get, meta, open, payload, put, real_disk, shard_id, unit},
};
use ashlar_runtime::Disk;
use ashlar_storage::{DriveState, DriveStore, StoreError};
use std::{
    fs, io,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// For what happens at once unless the code is broken.
const DEADLINE: Duration = Duration::from_secs(10);

struct Faulty {
    root: tempfile::TempDir,
    faults: FaultyDisk,
    disk: Arc<dyn Disk>,
}

/// A drive that has shard 1.
async fn drive() -> (Faulty, DriveStore) {
    let root = tempfile::tempdir().unwrap();
    let faults = FaultyDisk::new(real_disk());
    let disk: Arc<dyn Disk> = Arc::new(faults.clone());
    let store = formatted(&disk, root.path()).await;
    put(&store, shard_id(1), &[unit(1, 100)]).await.unwrap();
    (Faulty { root, faults, disk }, store)
}

async fn assert_failed(store: &DriveStore) {
    assert!(matches!(store.state(), DriveState::Failed { .. }));
    assert!(matches!(store.put(meta(shard_id(3))).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.delete(vec![shard_id(1)]).await, Err(StoreError::Failed(_))));
    assert_eq!(get(store, shard_id(1)).await.unwrap(), payload(&[unit(1, 100)]), "reads go on");
}

#[tokio::test]
async fn a_failed_write_or_flush_ends_all_acknowledgements_until_the_drive_is_opened_again() {
    for call in [Call::Create, Call::Write, Call::SyncData, Call::Rename, Call::SyncDir] {
        let (faulty, store) = drive().await;
        let mut earlier = store.put(meta(shard_id(4))).await.unwrap();
        earlier.append(unit(4, 300_000)).await.unwrap();
        let mut other = store.put(meta(shard_id(5))).await.unwrap();

        faulty.faults.fail(call, EIO);
        let refused = put(&store, shard_id(2), &[unit(2, 100)]).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{call:?}: {refused:?}");
        assert_failed(&store).await;

        faulty.faults.heal();
        assert_failed(&store).await;
        assert!(matches!(earlier.commit().await, Err(StoreError::Failed(_))), "{call:?}");
        assert!(matches!(other.append(unit(5, 300_000)).await, Err(StoreError::Failed(_))), "{call:?}");
        drop(other);
        store.close().await;

        let store = open(&faulty.disk, faulty.root.path()).await.unwrap();
        assert_eq!(store.state(), DriveState::Ok);
        assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(1, 100)]));
        assert!(store.stat(shard_id(4)).await.unwrap().is_none());
        // Only a rename whose directory was not flushed may have happened.
        assert!(call == Call::SyncDir || store.stat(shard_id(2)).await.unwrap().is_none(), "{call:?}");
        put(&store, shard_id(2), &[unit(2, 100)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_delete_ends_all_acknowledgements() {
    for call in [Call::Unlink, Call::SyncDir] {
        let (faulty, store) = drive().await;
        put(&store, shard_id(9), &[unit(9, 100)]).await.unwrap();
        faulty.faults.fail(call, EIO);
        assert!(matches!(store.delete(vec![shard_id(9)]).await, Err(StoreError::Failed(_))), "{call:?}");
        assert_failed(&store).await;
    }
}

#[tokio::test]
async fn a_commit_in_progress_is_not_acknowledged_after_another_one_failed() {
    let (faulty, store) = drive().await;
    let (reached, is_reached) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (reached, released) = (Mutex::new(reached), Mutex::new(released));
    faulty.faults.hook(move |call, path| {
        // The slow shard waits in its directory flush until the other one has failed.
        if call == Call::SyncDir && path.ends_with("28") {
            reached.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        if call == Call::SyncData && is_large(path) { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    });
    let mut slow_id = shard_id(0);
    slow_id.chunk.blob.0 = 0x28 << 120;
    let units = [unit(4, 100)];
    let slow = put(&store, slow_id, &units);
    let failing = async {
        // The runtime has one thread, so the wait must not hold it while the other future has not begun.
        let begun = ashlar_runtime::Pool::new(&ashlar_runtime::Tasks::real(), "wait", 1, 1);
        begun.run(move || is_reached.recv_timeout(DEADLINE).unwrap()).await.unwrap();
        let mut last = store.put(meta(shard_id(2))).await.unwrap();
        last.append(unit(2, 300_000)).await.unwrap();
        let refused = last.commit().await;
        release.send(()).unwrap();
        refused
    };
    let (slow, refused) = tokio::join!(slow, failing);
    assert!(matches!(refused, Err(StoreError::Failed(_))));
    assert!(matches!(slow, Err(StoreError::Failed(_))), "{slow:?}");
}

/// Unfinished writes have no telling names, but the failing one has a telling length.
fn is_large(path: &std::path::Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 300_000)
}

#[tokio::test]
async fn lack_of_space_refuses_the_shard_and_not_the_drive() {
    for call in [Call::Create, Call::Write, Call::SyncData, Call::Rename] {
        let (faulty, store) = drive().await;
        faulty.faults.fail(call, ENOSPC);
        let refused = put(&store, shard_id(2), &[unit(2, 100)]).await;
        assert!(matches!(refused, Err(StoreError::Full)), "{call:?}: {refused:?}");
        let mut writer = store.put(meta(shard_id(1))).await.unwrap();
        let appended = writer.append(unit(3, 300_000)).await;
        let committed = writer.commit().await;
        assert!(matches!(committed, Err(StoreError::Full)), "{call:?}: {appended:?}, {committed:?}");
        assert_eq!(store.state(), DriveState::Ok);
        assert_eq!(
            get(&store, shard_id(1)).await.unwrap(),
            payload(&[unit(1, 100)]),
            "the former shard stays"
        );

        store.delete(vec![shard_id(1)]).await.unwrap();
        faulty.faults.heal();
        put(&store, shard_id(2), &[unit(2, 100)]).await.unwrap();
        assert_eq!(get(&store, shard_id(2)).await.unwrap(), payload(&[unit(2, 100)]));
        store.close().await;
        assert_eq!(fs::read_dir(faulty.root.path().join("tmp")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn lack_of_space_after_the_name_changed_is_a_failure() {
    let (faulty, store) = drive().await;
    faulty.faults.fail(Call::SyncDir, ENOSPC);
    assert!(matches!(put(&store, shard_id(2), &[unit(2, 100)]).await, Err(StoreError::Failed(_))));
    assert_failed(&store).await;
}

#[tokio::test]
async fn lack_of_descriptors_is_overload() {
    let (faulty, store) = drive().await;
    faulty.faults.fail(Call::Create, EMFILE);
    assert!(matches!(put(&store, shard_id(2), &[unit(2, 100)]).await, Err(StoreError::Overloaded)));
    faulty.faults.fail(Call::Open, EMFILE);
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::Overloaded)));
    assert!(matches!(store.list(None, 10).await, Err(StoreError::Overloaded)));
    assert_eq!(store.state(), DriveState::Ok);
}

#[tokio::test]
async fn a_shard_that_cannot_be_read_is_an_error_of_that_shard() {
    let (faulty, store) = drive().await;
    put(&store, shard_id(9), &[unit(9, 100)]).await.unwrap();
    let bad = store.locate(shard_id(9)).unwrap().path;
    faulty.faults.hook(move |call, path| {
        if call == Call::Read && path == bad { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    });
    assert!(matches!(store.read(shard_id(9), 0..1).await, Err(StoreError::Failed(_))));
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1, "the readable one");
    assert_eq!(store.state(), DriveState::Ok);
    put(&store, shard_id(2), &[unit(2, 100)]).await.unwrap();

    faulty.faults.fail(Call::Read, EIO);
    assert!(matches!(store.list(None, 10).await, Err(StoreError::Failed(_))), "not an empty drive");
}
