//! One open drive: what its workers share.
//!
//! Owns the tables, the failure state and the accounting of space. Threads are started by `store`; without them it
//! is a drive opened offline.
//! Invariant: after the first failed write or flush `check` fails for good, and nothing is acknowledged.

use crate::{
    error::{DriveFailure, FileOperation, Severity, StoreError, severity},
    format::{BLOCK, DriveIdentity, Epoch, SegmentHeader, SegmentId, SegmentKind},
    layout::Layout,
    metrics::DriveMetrics,
    planted::{Plant, planted},
    recovery::RecoveryReport,
    segment_file::{Opener, SegmentFile},
    store::DriveUsage,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        locked,
    },
    tables::{Fill, Segment, Tables, Use},
    width,
};
use ashlar_runtime::{AlignedBuf, Clock, OpenMode, Rng, RngExt};
use ashlar_types::{
    ShardId,
    limits::{GIB, KIB, MIB},
};
use std::{
    fmt::Debug,
    io,
    sync::{OnceLock, PoisonError},
};

/// New shards are refused when this share of the capacity is used: what is left keeps compaction cheap.
const WATERMARK_PERCENT: u64 = 95;
/// Whole segments that new shards never take: one for the log, so that deletes go on, and two for what compaction
/// moves, so that their space can come back.
const RESERVED_SEGMENTS: u64 = 3;
/// Shards of at most this payload travel in the log.
const SMALL_MAX: u64 = 128 * KIB;
/// Bytes of one write of a large shard: the writes of a few shards together fill a device.
const PIECE_MAX: u64 = 256 * KIB;
/// Bytes of one batch, apart from the record that crosses it.
const BATCH_MAX: u64 = 4 * MIB;
/// Zeros are written in pieces of this length when a segment is prepared.
const ZEROS_LEN: u64 = MIB;

/// What the checkpoints on the drive say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpoints {
    pub(crate) generation: u64,
    /// The newest that is whole; 0 if there is none.
    pub(crate) newest: u64,
    /// Number of the record from which the newest, and the one before it, read the log on.
    pub(crate) newest_from: u64,
    pub(crate) older_from: u64,
    /// Bytes of the newest.
    pub(crate) bytes: u64,
}

pub(crate) struct Drive {
    pub(crate) opener: Arc<Opener>,
    pub(crate) layout: Layout,
    pub(crate) identity: DriveIdentity,
    pub(crate) segment_bytes: u64,
    pub(crate) capacity: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tables: RwLock<Tables>,
    pub(crate) checkpoints: Mutex<Checkpoints>,
    /// Log bytes since the newest checkpoint.
    pub(crate) log_bytes: AtomicU64,
    pub(crate) metrics: DriveMetrics,
    pub(crate) report: RecoveryReport,
    /// Set when the store closes: long work ends early.
    pub(crate) stopping: AtomicBool,
    /// One checkpoint is written at a time.
    pub(crate) checkpointing: Mutex<()>,
    /// One segment is prepared at a time.
    preparing: Mutex<()>,
    /// One extent segment is opened at a time.
    pub(crate) opening_extents: Mutex<()>,
    failure: OnceLock<DriveFailure>,
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

/// Everything that a drive is made of when it is opened.
pub(crate) struct Parts {
    pub(crate) opener: Arc<Opener>,
    pub(crate) layout: Layout,
    pub(crate) identity: DriveIdentity,
    pub(crate) segment_bytes: u64,
    pub(crate) capacity: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tables: Tables,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) report: RecoveryReport,
    pub(crate) lock: Box<dyn Debug + Send + Sync>,
}

/// Who asks for an empty segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New shards, which leave the reserve alone.
    NewShards,
    /// Deletes and moves, which give space back in the end.
    Reclaiming,
}

/// Whether somebody waits for a segment that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Now,
    Later,
}

impl Drive {
    pub(crate) fn new(parts: Parts) -> Self {
        let log_bytes = parts.report.replayed_bytes;
        Self {
            opener: parts.opener,
            layout: parts.layout,
            metrics: DriveMetrics::new(parts.identity.drive),
            identity: parts.identity,
            segment_bytes: parts.segment_bytes,
            capacity: parts.capacity,
            clock: parts.clock,
            rng: parts.rng,
            tables: RwLock::new(parts.tables),
            checkpoints: Mutex::new(parts.checkpoints),
            log_bytes: AtomicU64::new(log_bytes),
            report: parts.report,
            stopping: AtomicBool::new(false),
            checkpointing: Mutex::new(()),
            preparing: Mutex::new(()),
            opening_extents: Mutex::new(()),
            failure: OnceLock::new(),
            lock: Mutex::new(Some(parts.lock)),
        }
    }

    pub(crate) fn read_tables<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_tables<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        change(&mut self.tables.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A change after which the sums over the segments are not what they were.
    pub(crate) fn change_segments<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        self.change_tables(|tables| {
            let changed = change(tables);
            tables.recount();
            changed
        })
    }

    // Sizes that follow from the segments'.

    pub(crate) fn small_max(&self) -> u64 {
        SMALL_MAX.min(self.segment_bytes / 8)
    }

    pub(crate) fn piece_max(&self) -> u64 {
        PIECE_MAX.min(self.segment_bytes / 4 / BLOCK * BLOCK)
    }

    pub(crate) fn batch_max(&self) -> u64 {
        BATCH_MAX.min(self.segment_bytes / 4)
    }

    /// The longest description of a shard: it has to fit a log segment beside a full batch.
    pub(crate) fn body_max(&self) -> u64 {
        self.segment_bytes / 2
    }

    // Space.

    fn reserve(&self) -> u64 {
        (self.capacity / 100).min(GIB).max(RESERVED_SEGMENTS * self.segment_bytes)
    }

    /// Bytes that checkpoints take or will: two that are kept and one being written.
    fn index_bytes(&self) -> u64 {
        3 * locked(&self.checkpoints).bytes
    }

    /// Segments that may still be made.
    fn unmade(&self, fill: &Fill) -> u64 {
        let taken = fill.allocated.saturating_add(self.index_bytes());
        self.capacity.saturating_sub(taken) / self.segment_bytes
    }

    fn fill(&self) -> Fill {
        self.read_tables(|tables| tables.fill(self.segment_bytes))
    }

    /// Bytes that could still be written, reserve included.
    fn writable(&self, fill: &Fill) -> u64 {
        (self.unmade(fill) + fill.spares) * self.segment_bytes + fill.open_room
    }

    pub(crate) fn usage(&self) -> DriveUsage {
        let (fill, live, shards) =
            self.read_tables(|tables| (tables.fill(self.segment_bytes), tables.live(), tables.len()));
        let watermark = self.capacity - self.capacity / 100 * (100 - WATERMARK_PERCENT);
        DriveUsage {
            capacity: self.capacity,
            used: fill.used,
            free: watermark
                .saturating_sub(fill.used)
                .min(self.writable(&fill).saturating_sub(self.reserve())),
            shards,
            live,
            dead: fill.used.saturating_sub(live),
        }
    }

    pub(crate) fn admit_shard(&self) -> Result<(), StoreError> {
        if self.usage().free == 0 { Err(StoreError::Full) } else { Ok(()) }
    }

    /// Whether space is so short that compaction should take what it can get.
    pub(crate) fn is_short(&self) -> bool {
        self.writable(&self.fill()) < 2 * self.reserve()
    }

    // Segments.

    pub(crate) fn new_epoch(&self) -> Epoch {
        Epoch(self.rng.u64())
    }

    /// An empty segment, open from now on. Makes one if none is ready, which takes as long as writing it in full.
    /// `Full` if the purpose does not allow another one.
    pub(crate) fn take_segment(
        &self,
        kind: SegmentKind,
        purpose: Purpose,
    ) -> Result<(Arc<SegmentFile>, Epoch), StoreError> {
        if let Some(taken) = self.take_spare(kind, purpose)? {
            return Ok(taken);
        }
        let _one = locked(&self.preparing);
        loop {
            // Somebody else may have prepared one meanwhile.
            if let Some(taken) = self.take_spare(kind, purpose)? {
                return Ok(taken);
            }
            self.prepare(kind, Need::Now)?;
        }
    }

    fn take_spare(
        &self,
        kind: SegmentKind,
        purpose: Purpose,
    ) -> Result<Option<(Arc<SegmentFile>, Epoch)>, StoreError> {
        let epoch = self.new_epoch();
        self.change_segments(|tables| {
            let fill = tables.fill(self.segment_bytes);
            let free = self.unmade(&fill) + fill.spares;
            if purpose == Purpose::NewShards && free < RESERVED_SEGMENTS {
                return Err(StoreError::Full);
            }
            Ok(tables.take_spare(kind, epoch).map(|file| (file, epoch)))
        })
    }

    /// Makes a spare segment if there is none.
    pub(crate) fn prepare_ahead(&self, kind: SegmentKind) -> Result<(), StoreError> {
        let _one = locked(&self.preparing);
        let wanted = self.unmade(&self.fill()) > RESERVED_SEGMENTS
            && self.read_tables(|tables| tables.spares(kind) == 0);
        if wanted { self.prepare(kind, Need::Later) } else { Ok(()) }
    }

    /// Writes a new segment in full, so that no later flush has to allocate.
    fn prepare(&self, kind: SegmentKind, need: Need) -> Result<(), StoreError> {
        let other = match kind {
            SegmentKind::Log => SegmentKind::Extents,
            SegmentKind::Extents => SegmentKind::Log,
        };
        if self.unmade(&self.fill()) == 0 && !self.give_up_spare(other) {
            return Err(StoreError::Full);
        }
        let id = self.change_tables(|tables| {
            let id = tables.next_segment;
            tables.next_segment = SegmentId(id.0 + 1);
            id
        });
        let path = self.layout.segment(kind, id);
        let file = Arc::new(SegmentFile::new(&self.opener, id, kind, path));
        let epoch = self.new_epoch();
        if let Err((operation, error)) = self.write_zeros(&file, epoch, need) {
            // What is left of it is removed now or, failing that, when the drive is opened again.
            let _ = self.opener.disk().unlink(&file.path);
            return Err(self.write_error(operation, None, error));
        }
        let segment = Segment {
            file,
            kind,
            epoch,
            using: Use::Spare,
            written: BLOCK,
            live: 0,
            pending: 0,
            end_record: u64::MAX,
            allocated: self.segment_bytes,
            sealed_durably: false,
            searched_dead: 0,
            stuck: false,
        };
        self.change_segments(|tables| tables.segments.insert(id, segment));
        Ok(())
    }

    fn write_zeros(
        &self,
        segment: &SegmentFile,
        epoch: Epoch,
        need: Need,
    ) -> Result<(), (FileOperation, io::Error)> {
        let disk = self.opener.disk();
        disk.open(&segment.path, OpenMode::CreateNew).map_err(|error| (FileOperation::Create, error))?;
        let writer = segment.writer().map_err(|error| (FileOperation::Open, error))?;
        let mut zeros = AlignedBuf::zeroed(width::memory(ZEROS_LEN.min(self.segment_bytes)));
        let header = self.header(segment, epoch, 0, 0);
        zeros[..header.len()].copy_from_slice(&header);
        let mut offset = 0;
        while offset < self.segment_bytes {
            if need == Need::Later && self.stopping.load(Ordering::Relaxed) {
                let stopped = io::Error::new(io::ErrorKind::StorageFull, "the drive is being closed");
                return Err((FileOperation::Write, stopped));
            }
            let len = width::memory(ZEROS_LEN.min(self.segment_bytes - offset));
            writer.write_all_at(&zeros[..len], offset).map_err(|error| (FileOperation::Write, error))?;
            zeros[..header.len()].fill(0);
            offset += width::file(len);
        }
        segment.sync()?;
        if planted(Plant::NoDirectorySync) {
            return Ok(());
        }
        disk.sync_dir(&self.layout.segments(segment.kind))
            .map_err(|error| (FileOperation::FlushDirectory, error))
    }

    pub(crate) fn header(
        &self,
        segment: &SegmentFile,
        epoch: Epoch,
        first_record: u64,
        previous: u64,
    ) -> Vec<u8> {
        let header = SegmentHeader {
            kind: segment.kind,
            drive: self.identity.drive,
            id: segment.id,
            epoch,
            first_record,
            previous,
            segment_bytes: self.segment_bytes,
        };
        header.encode()[..].to_vec()
    }

    /// Begins a use of a segment: its header goes ahead of the first bytes. In the log it is flushed before them, among
    /// extents with them.
    pub(crate) fn write_header(
        &self,
        segment: &SegmentFile,
        epoch: Epoch,
        first_record: u64,
        previous: u64,
    ) -> Result<(), (FileOperation, io::Error)> {
        let mut block = AlignedBuf::zeroed(width::memory(BLOCK));
        block.copy_from_slice(&self.header(segment, epoch, first_record, previous));
        let writer = segment.writer().map_err(|error| (FileOperation::Open, error))?;
        writer.write_all_at(&block, 0).map_err(|error| (FileOperation::Write, error))
    }

    /// Unlinks a spare segment of a kind that has no need of it.
    fn give_up_spare(&self, kind: SegmentKind) -> bool {
        let spare = self.read_tables(|tables| {
            let mut segments = tables.segments.values();
            segments
                .find(|segment| segment.kind == kind && segment.using == Use::Spare)
                .map(|segment| segment.file.id)
        });
        spare.is_some_and(|id| self.unlink_segment(id).is_ok())
    }

    /// Forgets a segment and removes its file. A crash may bring the file back: then it holds nothing live and is
    /// removed again.
    pub(crate) fn unlink_segment(&self, id: SegmentId) -> Result<(), StoreError> {
        let Some(segment) = self.change_segments(|tables| tables.segments.remove(&id)) else { return Ok(()) };
        match self.opener.disk().unlink(&segment.file.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.write_error(FileOperation::Unlink, None, error)),
        }
    }

    // Failure.

    /// Fails if an earlier write did.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    pub(crate) fn failure(&self) -> Option<&DriveFailure> {
        self.failure.get()
    }

    /// What a failed change of the drive is to the caller. Anything but lack of space or of descriptors is final.
    pub(crate) fn write_error(
        &self,
        operation: FileOperation,
        shard: Option<ShardId>,
        error: io::Error,
    ) -> StoreError {
        // A flush that failed, for whatever reason, may have lost what was written before.
        if matches!(operation, FileOperation::Flush | FileOperation::FlushDirectory) {
            return self.fail(operation, shard, error);
        }
        match severity(&error) {
            Severity::NoSpace => StoreError::Full,
            Severity::NoResources => StoreError::Overloaded,
            Severity::Broken => self.fail(operation, shard, error),
        }
    }

    /// Stops all acknowledgements for good.
    pub(crate) fn fail(
        &self,
        operation: FileOperation,
        shard: Option<ShardId>,
        error: io::Error,
    ) -> StoreError {
        let failure = DriveFailure { operation, shard, source: Arc::new(error) };
        if self.failure.set(failure.clone()).is_ok() {
            tracing::error!(
                drive = %self.identity.drive, dir = %self.layout.root().display(), %operation,
                error = %failure.source, "the drive failed and takes no more writes"
            );
        }
        failure.into()
    }

    /// Frees the directory for others.
    pub(crate) fn unlock(&self) {
        *locked(&self.lock) = None;
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let usage = self.usage();
        self.metrics.measure(&usage);
    }
}
