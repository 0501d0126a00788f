//! Where a chunk's shards go: a placement group, and a drive for each slot.
//!
//! Owns the set of drives that a chunk uses or has given up, so that no two of its slots share a drive.

use crate::store::Core;
use ashlar_placement::{ClusterMap, PlacementGroup};
use ashlar_runtime::RngExt;
use ashlar_types::{DriveId, Interval, ObjectError, PgId, ProfileId};
use std::{collections::BTreeSet, sync::Arc};

/// The drives of one chunk.
pub(crate) struct Placement {
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) pg: PgId,
    pub(crate) interval: Interval,
    /// Drive per slot, as the group wants it now; `None` where it has none that is up.
    pub(crate) drives: Vec<Option<DriveId>>,
    taken: BTreeSet<DriveId>,
}

impl Placement {
    /// `refused` are drives that this write has found failing.
    pub(crate) fn choose(
        core: &Core,
        profile: ProfileId,
        refused: &BTreeSet<DriveId>,
    ) -> Result<Self, ObjectError> {
        let map = core.map();
        let usable = |drive| core.shards.is_usable(drive) && !refused.contains(&drive);
        let pg = ashlar_placement::choose_pg(&map, profile, usable, core.env.rng.u64())
            .ok_or(ObjectError::SlowDown("no placement group can take a write"))?;
        let group: &PlacementGroup =
            map.pgs.get(&pg).ok_or(ObjectError::Internal("a placement group that the map does not have"))?;
        let (interval, mut taken) = (group.interval, BTreeSet::new());
        let drives = group
            .slots
            .iter()
            .map(|slot| {
                // A slot that moves takes new shards at its destination.
                let drive = slot.next.or(slot.current).filter(|drive| usable(*drive))?;
                taken.insert(drive).then_some(drive)
            })
            .collect();
        Ok(Self { map: Arc::clone(&map), pg, interval, drives, taken })
    }

    /// Another drive for a slot whose own is down, full or failing.
    pub(crate) fn handoff(&mut self, core: &Core, refused: &BTreeSet<DriveId>) -> Option<DriveId> {
        let usable = |drive| core.shards.is_usable(drive) && !refused.contains(&drive);
        let drive = ashlar_placement::handoff(&self.map, self.pg, &self.taken, usable, core.env.rng.u64())?;
        self.taken.insert(drive);
        Some(drive)
    }

    /// Whether a newer map changed the group since.
    pub(crate) fn is_superseded(&self, core: &Core) -> bool {
        core.map().pgs.get(&self.pg).is_none_or(|pg| pg.interval != self.interval)
    }
}
