//! The log as openraft sees it.

use super::{
    LogError,
    reader::Window,
    record::{self, FILE_HEADER_LEN, HEADER_LEN, Head, Kind, Salt, file_header},
    recovery::recover,
    state::{Done, Placed, Shared, State},
    writer::{BeforePurge, Writer},
};
use crate::{
    encoding::decode,
    raft::types::{LogId, RaftEntry, RaftTypes, Vote},
};
use ashlar_runtime::{DiskFile, Env, OpenMode, Pool, RngExt};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds, RangeInclusive},
    path::Path,
    sync::Arc,
};
use tokio::sync::{oneshot, watch};

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Flushed entries kept in memory, for followers and for applying. Default 8 MiB: seconds of a busy group.
    pub cache_bytes: usize,
    /// Dead bytes at the beginning of the file that make a rewrite worth it. Default 16 MiB.
    pub rewrite_bytes: u64,
    /// Entries in one message to a follower, in bytes. Default 4 MiB: far below the limit of a message.
    pub read_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, rewrite_bytes: 16 << 20, read_bytes: 4 << 20 }
    }
}

/// Handle to the log of one replica; clones share it. The writer stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
    ended: watch::Receiver<bool>,
    pool: Pool,
    read_bytes: usize,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Where an entry is read from.
enum Source {
    Memory(Arc<RaftEntry>),
    File { placed: Placed, offset: u64 },
}

impl LogStore {
    /// Opens or makes the log in a directory. Blocks.
    pub fn open(
        env: &Env,
        pool: Pool,
        dir: &Path,
        options: LogOptions,
        before_purge: BeforePurge,
    ) -> Result<Self, LogError> {
        let path = dir.join("log");
        let failed = |source| LogError::Io { path: path.clone(), source };
        let file = open_file(env, &path).map_err(failed)?;
        let mut found = recover(&path, &*file, options.cache_bytes)?;
        let end = settle(&*file, &mut found.batch, found.salt, found.end, found.closed).map_err(failed)?;
        let state = State {
            vote: found.vote,
            committed: found.committed,
            committed_waits: false,
            purged: found.purged,
            slots: found.slots,
            queue: Vec::new(),
            tail: end,
            flushed: end,
            file: Placed { file: Arc::from(file), base: 0 },
            closing: false,
            failed: None,
        };
        let shared = Arc::new(Shared::new(path, found.salt, state));
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk: Arc::clone(&env.disk),
            before_purge,
            batch: found.batch,
            rewrite_bytes: options.rewrite_bytes,
        };
        let (end, ended) = watch::channel(false);
        let _writer = env.tasks.driver("raft-log", async move {
            writer.run().await;
            // Nobody may wait for the end.
            let _ = end.send(true);
        });
        let owner = Arc::new(Owner(Arc::clone(&shared)));
        Ok(Self { shared, _owner: owner, ended, pool, read_bytes: options.read_bytes })
    }

    /// Writes what is queued and lets go of the file. Every later call fails.
    pub async fn close(&self) {
        self.shared.close();
        // An error means that the writer is gone, which is what is waited for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Entries of a range of indexes, no more than `limit` bytes of them but at least one.
    async fn read(&self, range: Range<u64>, limit: usize) -> io::Result<Vec<RaftEntry>> {
        let mut sources = Vec::new();
        let mut in_file = false;
        {
            let state = self.shared.lock();
            if let Some(reason) = state.failed {
                return Err(io::Error::other(reason));
            }
            let mut bytes = 0;
            for slot in state.slots.range(range) {
                if bytes > 0 && bytes + slot.len > limit {
                    break;
                }
                bytes += slot.len;
                sources.push(match &slot.cached {
                    Some(entry) => Source::Memory(Arc::clone(entry)),
                    None => {
                        in_file = true;
                        Source::File { placed: state.file.clone(), offset: slot.offset }
                    }
                });
            }
        }
        let salt = self.shared.salt;
        if in_file {
            self.pool.run(move || load(sources, salt)).await.map_err(io::Error::other)?
        } else {
            load(sources, salt)
        }
    }
}

/// Reads what is not in memory. Blocks.
fn load(sources: Vec<Source>, salt: Salt) -> io::Result<Vec<RaftEntry>> {
    let placed = sources.iter().find_map(|source| match source {
        Source::File { placed, .. } => Some(placed.clone()),
        Source::Memory(_) => None,
    });
    let mut window = placed.as_ref().map(|placed| Window::new(&*placed.file)).transpose()?;
    let mut entries = Vec::with_capacity(sources.len());
    for source in sources {
        entries.push(match source {
            Source::Memory(entry) => RaftEntry::clone(&entry),
            Source::File { placed, offset } => {
                let record = match &mut window {
                    Some(window) => window.record(salt, placed.physical(offset))?,
                    None => None,
                };
                let damaged =
                    || io::Error::new(io::ErrorKind::InvalidData, "log damaged: an entry is unreadable");
                let (_, payload) = record.filter(|(head, _)| head.kind == Kind::Entry).ok_or_else(damaged)?;
                decode(payload).map_err(|_| damaged())?
            }
        });
    }
    Ok(entries)
}

/// Opens the log file; a new one gets its header and its name durably first.
fn open_file(env: &Env, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match env.disk.open(path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let new = path.with_extension("new");
    let file = env.disk.open(&new, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_all_at(&file_header(Salt(env.rng.u64())), 0)?;
    file.sync_data()?;
    env.disk.rename(&new, path)?;
    if let Some(dir) = path.parent() {
        env.disk.sync_dir(dir)?;
    }
    Ok(file)
}

/// Cuts off what a crash left behind the last valid record and closes the batch that it tore. What was read but
/// not flushed before the crash counts from now on, so it is flushed here.
fn settle(file: &dyn DiskFile, batch: &mut u64, salt: Salt, mut end: u64, closed: bool) -> io::Result<u64> {
    if file.len()? > end {
        tracing::info!(end, torn = file.len()? - end, "cut the torn end of a log");
        file.truncate(end)?;
    }
    if !closed {
        let mut mark = Vec::with_capacity(HEADER_LEN);
        record::write(&mut mark, salt, Head { kind: Kind::Mark, batch: *batch, index: 0, closes: true }, &[]);
        file.write_all_at(&mark, end)?;
        end += mark.len() as u64;
    }
    debug_assert!(end >= FILE_HEADER_LEN as u64);
    file.sync_data()?;
    Ok(end)
}

impl RaftLogReader<RaftTypes> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(bounds(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start..end, self.read_bytes).await
    }

    /// The last entry of each leader: what openraft's suite wants, though its documentation says the first.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let state = self.shared.lock();
        let mut keys: Vec<LogId> = Vec::new();
        for slot in state.slots.range(range.start().index..range.end().index.saturating_add(1)) {
            match keys.last_mut() {
                Some(key) if key.leader_id == slot.id.leader_id => *key = slot.id,
                _ => keys.push(slot.id),
            }
        }
        Ok(keys)
    }
}

impl RaftLogStorage<RaftTypes> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<RaftTypes>, io::Error> {
        let state = self.shared.lock();
        state.check()?;
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.slots.last().map(|slot| slot.id).or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            state.check()?;
            state.vote(*vote, answer);
        }
        self.shared.wake.notify_one();
        answered.await.map_err(io::Error::other)?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut state = self.shared.lock();
        state.check()?;
        state.commit(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.shared.lock();
        // The commit point may run ahead of entries whose flush a crash prevented.
        let last = state.slots.last().map(|slot| slot.id).or(state.purged);
        Ok(state.committed.min(last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<RaftTypes>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut state = self.shared.lock();
            state.check()?;
            let mut entries = entries.into_iter().peekable();
            let mut callback = Some(callback);
            while let Some(entry) = entries.next() {
                let last = entries.peek().is_none();
                let done = callback.take_if(|_| last).map_or(Done::Nobody, Done::Appended);
                state.append(entry, done)?;
            }
            if let Some(nothing_appended) = callback {
                drop(state);
                nothing_appended.io_completed(Ok(()));
                return Ok(());
            }
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Durable when it returns: a snapshot that is installed next must not find the dropped entries after a crash.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            state.check()?;
            state.truncate(last_log_id, answer);
        }
        self.shared.wake.notify_one();
        answered.await.map_err(io::Error::other)?
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.shared.lock();
            state.check()?;
            state.purge(log_id);
        }
        self.shared.wake.notify_one();
        Ok(())
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
