//! A disk of a process that has no file descriptors left.

use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode};
use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const EMFILE: i32 = 24;

/// Opens nothing while it is starved; what is open stays so.
#[derive(Clone, Debug)]
pub(crate) struct StarvedDisk {
    inner: Arc<dyn Disk>,
    starved: Arc<AtomicBool>,
}

impl StarvedDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, starved: Arc::default() }
    }

    pub(crate) fn starve(&self, starved: bool) {
        self.starved.store(starved, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        let starved = self.starved.load(Ordering::SeqCst);
        if starved { Err(io::Error::from_raw_os_error(EMFILE)) } else { Ok(()) }
    }
}

impl Disk for StarvedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.check()?;
        self.inner.open(path, mode)
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.check()?;
        self.inner.open_direct(path, mode)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.check()?;
        self.inner.list_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.inner.sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        self.inner.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        self.check()?;
        self.inner.lock(path)
    }
}
