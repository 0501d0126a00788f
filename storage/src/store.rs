//! One open drive.
//!
//! Owns the workers, the admission of work and the life of the store: open, use, close. Reading and deleting are
//! here, writing is in `writer`, what the workers share in `drive`.
//! Lifecycle: format -> open -> (put, read, delete, list) -> close, or drop, which leaves running work to finish.
//! The lock on the directory is held until the last job ended, so that a drive opened again never meets old writes.

use crate::{
    error::{OpenError, StoreError},
    shard_file::{HEADER_LEN, OpenShard},
    superblock::{self, DriveIdentity},
};
use ashlar_runtime::{ByteBudget, Clock, Disk, Env, Pool, WorkerHandle, sync::Mutex};
use ashlar_types::{ShardId, ShardMeta, ShardStat, UnitSum, limits::MIB};
use bytes::Bytes;
use drive::{Drive, locked};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

mod delete;
mod drive;
mod janitor;
mod listing;
mod opening;
mod writer;

pub use writer::{ShardUnit, ShardWriter, UNIT_MAX_LEN, UNITS_MAX};

/// Threads that write and flush: enough to keep several flushes in flight, which a device merges.
const WRITE_THREADS: usize = 4;
/// Jobs of all kinds that may run or wait. Beyond, reads are refused and writes wait.
const JOBS_MAX: usize = 1024;
/// Shards being written at once: each holds a descriptor and up to a gathered batch of units.
const WRITERS_MAX: usize = 512;
/// Bytes on their way to the write threads.
const QUEUE_BYTES: u64 = 32 * MIB;

#[derive(Clone, Debug)]
pub struct DriveOptions {
    /// Bytes to use; the size of the device if not given.
    pub capacity: Option<u64>,
    /// Threads that read: how many reads the device sees at once.
    pub readers: usize,
}

impl Default for DriveOptions {
    fn default() -> Self {
        Self { capacity: None, readers: 8 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriveState {
    Ok,
    /// A write or flush failed: the drive takes no more of them until it is opened again. Reads go on.
    Failed {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveUsage {
    pub capacity: u64,
    /// Bytes of shards, in blocks, and of unfinished writes.
    pub used: u64,
    /// Bytes that new shards can take. At 0, when 95 % of the capacity are used or the device is full, `put`
    /// answers `Full`.
    pub free: u64,
    pub shards: u64,
}

/// Where the payload of a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLocation {
    pub path: PathBuf,
    pub offset: u64,
    pub len: u64,
}

/// A unit that was verified against its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRead {
    pub sum: UnitSum,
    pub bytes: Bytes,
}

/// An open drive. Clones share it.
#[derive(Clone, Debug)]
pub struct DriveStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    drive: Arc<Drive>,
    clock: Arc<dyn Clock>,
    writes: Pool,
    reads: Pool,
    /// Closed when the store is.
    jobs: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    queue: ByteBudget,
    janitor: Mutex<Option<WorkerHandle>>,
}

impl DriveStore {
    /// Makes a drive of an absent or empty directory; refuses any other. Blocks.
    pub fn format(disk: &Arc<dyn Disk>, dir: &Path, identity: DriveIdentity) -> Result<(), OpenError> {
        superblock::format(disk, dir, identity)
    }

    /// Reads the superblock without opening the drive. `Ok(None)` if the directory is absent or empty, or what an
    /// interrupted format left. Blocks.
    pub fn identity(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Option<DriveIdentity>, OpenError> {
        superblock::read(disk, dir)
    }

    /// Takes the directory for this process, removes unfinished writes and reads what there is. Cancel-safe: the
    /// directory is free again once the work in progress ended.
    pub async fn open(
        env: &Env,
        dir: &Path,
        expect: DriveIdentity,
        options: DriveOptions,
    ) -> Result<Self, OpenError> {
        let writes = Pool::new(&env.tasks, "shard-write", WRITE_THREADS, JOBS_MAX);
        let reads = Pool::new(&env.tasks, "shard-read", options.readers.max(1), JOBS_MAX);
        let (drive, abandoned) = opening::open(env, &reads, dir, expect, options).await?;
        let janitor = janitor::start(&env.tasks, &drive, abandoned);
        Ok(Self(Arc::new(Inner {
            drive,
            clock: Arc::clone(&env.clock),
            writes,
            reads,
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
            writers: Arc::new(Semaphore::new(WRITERS_MAX)),
            queue: ByteBudget::new(QUEUE_BYTES),
            janitor: Mutex::new(Some(janitor)),
        })))
    }

    /// Begins a shard. One of the same id, if there is any, stays until the commit replaces it.
    pub async fn put(&self, meta: ShardMeta) -> Result<ShardWriter, StoreError> {
        if self.0.jobs.is_closed() {
            return Err(StoreError::Closed);
        }
        self.0.drive.check()?;
        self.0.drive.admit_shard()?;
        let permit = Arc::clone(&self.0.writers)
            .try_acquire_owned()
            .map_err(|_: TryAcquireError| StoreError::Overloaded)?;
        Ok(ShardWriter::new(Arc::clone(&self.0), meta, permit))
    }

    /// Reads consecutive units, all of them verified. Cancel-safe.
    pub async fn read(&self, shard: ShardId, units: Range<u32>) -> Result<Vec<UnitRead>, StoreError> {
        let first = units.start;
        self.0
            .read_job(move |drive| {
                drive.indexed(shard)?;
                let opened = OpenShard::open(drive.disk(), &drive.path(shard), shard);
                match opened.and_then(|file| file.units(units)) {
                    Ok(units) => {
                        let bytes: usize = units.iter().map(|(_, bytes)| bytes.len()).sum();
                        drive.metrics.shard_read_bytes.increment(bytes as u64);
                        Ok(units.into_iter().map(|(sum, bytes)| UnitRead { sum, bytes }).collect())
                    }
                    Err(fault) => Err(drive.read_error(shard, first, fault)),
                }
            })
            .await?
    }

    /// Removes shards and gives their space back; those that are not there are skipped. Durable on return. When
    /// the future is dropped, or on an error, each of them may or may not be gone.
    pub async fn delete(&self, shards: Vec<ShardId>) -> Result<(), StoreError> {
        self.0.write_job(move |drive| delete::delete(drive, shards)).await?
    }

    /// Shards after `after` in the order of their ids. Fewer than `limit` means that there are no more. Shards
    /// whose description does not verify are left out, as if they were missing. Cancel-safe.
    pub async fn list(&self, after: Option<ShardId>, limit: usize) -> Result<Vec<ShardStat>, StoreError> {
        self.0.read_job(move |drive| listing::list(drive, after, limit)).await?
    }

    /// What the shard says of itself. Cancel-safe.
    pub async fn stat(&self, shard: ShardId) -> Result<Option<ShardStat>, StoreError> {
        let stat = move |drive: &Drive| {
            drive.indexed(shard)?;
            listing::stat(drive, shard).map_err(|fault| drive.read_error(shard, 0, fault))
        };
        match self.0.read_job(stat).await? {
            Ok(stat) => Ok(Some(stat)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the shard's payload is. A shard whose header is damaged has a length of 0.
    pub fn locate(&self, shard: ShardId) -> Option<ShardLocation> {
        let entry = self.0.drive.indexed(shard).ok()?;
        Some(ShardLocation {
            path: self.0.drive.path(shard),
            offset: HEADER_LEN as u64,
            len: entry.payload_len.unwrap_or(0),
        })
    }

    /// Shards whose header did not verify when the drive was opened: they can be deleted or put again.
    pub fn damaged(&self) -> Vec<ShardId> {
        self.0.drive.damaged()
    }

    pub fn usage(&self) -> DriveUsage {
        self.0.drive.usage()
    }

    pub fn state(&self) -> DriveState {
        self.0.drive.state()
    }

    /// Waits for the work in progress, refuses what comes later, even through clones, and frees the directory.
    /// Unfinished writers are aborted.
    pub async fn close(self) {
        let inner = &self.0;
        let all = u32::try_from(JOBS_MAX).expect("the number of jobs is small");
        // Fails only if another clone closes at the same time; then that one does the rest.
        let Ok(_idle) = Arc::clone(&inner.jobs).acquire_many_owned(all).await else { return };
        inner.jobs.close();
        inner.drive.stop_abandoning();
        let janitor = locked(&inner.janitor).take();
        let drive = Arc::clone(&inner.drive);
        // Joining blocks, so a worker does it.
        let _ = inner
            .writes
            .run(move || {
                if let Some(janitor) = janitor {
                    janitor.join();
                }
                drive.unlock();
            })
            .await;
    }
}

impl Inner {
    /// Runs `work` on a write thread; waits for a place.
    async fn write_job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Drive) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.jobs).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        self.run(&self.writes, permit, work).await
    }

    /// Runs `work` on a read thread; refused if too many wait.
    async fn read_job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Drive) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.jobs).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => StoreError::Closed,
            TryAcquireError::NoPermits => StoreError::Overloaded,
        })?;
        self.run(&self.reads, permit, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        pool: &Pool,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Drive) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let drive = Arc::clone(&self.drive);
        let job = move || {
            let output = work(&drive);
            drop(permit);
            output
        };
        pool.run(job).await.map_err(|_| StoreError::Closed)
    }
}
