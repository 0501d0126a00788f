//! A disk in memory before each of whose calls another thread may go on. Some calls are slow: others can do a lot
//! meanwhile, such as using a segment again that is being read.

use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode, SimDisk};
use shuttle::{
    rand::{Rng, thread_rng},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use std::{fmt::Debug, io, path::Path, sync::Arc};

/// One call in so many is slow.
const SLOW_EVERY: u32 = 24;
/// Enough for two clients to do all that they do in a scenario.
const SLOW_STEPS: u32 = 300;

#[derive(Clone, Debug)]
pub(crate) struct SwitchingDisk {
    disk: SimDisk,
    point: Point,
}

/// Touching it lets the explorer choose who goes on. Not a yield: that would tell it to prefer others.
#[derive(Clone, Debug)]
struct Point(Arc<AtomicBool>);

impl Point {
    fn pass(&self) {
        self.0.load(Ordering::SeqCst);
        if thread_rng().gen_ratio(1, SLOW_EVERY) {
            // Under the scheduler with priorities the first of these lets all others go first.
            (0..SLOW_STEPS).for_each(|_| thread::yield_now());
        }
    }
}

impl SwitchingDisk {
    pub(crate) fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), point: Point(Arc::new(AtomicBool::new(false))) }
    }

    fn next(&self) -> &SimDisk {
        self.point.pass();
        &self.disk
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SwitchingFile { file, point: self.point.clone() })
    }
}

impl Disk for SwitchingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.next().open(path, mode).map(|file| self.file(file))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.next().open_direct(path, mode).map(|file| self.file(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.next().create_dir_all(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.next().list_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.next().rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.next().unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.next().sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        self.next().usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.next().lock(path)
    }
}

#[derive(Debug)]
struct SwitchingFile {
    file: Box<dyn DiskFile>,
    point: Point,
}

impl SwitchingFile {
    fn next(&self) -> &dyn DiskFile {
        self.point.pass();
        self.file.as_ref()
    }
}

impl DiskFile for SwitchingFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.next().read_exact_at(out, offset)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        self.next().read_cached_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.next().write_all_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.next().write_parts_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.next().sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.next().truncate(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.next().punch(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.next().len()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.next().allocated_bytes()
    }
}
