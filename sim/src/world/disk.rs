//! The disk of a host: a `SimDisk` whose calls take time and which fails when the host is down.

use super::{coroutine, rng::Seed};
use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode, SimDisk};
use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The disk of one process: a crash ends it, what is open on it does nothing any more.
#[derive(Debug, Clone)]
pub(crate) struct HostDisk {
    disk: SimDisk,
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Pace {
    seed: Mutex<Seed>,
    dead: AtomicBool,
    /// The last writes: path, offset, length.
    recent: Mutex<VecDeque<(PathBuf, u64, usize)>>,
}

/// Writes that are remembered: more than a batch of a log has.
const RECENT: usize = 32;

impl HostDisk {
    pub(crate) fn new(disk: SimDisk, seed: Seed) -> Self {
        let pace = Pace { seed: Mutex::new(seed), dead: AtomicBool::new(false), recent: Mutex::default() };
        Self { disk, pace: Arc::new(pace) }
    }

    pub(crate) fn recent_writes(&self) -> Vec<(PathBuf, u64, usize)> {
        self.pace.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// From here on every call fails.
    pub(crate) fn die(&self) {
        self.pace.dead.store(true, Ordering::SeqCst);
    }
}

impl Pace {
    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn micros(&self, from: u64, to: u64) -> Duration {
        let mut seed = self.seed.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(seed.between(from, to))
    }

    fn written(&self, path: &Path, offset: u64, len: usize) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back((path.to_owned(), offset, len));
        drop(recent);
        coroutine::pass(self.micros(20, 2_000));
    }

    /// Mostly a few milliseconds; one in a hundred is a device that collects its garbage.
    fn sync(&self) -> io::Result<()> {
        let slow = self.seed.lock().unwrap_or_else(PoisonError::into_inner).chance(1);
        coroutine::pass(if slow { self.micros(50_000, 400_000) } else { self.micros(300, 8_000) });
        self.alive()
    }
}

impl Disk for HostDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.pace.alive()?;
        let file = self.disk.open(path, mode)?;
        Ok(Box::new(HostFile { file, path: path.to_owned(), pace: Arc::clone(&self.pace) }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.pace.alive()?;
        let file = self.disk.open_direct(path, mode)?;
        Ok(Box::new(HostFile { file, path: path.to_owned(), pace: Arc::clone(&self.pace) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.pace.alive()?;
        self.disk.create_dir_all(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.pace.alive()?;
        self.disk.list_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pace.alive()?;
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pace.alive()?;
        self.disk.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.pace.sync()?;
        self.disk.sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        self.disk.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.pace.alive()?;
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct HostFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    pace: Arc<Pace>,
}

impl DiskFile for HostFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.pace.alive()?;
        self.file.read_exact_at(out, offset)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        self.pace.alive()?;
        self.file.read_cached_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pace.alive()?;
        self.file.write_all_at(bytes, offset)?;
        self.pace.written(&self.path, offset, bytes.len());
        Ok(())
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.pace.alive()?;
        self.file.write_parts_at(parts, offset)?;
        self.pace.written(&self.path, offset, parts.iter().map(|part| part.len()).sum());
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.pace.sync()?;
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.pace.alive()?;
        self.file.truncate(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.pace.alive()?;
        self.file.punch(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }
}
