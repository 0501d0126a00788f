//! Where each entry of a replica lies, and the newest of them in memory.

use super::format::BatchNumber;
use crate::raft::types::{LogId, RaftEntry};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// Which use of which segment: segments are used one after the other, and counted as long as the log is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UseNumber(pub(super) u64);

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) used: UseNumber,
    pub(super) batch: BatchNumber,
    pub(super) offset: u32,
    /// Header and padding included.
    pub(super) len: u32,
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) id: LogId,
    /// `None` while it waits for its batch.
    pub(super) place: Option<Place>,
    pub(super) cached: Option<Arc<RaftEntry>>,
    /// Bytes of its record.
    pub(super) len: u32,
}

impl Slot {
    fn is_flushed(&self, flushed: BatchNumber) -> bool {
        self.place.is_some_and(|place| place.batch <= flushed)
    }
}

/// The kept entries, in order and without gaps.
///
/// Cached are those from some index on: all that are not flushed, and before them as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// How many at the front are not cached.
    uncached: usize,
    cached_bytes: usize,
    bytes: u64,
}

impl Slots {
    /// Entries that were found on disk, in order and without gaps.
    pub(super) fn found(slots: impl IntoIterator<Item = Slot>) -> Self {
        let slots: VecDeque<Slot> = slots.into_iter().collect();
        let bytes = slots.iter().map(|slot| u64::from(slot.len)).sum();
        Self { uncached: slots.len(), cached_bytes: 0, bytes, slots }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Of the records of all kept entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn last(&self) -> Option<&Slot> {
        self.slots.back()
    }

    pub(super) fn get_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let first = self.slots.front()?.id.index;
        self.slots.get_mut(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    pub(super) fn push(&mut self, id: LogId, len: u32, entry: Arc<RaftEntry>) {
        self.cached_bytes += len as usize;
        self.bytes += u64::from(len);
        self.slots.push_back(Slot { id, place: None, cached: Some(entry), len });
    }

    /// Forgets the bodies of the oldest flushed entries until the rest takes no more than `limit` bytes.
    pub(super) fn evict(&mut self, flushed: BatchNumber, limit: usize) {
        while self.cached_bytes > limit
            && let Some(slot) = self.slots.get_mut(self.uncached)
            && slot.is_flushed(flushed)
        {
            slot.cached = None;
            self.cached_bytes -= slot.len as usize;
            self.uncached += 1;
        }
    }

    /// Drops the entries from `index` on and tells of each.
    pub(super) fn truncate(&mut self, index: u64, mut dropped: impl FnMut(&Slot)) {
        while let Some(slot) = self.slots.pop_back_if(|slot| slot.id.index >= index) {
            self.forget(&slot);
            dropped(&slot);
        }
        self.uncached = self.uncached.min(self.slots.len());
    }

    /// Drops the entries up to and with `index` and tells of each.
    pub(super) fn purge(&mut self, index: u64, mut dropped: impl FnMut(&Slot)) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.id.index <= index) {
            self.forget(&slot);
            self.uncached = self.uncached.saturating_sub(1);
            dropped(&slot);
        }
    }

    fn forget(&mut self, slot: &Slot) {
        self.bytes -= u64::from(slot.len);
        if slot.cached.is_some() {
            self.cached_bytes -= slot.len as usize;
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

    fn push(slots: &mut Slots, index: u64) {
        let id = LogId::new(LeaderTerm { term: 1, node_id: 1 }, index);
        slots.push(id, 10, Arc::new(RaftEntry::new_blank(id)));
    }

    /// Every entry is in a batch of its index.
    fn place(slots: &mut Slots, index: u64) {
        let place = Place { used: UseNumber(0), batch: BatchNumber(index), offset: 0, len: 10 };
        slots.get_mut(index).unwrap().place = Some(place);
    }

    fn cached(slots: &Slots) -> Vec<u64> {
        slots.range(0..u64::MAX).filter(|slot| slot.cached.is_some()).map(|slot| slot.id.index).collect()
    }

    fn indexes(slots: &Slots, range: Range<u64>) -> Vec<u64> {
        slots.range(range).map(|slot| slot.id.index).collect()
    }

    #[test]
    fn bodies_are_forgotten_from_the_oldest_and_never_before_they_are_flushed() {
        let mut slots = Slots::default();
        (5..15).for_each(|index| push(&mut slots, index));
        (5..13).for_each(|index| place(&mut slots, index));
        slots.evict(BatchNumber(6), 30);
        assert_eq!(cached(&slots), [7, 8, 9, 10, 11, 12, 13, 14], "7.. are not flushed");
        slots.evict(BatchNumber(20), 10);
        assert_eq!(cached(&slots), [13, 14], "13 has no place yet");
        let mut dropped = Vec::new();
        slots.purge(6, |slot| dropped.push(slot.id.index));
        slots.truncate(14, |slot| dropped.push(slot.id.index));
        assert_eq!(dropped, [5, 6, 14]);
        assert_eq!((indexes(&slots, 0..100), cached(&slots)), ((7..14).collect(), vec![13]));
        slots.truncate(9, |_| ());
        push(&mut slots, 9);
        assert_eq!(cached(&slots), [9]);
        assert_eq!((slots.len(), slots.bytes()), (3, 30));
        slots.purge(20, |_| ());
        assert!(slots.last().is_none() && slots.first().is_none());
        assert_eq!((slots.cached_bytes, slots.bytes()), (0, 0));
    }

    #[test]
    fn ranges_are_cut_to_what_is_kept() {
        let mut slots = Slots::default();
        assert_eq!(indexes(&slots, 0..10), []);
        (5..10).for_each(|index| push(&mut slots, index));
        assert_eq!(indexes(&slots, 0..7), [5, 6]);
        assert_eq!(indexes(&slots, 7..99), [7, 8, 9]);
        assert_eq!(indexes(&slots, 0..5), []);
        assert_eq!(indexes(&slots, 10..12), []);
        assert!(slots.get_mut(4).is_none() && slots.get_mut(10).is_none());
    }
}
