//! What waits for the commit thread.

use crate::{
    drive::Drive,
    error::StoreError,
    format::{Extent, RecordHeader},
    sync::{Arc, Condvar, Mutex, locked, wait},
    tables::Tables,
};
use ashlar_runtime::Reservation;
use ashlar_types::ShardId;
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// A shard ready for its record.
#[derive(Debug)]
pub(crate) struct NewShard {
    /// Its epoch is filled in when the batch is made.
    pub(crate) header: RecordHeader,
    pub(crate) body: Vec<u8>,
    /// Of a small shard.
    pub(crate) payload: Vec<Bytes>,
    /// Of a large shard, written already.
    pub(crate) extents: Box<[Extent]>,
    /// Keep the extents' segments from being used again until the record is in the index.
    pub(crate) claims: Vec<Claim>,
}

/// Holds a segment still while a piece of a shard in it has no record.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) drive: Arc<Drive>,
    pub(crate) extent: Extent,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let segment = self.extent.segment;
        self.drive.change_tables(|tables: &mut Tables| {
            if let Some(segment) = tables.segments.get_mut(&segment) {
                segment.pending = segment.pending.saturating_sub(1);
            }
        });
    }
}

#[derive(Debug)]
pub(crate) enum Work {
    Put(NewShard),
    /// Compaction's copy of the record numbered `from`; void if that is no longer the shard's.
    Move {
        new: NewShard,
        from: u64,
    },
    Delete(Vec<ShardId>),
}

/// Where the outcome of a job goes; whoever asked may be gone.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) to: oneshot::Sender<Result<(), StoreError>>,
    /// Memory of the job, given back with the answer.
    pub(crate) memory: Option<Reservation>,
}

impl Answer {
    pub(crate) fn send(self, outcome: Result<(), StoreError>) {
        drop(self.memory);
        let _ = self.to.send(outcome);
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) answer: Answer,
}

impl Job {
    /// Bytes it adds to the log at most.
    fn len(&self) -> u64 {
        match &self.work {
            Work::Put(new) | Work::Move { new, .. } => new.header.stored_len(),
            Work::Delete(shards) => (shards.len() * RecordHeader::LEN) as u64,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Bounded by the memory that jobs reserve before they are pushed.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting::default()), changed: Condvar::new() }
    }

    /// `Closed` once the store is; the job is dropped then.
    pub(crate) fn push(
        &self,
        work: Work,
        memory: Option<Reservation>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (to, outcome) = oneshot::channel();
        let mut waiting = locked(&self.waiting);
        if waiting.closed {
            drop(waiting);
            return Err(StoreError::Closed);
        }
        waiting.jobs.push_back(Job { work, answer: Answer { to, memory } });
        drop(waiting);
        self.changed.notify_one();
        Ok(outcome)
    }

    /// All that waits, up to `max` bytes and at least one job. Blocks; `None` once closed and empty.
    pub(crate) fn take(&self, max: u64) -> Option<Vec<Job>> {
        let mut waiting = locked(&self.waiting);
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = wait(&self.changed, waiting);
        }
        let mut bytes = 0;
        let mut taken = Vec::with_capacity(waiting.jobs.len());
        while let Some(job) = waiting.jobs.front() {
            bytes += job.len();
            if bytes > max && !taken.is_empty() {
                break;
            }
            taken.extend(waiting.jobs.pop_front());
        }
        Some(taken)
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.waiting).jobs.len()
    }

    /// Refuses what waits and what comes: nobody takes it any more.
    pub(crate) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut locked(&self.waiting).jobs);
        for job in waiting {
            job.answer.send(Err(StoreError::Closed));
        }
    }

    /// What waits is still done; nothing more is taken.
    pub(crate) fn close(&self) {
        locked(&self.waiting).closed = true;
        self.changed.notify_all();
    }
}
