//! The tables of a host's replicas: `MemKv`s that outlive the process, as files would.
//!
//! A store belongs to a directory, not to a path: a directory that is set aside takes its tables along. So a file in the
//! directory names the store.

use super::rng::Seed;
use crate::check::replicas::Rows;
use ashlar_metadata::kv::{
    Batch, Direction, KeyRange, Kv, KvError, KvRead, KvReplacement, MemKv, Table, Visit,
};
use ashlar_runtime::{Disk, OpenMode, SimDisk};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// All stores of a host. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Stores(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stores: Mutex<BTreeMap<u64, MemKv>>,
    installed: Arc<AtomicU64>,
}

impl Stores {
    /// The store of the directory that holds `path`; a new one if there is none.
    pub(crate) fn open(&self, disk: &SimDisk, path: &Path) -> Result<Arc<dyn Kv>, KvError> {
        let failed = |source| KvError::Io { step: "open", source };
        let number = self.number(disk, path).map_err(failed)?;
        let mut stores = self.0.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let kv = stores.entry(number).or_default().clone();
        Ok(Arc::new(CountedKv { kv, installed: Arc::clone(&self.0.installed) }))
    }

    fn number(&self, disk: &SimDisk, path: &Path) -> io::Result<u64> {
        match disk.open(path, OpenMode::Read) {
            Ok(file) => {
                let mut number = [0; 8];
                file.read_exact_at(&mut number, 0)?;
                Ok(u64::from_le_bytes(number))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let number = {
                    let stores = self.0.stores.lock().unwrap_or_else(PoisonError::into_inner);
                    stores.keys().next_back().map_or(1, |last| last + 1)
                };
                let file = disk.open(path, OpenMode::CreateNew)?;
                file.write_all_at(&number.to_le_bytes(), 0)?;
                file.sync_data()?;
                if let Some(dir) = path.parent() {
                    disk.sync_dir(dir)?;
                }
                Ok(number)
            }
            Err(error) => Err(error),
        }
    }

    /// All rows of the store of a directory.
    pub(crate) fn rows(&self, disk: &SimDisk, path: &Path) -> Option<Rows> {
        let number = self.number(disk, path).ok()?;
        let store = self.0.stores.lock().unwrap_or_else(PoisonError::into_inner).get(&number)?.clone();
        let mut rows = Rows::new();
        for table in Table::ALL {
            let mut visit = |key: &[u8], value: &[u8]| {
                rows.insert((table.number(), key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            };
            store.scan(table, &KeyRange::all(), Direction::Forward, &mut visit).ok()?;
        }
        Some(rows)
    }

    /// A power cut: of what was not flushed, some of the first batches survive.
    pub(crate) fn cut_power(&self, seed: &mut Seed) {
        for store in self.0.stores.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let batches = store.unpersisted();
            store.crash_keeping(match seed.below(3) {
                0 => 0,
                1 => seed.index(batches + 1),
                _ => batches,
            });
        }
    }

    /// The process is gone, the machine is not: the page cache holds what was written.
    pub(crate) fn kill(&self) {
        for store in self.0.stores.lock().unwrap_or_else(PoisonError::into_inner).values() {
            store.crash_keeping(store.unpersisted());
        }
    }

    /// How often a snapshot took the place of a store's content.
    pub(crate) fn installed(&self) -> u64 {
        self.0.installed.load(Ordering::SeqCst)
    }
}

/// Counts the snapshots that were installed.
struct CountedKv {
    kv: MemKv,
    installed: Arc<AtomicU64>,
}

impl KvRead for CountedKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        self.kv.scan(table, range, direction, visit)
    }
}

impl Kv for CountedKv {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.kv.write(batch)
    }

    fn persist(&self) -> Result<(), KvError> {
        self.kv.persist()
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, KvError> {
        self.kv.snapshot()
    }

    fn replace(&self) -> Result<Box<dyn KvReplacement + '_>, KvError> {
        let next = self.kv.replace()?;
        Ok(Box::new(CountedReplacement { next, installed: &self.installed }))
    }
}

struct CountedReplacement<'a> {
    next: Box<dyn KvReplacement + 'a>,
    installed: &'a AtomicU64,
}

impl KvReplacement for CountedReplacement<'_> {
    fn write(&mut self, batch: Batch) -> Result<(), KvError> {
        self.next.write(batch)
    }

    fn commit(self: Box<Self>) -> Result<(), KvError> {
        self.next.commit()?;
        self.installed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
