//! Opening a drive: the newest checkpoint, then the log from its position on.
//!
//! Changes nothing on the drive: it flushes what it read, so that nothing is shown that a power cut could still take away, and
//! can be cut short and repeated. Half-made segments that a crash left are removed later by reclaiming, a draft of a checkpoint is
//! written over by the next.

use crate::{
    commit::Tail,
    drive::{Checkpoints, Drive, Parts},
    error::{FileOperation, OpenError, Severity, severity},
    format::{
        CheckpointHeader, DriveIdentity, Entry, Epoch, LogPosition, SegmentId, SegmentKind, Superblock,
        decode_checkpoint, parse_number,
    },
    layout::{self, Layout, at, names},
    segment_file::Opener,
    sync::Arc,
    tables::Tables,
    width,
};
use ashlar_runtime::{Clock, Disk, OpenMode, Rng};
use ashlar_types::ShardId;
use std::{io, path::PathBuf, time::Duration};

mod log;
mod segments;
mod window;

/// What opening a drive found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub took: Duration,
    /// The checkpoint it began with; `None` if there was none.
    pub checkpoint: Option<u64>,
    /// Records and bytes of the log that came after it.
    pub replayed_records: u64,
    pub replayed_bytes: u64,
    /// The log ended in a batch that is not whole: one that was never acknowledged, unless the device damaged the very
    /// last one, which cannot be told from it.
    pub torn_tail: bool,
    /// Bytes of the log that did not verify though the log goes on behind them.
    pub damaged: Vec<DamagedRegion>,
    /// Shards that were acknowledged and cannot be read: to be rebuilt from other drives. Shards whose very names were lost
    /// in a damaged region are found by comparing the drive with the metadata.
    pub lost: Vec<ShardId>,
    /// No checkpoint verified though there had been some: the index was made from all of the log, and deleted shards
    /// may have come back.
    pub rebuilt: bool,
    /// The sums over the segments do not add up: something else than this store wrote to the drive.
    pub inconsistent: bool,
}

/// Bytes of a log segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRegion {
    pub segment: u64,
    pub offset: u64,
    pub len: u64,
}

/// What to open, and how.
pub(crate) struct Opening {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) dir: PathBuf,
    /// Whose it has to be; anybody's if not given.
    pub(crate) expect: Option<DriveIdentity>,
    pub(crate) capacity: Option<u64>,
    /// Whether what was read is flushed before it is shown. Not needed by who only looks.
    pub(crate) flush: bool,
}

/// The newest checkpoint that verifies, and what is known of the one before.
struct Loaded {
    newest: Option<(CheckpointHeader, Vec<(ShardId, Entry)>)>,
    bytes: u64,
    /// Record from which the older one reads the log on.
    older_from: u64,
}

pub(crate) fn open(opening: Opening) -> Result<(Drive, Tail), OpenError> {
    let Opening { disk, clock, rng, dir, expect, capacity, flush } = opening;
    let began = clock.monotonic();
    let superblock = layout::read_superblock(disk.as_ref(), &dir)?
        .ok_or_else(|| OpenError::NotFormatted { dir: dir.clone() })?;
    check_identity(&dir, superblock.identity, expect.unwrap_or(superblock.identity))?;
    let layout = Layout::new(&dir);
    let lock = layout::lock(disk.as_ref(), &layout)?;
    // Another process may have had the drive until now.
    let superblock = layout::read_superblock(disk.as_ref(), &dir)?.unwrap_or(superblock);
    let opener = Arc::new(Opener::new(Arc::clone(&disk)));
    let found = segments::find(&opener, &layout, &superblock)?;
    let loaded = load_checkpoints(disk.as_ref(), &layout, &superblock)?;

    let mut report = RecoveryReport {
        checkpoint: loaded.newest.as_ref().map(|(header, _)| header.number),
        rebuilt: loaded.newest.is_none() && superblock.checkpoint > 0,
        ..RecoveryReport::default()
    };
    let start = loaded.newest.as_ref().map_or(
        LogPosition { segment: SegmentId(0), epoch: Epoch(0), offset: 0, next_record: 1, previous: 0 },
        |(header, _)| header.position,
    );
    let mut tables = Tables::new(start);
    let mut rows = Vec::new();
    let checkpoints = Checkpoints {
        generation: superblock.generation,
        newest: report.checkpoint.unwrap_or(0).max(superblock.checkpoint),
        newest_from: start.next_record,
        older_from: loaded.older_from,
        bytes: loaded.bytes,
    };
    if let Some((header, entries)) = loaded.newest {
        tables.next_segment = header.next_segment;
        rows = header.segments;
        for (shard, entry) in entries {
            tables.insert(shard, entry);
        }
    }
    let replayed = log::replay(&found, start, &mut tables, &mut report);
    segments::settle(&mut tables, found, &rows, &replayed, checkpoints.older_from, &superblock, &mut report);
    if flush {
        flush_what_was_read(disk.as_ref(), &layout, &tables, &replayed)?;
    }
    if let Err(reason) = tables.verify() {
        report.inconsistent = true;
        // Only what another program wrote comes to this: the store's own steps are held to it by tests.
        tracing::error!(dir = %dir.display(), reason, "the tables of the drive do not add up");
    }
    let tail = tail(&tables, &replayed);
    let capacity = match capacity {
        Some(capacity) => capacity,
        None => disk.usage(&dir).map_err(at(FileOperation::MeasureSpace, &dir))?.total_bytes,
    };
    report.took = clock.monotonic().saturating_sub(began);
    log_report(&superblock, &report);
    let parts = Parts {
        opener,
        layout,
        identity: superblock.identity,
        segment_bytes: superblock.segment_bytes,
        capacity,
        clock,
        rng,
        tables,
        checkpoints,
        report,
        lock,
    };
    Ok((Drive::new(parts), tail))
}

fn check_identity(
    dir: &std::path::Path,
    found: DriveIdentity,
    expect: DriveIdentity,
) -> Result<(), OpenError> {
    let dir = dir.to_owned();
    if found.cluster != expect.cluster {
        return Err(OpenError::OtherCluster { dir, found: found.cluster, expected: expect.cluster });
    }
    if found.drive != expect.drive {
        return Err(OpenError::OtherDrive { dir, found: found.drive, expected: expect.drive });
    }
    Ok(())
}

fn log_report(superblock: &Superblock, report: &RecoveryReport) {
    let drive = superblock.identity.drive;
    tracing::info!(
        %drive, took = ?report.took, checkpoint = report.checkpoint, records = report.replayed_records,
        bytes = report.replayed_bytes, torn_tail = report.torn_tail, "the drive is open"
    );
    if !report.damaged.is_empty() || !report.lost.is_empty() {
        tracing::error!(
            %drive, regions = report.damaged.len(), shards = report.lost.len(),
            "the log of the drive is damaged: what was lost has to be rebuilt from other drives"
        );
    }
    if report.rebuilt {
        tracing::error!(%drive, "no checkpoint of the index verifies: deleted shards may have come back");
    }
}

/// Tries the checkpoints from the newest on.
fn load_checkpoints(disk: &dyn Disk, layout: &Layout, superblock: &Superblock) -> Result<Loaded, OpenError> {
    let mut numbers = checkpoint_numbers(disk, layout)?;
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut loaded = Loaded { newest: None, bytes: 0, older_from: 1 };
    for number in numbers {
        let Some((bytes, header, entries)) = load_checkpoint(disk, layout, superblock, number)? else {
            tracing::warn!(drive = %superblock.identity.drive, number, "a checkpoint does not verify");
            continue;
        };
        match &loaded.newest {
            None => {
                loaded.bytes = bytes;
                // Should no older one be found, this is all there is to fall back on.
                loaded.older_from = if number > 1 { header.position.next_record } else { 1 };
                loaded.newest = Some((header, entries));
            }
            Some(_) => {
                loaded.older_from = header.position.next_record;
                break;
            }
        }
    }
    Ok(loaded)
}

pub(crate) fn checkpoint_numbers(disk: &dyn Disk, layout: &Layout) -> Result<Vec<u64>, OpenError> {
    let found = names(disk, &layout.index())?.unwrap_or_default();
    Ok(found.iter().filter_map(|name| parse_number(name.strip_suffix(".ckpt")?)).collect())
}

type Checkpoint = (u64, CheckpointHeader, Vec<(ShardId, Entry)>);

fn load_checkpoint(
    disk: &dyn Disk,
    layout: &Layout,
    superblock: &Superblock,
    number: u64,
) -> Result<Option<Checkpoint>, OpenError> {
    let path = layout.checkpoint(number);
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(&path, OpenMode::Read)?;
        let mut bytes = vec![0; width::memory(file.len()?)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if severity(&error) == Severity::NoResources => {
            return Err(at(FileOperation::Read, &path)(error));
        }
        // The one before it serves.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a checkpoint cannot be read");
            return Ok(None);
        }
    };
    let right =
        |header: &CheckpointHeader| header.drive == superblock.identity.drive && header.number == number;
    Ok(decode_checkpoint(&bytes)
        .ok()
        .filter(|(header, _)| right(header))
        .map(|(header, entries)| (width::file(bytes.len()), header, entries)))
}

/// Whatever is reported from now on is durable: a process that was killed leaves writes that a power cut could still
/// take away.
fn flush_what_was_read(
    disk: &dyn Disk,
    layout: &Layout,
    tables: &Tables,
    replayed: &log::Replayed,
) -> Result<(), OpenError> {
    layout::flush_superblocks(disk, layout)?;
    for dir in [layout.segments(SegmentKind::Log), layout.segments(SegmentKind::Extents), layout.index()] {
        disk.sync_dir(&dir).map_err(at(FileOperation::FlushDirectory, &dir))?;
    }
    for id in replayed.read.iter().chain(replayed.extents.keys().map(|(id, _)| id)) {
        let Some(segment) = tables.segments.get(id) else { continue };
        segment.file.sync().map_err(|(operation, error)| at(operation, &segment.file.path)(error))?;
    }
    Ok(())
}

fn tail(tables: &Tables, replayed: &log::Replayed) -> Tail {
    let position = replayed.position;
    let file = tables
        .segments
        .get(&position.segment)
        .filter(|segment| segment.using == crate::tables::Use::Open)
        .map(|segment| Arc::clone(&segment.file));
    Tail {
        file,
        epoch: position.epoch,
        offset: position.offset,
        next_record: position.next_record,
        previous: position.previous,
        refused_batch: false,
    }
}
