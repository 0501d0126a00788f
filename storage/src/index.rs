//! Which shards the drive has, in memory, and what they weigh.
//!
//! Invariant: a shard is in the index only after its file is durable. `used` is the sum over the entries.

use ashlar_types::ShardId;
use std::{collections::BTreeMap, ops::Bound};

/// File systems hand out space in blocks of this size.
const BLOCK: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) file_len: u64,
    /// `None` if the file's header did not verify when the drive was opened.
    pub(crate) payload_len: Option<u64>,
}

impl Entry {
    fn weight(self) -> u64 {
        self.file_len.next_multiple_of(BLOCK)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    shards: BTreeMap<ShardId, Entry>,
    used: u64,
}

impl Index {
    pub(crate) fn get(&self, shard: ShardId) -> Option<Entry> {
        self.shards.get(&shard).copied()
    }

    pub(crate) fn insert(&mut self, shard: ShardId, entry: Entry) {
        self.remove(shard);
        self.used += entry.weight();
        self.shards.insert(shard, entry);
    }

    pub(crate) fn remove(&mut self, shard: ShardId) {
        if let Some(entry) = self.shards.remove(&shard) {
            self.used -= entry.weight();
        }
    }

    /// At most `limit` ids after `after`, in order.
    pub(crate) fn after(&self, after: Option<ShardId>, limit: usize) -> Vec<ShardId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.shards.range((start, Bound::Unbounded)).take(limit).map(|(shard, _)| *shard).collect()
    }

    pub(crate) fn damaged(&self) -> Vec<ShardId> {
        let damaged = self.shards.iter().filter(|(_, entry)| entry.payload_len.is_none());
        damaged.map(|(shard, _)| *shard).collect()
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn len(&self) -> u64 {
        self.shards.len() as u64
    }
}
