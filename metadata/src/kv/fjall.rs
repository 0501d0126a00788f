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
//! Uses only batches, gets, ranges, snapshots and persist of the engine. The first error poisons the store.

use super::{Batch, Direction, KeyRange, Kv, KvError, KvRead, KvReplacement, Table, Visit};
use ashlar_runtime::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};
use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot, UserKey};
use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Bound,
    path::{Path, PathBuf},
    sync::PoisonError,
};

/// Memory of one group. The defaults suit dozens of groups in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FjallOptions {
    /// Block cache, in bytes.
    pub cache_bytes: u64,
    /// A memtable of this many bytes is written out; up to four may wait.
    pub memtable_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, memtable_bytes: 8 << 20 }
    }
}

/// Flushes and compacts in turn; a group writes far less than one thread can compact.
const WORKERS: usize = 1;
/// Table files kept open.
const OPEN_FILES: usize = 64;
/// The smallest that the engine takes: it bounds what an open has to replay.
const JOURNAL_BYTES: u64 = 64 << 20;

const CURRENT: &str = "CURRENT";
const KEYSPACE: &str = "tables";

/// See the module.
pub struct FjallKv {
    dir: PathBuf,
    options: FjallOptions,
    generation: RwLock<Arc<Generation>>,
    failed: Arc<AtomicBool>,
}

impl FjallKv {
    /// Opens the store in `dir`, or makes it.
    pub fn open(dir: &Path, options: FjallOptions) -> Result<Self, KvError> {
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
        let generation = Generation::open(path, number, options, &failed)?;
        if current.is_none() {
            set_current(dir, number)?;
        }
        Ok(Self { dir: dir.to_owned(), options, generation: RwLock::new(Arc::new(generation)), failed })
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

/// One database and its files.
struct Generation {
    number: u64,
    path: PathBuf,
    /// Both `None` only while dropping.
    open: Option<(Keyspace, Database)>,
    failed: Arc<AtomicBool>,
    /// Its files go with it.
    abandoned: AtomicBool,
}

impl Generation {
    fn open(
        path: PathBuf,
        number: u64,
        options: FjallOptions,
        failed: &Arc<AtomicBool>,
    ) -> Result<Self, KvError> {
        let database = Database::builder(&path)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            .open()
            .map_err(KvError::Engine)?;
        let keyspace = database
            .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes))
            .map_err(KvError::Engine)?;
        Ok(Self {
            number,
            path,
            open: Some((keyspace, database)),
            failed: Arc::clone(failed),
            abandoned: AtomicBool::new(false),
        })
    }

    fn keyspace(&self) -> &Keyspace {
        &self.open.as_ref().expect("taken only by drop").0
    }

    fn database(&self) -> &Database {
        &self.open.as_ref().expect("taken only by drop").1
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Remembers an engine error: see the contract of `kv`.
    fn settle<T>(&self, result: fjall::Result<T>) -> Result<T, KvError> {
        result.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            tracing::error!(path = %self.path.display(), %error, "key-value engine failed");
            KvError::Engine(error)
        })
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let mut out = self.database().batch();
        for change in batch.changes {
            let key = stored_key(change.table, &change.key);
            match change.value {
                Some(value) => out.insert(self.keyspace(), key, value.as_ref()),
                None => out.remove(self.keyspace(), key),
            }
        }
        self.settle(out.commit())
    }

    fn persist(&self) -> Result<(), KvError> {
        self.settle(self.database().persist(PersistMode::SyncAll))
    }

    fn get(&self, view: &Snapshot, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let found = self.settle(view.get(self.keyspace(), stored_key(table, key)))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        view: &Snapshot,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        if range.is_empty() {
            return Ok(());
        }
        let from = Bound::Included(stored_key(table, &range.from));
        let to = match &range.to {
            Some(to) => Bound::Excluded(stored_key(table, to)),
            None => Bound::Excluded(UserKey::from([table.number() + 1])),
        };
        let mut rows = view.range::<UserKey, _>(self.keyspace(), (from, to));
        loop {
            let row = match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.next_back(),
            };
            let Some(row) = row else { return Ok(()) };
            let (key, value) = self.settle(Guard::into_inner(row))?;
            if visit(&key[1..], &value).is_break() {
                return Ok(());
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // The database ends its worker here; files go only after that.
        self.open = None;
        if self.abandoned.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an abandoned generation stays until the next open");
        }
    }
}

fn stored_key(table: Table, key: &[u8]) -> UserKey {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table.number());
    stored.extend_from_slice(key);
    UserKey::from(stored)
}

/// Keeps the generation whose rows it shows.
struct FjallSnapshot {
    view: Snapshot,
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
        self.check()?;
        let generation = self.generation();
        let found = generation.settle(generation.keyspace().get(stored_key(table, key)))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
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
        self.check()?;
        self.generation().write(batch)
    }

    fn persist(&self) -> Result<(), KvError> {
        self.check()?;
        self.generation().persist()
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, KvError> {
        self.check()?;
        let generation = self.generation();
        Ok(Box::new(FjallSnapshot { view: generation.database().snapshot(), generation }))
    }

    fn replace(&self) -> Result<Box<dyn KvReplacement + '_>, KvError> {
        self.check()?;
        let number = self.generation().number + 1;
        let path = self.dir.join(number.to_string());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io_error("remove an abandoned generation"))?;
        }
        let next = Generation::open(path, number, self.options, &self.failed)?;
        // Until the commit, dropping it removes it.
        next.abandon();
        Ok(Box::new(FjallReplacement { store: self, next }))
    }
}

struct FjallReplacement<'a> {
    store: &'a FjallKv,
    next: Generation,
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
            self.next.abandoned.store(false, Ordering::Release);
            self.store.failed.store(true, Ordering::Release);
        })?;
        self.next.abandoned.store(false, Ordering::Release);
        let mut generation = self.store.generation.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *generation, Arc::new(self.next));
        drop(generation);
        old.abandon();
        Ok(())
    }
}
