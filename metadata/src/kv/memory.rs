//! A store in memory whose power can be cut: for simulation and tests.
//!
//! Owns its rows behind a shared pointer that snapshots clone and writers copy only if a snapshot is alive, and
//! the state as of the last flush, which a crash falls back to.

use super::{Batch, Direction, KeyRange, Kv, KvError, KvRead, KvReplacement, Table, Visit};
use ashlar_runtime::sync::{Arc, Mutex, MutexGuard};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Bound, sync::PoisonError};

type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// The simulated store. Clones share it, so that a test keeps a handle to crash it with.
#[derive(Clone, Default)]
pub struct MemKv {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    live: Arc<Rows>,
    /// As of the last flush.
    durable: Rows,
    /// What was written since.
    unpersisted: Vec<Batch>,
    failing: bool,
}

impl MemKv {
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: what was not persisted is gone.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.unpersisted.clear();
        inner.live = Arc::new(inner.durable.clone());
        inner.failing = false;
    }

    /// A power cut that some batches, always the first ones, survive.
    pub fn crash_keeping(&self, batches: usize) {
        let mut inner = self.lock();
        inner.unpersisted.truncate(batches);
        inner.settle();
        inner.live = Arc::new(inner.durable.clone());
        inner.failing = false;
    }

    /// Batches that a crash may lose.
    pub fn unpersisted(&self) -> usize {
        self.lock().unpersisted.len()
    }

    /// From here on every call fails, until a crash.
    pub fn fail(&self) {
        self.lock().failing = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), KvError> {
        if self.lock().failing { Err(KvError::Failed) } else { Ok(()) }
    }

    fn rows(&self) -> Result<Arc<Rows>, KvError> {
        let inner = self.lock();
        if inner.failing { Err(KvError::Failed) } else { Ok(Arc::clone(&inner.live)) }
    }
}

impl Inner {
    fn settle(&mut self) {
        for batch in std::mem::take(&mut self.unpersisted) {
            change(&mut self.durable, batch);
        }
    }
}

fn change(rows: &mut Rows, batch: Batch) {
    for change in batch.changes {
        let key = (change.table, change.key);
        match change.value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

fn scan(rows: &Rows, table: Table, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) {
    if range.is_empty() {
        return;
    }
    let from = Bound::Included((table, Bytes::copy_from_slice(&range.from)));
    let to = match &range.to {
        Some(to) => Bound::Excluded((table, Bytes::copy_from_slice(to))),
        None => Table::ALL
            .into_iter()
            .find(|next| *next > table)
            .map_or(Bound::Unbounded, |next| Bound::Excluded((next, Bytes::new()))),
    };
    let mut rows = rows.range((from, to));
    loop {
        let row = match direction {
            Direction::Forward => rows.next(),
            Direction::Backward => rows.next_back(),
        };
        let Some(((_, key), value)) = row else { return };
        if visit(key, value).is_break() {
            return;
        }
    }
}

impl KvRead for Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(BTreeMap::get(self, &(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        scan(self, table, range, direction, visit);
        Ok(())
    }
}

/// A pinned state.
struct MemSnapshot {
    rows: Arc<Rows>,
    store: MemKv,
}

impl KvRead for MemSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.store.check()?;
        KvRead::get(&*self.rows, table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        self.store.check()?;
        KvRead::scan(&*self.rows, table, range, direction, visit)
    }
}

impl KvRead for MemKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        KvRead::get(&*self.rows()?, table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        KvRead::scan(&*self.rows()?, table, range, direction, visit)
    }
}

impl Kv for MemKv {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let mut inner = self.lock();
        if inner.failing {
            return Err(KvError::Failed);
        }
        change(Arc::make_mut(&mut inner.live), batch.clone());
        inner.unpersisted.push(batch);
        Ok(())
    }

    fn persist(&self) -> Result<(), KvError> {
        let mut inner = self.lock();
        if inner.failing {
            return Err(KvError::Failed);
        }
        inner.settle();
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, KvError> {
        Ok(Box::new(MemSnapshot { rows: self.rows()?, store: self.clone() }))
    }

    fn replace(&self) -> Result<Box<dyn KvReplacement + '_>, KvError> {
        self.rows()?;
        Ok(Box::new(MemReplacement { store: self, rows: Rows::new() }))
    }
}

struct MemReplacement<'a> {
    store: &'a MemKv,
    rows: Rows,
}

impl KvReplacement for MemReplacement<'_> {
    fn write(&mut self, batch: Batch) -> Result<(), KvError> {
        self.store.check()?;
        change(&mut self.rows, batch);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), KvError> {
        let mut inner = self.store.lock();
        if inner.failing {
            return Err(KvError::Failed);
        }
        inner.unpersisted.clear();
        inner.durable = self.rows;
        inner.live = Arc::new(inner.durable.clone());
        Ok(())
    }
}
