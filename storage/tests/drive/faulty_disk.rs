//! A disk that asks before every call whether it may succeed.

use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Create,
    Read,
    Write,
    SyncData,
    Rename,
    Unlink,
    SyncDir,
}

type Hook = Arc<dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync>;

/// Passes calls on to another disk unless the hook fails or blocks them.
#[derive(Clone)]
pub(crate) struct FaultyDisk {
    inner: Arc<dyn Disk>,
    hook: Arc<Mutex<Hook>>,
}

impl FaultyDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, hook: Arc::new(Mutex::new(Arc::new(|_, _| Ok(())))) }
    }

    pub(crate) fn hook(&self, hook: impl Fn(Call, &Path) -> io::Result<()> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Arc::new(hook);
    }

    /// Fails all calls of a kind with an error of the system.
    pub(crate) fn fail(&self, failing: Call, errno: i32) {
        self.hook(
            move |call, _| {
                if call == failing { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
            },
        );
    }

    pub(crate) fn heal(&self) {
        self.hook(|_, _| Ok(()));
    }

    fn ask(&self, call: Call, path: &Path) -> io::Result<()> {
        let hook = Arc::clone(&self.hook.lock().unwrap());
        hook(call, path)
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDisk").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    path: PathBuf,
    inner: Box<dyn DiskFile>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let call = match mode {
            OpenMode::Read | OpenMode::ReadWrite => Call::Open,
            OpenMode::Create | OpenMode::CreateNew => Call::Create,
        };
        self.ask(call, path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), inner }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let call = match mode {
            OpenMode::Read | OpenMode::ReadWrite => Call::Open,
            OpenMode::Create | OpenMode::CreateNew => Call::Create,
        };
        self.ask(call, path)?;
        let inner = self.inner.open_direct(path, mode)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), inner }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Call::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::Unlink, path)?;
        self.inner.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        self.inner.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        self.inner.lock(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.ask(Call::Read, &self.path)?;
        self.inner.read_exact_at(out, offset)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        self.disk.ask(Call::Read, &self.path)?;
        self.inner.read_cached_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.ask(Call::Write, &self.path)?;
        self.inner.write_all_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.disk.ask(Call::Write, &self.path)?;
        self.inner.write_parts_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.ask(Call::SyncData, &self.path)?;
        self.inner.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.ask(Call::Write, &self.path)?;
        self.inner.truncate(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.ask(Call::Write, &self.path)?;
        self.inner.punch(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.inner.allocated_bytes()
    }
}
