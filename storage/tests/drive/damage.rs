//! Damaged files are errors, never bytes.

use super::fixture::{formatted, get, open, payload, put, real_disk, shard_id, unit};
use ashlar_runtime::Disk;
use ashlar_storage::{DriveStore, ShardUnit, StoreError};
use std::{fs, path::PathBuf, sync::Arc};

struct Damaged {
    root: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    units: Vec<ShardUnit>,
    path: PathBuf,
    sound: Vec<u8>,
}

/// A drive with one small shard that covers every field of the format.
async fn one_shard() -> (Damaged, DriveStore) {
    let (root, disk) = (tempfile::tempdir().unwrap(), real_disk());
    let store = formatted(&disk, root.path()).await;
    let units = vec![unit(1, 70), unit(2, 0), unit(3, 33)];
    put(&store, shard_id(1), &units).await.unwrap();
    let path = store.locate(shard_id(1)).unwrap().path;
    let sound = fs::read(&path).unwrap();
    (Damaged { root, disk, units, path, sound }, store)
}

async fn assert_not_served(store: &DriveStore, what: &str) {
    for wanted in [0..3, 0..1, 2..3] {
        match store.read(shard_id(1), wanted.clone()).await {
            Err(StoreError::Corrupt { unit }) => assert!(wanted.contains(&unit), "{what}"),
            // Damage outside the units asked for.
            Ok(read) if wanted.len() == 1 => {
                let expected = unit(u64::from(wanted.start) + 1, read[0].bytes.len());
                assert!(read[0].bytes == expected.bytes && read[0].sum == expected.sum, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_flipped_byte_is_found() {
    let (shard, mut store) = one_shard().await;
    for at in 0..shard.sound.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = shard.sound.clone();
            damaged[at] ^= flip;
            fs::write(&shard.path, &damaged).unwrap();
            assert_not_served(&store, &format!("byte {at} xor {flip:#x}")).await;
        }
        // The header is also read when the drive is opened.
        if at < 100 {
            store.close().await;
            store = open(&shard.disk, shard.root.path()).await.unwrap();
            assert_not_served(&store, &format!("byte {at}, opened again")).await;
            assert_eq!(store.damaged().len(), usize::from(at < 72));
        }
    }
    fs::write(&shard.path, &shard.sound).unwrap();
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&shard.units));
}

#[tokio::test]
async fn a_file_cut_or_extended_anywhere_is_found() {
    let (shard, store) = one_shard().await;
    for len in 0..shard.sound.len() {
        fs::write(&shard.path, &shard.sound[..len]).unwrap();
        let read = store.read(shard_id(1), 0..1).await;
        assert!(matches!(read, Err(StoreError::Corrupt { unit: 0 })), "{len} bytes: {read:?}");
        // As a file system does that lost the data but kept the length.
        let mut zeroed = shard.sound.clone();
        zeroed[len..].fill(0);
        if zeroed != shard.sound {
            fs::write(&shard.path, &zeroed).unwrap();
            assert_not_served(&store, &format!("zeros from {len} on")).await;
        }
    }
    let mut longer = shard.sound.clone();
    longer.push(0);
    fs::write(&shard.path, &longer).unwrap();
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn the_file_of_another_shard_is_not_served() {
    let (shard, store) = one_shard().await;
    put(&store, shard_id(2), &[unit(9, 70), unit(9, 0), unit(9, 33)]).await.unwrap();
    fs::copy(store.locate(shard_id(2)).unwrap().path, &shard.path).unwrap();
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::Corrupt { unit: 0 })));
    assert!(matches!(store.stat(shard_id(1)).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn damage_in_one_unit_leaves_the_others_readable_and_names_it() {
    let (shard, store) = one_shard().await;
    let place = store.locate(shard_id(1)).unwrap();
    let mut damaged = shard.sound.clone();
    damaged[usize::try_from(place.offset).unwrap() + 75] ^= 1;
    fs::write(&shard.path, &damaged).unwrap();
    assert!(matches!(store.read(shard_id(1), 0..3).await, Err(StoreError::Corrupt { unit: 2 })));
    assert!(matches!(store.read(shard_id(1), 2..3).await, Err(StoreError::Corrupt { unit: 2 })));
    let read = store.read(shard_id(1), 0..2).await.unwrap();
    assert_eq!(read[0].bytes, shard.units[0].bytes);
    assert!(store.stat(shard_id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_damaged_shard_is_left_out_of_lists_and_can_be_put_again_or_deleted() {
    let (shard, store) = one_shard().await;
    put(&store, shard_id(2), &[unit(5, 5)]).await.unwrap();
    let mut damaged = shard.sound.clone();
    damaged[0] ^= 1;
    fs::write(&shard.path, &damaged).unwrap();
    for limit in [1, 2, 10] {
        let listed = store.list(None, limit).await.unwrap();
        assert_eq!(
            listed.iter().map(|stat| stat.meta.id).collect::<Vec<_>>(),
            [shard_id(2)],
            "limit {limit}"
        );
    }
    store.close().await;
    let store = open(&shard.disk, shard.root.path()).await.unwrap();
    assert_eq!(store.damaged(), [shard_id(1)]);
    assert_eq!((store.usage().shards, store.usage().used), (2, 2 * 4096));

    put(&store, shard_id(1), &shard.units).await.unwrap();
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&shard.units));
    assert_eq!(store.damaged(), []);
    fs::write(&shard.path, &damaged).unwrap();
    store.delete(vec![shard_id(1)]).await.unwrap();
    assert!(!shard.path.exists());
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::NotFound)));
}
