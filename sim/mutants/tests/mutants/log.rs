//! The Raft log of a node on a simulated disk: what it acknowledged is there after a power cut, damage is said and not
//! swallowed, recycled segments show nothing of what they held, and nothing is purged that the tables could still lose.

use ashlar_metadata::{
    command::{Command, Entry},
    log::{
        BeforePurge, LogCondition, LogError, LogOptions, LogStore, NodeLog,
        raft::{LeaderTerm, LogId, RaftEntry, Vote},
    },
};
use ashlar_runtime::{
    Disk, Env, OpenMode, Pool, SimDisk,
    disk::sim::{DiskImage, Event, Fault, FaultKind, FaultOn, Operation, Survivors},
};
use ashlar_types::{GroupId, Timestamp};
use openraft::{
    RaftLogReader,
    entry::RaftEntry as _,
    storage::{RaftLogStorage, RaftLogStorageExt},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Judged = Result<u64, String>;

const GROUP: GroupId = GroupId(1);
const RAFT_ID: u64 = 1;
const DIR: &str = "/log";
/// Long for somebody who was answered, short for a test.
const SLOW_FLUSH: Duration = Duration::from_millis(2);
const ROUNDS: u64 = 5;

fn entries(range: std::ops::Range<u64>) -> Vec<RaftEntry> {
    let entry = |index| Entry { request: None, stamp: Timestamp(index), command: Command::Nothing };
    range.map(|index| RaftEntry::new_normal(id(index), entry(index))).collect()
}

fn id(index: u64) -> LogId {
    LogId::new(LeaderTerm { term: 1, node_id: RAFT_ID }, index)
}

fn vote(term: u64) -> Vote {
    Vote::new(term, RAFT_ID)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open_log(disk: &SimDisk) -> Result<(Env, NodeLog), LogError> {
    let env = Env { disk: Arc::new(disk.clone()), ..Env::real() };
    let options =
        LogOptions { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..LogOptions::default() };
    let log = NodeLog::open(&env, Path::new(DIR), options)?;
    Ok((env, log))
}

fn open(disk: &SimDisk, before_purge: BeforePurge) -> Result<(NodeLog, LogStore), LogError> {
    let (env, log) = open_log(disk)?;
    let store = log.replica(GROUP, RAFT_ID, Pool::new(&env.tasks, "log-reads", 1, 16), before_purge)?;
    Ok((log, store))
}

fn at_once() -> BeforePurge {
    Arc::new(|| Ok(()))
}

/// What a replica finds when it comes back.
#[derive(Debug)]
struct Found {
    vote: Option<Vote>,
    purged: Option<u64>,
    entries: Vec<RaftEntry>,
}

async fn found(disk: &SimDisk) -> Result<Found, LogError> {
    let (log, mut store) = open(disk, at_once())?;
    let stopped = |_| LogError::Stopped("it does not answer");
    let found = Found {
        vote: store.read_vote().await.map_err(stopped)?,
        purged: store.get_log_state().await.map_err(stopped)?.last_purged_log_id.map(|id| id.index),
        entries: store.try_get_log_entries(..).await.map_err(stopped)?,
    };
    drop(store);
    log.close().await;
    Ok(found)
}

/// Power cuts right after each answer, with flushes that take their time.
pub(super) fn power_cuts() -> Judged {
    block_on(async {
        let disk = SimDisk::new();
        let on = FaultOn { operation: Operation::SyncFile, path_contains: String::new(), nth: 0 };
        disk.faults().inject_lasting(Fault { on, kind: FaultKind::Slow(SLOW_FLUSH) });
        let (log, mut store) = open(&disk, at_once()).map_err(text)?;
        for round in 1..=ROUNDS {
            store.save_vote(&vote(round)).await.map_err(text)?;
            disk.note(2 * round);
            store.blocking_append(entries(3 * (round - 1)..3 * round)).await.map_err(text)?;
            disk.note(2 * round + 1);
        }
        let history = disk.history();
        store.close().await;
        log.close().await;
        let mut cuts = 0;
        for (place, event) in history.events.iter().enumerate() {
            let Event::Note(note) = event else { continue };
            let (round, appended) = (note / 2, note % 2 == 1);
            for survivors in [Survivors::None, Survivors::Random { seed: *note }] {
                let cut = SimDisk::with_image(history.crash(place + 1, survivors));
                let found = found(&cut).await.map_err(text)?;
                let kept = 3 * if appended { round } else { round - 1 };
                if found.vote != Some(vote(round)) {
                    return Err(format!("vote {round} was answered, and {:?} is there", found.vote));
                }
                if found.entries != entries(0..kept) {
                    let there = found.entries.len();
                    return Err(format!("{kept} entries were acknowledged, and {there} are there"));
                }
                cuts += 1;
            }
        }
        Ok(cuts)
    })
}

/// One bit of each block that was written flips. Either the replica is condemned and never comes back under its name, or
/// nothing is missing; the newest batch may be taken for one that was never whole.
pub(super) fn damage() -> Judged {
    block_on(async {
        let disk = SimDisk::new();
        let (log, mut store) = open(&disk, at_once()).map_err(text)?;
        store.save_vote(&vote(3)).await.map_err(text)?;
        store.blocking_append(entries(0..3)).await.map_err(text)?;
        store.save_vote(&vote(7)).await.map_err(text)?;
        for index in 3..9 {
            store.blocking_append(entries(index..index + 1)).await.map_err(text)?;
        }
        // Before closing, which may write more.
        let image = disk.image();
        drop(store);
        log.close().await;
        let (mut condemned, mut tried) = (0, 0);
        for (path, offset) in written_blocks(&image) {
            for bit in [5, 700] {
                tried += 1;
                let place = format!("bit {bit} of the block at {offset} of {}", path.display());
                match judge_damaged(&flipped(&image, &path, offset, bit)).await {
                    Ok(true) => condemned += 1,
                    Ok(false) => {}
                    Err(what) => return Err(format!("{place} flips: {what}")),
                }
            }
        }
        if condemned < 10 {
            Err(format!("only {condemned} of {tried} flips were noticed"))
        } else {
            Ok(tried)
        }
    })
}

/// Whether the replica is condemned.
async fn judge_damaged(disk: &SimDisk) -> Result<bool, String> {
    let (env, log) = open_log(disk).map_err(text)?;
    let of_replica = log.replicas().into_iter().find(|known| known.group == GROUP);
    let damaged = of_replica.is_some_and(|known| known.condition == LogCondition::Damaged);
    let pool = Pool::new(&env.tasks, "log-reads", 1, 16);
    let opened = log.replica(GROUP, RAFT_ID, pool, at_once());
    let outcome = match opened {
        Err(LogError::Damaged { .. }) if damaged => Ok(true),
        Err(error) => Err(text(error)),
        Ok(_) if damaged => Err("a replica that lost records goes on under its name".to_owned()),
        Ok(mut store) => {
            let voted = store.read_vote().await.map_err(text)?;
            let there = store.try_get_log_entries(..).await.map_err(text)?;
            drop(store);
            if voted != Some(vote(7)) {
                Err(format!("nobody says so, and the vote is {voted:?}"))
            } else if there != entries(0..8) && there != entries(0..9) {
                Err(format!("nobody says so, and {} entries are there", there.len()))
            } else {
                Ok(false)
            }
        }
    };
    log.close().await;
    outcome
}

/// Blocks that are not all zeros, but the first of each file, which says whose file it is.
fn written_blocks(image: &DiskImage) -> Vec<(PathBuf, u64)> {
    let mut blocks = Vec::new();
    for path in image.files().into_iter().filter(|path| path.starts_with(DIR)) {
        let bytes = image.read(&path).unwrap();
        let offsets = (0..).step_by(4096).zip(bytes.chunks(4096));
        let written = offsets.filter(|(offset, block)| *offset > 0 && block.iter().any(|byte| *byte != 0));
        blocks.extend(written.map(|(offset, _)| (path.clone(), offset)));
    }
    blocks
}

fn flipped(image: &DiskImage, path: &Path, offset: u64, bit: u64) -> SimDisk {
    let disk = SimDisk::with_image(image.clone());
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, offset + bit / 8).unwrap();
    disk
}

/// Segments are used again and again; the tables are made durable when the log asks for it, and at no other time.
pub(super) fn recycling() -> Judged {
    block_on(async {
        for rounds in [30, 61] {
            let disk = SimDisk::new();
            let (applied, durable) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let before_purge: BeforePurge = {
                let (applied, durable) = (Arc::clone(&applied), Arc::clone(&durable));
                Arc::new(move || {
                    durable.store(applied.load(Ordering::SeqCst), Ordering::SeqCst);
                    Ok(())
                })
            };
            let (log, mut store) = open(&disk, before_purge).map_err(text)?;
            for round in 0..rounds {
                store.blocking_append(entries(4 * round..4 * round + 4)).await.map_err(text)?;
                applied.store(4 * round + 3, Ordering::SeqCst);
                store.save_vote(&vote(round + 1)).await.map_err(text)?;
                store.purge(id(4 * round + 2)).await.map_err(text)?;
            }
            store.close().await;
            let stats = log.stats();
            log.close().await;
            let disk = SimDisk::with_image(disk.image());
            let found = found(&disk).await.map_err(|error| format!("after {rounds} rounds: {error}"))?;
            let purged = found.purged.unwrap_or(0);
            if purged > durable.load(Ordering::SeqCst) {
                return Err(format!("purged up to {purged}, and the tables are durable up to {durable:?}"));
            }
            if found.vote != Some(vote(rounds)) || found.entries != entries(purged + 1..4 * rounds) {
                return Err(format!("after {rounds} rounds and {stats:?}: {found:?}"));
            }
        }
        Ok(2)
    })
}
