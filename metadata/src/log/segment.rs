//! Segment files: making, opening, deleting them.
//!
//! Writes go past the page cache where the file system lets them, reads through it.

use super::{
    LogError,
    format::{BLOCK_BYTES, Salt, SegmentHead, SegmentId},
};
use ashlar_runtime::{AlignedBuf, Disk, DiskFile, OpenMode};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Zeros written at once to a new segment.
const ZEROS: u64 = 1 << 20;

/// An open segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    /// Whole blocks of the file.
    pub(super) len: u64,
    writer: Box<dyn DiskFile>,
    reader: Box<dyn DiskFile>,
}

impl SegmentFile {
    pub(super) fn reader(&self) -> &dyn DiskFile {
        &*self.reader
    }

    /// `bytes`, their address, and `offset` are aligned.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writer.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.writer.sync_data()
    }
}

/// The directory of a log.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// False from the first refusal on.
    direct: AtomicBool,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, direct: AtomicBool::new(true) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether writes go past the page cache, as far as is known.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self, source: io::Error) -> LogError {
        LogError::Io { path: self.dir.clone(), source }
    }

    /// Makes the directory if it is not there.
    pub(super) fn create_dir(&self) -> io::Result<()> {
        self.disk.create_dir_all(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |parent| self.disk.sync_dir(parent))
    }

    pub(super) fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.dir)
    }

    /// The segments there are, in the order of their ids.
    pub(super) fn list(&self) -> io::Result<Vec<SegmentId>> {
        let names = self.disk.list_dir(&self.dir)?;
        let mut ids: Vec<_> = names.iter().filter_map(|name| SegmentId::parse_file_name(name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn open(&self, id: SegmentId) -> io::Result<SegmentFile> {
        let path = self.dir.join(id.file_name());
        let reader = self.disk.open(&path, OpenMode::Read)?;
        let len = reader.len()? / BLOCK_BYTES * BLOCK_BYTES;
        let writer = self.open_writer(&path)?;
        Ok(SegmentFile { id, path, len, writer, reader })
    }

    fn open_writer(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.is_direct() {
            match self.disk.open_direct(path, OpenMode::ReadWrite) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
                {
                    if self.direct.swap(false, Ordering::Relaxed) {
                        tracing::warn!(
                            path = %path.display(), %error,
                            "this file system has no direct I/O: the log is written through the page cache"
                        );
                    }
                }
                opened => return opened,
            }
        }
        self.disk.open(path, OpenMode::ReadWrite)
    }

    /// Makes a segment of at least `len` bytes, all of them written once, so that a later write changes no allocation. It
    /// and its name are durable.
    pub(super) fn create(&self, id: SegmentId, salt: Salt, len: u64) -> io::Result<SegmentFile> {
        let path = self.dir.join(id.file_name());
        drop(self.disk.open(&path, OpenMode::CreateNew)?);
        let made = self.fill(id, salt, len.next_multiple_of(BLOCK_BYTES));
        if made.is_err() {
            // What is left of it would be taken for a segment that never was used, and deleted, by the next opening.
            let _ = self.disk.unlink(&path);
        }
        made
    }

    fn fill(&self, id: SegmentId, salt: Salt, len: u64) -> io::Result<SegmentFile> {
        let file = self.open(id)?;
        let step = usize::try_from(len.min(ZEROS)).expect("a megabyte fits the address space");
        let zeros = AlignedBuf::zeroed(step);
        let mut offset = 0;
        while offset < len {
            let piece = usize::try_from(len - offset).unwrap_or(usize::MAX).min(step);
            file.write(&zeros[..piece], offset)?;
            offset += piece as u64;
        }
        let mut head = AlignedBuf::with_capacity(step);
        head.extend_from_slice(&SegmentHead { salt, id }.encode());
        file.write(&head, 0)?;
        file.sync()?;
        self.sync_dir()?;
        Ok(SegmentFile { len, ..file })
    }

    pub(super) fn unlink(&self, id: SegmentId) -> io::Result<()> {
        self.disk.unlink(&self.dir.join(id.file_name()))
    }

    /// Gives a segment a name under which it is not looked at again.
    pub(super) fn set_aside(&self, id: SegmentId) -> io::Result<()> {
        let path = self.dir.join(id.file_name());
        self.disk.rename(&path, &path.with_extension("damaged"))
    }
}
