//! The log of one replica as openraft sees it.

use super::{
    commit::Shared,
    format::{Kind, Record, ReplicaKey, memory},
    node_log::{LogOptions, Owner},
    segment::SegmentFile,
    slots::Place,
    state::Done,
    window::Window,
};
use crate::{
    encoding::{decode, encode},
    planted::{Plant, planted},
    raft::types::{LogId, RaftEntry, RaftTypes, Vote},
};
use ashlar_runtime::{Pool, TaskHandle, Tasks, sync::Mutex};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use std::{
    fmt, io,
    ops::{Bound, Range, RangeBounds, RangeInclusive},
    sync::{Arc, PoisonError},
};
use tokio::sync::oneshot;

/// Makes the state machine durable before entries that it has applied are purged.
pub type BeforePurge = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Handle to the log of one replica; clones share it.
#[derive(Clone, Debug)]
pub struct LogStore(Arc<Handle>);

/// Lets go of the replica at the end.
struct Handle {
    owner: Arc<Owner>,
    key: ReplicaKey,
    tasks: Tasks,
    pool: Pool,
    options: LogOptions,
    before_purge: Mutex<Option<BeforePurge>>,
    /// Makes the state machine durable for a purge.
    purger: Mutex<Option<TaskHandle>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(replica) = self.owner.0.lock().replicas.get_mut(&self.key) {
            replica.open = false;
        }
    }
}

/// Where an entry is read from.
enum Source {
    Memory(Arc<RaftEntry>),
    File { file: Arc<SegmentFile>, place: Place, id: LogId },
}

impl LogStore {
    pub(super) fn new(
        owner: Arc<Owner>,
        key: ReplicaKey,
        tasks: Tasks,
        pool: Pool,
        options: LogOptions,
        before_purge: BeforePurge,
    ) -> Self {
        let before_purge = Mutex::new(Some(before_purge));
        Self(Arc::new(Handle { owner, key, tasks, pool, options, before_purge, purger: Mutex::default() }))
    }

    fn shared(&self) -> &Shared {
        &self.0.owner.0
    }

    /// Makes durable what is queued and lets go of the replica, which may be opened again. Every later call fails.
    pub async fn close(&self) {
        let purger = self.0.purger.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(purger) = purger {
            purger.join().await;
        }
        *self.0.before_purge.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared().lock();
            let Ok(replica) = state.replica(self.0.key) else { return };
            replica.open = false;
            state.barrier(self.0.key, answer);
        }
        self.shared().work.notify_one();
        // Without an answer the log has failed, which it has said itself.
        let _ = answered.await;
    }

    /// Changes the state and waits until that is durable.
    async fn wait(
        &self,
        change: impl FnOnce(&mut super::state::State, oneshot::Sender<io::Result<()>>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        change(&mut self.shared().lock(), answer)?;
        self.shared().work.notify_one();
        answered.await.map_err(io::Error::other)?
    }

    /// Entries of a range of indexes, no more than `limit` bytes of them but at least one.
    async fn read(&self, range: Range<u64>, limit: usize) -> io::Result<Vec<RaftEntry>> {
        let mut sources = Vec::new();
        let mut in_file = false;
        {
            let mut state = self.shared().lock();
            let kept_from = state.replica(self.0.key)?.purged().map_or(0, |purged| purged.index + 1);
            let Some(replica) = state.replicas.get(&self.0.key) else { return Ok(Vec::new()) };
            let mut bytes = 0;
            for slot in replica.slots.range(range.start.max(kept_from)..range.end) {
                let len = slot.len as usize;
                if bytes > 0 && bytes + len > limit {
                    break;
                }
                bytes += len;
                let source = match (&slot.cached, slot.place) {
                    (Some(entry), _) => Some(Source::Memory(Arc::clone(entry))),
                    (None, Some(place)) => {
                        in_file = true;
                        let file = state.space.file(place.used).cloned();
                        file.map(|file| Source::File { file, place, id: slot.id })
                    }
                    (None, None) => None,
                };
                sources.push(source.ok_or_else(|| io::Error::other("an entry is nowhere"))?);
            }
        }
        let (owner, key) = (Arc::clone(&self.0.owner), self.0.key);
        if in_file {
            self.0.pool.run(move || load(sources, &owner.0, key)).await.map_err(io::Error::other)?
        } else {
            load(sources, &owner.0, key)
        }
    }

    /// Makes the state machine durable, then the purge of what it covers.
    async fn purge_when_durable(&self) -> io::Result<()> {
        loop {
            let upto = {
                let mut state = self.shared().lock();
                let replica = state.replica(self.0.key)?;
                match replica.purging {
                    Some(upto) if replica.state.purged < Some(upto) => upto,
                    Some(_) | None => return Ok(()),
                }
            };
            let before_purge = self.0.before_purge.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let before_purge = before_purge.ok_or_else(|| io::Error::other("the log is closed"))?;
            let before_purge: BeforePurge =
                if planted(Plant::PurgePastPersisted) { Arc::new(|| Ok(())) } else { before_purge };
            let durable = self.0.pool.run(move || before_purge()).await.map_err(io::Error::other);
            let mut state = self.shared().lock();
            match durable.and_then(|durable| durable) {
                Ok(()) => state.purge(self.0.key, upto)?,
                Err(error) => {
                    tracing::error!(
                        replica = %self.0.key, %error,
                        "the tables could not be flushed before a purge of the log; the replica stops"
                    );
                    state.replica(self.0.key)?.failed =
                        Some("the tables could not be flushed before a purge");
                    return Err(error);
                }
            }
        }
    }

    /// Purges while the replica goes on.
    fn purge_in_background(&self) {
        let mut purger = self.0.purger.lock().unwrap_or_else(PoisonError::into_inner);
        if purger.as_ref().is_some_and(|purger| !purger.is_finished()) {
            return;
        }
        // Weak: the task must not keep the log open.
        let handle = Arc::downgrade(&self.0);
        let task = self.0.tasks.spawn("raft-log-purge", async move {
            if let Some(handle) = handle.upgrade() {
                // It has been told and the replica stopped.
                let _ = Self(handle).purge_when_durable().await;
            }
        });
        *purger = Some(task);
    }
}

/// Reads what is not in memory. Blocks.
fn load(sources: Vec<Source>, shared: &Shared, key: ReplicaKey) -> io::Result<Vec<RaftEntry>> {
    let mut entries = Vec::with_capacity(sources.len());
    let mut sources = sources.into_iter().peekable();
    while let Some(source) = sources.next() {
        match source {
            Source::Memory(entry) => entries.push(RaftEntry::clone(&entry)),
            Source::File { file, place, id } => {
                let mut window = Window::new(&file);
                entries.push(read_entry(&mut window, shared, key, place, id)?);
                // Those that follow in the same segment are likely near.
                let near = |source: &Source| match source {
                    Source::File { place: next, .. } => next.used == place.used,
                    Source::Memory(_) => false,
                };
                while let Some(Source::File { place, id, .. }) = sources.next_if(near) {
                    entries.push(read_entry(&mut window, shared, key, place, id)?);
                }
            }
        }
    }
    Ok(entries)
}

fn read_entry(
    window: &mut Window<'_>,
    shared: &Shared,
    key: ReplicaKey,
    place: Place,
    id: LogId,
) -> io::Result<RaftEntry> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "log damaged: an entry is unreadable");
    let bytes = window.at(place.offset.into(), place.len.into());
    let bytes = bytes.get(..memory(place.len.into())).unwrap_or_default();
    let record = Record::decode(shared.seed(key, place.batch), bytes);
    let is_entry =
        |record: &Record<'_>| matches!(record.head.kind, Kind::Entry | Kind::Moved) && record.head.id == id;
    let record = record.filter(is_entry).ok_or_else(damaged)?;
    decode(record.payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl RaftLogReader<RaftTypes> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(bounds(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared().lock().replica(self.0.key)?.state.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start..end, self.0.options.read_bytes).await
    }

    /// The last entry of each leader: what openraft's suite wants, though its documentation says the first.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let mut state = self.shared().lock();
        let replica = state.replica(self.0.key)?;
        let mut keys: Vec<LogId> = Vec::new();
        for slot in replica.slots.range(range.start().index..range.end().index.saturating_add(1)) {
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
        let mut state = self.shared().lock();
        let replica = state.replica(self.0.key)?;
        Ok(LogState { last_purged_log_id: replica.purged(), last_log_id: replica.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted(Plant::VoteNotSynced) {
            let (answer, _) = oneshot::channel();
            return self.shared().lock().vote(self.0.key, *vote, answer);
        }
        self.wait(|state, answer| state.vote(self.0.key, *vote, answer)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared().lock().commit(self.0.key, committed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let mut state = self.shared().lock();
        let replica = state.replica(self.0.key)?;
        // The commit point may run ahead of entries whose flush a crash prevented.
        Ok(replica.state.committed.min(replica.last()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<RaftTypes>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encode = |entry: RaftEntry| (encode(&entry), Arc::new(entry));
        let encoded: Vec<_> = entries.into_iter().map(encode).collect();
        let mut callback = Some(callback);
        loop {
            let room = self.shared().room.notified();
            {
                let mut state = self.shared().lock();
                state.replica(self.0.key)?;
                if state.queued_bytes < self.0.options.queue_bytes {
                    let last = encoded.len().saturating_sub(1);
                    for (place, (payload, entry)) in encoded.into_iter().enumerate() {
                        let done = callback.take_if(|_| place == last).map_or(Done::Nobody, Done::Appended);
                        state.append(self.0.key, entry, payload, done)?;
                    }
                    break;
                }
            }
            room.await;
        }
        match callback {
            Some(nothing_appended) => nothing_appended.io_completed(Ok(())),
            None => self.shared().work.notify_one(),
        }
        Ok(())
    }

    /// Durable when it returns: a snapshot that is installed next must not find the dropped entries after a crash.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.wait(|state, answer| state.truncate(self.0.key, last_log_id, answer)).await
    }

    /// The entries are gone at once for those who ask, and on disk as soon as the state machine is durable: before this
    /// returns if none is left, because what is appended next does not follow from those on disk then.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let leaves_none = {
            let mut state = self.shared().lock();
            let replica = state.replica(self.0.key)?;
            if replica.purged() >= Some(log_id) {
                return Ok(());
            }
            replica.purging = Some(log_id);
            replica.slots.last().is_none_or(|last| last.id.index <= log_id.index)
        };
        if leaves_none {
            return self.purge_when_durable().await;
        }
        self.purge_in_background();
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
