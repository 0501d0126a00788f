//! The file system of this machine.
//!
//! A direct file checks alignment itself, so that a caller that would fail on a device with 4096-byte sectors fails
//! on every device.

use super::{Disk, DiskFile, DiskUsage, OpenMode, aligned};
use crate::buf::ALIGN;
use std::{
    fmt::Debug,
    fs::{File, OpenOptions, TryLockError},
    io::{self, IoSlice},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

/// Parts that one `pwritev` takes: `UIO_MAXIOV` of Linux.
const PARTS_PER_CALL: usize = 1024;
/// Unit of `st_blocks`, whatever the block size of the file system.
const STAT_BLOCK: u64 = 512;

#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caching {
    Buffered,
    Direct,
}

#[derive(Debug)]
struct RealFile {
    file: File,
    caching: Caching,
}

/// Data, metadata and keys are for the user that the process runs as, and for nobody else.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    match mode {
        OpenMode::Read => options.read(true),
        OpenMode::ReadWrite => options.read(true).write(true),
        OpenMode::Create => options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE),
        OpenMode::CreateNew => options.read(true).write(true).create_new(true).mode(FILE_MODE),
    };
    options
}

impl RealDisk {
    /// Lets this process have as many files open as the system allows at all, and returns how many that are. A drive
    /// of small segments has more of them than the usual soft limit.
    #[allow(unsafe_code, reason = "resource limits have no safe wrapper in the standard library")]
    pub fn raise_open_file_limit() -> io::Result<u64> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable memory of the right type.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // SAFETY: `limit` is a valid limit, which the call only reads.
            if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(limit.rlim_cur)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = options(mode).open(path)?;
        Ok(Box::new(RealFile { file, caching: Caching::Buffered }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = options(mode).custom_flags(libc::O_DIRECT).open(path).inspect_err(|error| {
            // Linux makes the name before it finds that the file system has no direct I/O. Nothing may be left, or
            // the caller's second attempt, without direct I/O, would find a file that must not exist. If it
            // cannot be removed, that attempt says so.
            if mode == OpenMode::CreateNew && error.kind() == io::ErrorKind::InvalidInput {
                let _ = std::fs::remove_file(path);
            }
        })?;
        Ok(Box::new(RealFile { file, caching: Caching::Direct }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[allow(unsafe_code, reason = "statvfs has no safe wrapper in the standard library")]
    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        use std::os::unix::ffi::OsStrExt;
        let device = std::fs::metadata(path)?.dev();
        let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `name` is a terminated string and `stats` points to writable memory of the right size.
        if unsafe { libc::statvfs(name.as_ptr(), stats.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: statvfs returned success, so it filled the whole structure.
        let stats = unsafe { stats.assume_init() };
        Ok(DiskUsage {
            device,
            total_bytes: stats.f_blocks.saturating_mul(stats.f_frsize),
            available_bytes: stats.f_bavail.saturating_mul(stats.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl RealFile {
    fn check_aligned(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.caching {
            Caching::Buffered => Ok(()),
            Caching::Direct => aligned(bytes, offset),
        }
    }

    /// How much of a transfer counts: a direct one that stopped inside a block goes on from the block's start,
    /// because the rest would not be aligned.
    fn progress(&self, transferred: usize) -> usize {
        match self.caching {
            Caching::Buffered => transferred,
            Caching::Direct => transferred - transferred % ALIGN,
        }
    }

    #[allow(unsafe_code, reason = "pwritev has no stable safe wrapper")]
    fn write_some_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let count = libc::c_int::try_from(parts.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let offset = position(offset)?;
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`; `count` of them stand at the pointer, each
        // with memory that is borrowed, hence readable, for the whole call; the descriptor is open.
        let written = unsafe {
            libc::pwritev(self.file.as_raw_fd(), parts.as_ptr().cast::<libc::iovec>(), count, offset)
        };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.check_aligned(out, offset)?;
        if self.caching == Caching::Buffered {
            return self.file.read_exact_at(out, offset);
        }
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], offset + done as u64) {
                Ok(read) => match self.progress(read) {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => done += more,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[allow(unsafe_code, reason = "preadv2 has no safe wrapper in the standard library")]
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        if self.caching == Caching::Direct {
            // A direct read always asks the device.
            return Ok(false);
        }
        let offset = position(offset)?;
        let part = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: out.len() };
        loop {
            // SAFETY: `part` describes `out`, which is borrowed mutably for the whole call; one part is announced;
            // the descriptor is open.
            let read =
                unsafe { libc::preadv2(self.file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
            if let Ok(read) = usize::try_from(read) {
                return Ok(read == out.len());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS) => return Ok(false),
                _ => return Err(error),
            }
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_parts_at(&[bytes], offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.check_aligned(part, offset)?;
        }
        let mut parts: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            match self.write_some_at(&rest[..rest.len().min(PARTS_PER_CALL)], offset) {
                Ok(written) => match self.progress(written) {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    more => {
                        IoSlice::advance_slices(&mut rest, more);
                        offset += more as u64;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    #[allow(unsafe_code, reason = "fallocate has no safe wrapper in the standard library")]
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let (offset, len) = (position(offset)?, position(len)?);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        loop {
            // SAFETY: no memory is passed; the descriptor is open.
            if unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.blocks() * STAT_BLOCK)
    }
}
