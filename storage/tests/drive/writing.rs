//! Writers: admission, back pressure, cancellation, concurrency.

use super::{
    faulty_disk::{Call, FaultyDisk},
    fixture::{IDENTITY, SMALL_SEGMENTS, env, formatted, get, meta, payload, put, real_disk, shard_id, unit},
};
use ashlar_runtime::Disk;
use ashlar_storage::{DriveOptions, DriveStore, StoreError, UNIT_MAX_LEN};
use futures_util::{FutureExt, future::join_all};
use std::{
    fs,
    sync::{Arc, Mutex, mpsc},
};

#[tokio::test]
async fn a_unit_that_changed_on_its_way_is_refused_and_ends_the_writer() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    let sound = unit(1, 100);
    let mut wrong_crc = sound.clone();
    wrong_crc.sum.crc64 ^= 1;
    let mut wrong_len = sound.clone();
    wrong_len.sum.len = 99;
    for bad in [wrong_crc, wrong_len] {
        let mut writer = store.put(meta(shard_id(1))).await.unwrap();
        writer.append(sound.clone()).await.unwrap();
        assert!(matches!(writer.append(bad).await, Err(StoreError::CrcMismatch)));
        assert!(matches!(writer.append(sound.clone()).await, Err(StoreError::CrcMismatch)));
        assert!(matches!(writer.commit().await, Err(StoreError::CrcMismatch)));
    }
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    assert!(matches!(writer.append(unit(1, UNIT_MAX_LEN + 1)).await, Err(StoreError::TooLarge)));
    assert!(store.stat(shard_id(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_shard_is_invisible_until_its_commit_and_then_replaces_the_former_whole() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    let former = [unit(1, 300_000)];
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    writer.append(former[0].clone()).await.unwrap();
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::NotFound)));
    assert!(store.usage().used >= 300_000, "unfinished bytes count");
    writer.commit().await.unwrap();
    assert_eq!(store.usage().used, 300_000_u64.next_multiple_of(4096));

    let next: Vec<_> = (0..40).map(|seed| unit(seed, 65_536)).collect();
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    for unit in &next {
        writer.append(unit.clone()).await.unwrap();
        assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&former));
    }
    writer.commit().await.unwrap();
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&next));
    assert_eq!(store.read(shard_id(1), 17..19).await.unwrap()[1].bytes, next[18].bytes);
    let used = fs::metadata(store.locate(shard_id(1)).unwrap().path).unwrap().len().next_multiple_of(4096);
    assert_eq!((store.usage().used, store.usage().shards), (used, 1));
    store.delete(vec![shard_id(1)]).await.unwrap();
    assert_eq!((store.usage().used, store.usage().shards), (0, 0));
}

#[tokio::test]
async fn many_writers_of_few_ids_leave_one_whole_shard_each() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    let content = |round: u64| (0..3).map(|seed| unit(round * 10 + seed, 2000)).collect::<Vec<_>>();
    let writes = (0..96_u64).map(|round| {
        let (store, units) = (store.clone(), content(round));
        async move {
            let id = shard_id(u8::try_from(round % 12).unwrap());
            if round % 8 == 7 { store.delete(vec![id]).await } else { put(&store, id, &units).await }
        }
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    for number in 0..12_u8 {
        match get(&store, shard_id(number)).await {
            Ok(found) => assert!(
                (0..96)
                    .filter(|round| round % 12 == u64::from(number))
                    .any(|round| found == payload(&content(round)))
            ),
            Err(error) => assert!(matches!(error, StoreError::NotFound) && number % 4 == 3, "{error}"),
        }
    }
}

#[tokio::test]
async fn new_shards_are_refused_past_the_watermark_and_bytes_past_the_capacity() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    DriveStore::format(&disk, root.path(), IDENTITY, SMALL_SEGMENTS).unwrap();
    let options = DriveOptions { capacity: Some(1_000_000), readers: 1, ..DriveOptions::default() };
    let store = DriveStore::open(&env(&disk), root.path(), IDENTITY, options).await.unwrap();
    put(&store, shard_id(1), &[unit(1, 500_000)]).await.unwrap();
    let refused = put(&store, shard_id(2), &[unit(2, 600_000)]).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    put(&store, shard_id(2), &[unit(2, 460_000)]).await.unwrap();
    assert!(matches!(store.put(meta(shard_id(3))).await, Err(StoreError::Full)));
    assert_eq!(store.usage().free, 0);
    store.delete(vec![shard_id(1)]).await.unwrap();
    assert!(store.usage().free > 480_000 && store.usage().free < 490_000);
    put(&store, shard_id(3), &[unit(3, 100)]).await.unwrap();
}

#[tokio::test]
async fn writers_and_reads_beyond_the_limits_are_refused() {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    let mut writers = Vec::new();
    let refused = loop {
        match store.put(meta(shard_id(1))).await {
            Ok(writer) => writers.push(writer),
            Err(error) => break error,
        }
        assert!(writers.len() < 10_000);
    };
    assert!(matches!(refused, StoreError::Overloaded), "{refused:?}");
    writers.pop();
    store.put(meta(shard_id(1))).await.unwrap().commit().await.unwrap();

    let reads = join_all((0..5000).map(|_| store.read(shard_id(1), 0..0))).await;
    let refused = reads.iter().filter(|read| matches!(read, Err(StoreError::Overloaded))).count();
    assert!(refused > 0 && reads.iter().filter(|read| read.is_ok()).count() == 5000 - refused);
    store.read(shard_id(1), 0..0).await.unwrap();
}

#[tokio::test]
async fn appends_wait_while_the_queue_is_full_and_a_cancelled_one_gives_the_shard_up() {
    let root = tempfile::tempdir().unwrap();
    let faults = FaultyDisk::new(real_disk());
    let disk: Arc<dyn Disk> = Arc::new(faults.clone());
    let store = formatted(&disk, root.path()).await;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    faults.hook(move |call, _| {
        if call == Call::Write {
            // Ends at once when the sender is dropped.
            let _ = released.lock().unwrap().recv();
        }
        Ok(())
    });
    let unit = unit(1, UNIT_MAX_LEN);
    let mut writers = Vec::new();
    for number in 0..20 {
        writers.push(store.put(meta(shard_id(number))).await.unwrap());
    }
    let mut appends: Vec<_> =
        writers.iter_mut().map(|writer| Box::pin(writer.append(unit.clone()))).collect();
    for append in &mut appends {
        assert!(append.as_mut().now_or_never().is_none(), "the disk does not move");
    }
    // The first one is with the disk, the last one has no place in the queue yet; both are given up.
    drop((appends.remove(19), appends.remove(0)));
    drop(release);
    for append in appends {
        append.await.unwrap();
    }
    for (number, writer) in (0_u8..).zip(writers) {
        let committed = writer.commit().await;
        let given_up = number == 0 || number == 19;
        assert!(matches!(committed, Err(StoreError::Closed)) == given_up, "{number}: {committed:?}");
        assert_eq!(store.stat(shard_id(number)).await.unwrap().is_some(), !given_up, "{number}");
    }
    store.close().await;
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}
