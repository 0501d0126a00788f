//! The commit thread: one batch at a time, one write and one flush for all that waits.
//!
//! Steps: find what is to be moved -> take the queue -> write -> flush -> account -> answer, in the order of the calls.

use super::{
    batch::Batch,
    format::{Record, ReplicaKey, Salt, Seed, memory},
    segment::Files,
    state::{Move, State, Take},
    window::Window,
};
use crate::planted::{Plant, planted};
use ashlar_runtime::{
    AlignedBuf, Clock,
    sync::{Mutex, MutexGuard},
};
use std::{
    io,
    sync::{Arc, PoisonError},
};
use tokio::sync::Notify;

pub(super) const FAILED: &str = "the log could not be written";

/// Shared by all handles of a log and its threads.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) salt: Salt,
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache_bytes: usize,
    state: Mutex<State>,
    /// Something waits for the commit thread.
    pub(super) work: Notify,
    /// The queue was taken.
    pub(super) room: Notify,
    /// A segment is to be made or deleted.
    pub(super) make: Notify,
    /// A segment was made, or could not be.
    pub(super) made: Notify,
}

impl Shared {
    pub(super) fn new(
        salt: Salt,
        files: Files,
        clock: Arc<dyn Clock>,
        cache_bytes: usize,
        state: State,
    ) -> Self {
        Self {
            salt,
            files,
            clock,
            cache_bytes,
            state: Mutex::new(state),
            work: Notify::new(),
            room: Notify::new(),
            make: Notify::new(),
            made: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits is still written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
        self.make.notify_one();
        self.room.notify_waiters();
    }

    pub(super) fn seed(&self, key: ReplicaKey, batch: super::format::BatchNumber) -> Seed {
        Seed { salt: self.salt, batch, key }
    }
}

/// Runs until the log is closed and everything queued is answered, or a write has failed.
pub(super) async fn run(shared: &Shared) {
    let mut buffer = AlignedBuf::zeroed(0);
    loop {
        let moved = find_moved(shared);
        let take = shared.lock().take(moved);
        let outcome = match take {
            Take::Batch(batch) => {
                shared.room.notify_waiters();
                commit(shared, *batch, &mut buffer)
            }
            Take::Room(len) => make_room(shared, len).await,
            Take::Nothing => {
                if !shared.lock().is_searching() {
                    shared.work.notified().await;
                }
                Ok(())
            }
            Take::Closed => return,
        };
        if let Err(error) = outcome {
            fail(shared, &error);
            return;
        }
    }
}

fn commit(shared: &Shared, mut batch: Batch, buffer: &mut AlignedBuf) -> io::Result<()> {
    let mut answers = std::mem::take(&mut batch.answers);
    if planted(Plant::AckBeforeFlush) {
        std::mem::take(&mut answers).into_iter().for_each(|done| done.tell(Ok(())));
    }
    let written = write(shared, &batch, buffer);
    match &written {
        Ok(()) => answers.into_iter().for_each(|done| done.tell(Ok(()))),
        Err(error) => {
            // Whoever calls again because of the answer must find the log failed.
            shared.lock().failed = Some(FAILED);
            answers.into_iter().for_each(|done| done.tell(Err(io::Error::new(error.kind(), FAILED))));
        }
    }
    written
}

fn write(shared: &Shared, batch: &Batch, buffer: &mut AlignedBuf) -> io::Result<()> {
    let crc = batch.encode(shared.salt, buffer);
    // The next batch is taken after this returned.
    shared.lock().last.1 = crc;
    let began = shared.clock.monotonic();
    batch.file.write(buffer, batch.offset)?;
    let written = shared.clock.monotonic();
    batch.file.sync()?;
    let flushed = shared.clock.monotonic();
    let mut state = shared.lock();
    state.flushed(batch, shared.cache_bytes);
    state.counts.batch(batch, written.saturating_sub(began), flushed.saturating_sub(written));
    if state.space.look_ahead() {
        shared.make.notify_one();
    }
    Ok(())
}

/// Goes on in another segment; waits for one to be made if there is no spare one.
async fn make_room(shared: &Shared, len: u64) -> io::Result<()> {
    loop {
        let made = shared.made.notified();
        {
            let mut state = shared.lock();
            let first = state.last.0.next();
            if state.space.begin_use(first, len) {
                return Ok(());
            }
        }
        shared.make.notify_one();
        made.await;
        if let Some(kind) = shared.lock().space.take_refusal() {
            return Err(kind.into());
        }
    }
}

/// Reads the entries that are to be moved out of the oldest segment. One that is unreadable condemns its replica.
fn find_moved(shared: &Shared) -> Vec<(Move, Vec<u8>)> {
    let (moves, file) = {
        let mut state = shared.lock();
        if state.closing {
            return Vec::new();
        }
        let moves = state.moves();
        let file = moves.first().and_then(|first| state.space.file(first.place.used).cloned());
        (moves, file)
    };
    let Some(file) = file else { return Vec::new() };
    let mut window = Window::new(&file);
    let mut moved = Vec::with_capacity(moves.len());
    for to_move in moves {
        let Move { key, id, place } = to_move;
        let bytes = window.at(place.offset.into(), place.len.into());
        let bytes = bytes.get(..memory(place.len.into())).unwrap_or_default();
        match Record::decode(shared.seed(key, place.batch), bytes).filter(|record| record.head.id == id) {
            Some(record) => moved.push((to_move, record.payload.to_vec())),
            None => {
                tracing::error!(
                    path = %file.path.display(), offset = place.offset, index = id.index,
                    "log damaged: a record of {key} is unreadable; this replica is condemned"
                );
                shared.lock().condemn(key);
            }
        }
    }
    moved
}

/// What the files hold is not known any more: everyone who waits or comes later is told so.
fn fail(shared: &Shared, error: &io::Error) {
    tracing::error!(
        dir = %shared.files.dir().display(), %error,
        "the Raft log cannot be written; all metadata replicas of this node stop"
    );
    let waiting = shared.lock().fail(FAILED);
    for done in waiting {
        done.tell(Err(io::Error::new(error.kind(), FAILED)));
    }
    shared.room.notify_waiters();
    shared.make.notify_one();
}
