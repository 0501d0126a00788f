//! The places inside a drive directory, whose drive it is, and how a directory becomes one.
//!
//! Owns the superblock pair on disk and the lock; the bytes of a superblock are in `format`.

use crate::{
    error::{FileOperation, OpenError, Severity, severity},
    format::{DecodeError, DriveIdentity, FORMAT_VERSION, SegmentId, SegmentKind, Superblock},
    width,
};
use ashlar_runtime::{Disk, OpenMode};
use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names that a drive has in its directory.
const SUPERBLOCKS: [&str; 2] = ["superblock.a", "superblock.b"];
const LOCK: &str = "lock";
const LOG: &str = "log";
const EXTENTS: &str = "extents";
const INDEX: &str = "index";
/// The superblock of format 1, which kept one file per shard.
const SUPERBLOCK_OF_VERSION_1: &str = "superblock";
/// Made by mkfs in the root of an ext4 file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Far above any superblock: a longer file is not one.
const SUPERBLOCK_MAX_LEN: u64 = 64 * 1024;

pub(crate) const SEGMENT_MIN_BYTES: u64 = 64 * 1024;
pub(crate) const SEGMENT_MAX_BYTES: u64 = 1 << 30;

/// How a drive is laid out; settled when it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Length of every segment: a multiple of 4096, 64 KiB to 1 GiB.
    pub segment_bytes: u64,
}

impl FormatOptions {
    /// Segments of at most `segment_bytes_max`, small enough that a drive has at least 64 of them, so that its reserve
    /// of whole segments stays small; 4 MiB at least, 1 GiB at most.
    pub fn for_capacity(capacity: u64, segment_bytes_max: u64) -> Self {
        let wanted = (capacity / 64).min(segment_bytes_max).clamp(4 << 20, SEGMENT_MAX_BYTES);
        Self { segment_bytes: 1 << wanted.ilog2() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    pub(crate) fn segments(&self, kind: SegmentKind) -> PathBuf {
        self.root.join(match kind {
            SegmentKind::Log => LOG,
            SegmentKind::Extents => EXTENTS,
        })
    }

    pub(crate) fn segment(&self, kind: SegmentKind, id: SegmentId) -> PathBuf {
        self.segments(kind).join(id.file_name())
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    pub(crate) fn checkpoint(&self, number: u64) -> PathBuf {
        self.index().join(format!("{number:016x}.ckpt"))
    }

    pub(crate) fn checkpoint_draft(&self, number: u64) -> PathBuf {
        self.index().join(format!("{number:016x}.tmp"))
    }

    /// Odd generations are in the first file, even ones in the second.
    pub(crate) fn superblock(&self, generation: u64) -> PathBuf {
        self.root.join(if generation % 2 == 1 { SUPERBLOCKS[0] } else { SUPERBLOCKS[1] })
    }
}

/// Names `operation` and `path` in an I/O error.
pub(crate) fn at(operation: FileOperation, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { operation, path, source }
}

/// `None` if the directory does not exist.
pub(crate) fn names(disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<String>>, OpenError> {
    match disk.list_dir(dir) {
        Ok(names) => Ok(Some(names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(FileOperation::List, dir)(error)),
    }
}

/// `Ok(None)` if the directory is absent, empty, or left by an interrupted format.
pub(crate) fn read_superblock(disk: &dyn Disk, dir: &Path) -> Result<Option<Superblock>, OpenError> {
    let layout = Layout::new(dir);
    let Some(found) = names(disk, dir)? else { return Ok(None) };
    if found.iter().any(|name| name == SUPERBLOCK_OF_VERSION_1) {
        return Err(OpenError::OlderFormat { dir: dir.to_owned(), found: 1 });
    }
    let mut newest: Option<Superblock> = None;
    let mut damage = None;
    for name in SUPERBLOCKS.into_iter().filter(|name| found.iter().any(|found| found == name)) {
        match decode_file(disk, &layout.root.join(name))? {
            Ok(superblock) => {
                if newest.as_ref().is_none_or(|newest| newest.generation < superblock.generation) {
                    newest = Some(superblock);
                }
            }
            Err(DecodeError::Newer(found)) => {
                let dir = dir.to_owned();
                return Err(OpenError::NewerFormat { dir, found, supported: FORMAT_VERSION });
            }
            Err(DecodeError::Older(found)) => {
                return Err(OpenError::OlderFormat { dir: dir.to_owned(), found });
            }
            Err(DecodeError::Damaged(reason)) => {
                tracing::warn!(dir = %dir.display(), name, reason, "a superblock does not verify");
                damage = Some(reason);
            }
        }
    }
    if newest.is_some() {
        return Ok(newest);
    }
    match (foreign_name(disk, &layout, &found)?, damage) {
        (None, _) => Ok(None),
        (Some(_), Some(reason)) => Err(OpenError::DamagedSuperblock { dir: dir.to_owned(), reason }),
        (Some(name), None) => Err(OpenError::NotEmpty { dir: dir.to_owned(), name }),
    }
}

/// Makes durable what was read of the pair: a killed process may have written one of them and not flushed it.
pub(crate) fn flush_superblocks(disk: &dyn Disk, layout: &Layout) -> Result<(), OpenError> {
    for name in SUPERBLOCKS {
        let path = layout.root.join(name);
        match disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file.sync_data().map_err(at(FileOperation::Flush, &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(FileOperation::Open, &path)(error)),
        }
    }
    disk.sync_dir(&layout.root).map_err(at(FileOperation::FlushDirectory, &layout.root))
}

fn decode_file(disk: &dyn Disk, path: &Path) -> Result<Result<Superblock, DecodeError>, OpenError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; width::memory(file.len()?.min(SUPERBLOCK_MAX_LEN))];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Superblock::decode(&bytes)),
        Err(error) if severity(&error) == Severity::NoResources => Err(at(FileOperation::Read, path)(error)),
        // The other one of the pair may serve.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a superblock cannot be read");
            Ok(Err(DecodeError::Damaged("it cannot be read")))
        }
    }
}

/// The first name in a directory without superblock that an interrupted format does not leave.
fn foreign_name(disk: &dyn Disk, layout: &Layout, found: &[String]) -> Result<Option<String>, OpenError> {
    for name in found {
        let foreign = match name.as_str() {
            LOCK | LOST_AND_FOUND => None,
            known if SUPERBLOCKS.contains(&known) => None,
            LOG | EXTENTS | INDEX => {
                let inner = names(disk, &layout.root.join(name))?.unwrap_or_default();
                inner.first().map(|inner| format!("{name}/{inner}"))
            }
            other => Some(other.to_owned()),
        };
        if foreign.is_some() {
            return Ok(foreign);
        }
    }
    Ok(None)
}

/// Writes one of the pair and flushes it, with its name if that was missing.
pub(crate) fn write_superblock(
    disk: &dyn Disk,
    layout: &Layout,
    superblock: &Superblock,
) -> Result<(), (FileOperation, io::Error)> {
    let path = layout.superblock(superblock.generation);
    let (file, made) = match disk.open(&path, OpenMode::ReadWrite) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file =
                disk.open(&path, OpenMode::CreateNew).map_err(|error| (FileOperation::Create, error))?;
            (file, true)
        }
        Err(error) => return Err((FileOperation::Open, error)),
    };
    let bytes = superblock.encode();
    file.write_all_at(&bytes, 0).map_err(|error| (FileOperation::Write, error))?;
    let len = file.len().map_err(|error| (FileOperation::Read, error))?;
    if len != width::file(bytes.len()) {
        file.truncate(width::file(bytes.len())).map_err(|error| (FileOperation::Write, error))?;
    }
    file.sync_data().map_err(|error| (FileOperation::Flush, error))?;
    if made {
        disk.sync_dir(&layout.root).map_err(|error| (FileOperation::FlushDirectory, error))?;
    }
    Ok(())
}

/// Makes a drive of an absent or empty directory.
pub(crate) fn format(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    identity: DriveIdentity,
    options: FormatOptions,
) -> Result<(), OpenError> {
    let FormatOptions { segment_bytes } = options;
    let allowed = SEGMENT_MIN_BYTES..=SEGMENT_MAX_BYTES;
    if !allowed.contains(&segment_bytes) || !segment_bytes.is_multiple_of(4096) {
        return Err(OpenError::SegmentLength { segment_bytes });
    }
    let layout = Layout::new(dir);
    create_durably(disk.as_ref(), dir)?;
    let _lock = lock(disk.as_ref(), &layout)?;
    if let Some(Superblock { identity: DriveIdentity { cluster, drive }, .. }) =
        read_superblock(disk.as_ref(), dir)?
    {
        return Err(OpenError::AlreadyFormatted { dir: dir.to_owned(), cluster, drive });
    }
    for name in [LOG, EXTENTS, INDEX] {
        let path = dir.join(name);
        disk.create_dir_all(&path).map_err(at(FileOperation::Create, &path))?;
    }
    disk.sync_dir(dir).map_err(at(FileOperation::FlushDirectory, dir))?;
    for generation in 1..=2 {
        let superblock = Superblock { identity, generation, segment_bytes, checkpoint: 0 };
        write_superblock(disk.as_ref(), &layout, &superblock)
            .map_err(|(operation, error)| at(operation, &layout.superblock(generation))(error))?;
    }
    Ok(())
}

/// Takes the drive for this process.
pub(crate) fn lock(disk: &dyn Disk, layout: &Layout) -> Result<Box<dyn Debug + Send + Sync>, OpenError> {
    let path = layout.lock();
    disk.lock(&path).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            OpenError::Locked { dir: layout.root().to_owned() }
        } else {
            at(FileOperation::Lock, &path)(error)
        }
    })
}

/// Makes the directory and flushes the names of all its ancestors that did not exist.
fn create_durably(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let mut missing = Vec::new();
    for path in dir.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if names(disk, path)?.is_some() {
            break;
        }
        missing.push(path);
    }
    disk.create_dir_all(dir).map_err(at(FileOperation::Create, dir))?;
    for path in missing {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        disk.sync_dir(parent).map_err(at(FileOperation::FlushDirectory, parent))?;
    }
    Ok(())
}
