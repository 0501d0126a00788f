//! One database of the engine, and its files.

use super::{
    super::{Batch, Direction, KeyRange, KvError, Table, Visit},
    journal::{self, JournalError, Tail},
    memory::Shared,
    pins::{Pin, Pins},
};
use ashlar_runtime::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot, UserKey};
use std::{fs, ops::Bound, path::PathBuf};

/// Flushes and compacts in turn; a group writes far less than one thread can compact.
const WORKERS: usize = 1;
/// Table files kept open.
const OPEN_FILES: usize = 64;
/// The smallest that the engine takes: it bounds what an open has to replay.
const JOURNAL_BYTES: u64 = 64 << 20;
/// A writer waits beyond these. The engine does so too, at 4 and 30, but its wait does not end when the thread that would
/// end it has failed.
const WAITING_BUFFERS: usize = 3;
const UNSORTED_TABLES: usize = 20;

const KEYSPACE: &str = "tables";

/// Pauses of a writer for one batch, at most.
const PAUSES_MAX: u64 = 10;

pub(super) struct Generation {
    pub(super) number: u64,
    path: PathBuf,
    shared: Arc<Shared>,
    /// Both `None` only while dropping.
    open: Option<(Keyspace, Database)>,
    pins: Arc<Pins>,
    /// Of the whole store.
    failed: Arc<AtomicBool>,
    /// Its files go with it.
    abandoned: AtomicBool,
}

impl Generation {
    pub(super) fn open(
        path: PathBuf,
        number: u64,
        shared: &Arc<Shared>,
        failed: &Arc<AtomicBool>,
    ) -> Result<Arc<Self>, KvError> {
        if path.is_dir() {
            match journal::settle(&path) {
                Ok(Tail::Whole) => {}
                Ok(Tail::Cut { bytes }) => {
                    tracing::info!(path = %path.display(), bytes, "cut a journal after its last whole batch");
                }
                Err(JournalError::Io(source)) => {
                    return Err(KvError::Io { step: "read the journals", source });
                }
                Err(JournalError::Damaged(journal)) => return Err(KvError::Damaged { journal }),
            }
        }
        let mut config = Database::builder(&path)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            .into_config();
        config.cache = Arc::clone(&shared.cache);
        let database = Database::open(config).map_err(KvError::Engine)?;
        let memtable_bytes = shared.options.memtable_bytes;
        let keyspace = database
            .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes))
            .map_err(KvError::Engine)?;
        let generation = Arc::new(Self {
            number,
            path,
            shared: Arc::clone(shared),
            open: Some((keyspace, database)),
            pins: Arc::default(),
            failed: Arc::clone(failed),
            abandoned: AtomicBool::new(false),
        });
        shared.admit(&generation);
        Ok(generation)
    }

    fn keyspace(&self) -> &Keyspace {
        &self.open.as_ref().expect("taken only by drop").0
    }

    fn database(&self) -> &Database {
        &self.open.as_ref().expect("taken only by drop").1
    }

    /// With `true` its files go when nobody uses them any more.
    pub(super) fn set_abandoned(&self, abandoned: bool) {
        self.abandoned.store(abandoned, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), KvError> {
        if self.has_failed() { Err(KvError::Failed) } else { Ok(()) }
    }

    /// Remembers an engine error: see the contract of `kv`.
    fn settle<T>(&self, result: fjall::Result<T>) -> Result<T, KvError> {
        result.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            tracing::error!(path = %self.path.display(), %error, "key-value engine failed");
            KvError::Engine(error)
        })
    }

    pub(super) fn write_buffer_bytes(&self) -> u64 {
        self.database().write_buffer_size()
    }

    /// What open snapshots keep in memory: see `pins`.
    pub(super) fn pinned_bytes(&self) -> u64 {
        self.pins.bytes()
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.keyspace().sealed_memtable_count() > 0
    }

    /// Begins to write the buffer out.
    pub(super) fn flush_soon(&self) {
        // What goes wrong is remembered, and told to whoever writes next.
        let _ = self.settle(self.keyspace().rotate_memtable());
    }

    /// The thread of the engine that flushes and compacts says nothing when it ends with an error; this asks.
    pub(super) fn notice_failure(&self) {
        let _ = self.settle(self.database().persist(PersistMode::Buffer));
    }

    /// Waits until the engine and the budget have room for a batch.
    fn make_room(&self) -> Result<(), KvError> {
        let overdue = self.pinned_bytes() / self.shared.options.write_buffer_bytes.max(1);
        for _ in 0..overdue.min(PAUSES_MAX) {
            self.shared.pause();
        }
        loop {
            self.check()?;
            let keyspace = self.keyspace();
            let behind = keyspace.sealed_memtable_count() >= WAITING_BUFFERS
                || keyspace.l0_table_count() >= UNSORTED_TABLES;
            if self.shared.relieve() && !behind {
                return Ok(());
            }
            self.notice_failure();
            self.shared.pause();
        }
    }

    pub(super) fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.make_room()?;
        let bytes =
            batch.changes.iter().map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len));
        self.pins.add_written(bytes.sum::<usize>() as u64);
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

    pub(super) fn persist(&self) -> Result<(), KvError> {
        self.check()?;
        self.settle(self.database().persist(PersistMode::SyncAll))
    }

    pub(super) fn snapshot(&self) -> Result<(Snapshot, Pin), KvError> {
        self.check()?;
        let pin = self.pins.pin();
        Ok((self.database().snapshot(), pin))
    }

    /// As of now.
    pub(super) fn get_latest(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.check()?;
        let found = self.settle(self.keyspace().get(stored_key(table, key)))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(super) fn get(&self, view: &Snapshot, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.check()?;
        let found = self.settle(view.get(self.keyspace(), stored_key(table, key)))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(super) fn scan(
        &self,
        view: &Snapshot,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        self.check()?;
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
