//! Telling metadata about shards that a reader found missing or corrupt.
//!
//! Owns what was reported lately, so that a damaged slot is told once and a bad drive does not drown writes. Lost
//! drives are not reported: they are repaired by slot.

use crate::store::Core;
use ashlar_metadata::command::PartitionCommand;
use ashlar_runtime::{ClockExt, sync::Mutex};
use ashlar_types::{
    BucketId, ChunkId, DriveId, GroupId, MissingSlot, ObjectKey, ShardId, ShardOwner, SlotIndex,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Slots remembered; beyond, those told longest ago are told again.
const REMEMBERED_MAX: usize = 4096;

/// What a damaged slot belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) group: GroupId,
    pub(crate) bucket: BucketId,
    pub(crate) key: ObjectKey,
    /// `None` if the shards were written for parts: which, the shards themselves know.
    pub(crate) owner: Option<ShardOwner>,
}

/// A damaged slot, and where others of its chunk may be asked.
pub(crate) struct Damaged {
    pub(crate) slot: MissingSlot,
    pub(crate) others: Vec<(DriveId, ShardId)>,
}

pub(crate) struct Reporter {
    per_second: u32,
    again: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: BTreeMap<(ChunkId, SlotIndex), Duration>,
    second: u64,
    in_second: u32,
}

impl Reporter {
    pub(crate) fn new(per_second: u32, again: Duration) -> Self {
        Self { per_second, again, state: Mutex::new(State::default()) }
    }

    /// Reports in the background, unless it was done lately or too much was.
    pub(crate) fn report(&self, core: &Arc<Core>, subject: &Subject, damaged: Damaged) {
        let slot = damaged.slot;
        if !self.admit((slot.chunk, slot.slot), core.now()) {
            core.metrics.suppressed_reports.increment(1);
            return;
        }
        core.metrics.reported_slots.increment(1);
        tracing::warn!(key = %subject.key, chunk = %slot.chunk, slot = %slot.slot, "a damaged shard is reported");
        let tasks = core.env.tasks.clone();
        // Bounded by the deadlines of its calls.
        tasks.spawn("report-slot", tell(Arc::clone(core), subject.clone(), damaged)).detach();
    }

    fn admit(&self, slot: (ChunkId, SlotIndex), now: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.get(&slot).is_some_and(|told| now.saturating_sub(*told) < self.again) {
            return false;
        }
        if state.second != now.as_secs() {
            (state.second, state.in_second) = (now.as_secs(), 0);
        }
        if state.in_second == self.per_second {
            return false;
        }
        state.in_second += 1;
        if state.told.len() >= REMEMBERED_MAX {
            state.told.retain(|_, told| now.saturating_sub(*told) < self.again);
        }
        if state.told.len() >= REMEMBERED_MAX {
            state.told.clear();
        }
        state.told.insert(slot, now);
        true
    }
}

async fn tell(core: Arc<Core>, subject: Subject, damaged: Damaged) {
    let owner = match subject.owner {
        Some(owner) => Some(owner),
        None => owner_of(&core, &damaged.others).await,
    };
    let Some(owner) = owner else {
        tracing::info!(chunk = %damaged.slot.chunk, "whose a damaged shard is could not be told");
        return;
    };
    let command = PartitionCommand::ReportSlots {
        bucket: subject.bucket,
        key: subject.key,
        owner,
        slots: vec![damaged.slot],
    };
    if let Err(error) = core.propose(subject.group, None, command).await {
        tracing::info!(%error, "a damaged shard could not be reported");
    }
}

/// What the shards of a chunk were written for, as one of them says.
async fn owner_of(core: &Core, shards: &[(DriveId, ShardId)]) -> Option<ShardOwner> {
    for (drive, shard) in shards {
        let stat = core.shards.stat(*drive, *shard);
        if let Ok(Ok(Some(stat))) = core.env.clock.timeout(core.settings.open_deadline, stat).await {
            return Some(stat.meta.owner);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::BlobId;

    fn slot(index: u32) -> (ChunkId, SlotIndex) {
        (ChunkId { blob: BlobId(1), index }, SlotIndex(0))
    }

    #[test]
    fn a_slot_is_told_once_until_its_time_is_over() {
        let reporter = Reporter::new(10, Duration::from_secs(600));
        assert!(reporter.admit(slot(1), Duration::from_secs(5)));
        assert!(!reporter.admit(slot(1), Duration::from_secs(604)));
        assert!(reporter.admit(slot(2), Duration::from_secs(604)));
        assert!(reporter.admit(slot(1), Duration::from_secs(605)));
    }

    #[test]
    fn a_second_has_room_for_so_many() {
        let reporter = Reporter::new(3, Duration::from_secs(600));
        let at = Duration::from_millis(1500);
        assert_eq!((0..10).filter(|index| reporter.admit(slot(*index), at)).count(), 3);
        // What was dropped is not remembered as told.
        assert!(reporter.admit(slot(9), Duration::from_secs(2)));
    }

    #[test]
    fn memory_of_what_was_told_is_bounded() {
        let reporter = Reporter::new(u32::MAX, Duration::from_secs(600));
        for index in 0..3 * u32::try_from(REMEMBERED_MAX).unwrap() {
            assert!(reporter.admit(slot(index), Duration::from_secs(1)));
        }
        assert!(reporter.state.lock().unwrap().told.len() <= REMEMBERED_MAX);
    }
}
