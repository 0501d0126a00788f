//! The seeds are the files of a drive that the store wrote.

use super::{
    bytes::{Dice, crc64},
    drive::{DIR, FORMER, Files, NEWEST, SEEDS, SEGMENT_BYTES, WHOLE, files_of, is_segment, trim},
    oracle::{Shown, examine},
};
use ashlar_runtime::{Disk, Env, SimDisk};
use ashlar_storage::{DriveIdentity, DriveOptions, DriveStore, FormatOptions, Housekeeping, ShardUnit};
use ashlar_types::{
    BlobId, BucketId, ChunkId, ClusterId, DriveUuid, FailureDomain, GroupId, Interval, ObjectKey, PgId,
    Profile, ShardId, ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(0xa5), drive: DriveUuid(0xd1) };

pub(crate) fn shard_id(number: u32) -> ShardId {
    let slot = SlotIndex(u8::try_from(number % 6).unwrap());
    ShardId { chunk: ChunkId { blob: BlobId(u128::from(number) << 64 | 7), index: number }, slot }
}

fn meta(id: ShardId) -> ShardMeta {
    ShardMeta {
        id,
        pg: PgId(1),
        interval: Interval(2),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: 12345,
        group: GroupId(1),
        write_epoch: WriteEpoch(4),
        owner: ShardOwner::Version(VersionUid(77)),
        bucket: BucketId(5),
        key: ObjectKey::parse("a/key").unwrap(),
    }
}

fn unit(seed: u32, len: usize) -> ShardUnit {
    let mut dice = Dice::new(seed.into());
    let bytes: Vec<u8> = (0..len).map(|_| dice.u64().to_le_bytes()[0]).collect();
    let data = if seed.is_multiple_of(2) { Vec::new() } else { vec![seed.into(), 1] };
    let sum = UnitSum { len: u32::try_from(len).unwrap(), crc64: crc64(&bytes), data };
    ShardUnit { bytes: Bytes::from(bytes), sum }
}

pub(crate) async fn put(store: &DriveStore, number: u32, lens: &[usize]) {
    let mut writer = store.put(meta(shard_id(number))).await.unwrap();
    for len in lens {
        writer.append(unit(number, *len)).await.unwrap();
    }
    writer.commit().await.unwrap();
}

pub(crate) async fn open(disk: &Arc<dyn Disk>) -> DriveStore {
    let options = DriveOptions {
        capacity: Some(1 << 30),
        readers: 1,
        housekeeping: Housekeeping::OnRequest,
        ..DriveOptions::default()
    };
    let env = Env { disk: Arc::clone(disk), ..Env::real() };
    DriveStore::open(&env, Path::new(DIR), IDENTITY, options).await.unwrap()
}

/// Files of a drive that was used a little: every kind of record, before and behind two checkpoints.
async fn written() -> Files {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let options = FormatOptions { segment_bytes: SEGMENT_BYTES as u64 };
    DriveStore::format(&disk, Path::new(DIR), IDENTITY, options).unwrap();
    let store = open(&disk).await;
    put(&store, 1, &[100]).await;
    put(&store, 2, &[10_000, 500]).await;
    // Several records in one batch.
    let (first, second, third) = (put(&store, 3, &[50, 60, 70]), put(&store, 4, &[]), put(&store, 5, &[8]));
    tokio::join!(first, second, third);
    put(&store, 6, &[300]).await;
    store.delete(vec![shard_id(6)]).await.unwrap();
    store.checkpoint().await.unwrap();
    put(&store, 7, &[5000, 4096]).await;
    put(&store, 1, &[90, 10]).await;
    for number in 8..16 {
        put(&store, number, &[usize::try_from(number).unwrap() * 9]).await;
    }
    store.delete(vec![shard_id(8), shard_id(9)]).await.unwrap();
    put(&store, 16, &[700]).await;
    store.checkpoint().await.unwrap();
    for number in 17..20 {
        put(&store, number, &[40]).await;
    }
    put(&store, 18, &[41]).await;
    put(&store, 20, &[9000]).await;
    store.delete(vec![shard_id(17), shard_id(2)]).await.unwrap();
    // Before it is closed, so that the log goes on behind the newest checkpoint.
    let files = files_of(&sim.image());
    store.close().await;
    files
}

/// What a drive shows of its shards.
fn content(shown: &Shown) -> Vec<(ShardId, Vec<Vec<u8>>)> {
    let bytes = |id: &ShardId| {
        let units = shown.shards[id].as_ref().unwrap().units.as_ref().unwrap();
        units.iter().map(|unit| unit.bytes.to_vec()).collect()
    };
    shown.ids.iter().map(|id| (*id, bytes(id))).collect()
}

/// With `ASHLAR_FUZZ_SEEDS=write` the files are made anew instead; then the names in `drive.rs` may need a change.
#[tokio::test]
async fn the_seeds_are_what_the_store_writes() {
    let files = written().await;
    if std::env::var("ASHLAR_FUZZ_SEEDS").is_ok_and(|what| what == "write") {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/drive");
        for (name, bytes) in files {
            let path = dir.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes = if is_segment(&name) { trim(bytes) } else { bytes };
            std::fs::write(path, bytes).unwrap();
        }
        return;
    }
    assert!(SEEDS.contains_key(NEWEST) && SEEDS.contains_key(FORMER));
    let written = examine(&files).unwrap().unwrap();
    let kept = examine(&WHOLE).unwrap().unwrap();
    assert_eq!(content(&kept), content(&written));
    assert_eq!(kept.report.replayed_records, written.report.replayed_records);
    assert_eq!(kept.report.checkpoint, Some(2));
    assert!(!kept.report.torn_tail && kept.report.damaged.is_empty() && kept.report.lost.is_empty());
}
