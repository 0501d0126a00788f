//! A disk in memory that records every change, so that a test can cut the power at any moment of its history, kill the
//! process, and plan faults.
//!
//! Owns files, names and their history. Deterministic: nothing depends on time, addresses or other randomness than
//! the seed of a crash. Thread-safe: a call is one step under one lock.
//!
//! Lifecycle: `SimDisk` -`history`-> `History` -`crash`-> `DiskImage` -`with_image`-> `SimDisk`. What is open on the old
//! disk goes on there and never touches the new one.

use super::{Disk, DiskFile, DiskUsage, OpenMode};
use crate::sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64, atomic::Ordering};
use std::{
    fmt::{self, Debug},
    io,
    path::Path,
    sync::PoisonError,
    time::Duration,
};

mod content;
mod fault;
mod file;
mod history;
mod image;
mod names;
mod random;
mod stale;
mod state;
mod torn;

use fault::OPERATIONS;
use file::{Access, SimFile};
use state::{DirectIo, State, errno};

pub use fault::{Fault, FaultKind, FaultOn, Faults, Operation};
pub use history::{Change, CrashCursor, Event, History, NodeKind, Survivors};
pub use image::{DiskImage, NodeId};
pub use state::SimCache;

/// Cheap to clone; all clones are one disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    faults: Faults,
    operations: [AtomicU64; OPERATIONS],
    delay: Mutex<Delay>,
}

/// Makes a slow call slow.
#[derive(Clone)]
struct Delay(Arc<dyn Fn(Duration) + Send + Sync>);

impl Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").finish_non_exhaustive()
    }
}

impl Default for Delay {
    #[allow(
        clippy::disallowed_methods,
        reason = "a slow disk blocks its caller, and nothing tells when it is done"
    )]
    fn default() -> Self {
        Self(Arc::new(std::thread::sleep))
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// Empty but for the root directory. Direct I/O is allowed.
    pub fn new() -> Self {
        Self::with_image(DiskImage::default())
    }

    /// A disk on which all of `image` is durable.
    pub fn with_image(image: DiskImage) -> Self {
        Self::resume(image.clone(), image, Vec::new())
    }

    fn resume(base: DiskImage, now: DiskImage, events: Vec<Event>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(base, now, events)),
            faults: Faults::default(),
            operations: std::array::from_fn(|_| AtomicU64::new(0)),
            delay: Mutex::default(),
        }))
    }

    /// `open_direct` fails, as on a file system that has no direct I/O.
    #[must_use]
    pub fn without_direct_io(self) -> Self {
        self.state().direct_io = DirectIo::Refused;
        self
    }

    /// Writes fail when files would occupy more.
    #[must_use]
    pub fn with_capacity(self, bytes: u64) -> Self {
        self.state().capacity = bytes;
        self
    }

    /// What `usage` tells as the device's identity; 1 unless told.
    #[must_use]
    pub fn with_device(self, device: u64) -> Self {
        self.state().device = device;
        self
    }

    /// What `read_cached_at` finds; [`SimCache::Tracked`] unless told.
    #[must_use]
    pub fn with_cache(self, cache: SimCache) -> Self {
        self.state().cache = cache;
        self
    }

    /// How a slow call passes its time; it blocks its thread unless told.
    #[must_use]
    pub fn with_delay(self, delay: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        *self.0.delay.lock().unwrap_or_else(PoisonError::into_inner) = Delay(Arc::new(delay));
        self
    }

    /// Puts a mark into the history.
    pub fn note(&self, note: u64) {
        self.state().events.push(Event::Note(note));
    }

    /// A copy of what happened so far.
    pub fn history(&self) -> History {
        let state = self.state();
        History { base: state.base.clone(), events: state.events.clone() }
    }

    /// All that is visible now, as if it were durable.
    pub fn image(&self) -> DiskImage {
        self.state().now.reachable()
    }

    /// Lets the history begin now, with the changes that are not durable as its first events, so that a long run does
    /// not keep all it ever wrote. Notes go, and stale reads do not go back further.
    pub fn forget_history(&self) {
        let mut state = self.state();
        let events = std::mem::take(&mut state.events);
        let mut cursor = CrashCursor::new(&state.base, &events);
        cursor.advance_to(events.len());
        let (durable, _, pending) = cursor.into_present();
        state.base = durable;
        state.events = pending;
    }

    /// Nothing is in memory any more; `read_cached_at` finds nothing until it was read again.
    pub fn drop_caches(&self) {
        self.state().evict_all();
    }

    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Plans a fault that happens once.
    ///
    /// # Panics
    /// If this kind of fault cannot happen to this kind of call.
    pub fn inject(&self, fault: Fault) {
        self.0.faults.inject(fault);
    }

    /// Number of calls so far of all kinds that can go wrong. A call that was refused for its arguments is none.
    pub fn operations(&self) -> u64 {
        self.0.operations.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Number of calls of one kind so far.
    pub fn operations_of(&self, operation: Operation) -> u64 {
        self.0.operations[operation as usize].load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, passes its delay and tells what goes wrong with it.
    fn begin(&self, operation: Operation, paths: &[&Path]) -> Option<FaultKind> {
        self.0.operations[operation as usize].fetch_add(1, Ordering::SeqCst);
        let fault = self.0.faults.due(operation, paths)?;
        if let FaultKind::Slow(delay) = fault {
            let pass = self.0.delay.lock().unwrap_or_else(PoisonError::into_inner).clone();
            pass.0(delay);
            return None;
        }
        Some(fault)
    }

    /// For calls that a fault can only fail.
    fn begin_or_fail(&self, operation: Operation, paths: &[&Path]) -> io::Result<()> {
        self.begin(operation, paths).map_or(Ok(()), |fault| Err(file::failure(&fault)))
    }

    fn sync(&self, fault: Option<FaultKind>, id: NodeId, done: Event) -> io::Result<()> {
        let event = match &fault {
            None => done,
            Some(FaultKind::SyncLosesPages) => Event::Lost(id),
            Some(fault) => return Err(file::failure(fault)),
        };
        self.state().events.push(event);
        fault.map_or(Ok(()), |fault| Err(file::failure(&fault)))
    }

    fn open_as(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<SimFile> {
        let mut state = self.state();
        if access == Access::Direct && state.direct_io == DirectIo::Refused {
            return Err(errno(libc::EINVAL));
        }
        let id = names::open(&mut state, path, mode)?;
        state.opened(id);
        drop(state);
        Ok(SimFile::new(self.clone(), id, path, access, mode))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.begin_or_fail(Operation::Open, &[path])?;
        Ok(Box::new(self.open_as(path, mode, Access::Buffered)?))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.begin_or_fail(Operation::Open, &[path])?;
        Ok(Box::new(self.open_as(path, mode, Access::Direct)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.begin_or_fail(Operation::CreateDir, &[path])?;
        names::create_dir_all(&mut self.state(), path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.begin_or_fail(Operation::ListDir, &[path])?;
        let state = self.state();
        let dir = state.now.find(path)?;
        Ok(state.now.names(dir)?.keys().map(|name| name.to_string()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin_or_fail(Operation::Rename, &[from, to])?;
        names::rename(&mut self.state(), from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.begin_or_fail(Operation::Unlink, &[path])?;
        names::unlink(&mut self.state(), path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fault = self.begin(Operation::SyncDir, &[path]);
        let dir = {
            let state = self.state();
            let dir = state.now.find(path)?;
            state.now.names(dir).map(|_| dir)?
        };
        self.sync(fault, dir, Event::SyncDir(dir))
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        let state = self.state();
        state.now.find(path)?;
        Ok(DiskUsage {
            device: state.device,
            total_bytes: state.capacity,
            available_bytes: state.capacity.saturating_sub(state.used),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.begin_or_fail(Operation::Lock, &[path])?;
        let file = self.open_as(path, OpenMode::Create, Access::Buffered)?;
        if !self.state().locks.insert(file.id()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(file)))
    }
}

/// Held until dropped.
#[derive(Debug)]
struct Lock(SimFile);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock();
    }
}
