//! One open drive as others use it.
//!
//! Owns the threads, the admission of work and the life of the store: open, use, close.
//! Lifecycle: format -> open -> (put, read, delete, list) -> close, or drop, which leaves running work to finish.
//! The lock on the directory is held until the last job ended, so that a drive opened again never meets old writes.

use crate::{
    commit::Committer,
    drive::Drive,
    error::{OpenError, StoreError},
    format::{DriveIdentity, RecordHeader},
    housekeeping::Housekeeper,
    layout::{self, FormatOptions},
    queue::{Queue, Work},
    reclaim::Reclaimed,
    recovery::{self, Opening, RecoveryReport},
    scrub::{self, ScrubLimits, ScrubPage},
    segment_file::Access,
    sync::{Arc, Mutex, atomic::Ordering, give_way, locked},
    workers::{Refused, Workers},
    writer::ShardWriter,
};
use ashlar_runtime::{ByteBudget, Disk, Env, Tasks, WorkerHandle};
use ashlar_types::{ShardId, ShardMeta, ShardStat, UnitSum, limits::MIB};
use bytes::Bytes;
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

/// Jobs of all kinds that may run or wait. Beyond, reads are refused and writes wait.
const JOBS_MAX: usize = 1024;
/// Threads that write pieces of large shards: the depth at which the device sees them.
const PIECE_THREADS: usize = 6;
/// Shards being written at once.
const WRITERS_MAX: usize = 512;
/// Bytes on their way to the drive.
const QUEUE_BYTES: u64 = 32 * MIB;
/// Ids that one delete record batch carries at most.
const DELETES_MAX: u64 = 4096;

/// Who looks after checkpoints, compaction and new segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Housekeeping {
    /// A thread of the drive.
    Background,
    /// Nobody, but for `checkpoint` and `reclaim`: what the drive writes then follows from what it is asked alone.
    OnRequest,
}

#[derive(Clone, Debug)]
pub struct DriveOptions {
    /// Bytes to use; the size of the device if not given.
    pub capacity: Option<u64>,
    /// Threads that read: how many reads the device sees at once.
    pub readers: usize,
    /// Log bytes between two checkpoints: what an opening reads at most, roughly.
    pub checkpoint_bytes: u64,
    pub housekeeping: Housekeeping,
}

impl Default for DriveOptions {
    fn default() -> Self {
        Self {
            capacity: None,
            readers: 8,
            checkpoint_bytes: 64 * MIB,
            housekeeping: Housekeeping::Background,
        }
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

/// The space of a drive, as the store accounts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveUsage {
    pub capacity: u64,
    /// `live` and `dead`.
    pub used: u64,
    /// Bytes that new shards can take. At 0, when 95 % of the capacity are used or only the reserve is left, `put`
    /// answers `Full`.
    pub free: u64,
    pub shards: u64,
    /// Bytes of records and extents that shards need.
    pub live: u64,
    /// Bytes of deleted, replaced and given-up shards, not yet given back.
    pub dead: u64,
}

/// Where the payload of a shard is; of one in several extents, the first.
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
pub(crate) struct Inner {
    pub(crate) drive: Arc<Drive>,
    pub(crate) queue: Arc<Queue>,
    /// Bytes that wait for the drive.
    pub(crate) memory: ByteBudget,
    /// Writes pieces of large shards.
    pub(crate) writes: Workers,
    reads: Workers,
    writers: Arc<Semaphore>,
    tasks: Tasks,
    pub(crate) housekeeper: Housekeeper,
    committer: Mutex<Option<WorkerHandle>>,
}

impl DriveStore {
    /// Makes a drive of an absent or empty directory; refuses any other. Blocks.
    pub fn format(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        identity: DriveIdentity,
        options: FormatOptions,
    ) -> Result<(), OpenError> {
        layout::format(disk, dir, identity, options)
    }

    /// Reads the superblock without opening the drive. `Ok(None)` if the directory is absent or empty, or what an
    /// interrupted format left. Blocks.
    pub fn identity(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Option<DriveIdentity>, OpenError> {
        let superblock = layout::read_superblock(disk.as_ref(), dir)?;
        Ok(superblock.map(|superblock| superblock.identity))
    }

    /// Takes the directory for this process and brings the index up to date with the log. Cancel-safe: the directory
    /// is free again once the work in progress ended.
    pub async fn open(
        env: &Env,
        dir: &Path,
        expect: DriveIdentity,
        options: DriveOptions,
    ) -> Result<Self, OpenError> {
        let reads = Workers::new(&env.tasks, "shard-read", options.readers.max(1), JOBS_MAX);
        let opening = Opening {
            disk: Arc::clone(&env.disk),
            clock: Arc::clone(&env.clock),
            rng: Arc::clone(&env.rng),
            dir: dir.to_owned(),
            expect: Some(expect),
            capacity: options.capacity,
            flush: true,
        };
        let opened = reads.run(move || recovery::open(opening)).map_err(|_| OpenError::Stopped)?;
        let (drive, tail) = opened.await.map_err(|_| OpenError::Stopped)??;
        let drive = Arc::new(drive);
        drive.measure();
        let queue = Arc::new(Queue::new());
        let housekeeper = Housekeeper::new(&drive, &queue, options.checkpoint_bytes);
        if options.housekeeping == Housekeeping::Background {
            housekeeper.start(&env.tasks);
        }
        let committer = {
            let (queue, work) = (Arc::clone(&queue), housekeeper.clone());
            let committer = Committer::new(Arc::clone(&drive), tail);
            env.tasks.worker("shard-commit", move || commit_all(committer, &queue, &work))
        };
        Ok(Self(Arc::new(Inner {
            drive,
            queue,
            memory: ByteBudget::new(QUEUE_BYTES),
            writes: Workers::new(&env.tasks, "shard-write", PIECE_THREADS, usize::MAX),
            reads,
            writers: Arc::new(Semaphore::new(WRITERS_MAX)),
            tasks: env.tasks.clone(),
            housekeeper,
            committer: Mutex::new(Some(committer)),
        })))
    }

    /// Begins a shard. One of the same id, if there is any, stays until the commit replaces it. `Overloaded` when
    /// the queue is full.
    pub async fn put(&self, meta: ShardMeta) -> Result<ShardWriter, StoreError> {
        self.0.check_open()?;
        self.0.drive.check()?;
        self.0.drive.admit_shard()?;
        if self.0.memory.available() == 0 {
            return Err(StoreError::Overloaded);
        }
        let permit = self.0.admit_writer()?;
        Ok(ShardWriter::new(Arc::clone(&self.0), meta, permit))
    }

    /// Reads consecutive units, all of them verified. What is in memory is answered without a thread. Cancel-safe.
    pub async fn read(&self, shard: ShardId, units: Range<u32>) -> Result<Vec<UnitRead>, StoreError> {
        self.0.check_open()?;
        if let Some(warm) = self.0.drive.read_units(shard, units.clone(), Access::Warm)? {
            return Ok(warm);
        }
        let read = self.0.read_job(move |drive| drive.read_units(shard, units, Access::Any)).await??;
        read.ok_or(StoreError::NotFound)
    }

    /// Removes shards; those that are not there are skipped. Durable on return. When the future is dropped, or on an
    /// error, each of them may or may not be gone.
    pub async fn delete(&self, shards: Vec<ShardId>) -> Result<(), StoreError> {
        let each = (self.0.drive.batch_max() / RecordHeader::LEN as u64).min(DELETES_MAX);
        let each = usize::try_from(each).expect("bounded");
        let mut waiting = Vec::new();
        for shards in shards.chunks(each) {
            self.0.drive.check()?;
            // Deletes take no memory from the budget: they go on when it is used up, and are what gives space back.
            waiting.push(self.0.queue.push(Work::Delete(shards.to_vec()), None)?);
        }
        if waiting.is_empty() {
            return self.0.drive.check();
        }
        for outcome in waiting {
            outcome.await.unwrap_or(Err(StoreError::Closed))?;
        }
        Ok(())
    }

    /// Shards after `after` in the order of their ids. Fewer than `limit` means that there are no more. Shards
    /// whose description does not verify are left out, as if they were missing. Cancel-safe.
    pub async fn list(&self, after: Option<ShardId>, limit: usize) -> Result<Vec<ShardStat>, StoreError> {
        self.0.read_job(move |drive| crate::listing::list(drive, after, limit)).await?
    }

    /// What the shard says of itself. Cancel-safe.
    pub async fn stat(&self, shard: ShardId) -> Result<Option<ShardStat>, StoreError> {
        match self.0.read_job(move |drive| drive.read_stat(shard)).await? {
            Ok(stat) => Ok(Some(stat)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the shard's payload is.
    pub fn locate(&self, shard: ShardId) -> Option<ShardLocation> {
        crate::listing::locate(&self.0.drive, shard)
    }

    /// Shards that were found damaged when the log was read: they can be deleted or put again.
    pub fn damaged(&self) -> Vec<ShardId> {
        crate::listing::damaged(&self.0.drive)
    }

    pub fn usage(&self) -> DriveUsage {
        self.0.drive.usage()
    }

    pub fn state(&self) -> DriveState {
        match self.0.drive.failure() {
            None => DriveState::Ok,
            Some(failure) => DriveState::Failed { reason: format!("{failure}: {}", failure.source) },
        }
    }

    /// What opening the drive found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.0.drive.report
    }

    /// Writes a checkpoint of the index now, so that the next opening has little to read.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let work = self.0.housekeeper.clone();
        self.0.write_job(move |_| work.checkpoint()).await?
    }

    /// One pass of giving space back: moves what is live out of segments that are less than half live, punches holes
    /// where others are dead, and takes empty segments for use again.
    pub async fn reclaim(&self) -> Result<Reclaimed, StoreError> {
        let work = self.0.housekeeper.clone();
        self.0.write_job(move |_| work.reclaim()).await?
    }

    /// Verifies shards after `after`, in the order of their ids, no faster than asked; to be called again with
    /// `next` of the page until that is `None`. Cancel-safe.
    pub async fn scrub(&self, after: Option<ShardId>, limits: ScrubLimits) -> Result<ScrubPage, StoreError> {
        scrub::scrub(&self.0, after, limits).await
    }

    /// Waits for the work in progress, refuses what comes later, even through clones, writes a checkpoint and frees
    /// the directory. Writers not committed are given up.
    pub async fn close(self) {
        let inner = Arc::clone(&self.0);
        inner.stop();
        let finish = {
            let inner = Arc::clone(&inner);
            move || inner.finish()
        };
        // Joining blocks, so a thread of its own does it.
        let (done, finished) = oneshot::channel();
        let closing = inner.tasks.worker("shard-close", move || {
            finish();
            let _ = done.send(());
        });
        let _ = finished.await;
        drop(closing);
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.drive.stopping.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn admit_writer(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.writers).try_acquire_owned().map_err(|_: TryAcquireError| StoreError::Overloaded)
    }

    /// Runs `work` on a read thread; refused if too many wait.
    pub(crate) async fn read_job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Drive) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check_open()?;
        let drive = Arc::clone(&self.drive);
        let output = self.reads.run(move || work(&drive)).map_err(refused)?;
        output.await.map_err(|_| StoreError::Closed)
    }

    async fn write_job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Drive) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check_open()?;
        let drive = Arc::clone(&self.drive);
        let output = self.writes.run(move || work(&drive)).map_err(refused)?;
        output.await.map_err(|_| StoreError::Closed)
    }

    fn stop(&self) {
        self.drive.stopping.store(true, Ordering::Relaxed);
        self.housekeeper.stop();
        self.queue.close();
        self.reads.close();
        self.writes.close();
    }

    /// Waits for the threads, then leaves the drive so that it opens quickly. Blocks.
    fn finish(&self) {
        let committer = locked(&self.committer).take();
        // Another clone that closes at the same time does the rest.
        let Some(committer) = committer else { return };
        committer.join();
        self.housekeeper.join();
        self.reads.join();
        self.writes.join();
        if self.drive.check().is_ok() && self.drive.log_bytes.load(Ordering::Relaxed) > 0 {
            // Without it the next opening reads more of the log.
            if let Err(error) = self.housekeeper.checkpoint() {
                tracing::warn!(drive = %self.drive.identity.drive, %error, "no checkpoint at closing");
            }
        }
        self.drive.unlock();
    }
}

/// The commit thread. Whatever ends it, nobody is left waiting.
fn commit_all(mut committer: Committer, queue: &Queue, work: &Housekeeper) {
    struct Abandon<'a>(&'a Queue);
    impl Drop for Abandon<'_> {
        fn drop(&mut self) {
            self.0.abandon();
        }
    }
    let _abandon = Abandon(queue);
    let batch_max = committer.batch_max();
    while let Some(jobs) = queue.take(batch_max) {
        committer.commit(jobs, queue.len());
        work.notice();
        // Whoever was answered may have more: it then shares the next flush instead of waiting for it.
        give_way();
    }
}

impl Drop for Inner {
    /// Threads end once what waits is done; the lock goes with the last of them.
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn refused(refused: Refused) -> StoreError {
    match refused {
        Refused::Busy => StoreError::Overloaded,
        Refused::Closed => StoreError::Closed,
    }
}
