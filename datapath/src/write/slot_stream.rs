//! The stream of one shard to one drive.
//!
//! Owns a task that hands units to the drive in order, behind a bounded queue: a slow drive holds back its own slot
//! and no memory.
//! Lifecycle: open -send*-> (commit -> ended) or (dropped or cancelled -> ended without a shard).

use crate::shard_io::{ShardError, ShardSink, Unit};
use ashlar_runtime::{TaskHandle, Tasks};
use ashlar_types::DriveId;
use tokio::sync::{mpsc, oneshot, watch};

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotEnd {
    /// The shard is durable.
    Committed,
    /// The drive may have kept the shard only if it was asked to commit it.
    Failed(ShardError),
    /// Never asked to commit: nothing is kept.
    Cancelled,
}

pub(crate) struct SlotStream {
    pub(crate) drive: DriveId,
    /// `None` once all units are sent.
    units: Option<mpsc::Sender<Unit>>,
    commit: Option<oneshot::Sender<()>>,
    /// The drive has taken a unit. Closed with the task.
    proven: watch::Receiver<bool>,
    ended: oneshot::Receiver<SlotEnd>,
    end: Option<SlotEnd>,
    /// Aborts the task with the stream, and the shard with the task.
    _task: TaskHandle,
}

impl SlotStream {
    pub(crate) fn start(tasks: &Tasks, drive: DriveId, sink: Box<dyn ShardSink>, queue_units: usize) -> Self {
        let (units, queue) = mpsc::channel(queue_units.max(1));
        let (commit, committed) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let (proof, proven) = watch::channel(false);
        let task = tasks.spawn("slot-stream", async move {
            let end = drain(sink, queue, committed, proof).await;
            // Nobody listens when the write was abandoned.
            let _ = done.send(end);
        });
        Self { drive, units: Some(units), commit: Some(commit), proven, ended, end: None, _task: task }
    }

    /// Waits for room. `false`: the stream has ended, its drive failed. Cancel-safe: the unit is then not sent.
    pub(crate) async fn send(&self, unit: Unit) -> bool {
        match &self.units {
            Some(units) => units.send(unit).await.is_ok(),
            None => false,
        }
    }

    /// Waits until the drive has taken a unit. `false`: it failed before. Cancel-safe.
    pub(crate) async fn proven(&self) -> bool {
        self.proven.clone().wait_for(|proven| *proven).await.is_ok()
    }

    /// No more units: the drive flushes what it has.
    pub(crate) fn commit(&mut self) {
        self.units = None;
        if let Some(commit) = self.commit.take() {
            // The task has ended if the drive failed; `end` tells.
            let _ = commit.send(());
        }
    }

    /// Gives the shard up, unless the drive was asked to commit it.
    pub(crate) fn cancel(&mut self) {
        self.units = None;
        self.commit = None;
    }

    /// Waits for the end. Cancel-safe.
    pub(crate) async fn end(&mut self) -> SlotEnd {
        if let Some(end) = &self.end {
            return end.clone();
        }
        // The task sends before it ends, unless it was aborted with its runtime.
        let end = (&mut self.ended).await.unwrap_or(SlotEnd::Failed(ShardError::Unreachable));
        self.end.insert(end).clone()
    }
}

async fn drain(
    mut sink: Box<dyn ShardSink>,
    mut queue: mpsc::Receiver<Unit>,
    commit: oneshot::Receiver<()>,
    proof: watch::Sender<bool>,
) -> SlotEnd {
    while let Some(unit) = queue.recv().await {
        if let Err(error) = sink.append(unit).await {
            return SlotEnd::Failed(error);
        }
        proof.send_if_modified(|proven| !std::mem::replace(proven, true));
    }
    match commit.await {
        Ok(()) => match sink.commit().await {
            Ok(()) => SlotEnd::Committed,
            Err(error) => SlotEnd::Failed(error),
        },
        Err(_) => SlotEnd::Cancelled,
    }
}
