//! The log of a node: opened once, lent to its replicas.

use super::{
    LogError,
    commit::{self, Shared},
    format::ReplicaKey,
    maker,
    recovery::recover,
    replica::Condition,
    segment::Files,
    state::{Done, State},
    stats::{LogStats, ReplicaLogStats},
    store::{BeforePurge, LogStore},
};
use ashlar_runtime::{Env, Pool};
use ashlar_types::GroupId;
use std::{io, path::Path, sync::Arc};
use tokio::sync::{oneshot, watch};

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Of a segment file; at most 1 GiB. Default 64 MiB: made in some 50 ms, and a few of them hold what is kept.
    pub segment_bytes: u64,
    /// Of the first one; each one made later has twice the length of the one before. Default 4 MiB: most nodes of a test
    /// or a small cluster never need more.
    pub first_segment_bytes: u64,
    /// Flushed entries kept in memory, of all replicas together, for followers and for applying. Default 64 MiB: seconds
    /// of a busy node.
    pub cache_bytes: usize,
    /// Bytes of records that may wait for the next batch; who appends more waits. Default 8 MiB: a batch takes a few
    /// milliseconds.
    pub queue_bytes: usize,
    /// Entries in one message to a follower, in bytes. Default 4 MiB: far below the limit of a message.
    pub read_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            cache_bytes: 64 << 20,
            queue_bytes: 8 << 20,
            read_bytes: 4 << 20,
        }
    }
}

/// What the log says of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogCondition {
    Sound,
    /// Flushed records were unreadable: it never votes again under this id.
    Damaged,
}

/// A replica that the log knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedReplica {
    pub group: GroupId,
    pub raft_id: u64,
    pub condition: LogCondition,
}

/// See the module `log`. Clones share it; it is closed when the last one and the last [`LogStore`] are gone.
#[derive(Clone, Debug)]
pub struct NodeLog {
    owner: Arc<Owner>,
    ended: watch::Receiver<bool>,
    options: LogOptions,
    env: Env,
}

/// Closes the log at the end.
#[derive(Debug)]
pub(super) struct Owner(pub(super) Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl NodeLog {
    /// Opens or makes the log in a directory. Blocks.
    pub fn open(env: &Env, dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        let files = Files::new(Arc::clone(&env.disk), dir.to_owned());
        let recovered = recover(&files, &*env.rng, &options)?;
        let state = State::new(recovered.replicas, recovered.space, recovered.last);
        let clock = Arc::clone(&env.clock);
        let shared = Arc::new(Shared::new(recovered.salt, files, clock, options.cache_bytes, state));
        let (end, ended) = watch::channel(false);
        let committing = Arc::clone(&shared);
        let _runs_on = env.tasks.driver("raft-log", async move {
            commit::run(&committing).await;
            committing.lock().committed = true;
            committing.make.notify_one();
            // Nobody may wait for the end.
            let _ = end.send(true);
        });
        let making = Arc::clone(&shared);
        let _runs_on = env.tasks.driver("raft-log-segments", async move { maker::run(&making).await });
        // Records of damage that was found are to be written.
        shared.work.notify_one();
        Ok(Self { owner: Arc::new(Owner(shared)), ended, options, env: env.clone() })
    }

    fn shared(&self) -> &Shared {
        &self.owner.0
    }

    /// All replicas that the log knows of.
    pub fn replicas(&self) -> Vec<LoggedReplica> {
        let state = self.shared().lock();
        let known = state.replicas.iter().filter_map(|(key, replica)| {
            let condition = match replica.condition {
                Condition::Sound => LogCondition::Sound,
                Condition::Condemned => LogCondition::Damaged,
                Condition::Retired => return None,
            };
            Some(LoggedReplica { group: key.group, raft_id: key.raft_id, condition })
        });
        known.collect()
    }

    /// Makes a replica known, durably. One that is known stays as it is.
    pub async fn begin(&self, group: GroupId, raft_id: u64) -> io::Result<()> {
        let key = ReplicaKey { group, raft_id };
        self.wait(|state, answer| {
            if state.replicas.contains_key(&key) {
                state.barrier(key, answer);
            } else {
                state.begin(key, Done::Saved(answer));
            }
        })
        .await
    }

    /// The log of one replica, which begins if it is not known. `before_purge` runs on `pool`, where reads are made too.
    pub fn replica(
        &self,
        group: GroupId,
        raft_id: u64,
        pool: Pool,
        before_purge: BeforePurge,
    ) -> Result<LogStore, LogError> {
        let key = ReplicaKey { group, raft_id };
        let mut state = self.shared().lock();
        state.check().map_err(|_| LogError::Stopped("the log is closed or has failed"))?;
        if !state.replicas.contains_key(&key) {
            state.begin(key, Done::Nobody);
            self.shared().work.notify_one();
        }
        let Some(replica) = state.replicas.get_mut(&key) else {
            return Err(LogError::Stopped("a replica that began is gone"));
        };
        if replica.condition != Condition::Sound {
            return Err(LogError::Damaged { group, raft_id });
        }
        if replica.open {
            return Err(LogError::InUse { group, raft_id });
        }
        (replica.open, replica.failed, replica.purging) = (true, None, None);
        drop(state);
        let owner = Arc::clone(&self.owner);
        Ok(LogStore::new(owner, key, self.env.tasks.clone(), pool, self.options, before_purge))
    }

    /// Forgets the records of a replica, durably. One that was condemned cannot begin again under the same id.
    pub async fn remove(&self, group: GroupId, raft_id: u64) -> io::Result<()> {
        let key = ReplicaKey { group, raft_id };
        self.wait(|state, answer| state.remove(key, Done::Saved(answer))).await
    }

    async fn wait(&self, change: impl FnOnce(&mut State, oneshot::Sender<io::Result<()>>)) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared().lock();
            state.check()?;
            change(&mut state, answer);
        }
        self.shared().work.notify_one();
        answered.await.map_err(io::Error::other)?
    }

    pub fn stats(&self) -> LogStats {
        let state = self.shared().lock();
        LogStats {
            segments: state.space.use_count(),
            bytes: state.space.bytes(),
            live_bytes: state.space.live_bytes(),
            spare_segments: state.space.spare_count(),
            queued_bytes: state.queued_bytes,
            batches: state.counts.batches,
            records: state.counts.records,
            written_bytes: state.counts.written_bytes,
            moved_records: state.counts.moved_records,
            write: state.counts.write,
            flush: state.counts.flush,
            direct: self.shared().files.is_direct(),
            failed: state.failed.is_some(),
        }
    }

    /// Of the newest incarnation of a group's replica here that is not condemned.
    pub fn replica_stats(&self, group: GroupId) -> Option<ReplicaLogStats> {
        let state = self.shared().lock();
        let of_group = |raft_id| ReplicaKey { group, raft_id };
        let mut known = state.replicas.range(of_group(0)..=of_group(u64::MAX)).rev();
        let (_, replica) = known.find(|(_, replica)| replica.condition == Condition::Sound)?;
        let kept_from = replica.purged().map_or(0, |purged| purged.index + 1);
        Some(ReplicaLogStats {
            bytes: replica.slots.bytes(),
            entries: replica.slots.len() as u64,
            first: replica.slots.first().map(|slot| slot.id.index.max(kept_from)),
            last: replica.slots.last().map(|slot| slot.id.index),
        })
    }

    /// Writes what is queued and lets go of the files. Every later call fails.
    pub async fn close(&self) {
        self.shared().close();
        // An error means that the thread is gone, which is what is waited for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}
