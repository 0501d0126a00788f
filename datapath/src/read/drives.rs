//! Where a slot of a chunk may be found, and which drives a read has stopped asking first.

use ashlar_placement::ClusterMap;
use ashlar_types::{Chunk, DriveId};
use std::collections::BTreeSet;

/// Drives that may hold a slot, the likeliest first: where it was written; and, when the placement group has changed
/// since, where it may have been moved or rebuilt.
pub(crate) fn candidates(map: &ClusterMap, chunk: &Chunk, slot: usize) -> Vec<DriveId> {
    let mut drives: Vec<DriveId> = chunk.slots.get(slot).copied().flatten().into_iter().collect();
    if let Some(pg) = map.pgs.get(&chunk.pg)
        && pg.interval != chunk.interval
        && let Some(now) = pg.slots.get(slot)
    {
        for drive in [now.next, now.current].into_iter().flatten() {
            if !drives.contains(&drive) {
                drives.push(drive);
            }
        }
    }
    drives
}

/// Drives that were slow or away during this read. Asked again only when nothing better is left.
#[derive(Debug, Default)]
pub(crate) struct Suspects(BTreeSet<DriveId>);

impl Suspects {
    pub(crate) fn add(&mut self, drives: &[DriveId]) {
        self.0.extend(drives);
    }

    pub(crate) fn contains_all(&self, drives: &[DriveId]) -> bool {
        drives.iter().all(|drive| self.0.contains(drive))
    }
}
