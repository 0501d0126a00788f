//! Files as the drive store and the log store see them: synchronous, positioned, explicit about durability.
//!
//! A write is durable after `sync_data` of its file returned; a created, renamed or removed name after `sync_dir`
//! of its directory returned. A failed sync is final: the pages may be lost and marked clean, so the caller must
//! stop trusting the file and never retry.

use crate::buf::ALIGN;
use std::{fmt::Debug, io, path::Path};

mod real;
pub mod sim;

pub use real::RealDisk;
pub use sim::SimDisk;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist.
    Read,
    /// Must exist.
    ReadWrite,
    /// Made if absent, kept if present.
    Create,
    /// Must not exist.
    CreateNew,
}

/// Space of the device that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Identity of the device, to tell directories that share one.
    pub device: u64,
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// Directories and names. All calls may block; async code makes them from workers of `task`.
pub trait Disk: Debug + Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Opens past the page cache: offsets, lengths and addresses of reads and writes must be multiples of
    /// [`crate::ALIGN`], else they fail with `InvalidInput`. Fails with `InvalidInput` or `Unsupported` where the
    /// file system has no direct I/O.
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes what is below a path and, where directories can be removed, the path. Not atomic, not durable.
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        match self.list_dir(path) {
            Ok(names) => names.iter().try_for_each(|name| self.remove_tree(&path.join(name))),
            Err(_) => self.unlink(path),
        }
    }
    fn usage(&self, path: &Path) -> io::Result<DiskUsage>;
    /// Takes an exclusive lock held until the value is dropped; `WouldBlock` if another process has it. The file
    /// is made if absent.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;
}

/// One open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads until `out` is full; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
    /// Reads only what is in memory already: `false` if the device would have to be asked, and `out` holds nothing
    /// of value then. Does not block.
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes the parts one after another from `offset` on.
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Makes data and length durable.
    fn sync_data(&self) -> io::Result<()>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Gives the space of a range back to the file system; it reads as zeros from now on. The length stays.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Bytes of the device that the file occupies.
    fn allocated_bytes(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

/// What a direct file demands of the memory and the offset of a transfer.
fn aligned(bytes: &[u8], offset: u64) -> io::Result<()> {
    let fits = offset.is_multiple_of(ALIGN as u64)
        && bytes.len().is_multiple_of(ALIGN)
        && (bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(ALIGN));
    if fits { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
