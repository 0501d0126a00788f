//! Where each entry of the log lies, and the newest of them in memory.

use crate::raft::types::{LogId, RaftEntry};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// One entry of the log.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) id: LogId,
    /// Position in the log counted over all rewrites of the file.
    pub(super) offset: u64,
    /// Header and payload.
    pub(super) len: usize,
    pub(super) cached: Option<Arc<RaftEntry>>,
}

impl Slot {
    pub(super) fn new(id: LogId, offset: u64, len: usize, entry: Arc<RaftEntry>) -> Self {
        Self { id, offset, len, cached: Some(entry) }
    }

    pub(super) fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// The kept entries, in order and without gaps.
///
/// Cached are those from some index on: all that are not flushed, and before them as many as `limit` allows.
#[derive(Debug)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// How many at the front are not cached.
    uncached: usize,
    cached_bytes: usize,
    limit: usize,
}

impl Slots {
    /// Keeps about `limit` bytes of flushed entries in memory.
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: VecDeque::new(), uncached: 0, cached_bytes: 0, limit }
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn last(&self) -> Option<&Slot> {
        self.slots.back()
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.cached_bytes += slot.len;
        self.slots.push_back(slot);
    }

    /// Forgets the bodies of the oldest entries whose records end at or before `flushed`.
    pub(super) fn evict(&mut self, flushed: u64) {
        while self.cached_bytes > self.limit
            && let Some(slot) = self.slots.get_mut(self.uncached)
            && slot.end() <= flushed
        {
            slot.cached = None;
            self.cached_bytes -= slot.len;
            self.uncached += 1;
        }
    }

    /// Drops the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.slots.back().is_some_and(|slot| slot.id.index >= index) {
            let slot = self.slots.pop_back().expect("there is a last one");
            if slot.cached.is_some() {
                self.cached_bytes -= slot.len;
            }
        }
        self.uncached = self.uncached.min(self.slots.len());
    }

    /// Drops the entries up to and with `index`.
    pub(super) fn purge(&mut self, index: u64) {
        while self.slots.front().is_some_and(|slot| slot.id.index <= index) {
            let slot = self.slots.pop_front().expect("there is a first one");
            if slot.cached.is_some() {
                self.cached_bytes -= slot.len;
            }
            self.uncached = self.uncached.saturating_sub(1);
        }
    }

    /// Those of a range of indexes that are kept.
    pub(super) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &Slot> {
        let first = self.slots.front().map_or(0, |slot| slot.id.index);
        let place = |index: u64| {
            usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.slots.len())
        };
        let (start, end) = (place(range.start), place(range.end));
        self.slots.range(start..end.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::LeaderTerm;
    use openraft::entry::RaftEntry as _;

    fn slot(index: u64) -> Slot {
        let id = LogId::new(LeaderTerm { term: 1, node_id: 1 }, index);
        Slot::new(id, index * 10, 10, Arc::new(RaftEntry::new_blank(id)))
    }

    fn cached(slots: &Slots) -> Vec<u64> {
        slots.range(0..u64::MAX).filter(|slot| slot.cached.is_some()).map(|slot| slot.id.index).collect()
    }

    fn indexes(slots: &Slots, range: Range<u64>) -> Vec<u64> {
        slots.range(range).map(|slot| slot.id.index).collect()
    }

    #[test]
    fn bodies_are_forgotten_from_the_oldest_and_never_before_they_are_flushed() {
        let mut slots = Slots::new(30);
        (5..15).for_each(|index| slots.push(slot(index)));
        slots.evict(70);
        assert_eq!(cached(&slots), [7, 8, 9, 10, 11, 12, 13, 14], "7.. are not flushed");
        slots.evict(150);
        assert_eq!(cached(&slots), [12, 13, 14]);
        slots.purge(6);
        slots.truncate(14);
        assert_eq!((indexes(&slots, 0..100), cached(&slots)), ((7..14).collect(), vec![12, 13]));
        slots.truncate(9);
        slots.push(slot(9));
        assert_eq!(cached(&slots), [9]);
        slots.purge(20);
        assert!(slots.last().is_none() && slots.first().is_none());
        assert_eq!(slots.cached_bytes, 0);
    }

    #[test]
    fn ranges_are_cut_to_what_is_kept() {
        let mut slots = Slots::new(1000);
        assert_eq!(indexes(&slots, 0..10), []);
        (5..10).for_each(|index| slots.push(slot(index)));
        assert_eq!(indexes(&slots, 0..7), [5, 6]);
        assert_eq!(indexes(&slots, 7..99), [7, 8, 9]);
        assert_eq!(indexes(&slots, 0..5), []);
        assert_eq!(indexes(&slots, 10..12), []);
    }
}
