//! The open file of one segment.
//!
//! Opens its handles when they are first needed. Writes go past the page cache where the file system lets them, reads
//! go through it unless they are long. Does not know what the bytes mean.

use crate::{
    error::FileOperation,
    format::{SegmentId, SegmentKind},
    sync::atomic::{AtomicBool, Ordering},
    width,
};
use ashlar_runtime::{AlignedBuf, Disk, DiskFile, OpenMode, buf::ALIGN};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Opens files of one drive, directly as long as that works.
#[derive(Debug)]
pub(crate) struct Opener {
    disk: Arc<dyn Disk>,
    /// False from the first refusal on.
    direct: AtomicBool,
}

impl Opener {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, direct: AtomicBool::new(true) }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A handle past the page cache, or through it where the file system has no direct I/O. That is said once.
    pub(crate) fn open(&self, path: &Path) -> io::Result<(Box<dyn DiskFile>, Io)> {
        if self.direct.load(Ordering::Relaxed) {
            match self.disk.open_direct(path, OpenMode::ReadWrite) {
                Ok(file) => return Ok((file, Io::Direct)),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
                {
                    if self.direct.swap(false, Ordering::Relaxed) {
                        tracing::warn!(
                            path = %path.display(), %error,
                            "this file system has no direct I/O: writes go through the page cache and cost more"
                        );
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok((self.disk.open(path, OpenMode::ReadWrite)?, Io::Cached))
    }
}

/// Whether a handle goes past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    Direct,
    Cached,
}

/// Where a read may take its bytes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// From memory, without waiting for the device.
    Warm,
    /// From memory or the device; long reads past the page cache.
    Any,
    /// From the device.
    Device,
}

/// Reads of at least this length do not go through the page cache.
const DIRECT_READ_LEN: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) id: SegmentId,
    pub(crate) kind: SegmentKind,
    pub(crate) path: PathBuf,
    opener: Arc<Opener>,
    cached: OnceLock<Box<dyn DiskFile>>,
    direct: OnceLock<(Box<dyn DiskFile>, Io)>,
}

impl SegmentFile {
    pub(crate) fn new(opener: &Arc<Opener>, id: SegmentId, kind: SegmentKind, path: PathBuf) -> Self {
        Self { id, kind, path, opener: Arc::clone(opener), cached: OnceLock::new(), direct: OnceLock::new() }
    }

    pub(crate) fn cached(&self) -> io::Result<&dyn DiskFile> {
        if let Some(file) = self.cached.get() {
            return Ok(file.as_ref());
        }
        let file = self.opener.disk.open(&self.path, OpenMode::Read)?;
        Ok(self.cached.get_or_init(|| file).as_ref())
    }

    fn direct(&self) -> io::Result<&(Box<dyn DiskFile>, Io)> {
        if let Some(file) = self.direct.get() {
            return Ok(file);
        }
        let file = self.opener.open(&self.path)?;
        Ok(self.direct.get_or_init(|| file))
    }

    /// The handle for writing and flushing; offsets, lengths and addresses must be aligned.
    pub(crate) fn writer(&self) -> io::Result<&dyn DiskFile> {
        self.direct().map(|(file, _)| file.as_ref())
    }

    pub(crate) fn sync(&self) -> Result<(), (FileOperation, io::Error)> {
        let writer = self.writer().map_err(|error| (FileOperation::Open, error))?;
        writer.sync_data().map_err(|error| (FileOperation::Flush, error))
    }

    /// Fills `out`. `Ok(false)` if the access is warm and the bytes are not in memory.
    pub(crate) fn read(&self, out: &mut [u8], offset: u64, access: Access) -> io::Result<bool> {
        match access {
            Access::Warm => self.cached()?.read_cached_at(out, offset),
            Access::Any if out.len() < DIRECT_READ_LEN => {
                self.cached()?.read_exact_at(out, offset).map(|()| true)
            }
            Access::Any | Access::Device => self.read_direct(out, offset).map(|()| true),
        }
    }

    /// Reads blocks into `out`, which is aligned as `offset` is, without a copy.
    pub(crate) fn read_blocks(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.direct()?.0.read_exact_at(out, offset)
    }

    fn read_direct(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let (file, io) = self.direct()?;
        if *io == Io::Cached {
            return file.read_exact_at(out, offset);
        }
        let align = width::file(ALIGN);
        let start = offset / align * align;
        let skip = width::memory(offset - start);
        let mut blocks = AlignedBuf::zeroed((skip + out.len()).next_multiple_of(ALIGN));
        file.read_exact_at(&mut blocks, start)?;
        let wanted = blocks.get(skip..skip + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(wanted);
        Ok(())
    }
}
