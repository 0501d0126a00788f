//! The real disk, counting what reaches the device.

use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode, RealDisk};
use std::{
    fmt::Debug,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

#[derive(Debug, Default)]
struct Counters {
    flushes: AtomicU64,
    bytes: AtomicU64,
    zero_bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Of files and directories.
    pub(crate) flushes: u64,
    /// Written, but for writes of nothing but zeros.
    pub(crate) bytes: u64,
    /// Of writes of nothing but zeros, with which a segment is made, once in the life of its file.
    pub(crate) zero_bytes: u64,
}

/// Clones share the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountingDisk(Arc<Counters>);

#[derive(Debug)]
struct CountingFile {
    file: Box<dyn DiskFile>,
    counters: Arc<Counters>,
}

impl CountingDisk {
    pub(crate) fn counts(&self) -> Counts {
        let Counters { flushes, bytes, zero_bytes } = &*self.0;
        Counts {
            flushes: flushes.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
            zero_bytes: zero_bytes.load(Ordering::Relaxed),
        }
    }

    fn counted(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(CountingFile { file, counters: Arc::clone(&self.0) })
    }
}

impl Counters {
    fn wrote(&self, bytes: &[u8]) {
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let counter = if zeros { &self.zero_bytes } else { &self.bytes };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.counted(RealDisk.open(path, mode)?))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.counted(RealDisk.open_direct(path, mode)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
        RealDisk.sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        RealDisk.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for CountingFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        self.file.read_cached_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counters.wrote(bytes);
        self.file.write_all_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        // Part by part: padding with zeros is written with every batch and counts.
        if parts.iter().all(|part| part.iter().all(|byte| *byte == 0)) {
            parts.iter().for_each(|part| self.counters.wrote(part));
        } else {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            self.counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.file.write_parts_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }
}
