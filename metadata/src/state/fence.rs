//! Fences: after a slot was moved, no shard that was acknowledged where the slot was before counts.
//!
//! A placement group's controller commits a fence in every metadata group before the verifying pass of a move. From then
//! on a chunk that is committed under an older interval has its shards on superseded drives treated as missing: a
//! repair row each in the same apply. If too few shards stay, the write is refused with `Retry` and its blobs are
//! garbage. So all that the verifying pass can miss has a repair row.
//!
//! A superseded shard itself is left where it is: the sweep of its drive finds it, named by no row. To delete it here
//! could hit a shard of the same slot that a cancelled move brought back to the drive.
//!
//! What was superseded once stays so for older intervals, even if a cancelled move gives the drive the slot back: then
//! a repair is done in vain, and none is left out. The rows grow by one entry for each drive a slot has ever left.

use super::{
    StateError,
    apply::{Applied, Apply},
};
use crate::{
    command::{Done, FencePg, Refusal},
    encoding::Extensions,
    kv::Table,
    planted::{Plant, planted},
    tables::{
        self,
        record::{FenceRecord, Superseded},
    },
};
use ashlar_types::{Chunk, ChunkId, Content, DriveId, ExtentSource, Interval, PgId, SlotIndex};
use std::{borrow::Cow, collections::BTreeMap};

/// The content of a write without the shards that a fence took out.
pub(super) struct Fenced<'c> {
    pub(super) content: Cow<'c, Content>,
    /// The slots taken out, with the interval at which they are known bad.
    pub(super) superseded: BTreeMap<(ChunkId, SlotIndex), Interval>,
}

impl Apply<'_> {
    /// Fences may come in any order and again: each adds what it supersedes.
    pub(super) fn fence_pg(&mut self, fence: &FencePg) -> Applied {
        let row = tables::pg(fence.pg);
        let known = self.record::<FenceRecord>(Table::Fences, &row)?;
        let mut record = known.unwrap_or_else(|| FenceRecord {
            interval: fence.interval,
            quorum: fence.quorum,
            superseded: Vec::new(),
            kept: Extensions::default(),
        });
        record.interval = record.interval.max(fence.interval);
        record.quorum = record.quorum.max(fence.quorum);
        for slot in &fence.superseded {
            let Superseded { since, .. } = match record
                .superseded
                .binary_search_by_key(&(slot.slot, slot.drive), |known| (known.slot, known.drive))
            {
                Ok(index) => &mut record.superseded[index],
                Err(index) => {
                    let new = Superseded { slot: slot.slot, drive: slot.drive, since: fence.interval };
                    record.superseded.insert(index, new);
                    continue;
                }
            };
            *since = (*since).max(fence.interval);
        }
        self.put(Table::Fences, row, &record);
        Ok(Done::Nothing)
    }

    /// What of a write may count. Refused with `Retry` if a chunk has too few shards left, and with `Expired` if a blob
    /// was begun so long ago that its shards may be deleted as orphans.
    pub(super) fn fenced<'c>(&self, content: &'c Content) -> Applied<Fenced<'c>> {
        let floor = self.group.floor();
        if content.manifest.blobs().any(|blob| blob.group == self.id && blob.write_epoch < floor) {
            return Err(Refusal::Expired.into());
        }
        let mut superseded = BTreeMap::new();
        for blob in content.manifest.blobs() {
            for (chunk, index) in blob.chunks.iter().zip(0u32..) {
                let Some(fence) = self.fence(chunk.pg)? else { continue };
                let id = ChunkId { blob: blob.id, index };
                let before = superseded.len();
                for (slot, since) in fence.hits(chunk) {
                    superseded.insert((id, slot), since);
                }
                let taken = superseded.len() - before;
                let acked = chunk.slots.iter().flatten().count();
                if taken > 0 && acked - taken < usize::from(fence.quorum) {
                    return Err(Refusal::Retry.into());
                }
            }
        }
        let mut content = Cow::Borrowed(content);
        if !superseded.is_empty() {
            take_out(content.to_mut(), &superseded);
        }
        Ok(Fenced { content, superseded })
    }

    /// Whether a shard that is written late, or by a repair, is where its slot was before.
    pub(super) fn is_superseded(
        &self,
        pg: PgId,
        slot: SlotIndex,
        drive: DriveId,
        interval: Interval,
    ) -> Applied<bool> {
        let fence = self.fence(pg)?;
        Ok(fence.and_then(|fence| fence.since(slot, drive)).is_some_and(|since| interval < since))
    }

    fn fence(&self, pg: PgId) -> Result<Option<FenceRecord>, StateError> {
        if planted(Plant::FenceIgnored) {
            return Ok(None);
        }
        self.record(Table::Fences, &tables::pg(pg))
    }
}

impl FenceRecord {
    /// The interval from which on a drive does not have a slot any more.
    fn since(&self, slot: SlotIndex, drive: DriveId) -> Option<Interval> {
        let found = self.superseded.binary_search_by_key(&(slot, drive), |known| (known.slot, known.drive));
        found.ok().and_then(|index| self.superseded.get(index)).map(|known| known.since)
    }

    fn hits(&self, chunk: &Chunk) -> impl Iterator<Item = (SlotIndex, Interval)> {
        let acked =
            chunk.slots.iter().zip(0u8..).filter_map(|(drive, slot)| Some((SlotIndex(slot), (*drive)?)));
        acked.filter_map(|(slot, drive)| {
            let since = self.since(slot, drive).filter(|since| chunk.interval < *since)?;
            Some((slot, since))
        })
    }
}

fn take_out(content: &mut Content, superseded: &BTreeMap<(ChunkId, SlotIndex), Interval>) {
    for entry in &mut content.manifest.entries {
        let ExtentSource::Blob { blob, offset: _ } = &mut entry.source else { continue };
        for (chunk, index) in blob.chunks.iter_mut().zip(0u32..) {
            let id = ChunkId { blob: blob.id, index };
            for (drive, slot) in chunk.slots.iter_mut().zip(0u8..) {
                if superseded.contains_key(&(id, SlotIndex(slot))) {
                    *drive = None;
                }
            }
        }
    }
}
