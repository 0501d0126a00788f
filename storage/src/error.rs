//! What can go wrong when a drive is opened and when it is used.

use ashlar_types::{ClusterId, DriveUuid, ShardId};
use std::{fmt, io, path::PathBuf, sync::Arc};

/// Why a directory was not formatted or opened. The messages are for the operator and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is not a formatted drive; format it, or mount the device that belongs there", dir.display())]
    NotFormatted { dir: PathBuf },
    #[error(
        "{} is already formatted, as drive {drive} of cluster {cluster}; it is never formatted over: empty the \
         directory first if nobody needs its shards",
        dir.display()
    )]
    AlreadyFormatted { dir: PathBuf, cluster: ClusterId, drive: DriveUuid },
    #[error(
        "{} has no superblock but holds `{name}`; give an empty directory, or restore the superblock if this was \
         a drive",
        dir.display()
    )]
    NotEmpty { dir: PathBuf, name: String },
    #[error(
        "{} belongs to cluster {found}, this node to cluster {expected}; correct the path in `drives`, or \
         empty the directory if the other cluster is gone",
        dir.display()
    )]
    OtherCluster { dir: PathBuf, found: ClusterId, expected: ClusterId },
    #[error(
        "{} holds drive {found}, not drive {expected}; correct the path in `drives` or mount the right device",
        dir.display()
    )]
    OtherDrive { dir: PathBuf, found: DriveUuid, expected: DriveUuid },
    #[error(
        "{} has drive format {found}, this binary knows formats up to {supported}; start a newer binary",
        dir.display()
    )]
    NewerFormat { dir: PathBuf, found: u32, supported: u32 },
    #[error(
        "{} has drive format {found}, written before the first release, which this binary does not read; empty \
         the directory and let its shards be rebuilt",
        dir.display()
    )]
    OlderFormat { dir: PathBuf, found: u32 },
    #[error("a segment cannot have {segment_bytes} bytes; give a multiple of 4096 from 64 KiB to 1 GiB")]
    SegmentLength { segment_bytes: u64 },
    #[error("{} is in use by another process; stop that one first", dir.display())]
    Locked { dir: PathBuf },
    #[error(
        "the superblock of {} is damaged: {reason}; check the device, then replace the drive and let its \
         shards be rebuilt",
        dir.display()
    )]
    DamagedSuperblock { dir: PathBuf, reason: &'static str },
    #[error("{operation} of {} failed; check the device and the permissions", path.display())]
    Io { operation: FileOperation, path: PathBuf, source: io::Error },
    #[error("the workers of the drive ended before it was open")]
    Stopped,
}

/// Why a shard was not written, read or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the drive does not have this shard")]
    NotFound,
    /// What is stored does not verify. Where the shard's own description is damaged, this is the first unit
    /// asked for. Reconstruct from other drives and put the shard again.
    #[error("unit {unit} of the shard does not verify")]
    Corrupt { unit: u32 },
    /// Units were asked for that the shard does not have.
    #[error("the shard has {units} units")]
    NoSuchUnit { units: u32 },
    /// Place new shards on another drive; deletes go on.
    #[error("the drive is full")]
    Full,
    /// Nothing was done; come back later or go elsewhere.
    #[error("too many requests wait for the drive")]
    Overloaded,
    /// An operation failed, or one did before and the drive no longer takes writes.
    #[error(transparent)]
    Failed(#[from] DriveFailure),
    /// Bytes changed on their way to the drive.
    #[error("the unit does not match its checksum")]
    CrcMismatch,
    #[error("a unit is longer, or the units are more, than the format takes")]
    TooLarge,
    /// The store was closed, or an earlier call of this writer was cancelled.
    #[error("the drive or the writer is closed")]
    Closed,
}

/// A file operation that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} failed{}", OfShard(*shard))]
pub struct DriveFailure {
    pub operation: FileOperation,
    pub shard: Option<ShardId>,
    pub source: Arc<io::Error>,
}

struct OfShard(Option<ShardId>);

impl fmt::Display for OfShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |shard| write!(f, " for shard {shard}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOperation {
    Create,
    Open,
    Read,
    Write,
    Flush,
    Rename,
    Unlink,
    Punch,
    List,
    FlushDirectory,
    Lock,
    MeasureSpace,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "creating",
            Self::Open => "opening",
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Flush => "flushing",
            Self::Rename => "renaming",
            Self::Unlink => "removing",
            Self::Punch => "punching a hole",
            Self::List => "listing",
            Self::FlushDirectory => "flushing the directory",
            Self::Lock => "locking",
            Self::MeasureSpace => "measuring the free space",
        })
    }
}

/// What an I/O error means for the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// No space for this write; nothing is wrong with the drive.
    NoSpace,
    /// The process lacks descriptors or memory; the drive was not even asked.
    NoResources,
    /// The drive failed.
    Broken,
}

pub(crate) fn severity(error: &io::Error) -> Severity {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Severity::NoSpace,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Severity::NoResources,
        Some(_) => Severity::Broken,
        None if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Severity::NoSpace
        }
        None => Severity::Broken,
    }
}
