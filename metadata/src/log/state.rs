//! What the log holds, and what waits to be written.

use super::{
    cache::{Slot, Slots},
    record::{HEADER_LEN, Kind, PAYLOAD_MAX, Salt},
};
use crate::{
    encoding::encode,
    raft::types::{LogId, RaftEntry, RaftTypes, Vote},
};
use ashlar_runtime::{
    DiskFile,
    sync::{Mutex, MutexGuard},
};
use openraft::{entry::RaftEntry as _, storage::IOFlushed};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
};
use tokio::sync::{Notify, oneshot};

/// Shared by the handles of a log and its writer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) salt: Salt,
    state: Mutex<State>,
    pub(super) wake: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// A newer commit point than the last one queued. It is not worth a flush of its own: it goes along with the
    /// next batch, or is learned again from the leader.
    pub(super) committed_waits: bool,
    pub(super) purged: Option<LogId>,
    pub(super) slots: Slots,
    pub(super) queue: Vec<Pending>,
    /// Where the next record goes, counted over all rewrites.
    pub(super) tail: u64,
    pub(super) flushed: u64,
    pub(super) file: Placed,
    pub(super) closing: bool,
    pub(super) failed: Option<&'static str>,
}

/// The file, and how positions in the log become positions in it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) file: Arc<dyn DiskFile>,
    /// Position in the log minus position in the file: grows with every rewrite.
    pub(super) base: u64,
}

/// A record on its way to the file.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    pub(super) index: u64,
    pub(super) payload: Vec<u8>,
    pub(super) done: Done,
}

/// Who is told once the record is durable.
pub(super) enum Done {
    Nobody,
    Appended(IOFlushed<RaftTypes>),
    Saved(oneshot::Sender<io::Result<()>>),
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Appended(_) => "Appended",
            Self::Saved(_) => "Saved",
        })
    }
}

impl Done {
    pub(super) fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Appended(callback) => callback.io_completed(result),
            // A replica that was stopped meanwhile does not wait any more.
            Self::Saved(answer) => drop(answer.send(result)),
        }
    }
}

impl Shared {
    pub(super) fn new(path: PathBuf, salt: Salt, state: State) -> Self {
        Self { path, salt, state: Mutex::new(state), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }
}

impl Placed {
    pub(super) fn physical(&self, offset: u64) -> u64 {
        offset - self.base
    }
}

impl State {
    pub(super) fn check(&self) -> io::Result<()> {
        match (self.failed, self.closing) {
            (Some(reason), _) => Err(io::Error::other(reason)),
            (None, true) => Err(io::Error::other("the log is closed")),
            (None, false) => Ok(()),
        }
    }

    pub(super) fn enqueue(&mut self, pending: Pending) {
        self.tail += (HEADER_LEN + pending.payload.len()) as u64;
        self.queue.push(pending);
    }

    pub(super) fn append(&mut self, entry: RaftEntry, done: Done) -> io::Result<()> {
        let id = entry.log_id();
        let follows = match (self.slots.last(), self.purged) {
            (Some(last), _) => last.id.index + 1 == id.index,
            (None, Some(purged)) => purged.index + 1 == id.index,
            (None, None) => true,
        };
        let payload = encode(&entry);
        if !follows || payload.len() > PAYLOAD_MAX {
            let reason =
                if follows { "an entry is too large" } else { "an entry would leave a gap in the log" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.slots.push(Slot::new(id, self.tail, HEADER_LEN + payload.len(), Arc::new(entry)));
        self.enqueue(Pending { kind: Kind::Entry, index: id.index, payload, done });
        Ok(())
    }

    pub(super) fn vote(&mut self, vote: Vote, answer: oneshot::Sender<io::Result<()>>) {
        self.vote = Some(vote);
        let done = Done::Saved(answer);
        self.enqueue(Pending { kind: Kind::Vote, index: 0, payload: encode(&vote), done });
    }

    pub(super) fn commit(&mut self, committed: Option<LogId>) {
        self.committed_waits |= self.committed != committed;
        self.committed = committed;
    }

    /// Drops the entries after `last`.
    pub(super) fn truncate(&mut self, last: Option<LogId>, answer: oneshot::Sender<io::Result<()>>) {
        let index = last.map_or(0, |last| last.index + 1);
        self.slots.truncate(index);
        self.enqueue(Pending { kind: Kind::Truncate, index, payload: Vec::new(), done: Done::Saved(answer) });
    }

    /// Drops the entries up to and with `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged >= Some(upto) {
            return;
        }
        self.purged = Some(upto);
        self.slots.purge(upto.index);
        let payload = encode(&upto);
        self.enqueue(Pending { kind: Kind::Purge, index: upto.index, payload, done: Done::Nobody });
    }

    /// Takes what waits, with the commit point if there is anything to flush or nothing will follow.
    pub(super) fn take_batch(&mut self) -> Vec<Pending> {
        if self.committed_waits && (self.closing || !self.queue.is_empty()) {
            self.committed_waits = false;
            let payload = encode(&self.committed);
            self.enqueue(Pending { kind: Kind::Committed, index: 0, payload, done: Done::Nobody });
        }
        std::mem::take(&mut self.queue)
    }
}
