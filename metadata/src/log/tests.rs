//! The log against crashes, damage and failing disks.

use super::{LogError, LogOptions, LogStore};
use crate::{
    command::{Command, Entry},
    raft::types::{LeaderTerm, LogId, RaftEntry, Vote},
};
use ashlar_runtime::{Disk, DiskFile, DiskUsage, Env, OpenMode, Pool, RealDisk};
use ashlar_types::Timestamp;
use openraft::{
    RaftLogReader,
    entry::RaftEntry as _,
    storage::{RaftLogStorage, RaftLogStorageExt},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderTerm { term, node_id: 1 }, index)
}

fn entry(term: u64, index: u64) -> RaftEntry {
    let stamp = Timestamp(index * 1000 + term);
    RaftEntry::new_normal(id(term, index), Entry { request: None, stamp, command: Command::Nothing })
}

fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<RaftEntry> {
    range.map(|index| entry(term, index)).collect()
}

fn open_with(env: &Env, dir: &Path, options: LogOptions) -> Result<LogStore, LogError> {
    let pool = Pool::new(&env.tasks, "log-test", 1, 16);
    LogStore::open(env, pool, dir, options, Box::new(|| Ok(())))
}

fn open(dir: &Path) -> Result<LogStore, LogError> {
    open_with(&Env::real(), dir, LogOptions::default())
}

async fn all(log: &mut LogStore) -> Vec<RaftEntry> {
    log.try_get_log_entries(..).await.unwrap()
}

/// Three batches: entries 0..3, a vote, entries 3..6.
async fn sample(dir: &Path) -> Vec<u8> {
    let mut log = open(dir).unwrap();
    log.blocking_append(entries(1, 0..3)).await.unwrap();
    log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
    log.blocking_append(entries(2, 3..6)).await.unwrap();
    log.close().await;
    std::fs::read(dir.join("log")).unwrap()
}

#[tokio::test]
async fn a_file_cut_at_any_byte_gives_a_prefix_of_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let whole = sample(dir.path()).await;
    let written: Vec<_> = entries(1, 0..3).into_iter().chain(entries(2, 3..6)).collect();
    let mut lengths = Vec::new();
    for cut in super::record::FILE_HEADER_LEN..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), &whole[..cut]).unwrap();
        let mut log = open(dir.path()).unwrap();
        let found = all(&mut log).await;
        assert_eq!(found, written[..found.len()], "cut at {cut}");
        let vote = log.read_vote().await.unwrap();
        assert!(vote.is_some() || found.len() <= 3, "entries after the vote without the vote, cut at {cut}");
        lengths.push(found.len());
        // The log goes on where it was cut, and is whole when it is opened again.
        let next = u64::try_from(found.len()).unwrap();
        log.blocking_append(entries(3, next..next + 2)).await.unwrap();
        log.close().await;
        let mut log = open(dir.path()).unwrap();
        let found_again = all(&mut log).await;
        assert_eq!(found_again, [found, entries(3, next..next + 2)].concat(), "cut at {cut}");
        log.close().await;
    }
    assert!(lengths.is_sorted());
    assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&6)));
}

#[tokio::test]
async fn damage_before_a_flushed_batch_is_told_from_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let whole = sample(dir.path()).await;
    // The last batch begins behind the vote; its three records have equal lengths.
    let lone = tempfile::tempdir().unwrap();
    let mut log = open(lone.path()).unwrap();
    log.blocking_append(entries(1, 0..3)).await.unwrap();
    log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
    log.close().await;
    let last_batch = std::fs::metadata(lone.path().join("log")).unwrap().len();
    let last_batch = usize::try_from(last_batch).unwrap();
    for at in super::record::FILE_HEADER_LEN..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), &bytes).unwrap();
        match open(dir.path()) {
            Err(LogError::Damaged { .. }) => assert!(at < last_batch, "byte {at} is in the last batch"),
            Ok(mut log) => {
                // A batch that nothing follows may be torn anywhere.
                assert!(at >= last_batch, "byte {at} was flushed before a later batch was written");
                assert_eq!(all(&mut log).await[..3], entries(1, 0..3));
                log.close().await;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    std::fs::write(dir.path().join("log"), b"something else than a log, and longer than its header").unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::NotALog { .. })));
}

#[tokio::test]
async fn a_purged_beginning_is_given_back_and_the_rest_survives() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { cache_bytes: 300, rewrite_bytes: 4096, read_bytes: 400 };
    let mut log = open_with(&Env::real(), dir.path(), options).unwrap();
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    for start in (0..1000).step_by(50) {
        log.blocking_append(entries(1, start..start + 50)).await.unwrap();
    }
    log.truncate_after(Some(id(1, 989))).await.unwrap();
    log.blocking_append(entries(2, 990..995)).await.unwrap();
    let before = std::fs::metadata(dir.path().join("log")).unwrap().len();
    log.purge(id(1, 979)).await.unwrap();
    let expected = [entries(1, 980..990), entries(2, 990..995)].concat();
    assert_eq!(all(&mut log).await, expected);
    let some = log.limited_get_log_entries(980, 995).await.unwrap();
    assert!(!some.is_empty() && some.len() < 15 && some == expected[..some.len()], "limited by bytes");
    log.blocking_append(entries(2, 995..996)).await.unwrap();
    log.close().await;
    let after = std::fs::metadata(dir.path().join("log")).unwrap().len();
    assert!(after < before / 4, "{after} of {before} bytes are left");

    let mut log = open(dir.path()).unwrap();
    assert_eq!(all(&mut log).await, [expected, entries(2, 995..996)].concat());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(7, 1)));
    assert_eq!(log.get_log_state().await.unwrap().last_purged_log_id, Some(id(1, 979)));
    log.close().await;
}

#[tokio::test]
async fn entries_are_purged_only_after_the_state_machine_was_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let pool = Pool::new(&env.tasks, "log-test", 1, 16);
    let (asked, refuse) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let hook = {
        let (asked, refuse) = (Arc::clone(&asked), Arc::clone(&refuse));
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            if refuse.load(Ordering::SeqCst) { Err(io::Error::other("planned")) } else { Ok(()) }
        }
    };
    let mut log = LogStore::open(&env, pool, dir.path(), LogOptions::default(), Box::new(hook)).unwrap();
    log.blocking_append(entries(1, 0..9)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    log.purge(id(1, 3)).await.unwrap();
    log.blocking_append(entries(1, 9..10)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    refuse.store(true, Ordering::SeqCst);
    log.purge(id(1, 6)).await.unwrap();
    log.save_vote(&Vote::new(9, 1)).await.unwrap_err();
    log.close().await;
    let mut log = open(dir.path()).unwrap();
    assert_eq!(all(&mut log).await, entries(1, 4..10), "the second purge never happened");
    log.close().await;
}

/// A disk that remembers what was flushed of each file, and whose flushes can be made to fail.
#[derive(Clone, Debug, Default)]
struct Flushing {
    broken: Arc<AtomicBool>,
    flushed: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>,
}

#[derive(Debug)]
struct FlushingFile {
    disk: Flushing,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl Flushing {
    fn env(&self) -> Env {
        Env { disk: Arc::new(self.clone()), ..Env::real() }
    }

    /// Puts every file back to what was flushed of it.
    fn cut_power(&self) {
        for (path, bytes) in self.flushed.lock().unwrap().iter() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

impl Disk for Flushing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        Ok(Box::new(FlushingFile { disk: self.clone(), path: path.to_owned(), file }))
    }
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open_direct(path, mode)?;
        Ok(Box::new(FlushingFile { disk: self.clone(), path: path.to_owned(), file }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut flushed = self.flushed.lock().unwrap();
        let bytes = flushed.remove(from).unwrap_or_default();
        flushed.insert(to.to_owned(), bytes);
        RealDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        RealDisk.usage(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for FlushingFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        self.file.read_cached_at(out, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_parts_at(parts, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.disk.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("planned"));
        }
        let mut bytes = vec![0; usize::try_from(self.file.len()?).unwrap()];
        self.file.read_exact_at(&mut bytes, 0)?;
        // The file goes by the name that it has now.
        let path = if self.path.exists() { self.path.clone() } else { self.path.with_extension("") };
        self.disk.flushed.lock().unwrap().insert(path, bytes);
        Ok(())
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch(offset, len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }
}

#[tokio::test]
async fn a_failed_flush_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Flushing::default();
    let mut log = open_with(&disk.env(), dir.path(), LogOptions::default()).unwrap();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    log.save_vote(&Vote::new(2, 1)).await.unwrap_err();
    disk.broken.store(false, Ordering::SeqCst);
    log.save_vote(&Vote::new(3, 1)).await.unwrap_err();
    log.blocking_append(entries(1, 0..1)).await.unwrap_err();
    log.try_get_log_entries(..).await.unwrap_err();
    log.close().await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Flushing::default();
    let options = LogOptions { rewrite_bytes: 1000, ..LogOptions::default() };
    let mut expected = Vec::new();
    let mut next = 0;
    for round in 1..12 {
        let mut log = open_with(&disk.env(), dir.path(), options).unwrap();
        assert_eq!(all(&mut log).await, expected, "round {round}");
        let appended = entries(round, next..next + 5);
        log.blocking_append(appended.clone()).await.unwrap();
        expected.extend(appended);
        log.save_vote(&Vote::new(round, 1)).await.unwrap();
        if round % 3 == 0 {
            expected.truncate(expected.len() - 2);
            log.truncate_after(expected.last().map(|entry| entry.log_id())).await.unwrap();
        }
        if round % 4 == 0 {
            let purged: Vec<_> = expected.drain(..8).collect();
            log.purge(purged[7].log_id()).await.unwrap();
            // The answer to the vote covers the purge before it.
            log.save_vote(&Vote::new(round, 1)).await.unwrap();
        }
        // What nobody was told about may go.
        log.save_committed(expected.last().map(|entry| entry.log_id())).await.unwrap();
        disk.broken.store(true, Ordering::SeqCst);
        log.save_vote(&Vote::new(round + 1, 1)).await.unwrap_err();
        log.close().await;
        disk.broken.store(false, Ordering::SeqCst);
        disk.cut_power();
        next = expected.last().unwrap().index() + 1;
        let mut log = open_with(&disk.env(), dir.path(), options).unwrap();
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(round, 1)));
        log.close().await;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Purge(u64),
    Vote,
    Commit(u64),
    Reopen,
}

/// What a log should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    term: u64,
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<RaftEntry>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.last().map(|entry| entry.index()).or(self.purged.map(|id| id.index));
        last.map_or(0, |last| last + 1)
    }
}

async fn run(dir: PathBuf, steps: Vec<Step>) {
    let options = LogOptions { cache_bytes: 500, rewrite_bytes: 700, read_bytes: 1000 };
    let mut log = open_with(&Env::real(), &dir, options).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(count) => {
                let new = entries(model.term, model.next()..model.next() + count);
                log.blocking_append(new.clone()).await.unwrap();
                model.entries.extend(new);
            }
            Step::Truncate(drop) => {
                let keep = model.entries.len().saturating_sub(usize::try_from(drop).unwrap());
                model.entries.truncate(keep);
                model.term += 1;
                let last = model.entries.last().map(|entry| entry.log_id()).or(model.purged);
                log.truncate_after(last).await.unwrap();
            }
            Step::Purge(count) => {
                let count = model.entries.len().min(usize::try_from(count).unwrap());
                if let Some(last) = model.entries.drain(..count).next_back() {
                    model.purged = Some(last.log_id());
                    log.purge(last.log_id()).await.unwrap();
                }
            }
            Step::Vote => {
                model.term += 1;
                model.vote = Some(Vote::new(model.term, 1));
                log.save_vote(&Vote::new(model.term, 1)).await.unwrap();
            }
            Step::Commit(back) => {
                let committed = model.entries.iter().rev().nth(usize::try_from(back).unwrap());
                log.save_committed(committed.map(|entry| entry.log_id())).await.unwrap();
            }
            Step::Reopen => {
                log.close().await;
                log = open_with(&Env::real(), &dir, options).unwrap();
            }
        }
        assert_eq!(all(&mut log).await, model.entries);
        assert_eq!(log.read_vote().await.unwrap(), model.vote);
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, model.purged);
        assert_eq!(state.last_log_id, model.entries.last().map(|entry| entry.log_id()).or(model.purged));
    }
    log.close().await;
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..8).prop_map(Step::Append),
        1 => (0u64..6).prop_map(Step::Truncate),
        2 => (1u64..12).prop_map(Step::Purge),
        1 => Just(Step::Vote),
        1 => (0u64..4).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_log_holds_what_a_model_holds_through_rewrites_and_restarts(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(run(dir.path().to_owned(), steps));
    }
}
