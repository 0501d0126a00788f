//! The production store: one fjall database directory per group.
//!
//! ```text
//! <dir>/CURRENT   decimal number of the generation that counts; written aside, flushed, renamed
//! <dir>/<n>/      a fjall database: all tables in one keyspace, the table number before the key
//! ```
//!
//! One keyspace, because a node runs dozens of groups and each keyspace costs a memtable, level files and
//! descriptors; and because one journal then covers one tree: a memtable that reaches disk before the journal is
//! flushed never leaves another keyspace behind.
//!
//! A replacement is a new generation, loaded beside the one in use. Readers of the old one keep it until they are
//! done; then its files go. Generations that `CURRENT` does not name are remains of a crash and go at open.
//!
//! Of the engine's data only batches, gets, ranges, snapshots and persist are used. The first error poisons the store,
//! snapshots of it included. `generation` is one database, `journal` looks at what a crash left of one, `memory` is what
//! the stores of a node share.

mod generation;
mod journal;
mod memory;
mod pins;

use self::{generation::Generation, memory::Shared, pins::Pin};
use super::{Batch, Direction, KeyRange, Kv, KvError, KvRead, KvReplacement, Table, Visit};
use ashlar_runtime::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};
use bytes::Bytes;
use fjall::Snapshot;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::PoisonError,
};

/// Memory of all stores that are opened with one [`FjallMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FjallOptions {
    /// Block cache, in bytes, indexes and filters of table files included but for those of the youngest.
    pub cache_bytes: u64,
    /// Rows that are not in table files yet, in bytes as the engine counts them; what they take is up to twice as much.
    pub write_buffer_bytes: u64,
    /// One store writes its buffer out when it has this many bytes, even if there is room. Settled when a store is made.
    pub memtable_bytes: u64,
}

impl FjallOptions {
    /// Divides a budget. Of the write buffers' share the engine's own structures take as much again.
    pub fn within(bytes: u64) -> Self {
        let write_buffer_bytes = bytes / 4;
        Self {
            cache_bytes: bytes / 4,
            write_buffer_bytes,
            memtable_bytes: (write_buffer_bytes / 8).clamp(1 << 20, 16 << 20),
        }
    }
}

impl Default for FjallOptions {
    /// Of 256 MiB: see [`FjallOptions::within`].
    fn default() -> Self {
        Self::within(256 << 20)
    }
}

/// What the stores of a node share. Cheap to clone.
#[derive(Clone)]
pub struct FjallMemory(Arc<Shared>);

impl std::fmt::Debug for FjallMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FjallMemory").field(&self.0.options).finish()
    }
}

impl FjallMemory {
    pub fn new(options: FjallOptions) -> Self {
        Self(Arc::new(Shared::new(options)))
    }

    /// Opens the store in `dir`, or makes it.
    pub fn open(&self, dir: &Path) -> Result<FjallKv, KvError> {
        FjallKv::open_in(&self.0, dir)
    }

    /// Of all stores, as the engine counts them.
    pub fn write_buffer_bytes(&self) -> u64 {
        self.0.write_buffer_bytes()
    }

    /// Written while snapshots were open, of all stores: it stays in memory, written out or not, until they go.
    pub fn pinned_bytes(&self) -> u64 {
        self.0.pinned_bytes()
    }

    pub fn cached_bytes(&self) -> u64 {
        self.0.cache.size()
    }
}

const CURRENT: &str = "CURRENT";

/// See the module.
pub struct FjallKv {
    dir: PathBuf,
    shared: Arc<Shared>,
    generation: RwLock<Arc<Generation>>,
    failed: Arc<AtomicBool>,
}

impl FjallKv {
    /// Opens the store in `dir`, or makes it, with memory of its own.
    pub fn open(dir: &Path, options: FjallOptions) -> Result<Self, KvError> {
        FjallMemory::new(options).open(dir)
    }

    fn open_in(shared: &Arc<Shared>, dir: &Path) -> Result<Self, KvError> {
        fs::create_dir_all(dir).map_err(io_error("make the directory"))?;
        let current = match fs::read_to_string(dir.join(CURRENT)) {
            Ok(text) => Some(text.trim().parse::<u64>().map_err(|_| KvError::Io {
                step: "read CURRENT",
                source: io::ErrorKind::InvalidData.into(),
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("read CURRENT")(error)),
        };
        remove_remains(dir, current)?;
        let failed = Arc::new(AtomicBool::new(false));
        let number = current.unwrap_or(0);
        let path = dir.join(number.to_string());
        // The engine would make a missing database; one that CURRENT names must be there.
        if current.is_some() && !path.is_dir() {
            return Err(io_error("open the current generation")(io::ErrorKind::NotFound.into()));
        }
        let generation = Generation::open(path, number, shared, &failed)?;
        if current.is_none() {
            set_current(dir, number)?;
        }
        let generation = RwLock::new(generation);
        Ok(Self { dir: dir.to_owned(), shared: Arc::clone(shared), generation, failed })
    }

    fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self) -> Result<(), KvError> {
        if self.failed.load(Ordering::Acquire) { Err(KvError::Failed) } else { Ok(()) }
    }
}

fn io_error(step: &'static str) -> impl Fn(io::Error) -> KvError {
    move |source| KvError::Io { step, source }
}

fn set_current(dir: &Path, number: u64) -> Result<(), KvError> {
    let aside = dir.join("CURRENT.new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        fs::rename(&aside, dir.join(CURRENT))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write CURRENT"))
}

fn remove_remains(dir: &Path, current: Option<u64>) -> Result<(), KvError> {
    let failed = io_error("remove an abandoned generation");
    for entry in fs::read_dir(dir).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if number.is_some() && number != current {
            fs::remove_dir_all(entry.path()).map_err(&failed)?;
        }
    }
    Ok(())
}

/// Keeps the generation whose rows it shows.
struct FjallSnapshot {
    view: Snapshot,
    _pin: Pin,
    generation: Arc<Generation>,
}

impl KvRead for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.generation.get(&self.view, table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        self.generation.scan(&self.view, table, range, direction, visit)
    }
}

impl KvRead for FjallKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.generation().get_latest(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        self.snapshot()?.scan(table, range, direction, visit)
    }
}

impl Kv for FjallKv {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.generation().write(batch)
    }

    fn persist(&self) -> Result<(), KvError> {
        self.generation().persist()
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, KvError> {
        let generation = self.generation();
        let (view, pin) = generation.snapshot()?;
        Ok(Box::new(FjallSnapshot { view, _pin: pin, generation }))
    }

    fn replace(&self) -> Result<Box<dyn KvReplacement + '_>, KvError> {
        self.check()?;
        let number = self.generation().number + 1;
        let path = self.dir.join(number.to_string());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io_error("remove an abandoned generation"))?;
        }
        let next = Generation::open(path, number, &self.shared, &self.failed)?;
        // Until the commit, dropping it removes it.
        next.set_abandoned(true);
        Ok(Box::new(FjallReplacement { store: self, next }))
    }
}

struct FjallReplacement<'a> {
    store: &'a FjallKv,
    next: Arc<Generation>,
}

impl KvReplacement for FjallReplacement<'_> {
    fn write(&mut self, batch: Batch) -> Result<(), KvError> {
        self.next.write(batch)
    }

    fn commit(self: Box<Self>) -> Result<(), KvError> {
        self.store.check()?;
        self.next.persist()?;
        set_current(&self.store.dir, self.next.number).inspect_err(|_| {
            // Which generation the next open takes is not known: nothing more may be written to either.
            self.next.set_abandoned(false);
            self.store.failed.store(true, Ordering::Release);
        })?;
        self.next.set_abandoned(false);
        let mut generation = self.store.generation.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *generation, self.next);
        drop(generation);
        old.set_abandoned(true);
        Ok(())
    }
}
