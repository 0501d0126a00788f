//! The log as its replicas see it, on real files.

use super::{BeforePurge, LogError, LogOptions, LogStore, NodeLog};
use crate::{
    command::{Command, Entry},
    raft::types::{LeaderTerm, LogId, RaftEntry, Vote},
};
use ashlar_runtime::{Env, Pool};
use ashlar_types::{GroupId, Timestamp};
use openraft::{
    RaftLogReader,
    entry::RaftEntry as _,
    storage::{RaftLogStorage, RaftLogStorageExt},
};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(super) const GROUP: GroupId = GroupId(1);

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderTerm { term, node_id: 1 }, index)
}

pub(super) fn entry(term: u64, index: u64) -> RaftEntry {
    let stamp = Timestamp(index * 1000 + term);
    RaftEntry::new_normal(id(term, index), Entry { request: None, stamp, command: Command::Nothing })
}

pub(super) fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<RaftEntry> {
    range.map(|index| entry(term, index)).collect()
}

fn nothing_to_do() -> BeforePurge {
    Arc::new(|| Ok(()))
}

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        first_segment_bytes: 16 << 10,
        cache_bytes: 300,
        queue_bytes: 4000,
        read_bytes: 400,
    }
}

fn replica(log: &NodeLog, group: GroupId, before_purge: BeforePurge) -> Result<LogStore, LogError> {
    let pool = Pool::new(&Env::real().tasks, "log-test", 1, 16);
    log.replica(group, 1, pool, before_purge)
}

fn open(dir: &Path) -> (NodeLog, LogStore) {
    let log = NodeLog::open(&Env::real(), dir, small()).unwrap();
    let store = replica(&log, GROUP, nothing_to_do()).unwrap();
    (log, store)
}

async fn all(log: &mut LogStore) -> Vec<RaftEntry> {
    log.try_get_log_entries(..).await.unwrap()
}

#[tokio::test]
async fn a_log_is_as_it_was_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut store) = open(dir.path());
    store.save_vote(&Vote::new(7, 1)).await.unwrap();
    for start in (0..1000).step_by(50) {
        store.blocking_append(entries(1, start..start + 50)).await.unwrap();
    }
    store.truncate_after(Some(id(1, 989))).await.unwrap();
    store.blocking_append(entries(2, 990..995)).await.unwrap();
    store.purge(id(1, 979)).await.unwrap();
    let expected = [entries(1, 980..990), entries(2, 990..995)].concat();
    assert_eq!(all(&mut store).await, expected);
    let some = store.limited_get_log_entries(980, 995).await.unwrap();
    assert!(!some.is_empty() && some.len() < 15 && some == expected[..some.len()], "limited by bytes");
    store.save_committed(Some(id(2, 992))).await.unwrap();
    store.close().await;
    store.save_vote(&Vote::new(8, 1)).await.unwrap_err();
    log.close().await;

    let (log, mut store) = open(dir.path());
    assert_eq!(all(&mut store).await, expected);
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(7, 1)));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 992)));
    assert_eq!(store.get_log_state().await.unwrap().last_purged_log_id, Some(id(1, 979)));
    log.close().await;
}

#[tokio::test]
async fn segments_of_purged_entries_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut store) = open(dir.path());
    let mut idle = replica(&log, GroupId(2), nothing_to_do()).unwrap();
    idle.save_vote(&Vote::new(3, 9)).await.unwrap();
    idle.blocking_append(entries(1, 0..3)).await.unwrap();
    for start in (0..20_000).step_by(100) {
        store.blocking_append(entries(1, start..start + 100)).await.unwrap();
        store.purge(id(1, start + 90)).await.unwrap();
    }
    let stats = log.stats();
    assert!(stats.written_bytes > 5 * stats.bytes, "{stats:?}");
    assert!(stats.segments <= 5 && stats.moved_records >= 3, "{stats:?}");
    assert_eq!(all(&mut idle).await, entries(1, 0..3), "the lagging group was moved along");
    idle.close().await;
    store.close().await;
    log.close().await;
    let (log, mut store) = open(dir.path());
    let mut idle = replica(&log, GroupId(2), nothing_to_do()).unwrap();
    assert_eq!(all(&mut idle).await, entries(1, 0..3));
    assert_eq!(idle.read_vote().await.unwrap(), Some(Vote::new(3, 9)));
    assert_eq!(all(&mut store).await, entries(1, 19_991..20_000));
    log.close().await;
}

#[tokio::test]
async fn entries_are_purged_only_after_the_state_machine_was_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (asked, refuse) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let hook = {
        let (asked, refuse) = (Arc::clone(&asked), Arc::clone(&refuse));
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            if refuse.load(Ordering::SeqCst) { Err(io::Error::other("planned")) } else { Ok(()) }
        }
    };
    let log = NodeLog::open(&Env::real(), dir.path(), small()).unwrap();
    let mut store = replica(&log, GROUP, Arc::new(hook)).unwrap();
    store.blocking_append(entries(1, 0..9)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    store.purge(id(1, 3)).await.unwrap();
    store.close().await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    log.close().await;

    refuse.store(true, Ordering::SeqCst);
    let log = NodeLog::open(&Env::real(), dir.path(), small()).unwrap();
    let refused = Arc::clone(&refuse);
    let hook = move || if refused.load(Ordering::SeqCst) { Err(io::Error::other("planned")) } else { Ok(()) };
    let mut store = replica(&log, GROUP, Arc::new(hook)).unwrap();
    assert_eq!(all(&mut store).await, entries(1, 4..9));
    store.purge(id(1, 8)).await.unwrap_err();
    store.save_vote(&Vote::new(9, 1)).await.unwrap_err();
    drop(store);
    log.close().await;
    let (log, mut store) = open(dir.path());
    assert_eq!(all(&mut store).await, entries(1, 4..9), "the second purge never happened");
    log.close().await;
}

#[tokio::test]
async fn a_replica_is_open_once_and_forgotten_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut store) = open(dir.path());
    assert!(matches!(replica(&log, GROUP, nothing_to_do()), Err(LogError::InUse { .. })));
    store.blocking_append(entries(1, 0..3)).await.unwrap();
    let stats = log.replica_stats(GROUP).unwrap();
    assert_eq!((stats.entries, stats.first, stats.last), (3, Some(0), Some(2)));
    store.close().await;
    let mut store = replica(&log, GROUP, nothing_to_do()).unwrap();
    assert_eq!(all(&mut store).await, entries(1, 0..3));
    log.remove(GROUP, 1).await.unwrap();
    store.save_vote(&Vote::new(1, 1)).await.unwrap_err();
    drop(store);
    log.begin(GroupId(5), 7).await.unwrap();
    log.close().await;
    let log = NodeLog::open(&Env::real(), dir.path(), small()).unwrap();
    let known = log.replicas();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].group, known[0].raft_id), (GroupId(5), 7));
    let mut store = replica(&log, GROUP, nothing_to_do()).unwrap();
    assert_eq!(all(&mut store).await, []);
    log.close().await;
}
