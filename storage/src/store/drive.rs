//! What the workers of one drive share: the directory, the index, the space and whether writes still count.
//!
//! Invariants:
//!  - names in a fan-out directory change only under its lock, together with the index;
//!  - once `failure` is set, `check` fails for good, so no later write is acknowledged.

use super::{DriveOptions, DriveState, DriveUsage};
use crate::{
    error::{DriveFailure, FileOperation, Severity, StoreError, severity},
    index::{Entry, Index},
    metrics::DriveMetrics,
    shard_file::{ReadFault, file_name, first_byte},
    superblock::{DriveIdentity, Layout},
};
use ashlar_runtime::{
    Disk, RngExt,
    sync::{Mutex, MutexGuard, RwLock, atomic::AtomicU64, atomic::Ordering},
};
use ashlar_types::{ShardId, limits::GIB};
use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, mpsc},
};

/// New shards are taken up to this share of the capacity, so that streams already open and repairs find room.
const WATERMARK_PERCENT: u64 = 95;

/// A file in `tmp` that nobody will finish.
#[derive(Debug)]
pub(super) struct Abandoned {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Bytes outside the index.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Written for shards that are not committed.
    pub(super) unfinished: AtomicU64,
    /// Available on the device when it was last asked.
    pub(super) available: AtomicU64,
}

pub(super) struct Drive {
    disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    identity: DriveIdentity,
    capacity: u64,
    failure: OnceLock<DriveFailure>,
    index: RwLock<Index>,
    /// One lock per fan-out directory.
    directories: Vec<Mutex<()>>,
    pub(super) space: Arc<Space>,
    pub(super) metrics: DriveMetrics,
    /// Names of unfinished writes never repeat, not even between two runs, so that a late removal hits nothing.
    session: u64,
    next_temporary: AtomicU64,
    /// `None` once the store is closed.
    abandoned: Mutex<Option<mpsc::Sender<Abandoned>>>,
    lock: Mutex<Option<Box<dyn Debug + Send + Sync>>>,
}

impl Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drive")
            .field("dir", &self.layout.root())
            .field("identity", &self.identity)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// A panic while a lock is held leaves nothing half done: all state under these locks changes in one step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drive {
    pub(super) fn new(
        env: &ashlar_runtime::Env,
        layout: Layout,
        identity: DriveIdentity,
        options: &DriveOptions,
        lock: Box<dyn Debug + Send + Sync>,
    ) -> Result<(Self, mpsc::Receiver<Abandoned>), io::Error> {
        let device = env.disk.usage(layout.root())?;
        let (abandoned, to_remove) = mpsc::channel();
        let drive = Self {
            disk: Arc::clone(&env.disk),
            identity,
            capacity: options.capacity.unwrap_or(device.total_bytes),
            failure: OnceLock::new(),
            index: RwLock::default(),
            directories: std::iter::repeat_with(Mutex::default).take(256).collect(),
            space: Arc::new(Space {
                unfinished: AtomicU64::new(0),
                available: AtomicU64::new(device.available_bytes),
            }),
            metrics: DriveMetrics::new(identity.drive),
            session: env.rng.u64(),
            next_temporary: AtomicU64::new(0),
            abandoned: Mutex::new(Some(abandoned)),
            lock: Mutex::new(Some(lock)),
            layout,
        };
        Ok((drive, to_remove))
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(super) fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    // Places.

    pub(super) fn path(&self, shard: ShardId) -> PathBuf {
        self.layout.fan_out(first_byte(shard)).join(file_name(shard))
    }

    pub(super) fn next_temporary(&self) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.layout.temporary().join(format!("{:016x}-{number:016x}", self.session))
    }

    /// Holds the names of one fan-out directory still.
    pub(super) fn lock_directory(&self, byte: u8) -> MutexGuard<'_, ()> {
        locked(&self.directories[usize::from(byte)])
    }

    // Index.

    pub(super) fn indexed(&self, shard: ShardId) -> Result<Entry, StoreError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.get(shard).ok_or(StoreError::NotFound)
    }

    pub(super) fn ids_after(&self, after: Option<ShardId>, limit: usize) -> Vec<ShardId> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).after(after, limit)
    }

    pub(super) fn damaged(&self) -> Vec<ShardId> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).damaged()
    }

    pub(super) fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    // Space.

    fn used(&self) -> u64 {
        let committed = self.index.read().unwrap_or_else(PoisonError::into_inner).used();
        committed.saturating_add(self.space.unfinished.load(Ordering::Relaxed))
    }

    /// Bytes that new shards can take: below the watermark, and without the device's reserve for deletes and
    /// others.
    fn free(&self) -> u64 {
        let watermark = self.capacity - self.capacity / 100 * (100 - WATERMARK_PERCENT);
        let reserve = (self.capacity / 100).min(GIB);
        let available = self.space.available.load(Ordering::Relaxed);
        watermark.saturating_sub(self.used()).min(available.saturating_sub(reserve))
    }

    pub(super) fn admit_shard(&self) -> Result<(), StoreError> {
        if self.free() == 0 { Err(StoreError::Full) } else { Ok(()) }
    }

    /// Takes `bytes` for an unfinished write: never past the capacity.
    pub(super) fn take_space(&self, bytes: u64) -> Result<(), StoreError> {
        let before = self.space.unfinished.fetch_add(bytes, Ordering::Relaxed);
        let committed = self.index.read().unwrap_or_else(PoisonError::into_inner).used();
        if committed.saturating_add(before).saturating_add(bytes) > self.capacity {
            self.space.unfinished.fetch_sub(bytes, Ordering::Relaxed);
            return Err(StoreError::Full);
        }
        Ok(())
    }

    pub(super) fn give_space_back(&self, bytes: u64) {
        self.space.unfinished.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Asks the device again, after bytes came or went.
    pub(super) fn measure(&self) {
        // A failure is not one of the drive's data; the former number serves.
        if let Ok(device) = self.disk.usage(self.layout.root()) {
            self.space.available.store(device.available_bytes, Ordering::Relaxed);
        }
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes are exact")]
        self.metrics.used_bytes.set(self.used() as f64);
    }

    pub(super) fn usage(&self) -> DriveUsage {
        DriveUsage {
            capacity: self.capacity,
            used: self.used(),
            free: self.free(),
            shards: self.index.read().unwrap_or_else(PoisonError::into_inner).len(),
        }
    }

    // Failure.

    /// Fails if an earlier write did.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    pub(super) fn state(&self) -> DriveState {
        match self.failure.get() {
            None => DriveState::Ok,
            Some(failure) => DriveState::Failed { reason: format!("{failure}: {}", failure.source) },
        }
    }

    /// What a failed change of the drive is to the caller. Anything but lack of space or of descriptors is final.
    pub(super) fn write_error(
        &self,
        operation: FileOperation,
        shard: ShardId,
        error: io::Error,
    ) -> StoreError {
        match severity(&error) {
            Severity::NoSpace => {
                self.measure();
                StoreError::Full
            }
            Severity::NoResources => StoreError::Overloaded,
            Severity::Broken => self.fail(operation, shard, error),
        }
    }

    /// Stops all acknowledgements for good.
    pub(super) fn fail(&self, operation: FileOperation, shard: ShardId, error: io::Error) -> StoreError {
        let failure = DriveFailure { operation, shard: Some(shard), source: Arc::new(error) };
        if self.failure.set(failure.clone()).is_ok() {
            tracing::error!(
                drive = %self.identity.drive, dir = %self.layout.root().display(), %shard, %operation,
                error = %failure.source, "the drive failed and takes no more writes"
            );
        }
        failure.into()
    }

    /// What a failed read is to the caller; damage is counted. The drive goes on serving.
    pub(super) fn read_error(&self, shard: ShardId, first: u32, fault: ReadFault) -> StoreError {
        let drive = self.identity.drive;
        match fault {
            ReadFault::Absent => StoreError::NotFound,
            ReadFault::NoSuchUnit(units) => StoreError::NoSuchUnit { units },
            ReadFault::BadUnit(unit) => {
                self.metrics.corrupt_units.increment(1);
                tracing::warn!(%drive, %shard, unit, "a unit does not verify");
                StoreError::Corrupt { unit }
            }
            ReadFault::Damaged(damage) => {
                self.metrics.corrupt_units.increment(1);
                tracing::warn!(%drive, %shard, %damage, "a shard does not verify");
                StoreError::Corrupt { unit: first }
            }
            ReadFault::Io(error) if severity(&error) == Severity::NoResources => StoreError::Overloaded,
            ReadFault::Io(error) => {
                tracing::warn!(%drive, %shard, %error, "a shard could not be read");
                let operation = FileOperation::Read;
                DriveFailure { operation, shard: Some(shard), source: Arc::new(error) }.into()
            }
        }
    }

    // End of life.

    /// Has an unfinished file removed in the background; after the store was closed, by the next open.
    pub(super) fn abandon(&self, abandoned: Abandoned) {
        if let Some(janitor) = locked(&self.abandoned).as_ref() {
            // The janitor ends only when this sender is gone.
            let _ = janitor.send(abandoned);
        }
    }

    /// Lets the janitor end once it has removed what it was given.
    pub(super) fn stop_abandoning(&self) {
        locked(&self.abandoned).take();
    }

    /// Frees the directory for other processes.
    pub(super) fn unlock(&self) {
        locked(&self.lock).take();
    }
}

/// Flushes a fan-out directory; a failure is final even for want of space, since names already changed.
pub(super) fn flush_directory(drive: &Drive, dir: &Path, shard: ShardId) -> Result<(), StoreError> {
    drive.disk().sync_dir(dir).map_err(|error| drive.fail(FileOperation::FlushDirectory, shard, error))
}
