//! The tables as they are after the entries applied so far, before any of it is written.
//!
//! Entries of one batch see each other's changes, and the batch names each row once, with its last value.

use super::digest::Digests;
use crate::{
    encoding::{Row, encode_row},
    kv::{Batch, Change, Direction, KeyRange, Kv, KvError, KvRead, Table, Visit},
};
use ashlar_runtime::sync::Mutex;
use bytes::Bytes;
use std::{collections::BTreeMap, ops::ControlFlow, sync::PoisonError};

pub(super) struct Overlay<'a> {
    below: &'a dyn Kv,
    changes: Rows,
    /// Rows below that were asked for: entries of one batch ask for the same ones, and each changed row is asked for
    /// once more in the end.
    read: Mutex<Rows>,
}

type Rows = BTreeMap<Table, BTreeMap<Bytes, Option<Bytes>>>;

impl<'a> Overlay<'a> {
    pub(super) fn new(below: &'a dyn Kv) -> Self {
        Self { below, changes: Rows::new(), read: Mutex::default() }
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: impl Into<Bytes>) {
        self.changes.entry(table).or_default().insert(key.into(), Some(value.into()));
    }

    pub(super) fn put_record<T: Row>(&mut self, table: Table, key: Vec<u8>, record: &T) {
        self.put(table, key, encode_row(record));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.changes.entry(table).or_default().insert(key.into(), None);
    }

    /// The digests of the tables as they are now; `below` are those without the changes.
    pub(super) fn digests(&self, below: &Digests) -> Result<Digests, KvError> {
        let mut digests = below.clone();
        for (table, key, new) in self.changed() {
            replace(&mut digests, table, key, self.get_below(table, key)?.as_ref(), new);
        }
        Ok(digests)
    }

    /// What is to be written, and the digests afterwards. Changes that change nothing are left out: a removal of what
    /// is not there would slow down scans for nothing.
    pub(super) fn into_batch(self, below: &Digests) -> Result<(Batch, Digests), KvError> {
        let (mut batch, mut digests) = (Batch::default(), below.clone());
        for (table, key, new) in self.changed() {
            let old = self.get_below(table, key)?;
            if old != *new {
                replace(&mut digests, table, key, old.as_ref(), new);
                batch.changes.push(Change { table, key: key.clone(), value: new.clone() });
            }
        }
        Ok((batch, digests))
    }

    fn changed(&self) -> impl Iterator<Item = (Table, &Bytes, &Option<Bytes>)> {
        self.changes.iter().flat_map(|(table, rows)| rows.iter().map(|(key, new)| (*table, key, new)))
    }

    fn get_below(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.entry(table).or_default();
        if let Some(known) = read.get(key) {
            return Ok(known.clone());
        }
        let found = self.below.get(table, key)?;
        read.insert(Bytes::copy_from_slice(key), found.clone());
        Ok(found)
    }
}

fn replace(digests: &mut Digests, table: Table, key: &[u8], old: Option<&Bytes>, new: &Option<Bytes>) {
    if let Some(old) = old {
        digests.subtract(table, key, old);
    }
    if let Some(new) = new {
        digests.add(table, key, new);
    }
}

impl KvRead for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        match self.changes.get(&table).and_then(|rows| rows.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.get_below(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        let mut changed: Vec<(&Bytes, &Option<Bytes>)> = self
            .changes
            .get(&table)
            .into_iter()
            .flat_map(|rows| {
                rows.range::<[u8], _>((std::ops::Bound::Included(&*range.from), std::ops::Bound::Unbounded))
            })
            .take_while(|(key, _)| range.contains(key))
            .collect();
        if direction == Direction::Backward {
            changed.reverse();
        }
        let mut changed = changed.into_iter().peekable();
        let mut stopped = false;
        self.below.scan(table, range, direction, &mut |key, value| {
            // Changed rows that come before this one, then this one unless it is changed itself.
            while let Some((row, new)) = changed.next_if(|(row, _)| match direction {
                Direction::Forward => row.as_ref() <= key,
                Direction::Backward => row.as_ref() >= key,
            }) {
                if let Some(new) = new
                    && visit(row, new).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                if row.as_ref() == key {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value);
            stopped = flow.is_break();
            flow
        })?;
        if stopped {
            return Ok(());
        }
        for (row, new) in changed {
            if let Some(new) = new
                && visit(row, new).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemKv;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 0..3)
    }

    proptest! {
        #[test]
        fn an_overlay_reads_like_the_store_after_its_batch(
            below in prop::collection::btree_map(key(), any::<u8>(), 0..12),
            changes in prop::collection::vec((key(), prop::option::of(any::<u8>())), 0..12),
            from in key(),
            to in prop::option::of(key()),
            backward: bool,
            stop_after in 1usize..6,
        ) {
            let kv = MemKv::new();
            let mut batch = Batch::default();
            for (key, value) in below {
                batch.put(Table::Current, key, vec![value]);
            }
            kv.write(batch).unwrap();
            let mut overlay = Overlay::new(&kv);
            for (key, value) in changes {
                match value {
                    Some(value) => overlay.put(Table::Current, key, vec![value]),
                    None => overlay.remove(Table::Current, key),
                }
            }
            let range = KeyRange { from, to };
            let direction = if backward { Direction::Backward } else { Direction::Forward };
            let rows = |kv: &dyn KvRead| {
                let mut rows = vec![];
                kv.scan(Table::Current, &range, direction, &mut |key, value| {
                    rows.push((key.to_vec(), value.to_vec()));
                    if rows.len() < stop_after { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .unwrap();
                rows
            };
            let seen = rows(&overlay);
            let before = Digests::of_all(&kv).unwrap();
            let digests = overlay.digests(&before).unwrap();
            let (batch, after) = overlay.into_batch(&before).unwrap();
            kv.write(batch).unwrap();
            prop_assert_eq!(seen, rows(&kv));
            prop_assert_eq!(&after, &Digests::of_all(&kv).unwrap());
            prop_assert_eq!(digests, after);
        }
    }
}
