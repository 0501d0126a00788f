//! What a drive does unasked: checkpoints, segments ahead of need, space given back.
//!
//! Owns the thread and decides when something is due. The commit thread tells it after each batch; it never waits for
//! time to pass.

use crate::{
    checkpoint,
    drive::Drive,
    error::StoreError,
    format::SegmentKind,
    queue::Queue,
    reclaim::{self, Reclaimed},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
        locked, wait,
    },
    tables::Use,
};
use ashlar_runtime::{Tasks, WorkerHandle};
use ashlar_types::limits::GIB;

/// A pass of reclaiming is due when this share of a segment died since the last one.
const DEAD_SHARE: u64 = 4;

/// Log bytes for each byte of the index that is written: 3 % of all writing.
const LOG_PER_INDEX: u64 = 32;
const LOG_PER_INDEX_MIN: u64 = 4;
const LOG_MAX: u64 = 2 * GIB;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Housekeeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    drive: Arc<Drive>,
    queue: Arc<Queue>,
    checkpoint_bytes: u64,
    /// Dead bytes after the last pass of reclaiming.
    reclaimed_dead: AtomicU64,
    /// One job of housekeeping at a time, whoever asks.
    working: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<WorkerHandle>>,
}

#[derive(Debug, Default)]
struct State {
    noticed: bool,
    stopped: bool,
    running: bool,
}

impl Housekeeper {
    pub(crate) fn new(drive: &Arc<Drive>, queue: &Arc<Queue>, checkpoint_bytes: u64) -> Self {
        Self(Arc::new(Shared {
            drive: Arc::clone(drive),
            queue: Arc::clone(queue),
            checkpoint_bytes,
            reclaimed_dead: AtomicU64::new(0),
            working: Mutex::new(()),
            state: Mutex::new(State { noticed: true, ..State::default() }),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        }))
    }

    pub(crate) fn start(&self, tasks: &Tasks) {
        locked(&self.0.state).running = true;
        let shared = self.clone();
        *locked(&self.0.thread) = Some(tasks.worker("shard-housekeeping", move || shared.run()));
    }

    /// Something was committed: there may be work.
    pub(crate) fn notice(&self) {
        let mut state = locked(&self.0.state);
        if !state.running {
            return;
        }
        state.noticed = true;
        drop(state);
        self.0.changed.notify_one();
    }

    pub(crate) fn stop(&self) {
        locked(&self.0.state).stopped = true;
        self.0.changed.notify_all();
    }

    /// Waits for the thread, after `stop`. Blocks.
    pub(crate) fn join(&self) {
        let thread = locked(&self.0.thread).take();
        if let Some(thread) = thread {
            thread.join();
        }
    }

    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        let _one = locked(&self.0.working);
        checkpoint::write(&self.0.drive)
    }

    pub(crate) fn reclaim(&self) -> Result<Reclaimed, StoreError> {
        let _one = locked(&self.0.working);
        let reclaimed = reclaim::pass(&self.0.drive, &self.0.queue);
        self.0.reclaimed_dead.store(self.0.drive.usage().dead, Ordering::Relaxed);
        self.0.drive.measure();
        reclaimed
    }

    fn run(&self) {
        let shared = &self.0;
        loop {
            let mut state = locked(&shared.state);
            while !state.noticed && !state.stopped {
                state = wait(&shared.changed, state);
            }
            if state.stopped {
                return;
            }
            state.noticed = false;
            drop(state);
            if let Err(error) = self.look() {
                match error {
                    // Said by the drive already.
                    StoreError::Failed(_) | StoreError::Closed => return,
                    StoreError::Full => {}
                    StoreError::NotFound
                    | StoreError::Corrupt { .. }
                    | StoreError::NoSuchUnit { .. }
                    | StoreError::Overloaded
                    | StoreError::CrcMismatch
                    | StoreError::TooLarge => {
                        tracing::warn!(drive = %shared.drive.identity.drive, %error, "housekeeping is put off");
                    }
                }
            }
        }
    }

    /// Does what is due now.
    fn look(&self) -> Result<(), StoreError> {
        let drive = &self.0.drive;
        for kind in [SegmentKind::Log, SegmentKind::Extents] {
            if half_full(drive, kind) {
                drive.prepare_ahead(kind)?;
            }
        }
        if drive.log_bytes.load(Ordering::Relaxed) >= self.checkpoint_after() {
            self.checkpoint()?;
        }
        if self.reclaim_is_due() {
            self.reclaim()?;
        }
        drive.measure();
        Ok(())
    }

    /// Log bytes between two checkpoints: as asked, but more where the index is large, so that writing it stays a small part of
    /// all writing; of that no more than an opening reads in a second or two, unless the index is larger still.
    fn checkpoint_after(&self) -> u64 {
        let index = locked(&self.0.drive.checkpoints).bytes;
        let spread = (LOG_PER_INDEX * index).min(LOG_MAX.max(LOG_PER_INDEX_MIN * index));
        self.0.checkpoint_bytes.max(spread)
    }

    fn reclaim_is_due(&self) -> bool {
        let drive = &self.0.drive;
        let dead = drive.usage().dead;
        let before = self.0.reclaimed_dead.load(Ordering::Relaxed);
        let step = if drive.is_short() { 1 } else { drive.segment_bytes / DEAD_SHARE };
        // Dead bytes fall when space comes back; then what is left counts from there.
        if dead < before {
            self.0.reclaimed_dead.store(dead, Ordering::Relaxed);
            return false;
        }
        dead - before >= step
    }
}

/// Whether the open segment of the kind is half full, so that the next is needed soon.
fn half_full(drive: &Drive, kind: SegmentKind) -> bool {
    drive.read_tables(|tables| {
        let mut open = tables.segments.values().filter(|segment| segment.kind == kind);
        open.any(|segment| segment.using == Use::Open && segment.written >= drive.segment_bytes / 2)
    })
}
