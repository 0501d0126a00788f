//! `ashlar drive inspect` as an operator runs it: the binary on a drive's directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_hashing::crc64nvme;
use ashlar_node::drives::Drives;
use ashlar_runtime::Env;
use ashlar_storage::{DriveIdentity, DriveOptions, DriveStore, FormatOptions, Housekeeping, ShardUnit};
use ashlar_types::{
    BlobId, BucketId, ChunkId, ClusterId, DriveId, DriveUuid, FailureDomain, GroupId, Interval, ObjectKey,
    PgId, Profile, ShardId, ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tokio::sync::Mutex;

const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(7), drive: DriveUuid(2) };
/// Shards of more than an eighth of it are large ones.
const SEGMENT_BYTES: u64 = 1 << 20;
const UNIT: usize = 64 << 10;
/// Held by a test from its beginning: a process that is being started has, until it has become the other program, the locks
/// of drives that another test is about to free.
static TURN: Mutex<()> = Mutex::const_new(());
const SMALL: u8 = 0;
const LARGE: u8 = 1;
const DELETED: u8 = 2;

fn shard(slot: u8) -> ShardId {
    ShardId { chunk: ChunkId { blob: BlobId(9), index: 0 }, slot: SlotIndex(slot) }
}

async fn put(store: &DriveStore, slot: u8, units: usize) {
    let meta = ShardMeta {
        id: shard(slot),
        pg: PgId(1),
        interval: Interval(1),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: 0,
        group: GroupId(1),
        write_epoch: WriteEpoch(0),
        owner: ShardOwner::Version(VersionUid(5)),
        bucket: BucketId(3),
        key: ObjectKey::parse(&format!("photos/{slot}")).unwrap(),
    };
    let mut writer = store.put(meta).await.unwrap();
    for unit in 0..units {
        let bytes = Bytes::from(vec![u8::try_from(unit).unwrap() ^ slot; UNIT]);
        let sum = UnitSum { len: u32::try_from(UNIT).unwrap(), crc64: crc64nvme(&bytes), data: Vec::new() };
        writer.append(ShardUnit { bytes, sum }).await.unwrap();
    }
    writer.commit().await.unwrap();
}

async fn open(dir: &Path) -> DriveStore {
    let options = DriveOptions {
        capacity: Some(64 << 20),
        housekeeping: Housekeeping::OnRequest,
        ..DriveOptions::default()
    };
    DriveStore::open(&Env::real(), dir, IDENTITY, options).await.unwrap()
}

/// A small shard of one unit, a large one of five, and one that was deleted.
async fn filled(dir: &Path) -> DriveStore {
    let options = FormatOptions { segment_bytes: SEGMENT_BYTES };
    DriveStore::format(&Env::real().disk, dir, IDENTITY, options).unwrap();
    let store = open(dir).await;
    put(&store, SMALL, 1).await;
    put(&store, LARGE, 5).await;
    put(&store, DELETED, 1).await;
    store.delete(vec![shard(DELETED)]).await.unwrap();
    store
}

fn inspect(dir: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
    command.args(["drive", "inspect"]).arg(dir).args(flags).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// With the exit code.
fn json(dir: &Path, flags: &[&str]) -> (Value, Option<i32>) {
    let output = inspect(dir, &[&["--json"], flags].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output), errors(&output));
    });
    (value, output.status.code())
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.sync_all().unwrap();
}

/// The files as they are now, as a crash would leave them; nobody has the copy open.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_drive_is_told_with_all_it_holds() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let usage = store.usage();
    store.close().await;

    let (told, code) = json(dir.path(), &["--verify"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told["cluster"], IDENTITY.cluster.to_string());
    assert_eq!(told["drive"], IDENTITY.drive.to_string());
    assert_eq!(told["dir"], dir.path().display().to_string());
    assert_eq!(told["format_version"], 2);
    assert_eq!(told["segment_bytes"], SEGMENT_BYTES);
    // Formatting writes two generations, the checkpoint at closing one.
    assert_eq!(told["generation"], 3);
    assert_eq!(told["checkpoint"], 1);
    assert_eq!(told["shards"], 2);
    assert_eq!(told["live_bytes"], usage.live);
    assert_eq!(told["dead_bytes"], usage.dead);
    assert!(usage.live > 0 && usage.dead > 0, "{usage:?}");
    let recovery = &told["recovery"];
    assert_eq!(recovery["checkpoint"], 1);
    assert_eq!(recovery["replayed_records"], 0);
    assert_eq!(recovery["replayed_bytes"], 0);
    assert_eq!(recovery["torn_tail"], false);
    assert_eq!(recovery["rebuilt"], false);
    assert_eq!((&recovery["damaged"], &recovery["lost"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert!(recovery["took_us"].as_u64().unwrap() > 0);

    let segments = told["segments"].as_array().unwrap();
    let sum = |field: &str| segments.iter().map(|segment| segment[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("live_bytes"), usage.live);
    assert_eq!(sum("dead_bytes"), usage.dead);
    assert!(sum("written_bytes") > usage.live + usage.dead);
    assert!(sum("allocated_bytes") >= SEGMENT_BYTES * segments.len() as u64, "they are written in full");
    for kind in ["log", "extents"] {
        let segment = segments.iter().find(|segment| segment["kind"] == kind && segment["use"] == "open");
        let id = segment.unwrap()["id"].as_str().unwrap();
        assert!(dir.path().join(kind).join(format!("{id}.seg")).is_file(), "{id}");
    }

    let verified = &told["verified"];
    assert_eq!(verified["shards"], 2);
    assert_eq!(verified["units"], 6);
    assert_eq!(verified["bytes"], usage.live);
    assert_eq!(told["sound"], true);
    for empty in [&verified["corrupt"], &verified["unreadable"], &told["damage"], &told["remarks"]] {
        assert_eq!(*empty, Value::Array(vec![]));
    }

    let (unread, code) = json(dir.path(), &[]);
    assert_eq!((code, &unread["verified"]), (Some(0), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_has_a_line_for_each_segment_when_asked() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await;
    let short = inspect(dir.path(), &[]);
    assert_eq!(short.status.code(), Some(0));
    let short = text(&short);
    for part in [&IDENTITY.drive.to_string(), "2 shards", "log open", "extents open", "sound", "--verify"] {
        assert!(short.contains(part), "no {part} in {short}");
    }
    let id = "0000000000000001";
    assert!(!short.contains(id), "{short}");
    let long = text(&inspect(dir.path(), &["--segments", "--verify"]));
    assert!(long.contains(id) && long.contains("sound: 2 shards, 6 units"), "{long}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_shard_is_found_by_verifying() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let places = [SMALL, LARGE].map(|slot| (slot, store.locate(shard(slot)).unwrap()));
    store.close().await;
    assert!(places[0].1.path.starts_with(dir.path().join("log")), "{places:?}");
    assert!(places[1].1.path.starts_with(dir.path().join("extents")), "{places:?}");

    for (slot, place) in places {
        let offset = place.offset + 1000;
        flip(&place.path, offset);
        assert_eq!(json(dir.path(), &[]).1, Some(0), "nothing was read");
        let (told, code) = json(dir.path(), &["--verify"]);
        assert_eq!((code, &told["sound"]), (Some(1), &Value::Bool(false)), "{told}");
        let corrupt = &told["verified"]["corrupt"];
        assert_eq!(corrupt.as_array().unwrap().len(), 1, "{corrupt}");
        assert_eq!(corrupt[0]["shard"], shard(slot).to_string());
        assert_eq!(corrupt[0]["unit"], 0);
        assert_eq!(corrupt[0]["bucket"], 3);
        assert_eq!(corrupt[0]["key"], format!("photos/{slot}"));

        let output = inspect(dir.path(), &["--verify"]);
        assert_eq!(output.status.code(), Some(1));
        let told = text(&output);
        let parts =
            [&shard(slot).to_string(), &format!("photos/{slot}"), "DAMAGE: 1 shard", "ashlar explain"];
        for part in parts {
            assert!(told.contains(part), "no {part} in {told}");
        }
        assert!(!told.contains("sound"), "{told}");
        flip(&place.path, offset);
        assert_eq!(json(dir.path(), &["--verify"]).1, Some(0), "as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_the_log_is_told_without_reading_shards() {
    let _turn = TURN.lock().await;
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path()).await;
    copy(dir.path(), crashed.path());
    store.close().await;
    let (told, code) = json(crashed.path(), &[]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told["checkpoint"], 0);
    assert_eq!(told["recovery"]["checkpoint"], Value::Null);
    assert_eq!(told["recovery"]["replayed_records"], 4);
    assert!(text(&inspect(crashed.path(), &[])).contains("from the beginning of the log; 4 records"));

    // The payload of the first shard: its record says whose it was.
    let log = only_file(&crashed.path().join("log"));
    flip(&log, 4096 + (UNIT as u64) / 2);
    let (told, code) = json(crashed.path(), &[]);
    assert_eq!(code, Some(1), "{told}");
    let recovery = &told["recovery"];
    assert_eq!(recovery["lost"], Value::Array(vec![shard(SMALL).to_string().into()]));
    let region = &recovery["damaged"][0];
    let id = log.file_stem().unwrap().to_str().unwrap();
    assert_eq!(region["segment"], id);
    assert!(region["offset"].as_u64().unwrap() >= 4096 && region["len"].as_u64().unwrap() > 0, "{region}");
    assert_eq!(told["damaged_shards"], recovery["lost"]);
    assert_eq!(told["damage"].as_array().unwrap().len(), 2, "{told}");
    let lines = text(&inspect(crashed.path(), &[]));
    assert!(lines.contains("LOST SHARD") && lines.contains(&format!("{id} @")), "{lines}");

    // The node that has it open says so in its status.
    let drives = Drives::new(BTreeMap::from([(DriveId(4), open(crashed.path()).await)]));
    let warnings = drives.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("drive 4 ") && warnings[0].contains("1 shard"), "{warnings:?}");
    drives.close().await;
    // A checkpoint carries it on: later openings do not find the place again, but know the shard.
    let store = open(crashed.path()).await;
    put(&store, 9, 1).await;
    for _ in 0..2 {
        store.checkpoint().await.unwrap();
    }
    store.close().await;
    let (told, code) = json(crashed.path(), &[]);
    assert_eq!((code, &told["recovery"]["lost"]), (Some(1), &Value::Array(vec![])), "{told}");
    assert_eq!(told["damaged_shards"], Value::Array(vec![shard(SMALL).to_string().into()]));
    assert_eq!(told["damage"].as_array().unwrap().len(), 1, "{told}");

    let sound = Drives::new(BTreeMap::from([(DriveId(4), open(dir.path()).await)]));
    assert_eq!(sound.warnings(), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_a_remark_and_no_damage() {
    let _turn = TURN.lock().await;
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path()).await;
    let last = store.locate(shard(SMALL)).unwrap().path;
    copy(dir.path(), crashed.path());
    store.close().await;
    // In the record of the last batch, which holds the delete alone.
    let log = crashed.path().join("log").join(last.file_name().unwrap());
    let bytes = std::fs::read(&log).unwrap();
    let batch = bytes.chunks(4096).rposition(|block| block.starts_with(b"ASHLARBA")).unwrap();
    flip(&log, batch as u64 * 4096 + 64 + 8);
    let (told, code) = json(crashed.path(), &["--verify"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told["recovery"]["torn_tail"], true);
    assert_eq!(told["shards"], 3);
    assert_eq!(told["remarks"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_does_not_verify_is_damage_that_costs_nothing() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await;
    let store = open(dir.path()).await;
    put(&store, 9, 1).await;
    store.close().await;
    let newest = dir.path().join("index/0000000000000002.ckpt");
    flip(&newest, 100);
    let (told, code) = json(dir.path(), &["--verify"]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!((&told["checkpoint"], &told["recovery"]["checkpoint"]), (&2.into(), &1.into()));
    assert_eq!((&told["shards"], &told["recovery"]["rebuilt"]), (&3.into(), &Value::Bool(false)));
    assert!(told["damage"][0].as_str().unwrap().starts_with("checkpoint 2 "), "{told}");

    flip(&dir.path().join("index/0000000000000001.ckpt"), 100);
    let (told, code) = json(dir.path(), &[]);
    assert_eq!((code, &told["recovery"]["rebuilt"]), (Some(1), &Value::Bool(true)), "{told}");
    assert_eq!(told["shards"], 3);
    assert_eq!(told["damage"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_told_apart_from_damage() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let running = inspect(dir.path(), &["--json"]);
    assert_eq!(running.status.code(), Some(2));
    assert!(running.stdout.is_empty(), "{}", text(&running));
    assert!(errors(&running).contains("is in use by another process"), "{}", errors(&running));
    store.close().await;
    assert_eq!(inspect(dir.path(), &[]).status.code(), Some(0), "it is free again");

    let absent = inspect(&dir.path().join("absent"), &[]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(errors(&absent).contains("is not a formatted drive"), "{}", errors(&absent));
    for name in ["superblock.a", "superblock.b"] {
        File::options().write(true).open(dir.path().join(name)).unwrap().write_all_at(&[0; 64], 0).unwrap();
    }
    let broken = inspect(dir.path(), &[]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(errors(&broken).contains("is damaged"), "{}", errors(&broken));
}

#[tokio::test(flavor = "multi_thread")]
async fn inspecting_changes_nothing() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await;
    let contents = |dir: &Path| {
        let mut contents = Vec::new();
        for below in ["", "log", "extents", "index"] {
            for entry in std::fs::read_dir(dir.join(below)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                contents.push((path, crc64nvme(&bytes)));
            }
        }
        contents.sort();
        contents
    };
    let before = contents(dir.path());
    assert_eq!(inspect(dir.path(), &["--verify", "--segments"]).status.code(), Some(0));
    assert_eq!(contents(dir.path()), before);
}
