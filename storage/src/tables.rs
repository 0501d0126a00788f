//! What one drive holds, in memory: the index of shards and the table of segments.
//!
//! Owns no file content. Changes only in steps that leave it consistent; the drive keeps it under one lock.
//! Lifecycle of a segment: Spare -take-> Open -seal-> Sealed -(nothing live, nothing pending)-> Spare or unlinked
//! Invariants (`verify` checks them in tests and after recovery):
//!  - a shard is here only if its record is durable;
//!  - `live` of a segment is the sum of the records and extents in it that the index names;
//!  - at most one extent segment and one log segment are open.

use crate::{
    format::{BLOCK, Entry, Epoch, Extent, LogPosition, SegmentId, SegmentKind},
    segment_file::SegmentFile,
    sync::Arc,
};
use ashlar_types::ShardId;
use std::{collections::BTreeMap, ops::Bound};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Written in full with zeros or with an earlier use; nothing in it counts.
    Spare,
    Open,
    Sealed,
    /// Not a whole segment: what an interrupted preparation left. To be unlinked.
    Junk,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) kind: SegmentKind,
    pub(crate) epoch: Epoch,
    pub(crate) using: Use,
    /// Bytes from the start of the segment that its present use has taken.
    pub(crate) written: u64,
    pub(crate) live: u64,
    /// Pieces of shards that are being written and have no record yet.
    pub(crate) pending: u32,
    /// Number after the last record of a sealed log segment.
    pub(crate) end_record: u64,
    /// Bytes the file takes on the device; less than the segment's length once it has holes.
    pub(crate) allocated: u64,
    /// A durable checkpoint says that it is sealed.
    pub(crate) sealed_durably: bool,
    /// Dead bytes when it was last searched for runs to punch.
    pub(crate) searched_dead: u64,
    /// Something in it could not be moved: left alone until it is opened again or the shard is gone.
    pub(crate) stuck: bool,
}

impl Segment {
    pub(crate) fn dead(&self) -> u64 {
        match self.using {
            Use::Open | Use::Sealed => self.written.saturating_sub(BLOCK).saturating_sub(self.live),
            Use::Spare | Use::Junk => 0,
        }
    }
}

/// Bytes of an extent segment that an extent takes.
pub(crate) fn extent_weight(extent: &Extent) -> u64 {
    extent.len.next_multiple_of(BLOCK)
}

#[derive(Debug)]
pub(crate) struct Tables {
    shards: BTreeMap<ShardId, Entry>,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    /// Records before this are in the index.
    pub(crate) applied: LogPosition,
    pub(crate) next_segment: SegmentId,
    pub(crate) open_extents: Option<SegmentId>,
    live: u64,
    totals: Totals,
}

/// Sums over the segments, so that a put does not have to look at all of them. Those of open segments, which change with
/// every batch, are not in them.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    sealed_bytes: u64,
    allocated: u64,
    spares: u64,
    open: [Option<SegmentId>; 2],
}

/// How full the segments are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Bytes taken, live or dead.
    pub(crate) used: u64,
    /// Bytes that the open segments have room for.
    pub(crate) open_room: u64,
    pub(crate) spares: u64,
    /// Bytes that all segment files take on the device.
    pub(crate) allocated: u64,
}

impl Tables {
    pub(crate) fn new(applied: LogPosition) -> Self {
        Self {
            shards: BTreeMap::new(),
            segments: BTreeMap::new(),
            applied,
            next_segment: SegmentId(1),
            open_extents: None,
            live: 0,
            totals: Totals::default(),
        }
    }

    // Shards.

    pub(crate) fn get(&self, shard: ShardId) -> Option<&Entry> {
        self.shards.get(&shard)
    }

    pub(crate) fn len(&self) -> u64 {
        self.shards.len() as u64
    }

    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// Records a put; an entry of a later record stays.
    pub(crate) fn insert(&mut self, shard: ShardId, entry: Entry) {
        if self.shards.get(&shard).is_some_and(|present| present.record > entry.record) {
            return;
        }
        self.weigh(&entry, u64::saturating_add);
        if let Some(former) = self.shards.insert(shard, entry) {
            self.weigh(&former, u64::saturating_sub);
        }
    }

    /// Records a delete; an entry of a later record stays.
    pub(crate) fn remove(&mut self, shard: ShardId, record: u64) {
        if self.shards.get(&shard).is_some_and(|present| present.record < record)
            && let Some(former) = self.shards.remove(&shard)
        {
            self.weigh(&former, u64::saturating_sub);
        }
    }

    /// Marks a shard whose bytes are gone: it is listed as damaged, read as corrupt, and no longer weighs.
    pub(crate) fn mark_lost(&mut self, shard: ShardId) {
        let Some(mut entry) = self.shards.remove(&shard) else { return };
        self.weigh(&entry, u64::saturating_sub);
        entry.damaged = true;
        entry.extents = Box::default();
        self.weigh(&entry, u64::saturating_add);
        self.shards.insert(shard, entry);
    }

    fn weigh(&mut self, entry: &Entry, change: fn(u64, u64) -> u64) {
        let record = (entry.segment, u64::from(entry.stored_len));
        let extents = entry.extents.iter().map(|extent| (extent.segment, extent_weight(extent)));
        for (segment, bytes) in std::iter::once(record).chain(extents) {
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.live = change(segment.live, bytes);
                self.live = change(self.live, bytes);
            }
        }
    }

    /// Counts the live bytes again, after segments came to be known.
    pub(crate) fn weigh_all(&mut self) {
        self.live = 0;
        for segment in self.segments.values_mut() {
            segment.live = 0;
        }
        let shards = std::mem::take(&mut self.shards);
        for entry in shards.values() {
            self.weigh(entry, u64::saturating_add);
        }
        self.shards = shards;
    }

    /// Entries after `after`, in the order of their ids.
    pub(crate) fn after(&self, after: Option<ShardId>) -> impl Iterator<Item = (&ShardId, &Entry)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.shards.range((start, Bound::Unbounded))
    }

    // Segments.

    pub(crate) fn file(&self, segment: SegmentId) -> Option<(Arc<SegmentFile>, Epoch)> {
        self.segments.get(&segment).map(|segment| (Arc::clone(&segment.file), segment.epoch))
    }

    /// Gives a spare segment of the kind to the caller; it is open from now on, under a new epoch.
    pub(crate) fn take_spare(&mut self, kind: SegmentKind, epoch: Epoch) -> Option<Arc<SegmentFile>> {
        let spare =
            self.segments.values_mut().find(|segment| segment.kind == kind && segment.using == Use::Spare)?;
        spare.using = Use::Open;
        spare.epoch = epoch;
        spare.written = BLOCK;
        spare.end_record = u64::MAX;
        spare.sealed_durably = false;
        spare.searched_dead = 0;
        spare.stuck = false;
        Some(Arc::clone(&spare.file))
    }

    pub(crate) fn spares(&self, kind: SegmentKind) -> usize {
        let spare = |segment: &&Segment| segment.kind == kind && segment.using == Use::Spare;
        self.segments.values().filter(spare).count()
    }

    pub(crate) fn set_use(&mut self, id: SegmentId, using: Use) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.using = using;
        }
        self.recount();
    }

    pub(crate) fn seal_log(&mut self, id: SegmentId, written: u64, end_record: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.using = Use::Sealed;
            segment.written = written;
            segment.end_record = end_record;
        }
        self.recount();
    }

    /// Counts again, after segments came, went or changed their use or size.
    pub(crate) fn recount(&mut self) {
        let mut totals = Totals::default();
        let mut open = totals.open.iter_mut();
        for (id, segment) in &self.segments {
            totals.allocated += segment.allocated;
            match segment.using {
                Use::Sealed => totals.sealed_bytes += segment.written.saturating_sub(BLOCK),
                Use::Spare => totals.spares += 1,
                Use::Open => {
                    if let Some(open) = open.next() {
                        *open = Some(*id);
                    }
                }
                Use::Junk => {}
            }
        }
        self.totals = totals;
    }

    pub(crate) fn fill(&self, segment_bytes: u64) -> Fill {
        let Totals { sealed_bytes, allocated, spares, open } = self.totals;
        let mut fill = Fill { used: sealed_bytes, open_room: 0, spares, allocated };
        for id in open.into_iter().flatten() {
            let written = self.segments.get(&id).map_or(segment_bytes, |segment| segment.written);
            fill.used += written.saturating_sub(BLOCK);
            fill.open_room += segment_bytes.saturating_sub(written);
        }
        fill
    }

    /// What does not add up; for tests and after recovery.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
        for entry in self.shards.values() {
            *live.entry(entry.segment).or_default() += u64::from(entry.stored_len);
            for extent in &entry.extents {
                *live.entry(extent.segment).or_default() += extent_weight(extent);
            }
        }
        for (id, segment) in &self.segments {
            let expected = live.get(id).copied().unwrap_or(0);
            if segment.live != expected {
                return Err(format!("segment {id} counts {} live bytes, has {expected}", segment.live));
            }
            if segment.live + BLOCK > segment.written.max(BLOCK) {
                return Err(format!("segment {id} has more live bytes than were written"));
            }
            if matches!(segment.using, Use::Spare | Use::Junk) && segment.live > 0 {
                return Err(format!("segment {id} is free but has live bytes"));
            }
        }
        for kind in [SegmentKind::Log, SegmentKind::Extents] {
            let open = |segment: &&Segment| segment.kind == kind && segment.using == Use::Open;
            if self.segments.values().filter(open).count() > 1 {
                return Err(format!("two {kind:?} segments are open"));
            }
        }
        Ok(())
    }
}
