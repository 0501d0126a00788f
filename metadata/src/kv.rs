//! The ordered key-value store under the state machine: one per metadata group.
//!
//! Owns what an engine must give: point reads, ordered scans, atomic buffered batches, a flush, consistent
//! snapshots, and the replacement of everything by an installed snapshot. Does not know what a row means (see
//! `tables`) nor when to flush (see the Raft side).
//!
//! Contract (`contract.rs` checks it for every implementation):
//!  - a batch is seen and survives a crash as a whole or not at all, and batches survive in order: if a batch
//!    survives, so do all before it;
//!  - after `persist` returns, everything written before it survives a power cut;
//!  - a snapshot never changes, whatever is written, persisted or replaced after it was taken;
//!  - a replacement is seen and survives as a whole or not at all;
//!  - after an error every later call fails: what the engine holds is then unknown, and only a restart, which
//!    reads what is durable, may trust it again.

mod cursor;
mod fjall;
mod memory;

#[cfg(test)]
mod contract;

pub use self::{
    cursor::Cursor,
    fjall::{FjallKv, FjallMemory, FjallOptions},
    memory::MemKv,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The tables of a group. The number is the first byte of every stored key and a part of the format; those that
/// are free were given to tables that this version does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum Table {
    /// Last applied position, clock, write epoch, counters of the group.
    Meta = 1,
    /// Live latest versions.
    Current = 2,
    /// Noncurrent versions and delete markers.
    Versions = 3,
    /// Null versions that are not in `Current`.
    Null = 4,
    /// Bytes of small objects.
    Inline = 5,
    /// Manifests of the others.
    Manifest = 6,
    /// Which version a blob's owner has become.
    Owners = 7,
    Uploads = 8,
    Parts = 9,
    /// Results of CompleteMultipartUpload.
    Completed = 10,
    /// Chunks by placement group.
    Reverse = 11,
    /// Slots without a good shard.
    Repair = 12,
    /// Blobs whose shards are to be deleted.
    Gc = 13,
    /// Work by time.
    Due = 14,
    Counters = 15,
    /// Events of buckets, in order.
    Outbox = 16,
    /// Outcomes by request id.
    Requests = 17,
    /// Configuration of the buckets of this group.
    Buckets = 18,
    /// Group 0: bucket names.
    Directory = 19,
    /// Group 0: the cluster map.
    Map = 20,
    /// Group 0: access keys.
    Identities = 21,
    /// Group 0: join tokens.
    Tokens = 22,
    /// Drives that slots were moved away from, by placement group.
    Fences = 23,
    /// Buckets that are gone and must not be made again.
    Purged = 24,
}

impl Table {
    pub const ALL: [Self; 24] = [
        Self::Meta,
        Self::Current,
        Self::Versions,
        Self::Null,
        Self::Inline,
        Self::Manifest,
        Self::Owners,
        Self::Uploads,
        Self::Parts,
        Self::Completed,
        Self::Reverse,
        Self::Repair,
        Self::Gc,
        Self::Due,
        Self::Counters,
        Self::Outbox,
        Self::Requests,
        Self::Buckets,
        Self::Directory,
        Self::Map,
        Self::Identities,
        Self::Tokens,
        Self::Fences,
        Self::Purged,
    ];

    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.number() == number)
    }
}

impl From<Table> for u8 {
    fn from(table: Table) -> Self {
        table.number()
    }
}

/// A number that no table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no table {0}")]
pub struct UnknownTable(pub u8);

impl TryFrom<u8> for Table {
    type Error = UnknownTable;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::from_number(number).ok_or(UnknownTable(number))
    }
}

/// Keys `from..to` of one table; no `to` is the end of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    pub fn all() -> Self {
        Self::default()
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: after_prefix(prefix) }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.to.as_ref().is_none_or(|to| key < to.as_slice())
    }

    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// The least byte string greater than all that begin with `prefix`; `None` if there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// Order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Changes that happen together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub changes: Vec<Change>,
}

/// One row, put or (without a value) removed. A batch names a row once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub table: Table,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Batch {
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change { table, key: key.into(), value: Some(value.into()) });
    }

    pub fn remove(&mut self, table: Table, key: impl Into<Bytes>) {
        self.changes.push(Change { table, key: key.into(), value: None });
    }
}

/// Sees rows of a scan in order, until it breaks.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A view of the tables.
pub trait KvRead: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError>;
}

/// An engine. Reads see everything written.
pub trait Kv: KvRead {
    /// Atomic and ordered, not yet durable.
    fn write(&self, batch: Batch) -> Result<(), KvError>;

    /// Makes everything written so far durable.
    fn persist(&self) -> Result<(), KvError>;

    /// A view that does not change. Keeps replaced data alive: not to be held for longer than a query or a
    /// transfer.
    fn snapshot(&self) -> Result<Box<dyn KvRead>, KvError>;

    /// An empty store that takes the place of this one by `commit`; dropped, it leaves no trace.
    fn replace(&self) -> Result<Box<dyn KvReplacement + '_>, KvError>;
}

/// The next content of a store, being loaded.
pub trait KvReplacement {
    fn write(&mut self, batch: Batch) -> Result<(), KvError>;

    /// Makes the loaded rows durable, then the whole content of the store, durably and atomically.
    fn commit(self: Box<Self>) -> Result<(), KvError>;
}

/// Every one is final for the store that gave it: restart from what is durable.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error("the key-value engine failed")]
    Engine(#[source] ::fjall::Error),
    #[error("files of the key-value engine: {step}")]
    Io {
        step: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// Something that had been flushed is not as it was: what follows it cannot be used.
    #[error("the journal {journal} of the key-value engine is damaged")]
    Damaged { journal: std::path::PathBuf },
    #[error("the store failed before and takes nothing more")]
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_numbers_are_distinct_and_found_again() {
        for table in Table::ALL {
            assert_eq!(Table::from_number(table.number()), Some(table));
        }
        assert!(Table::ALL.is_sorted_by_key(|table| table.number()));
        assert_eq!(Table::from_number(0), None);
        assert_eq!(Table::from_number(25), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_past_everything_under_it() {
        assert_eq!(after_prefix(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
        assert!(KeyRange::prefix(b"a\xff").contains(b"a\xff\xff\xff"));
        assert!(!KeyRange::prefix(b"a\xff").contains(b"b"));
    }
}
