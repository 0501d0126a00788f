//! What a plan could not do. One warning for each matter, with how much of it there is, not one for each slot.

use super::state::{PgState, State};
use crate::layout::Standing;
use ashlar_types::{DriveId, FailureDomain, PgId, ProfileId, SlotIndex};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("profile {profile} has no redundancy: one lost drive loses data")]
    NoRedundancy { profile: ProfileId },
    /// Losing that domain would make the PGs unreadable.
    #[error(
        "{pgs} PGs of profile {profile}, first {first}, have up to {most} slots in one {level:?}; {limit} may be lost"
    )]
    MoreThanParityInOneDomain {
        profile: ProfileId,
        level: FailureDomain,
        first: PgId,
        pgs: usize,
        most: usize,
        limit: usize,
    },
    #[error("{slots} slots of profile {profile}, first in PG {first}, have no drive")]
    NoDriveLeft { profile: ProfileId, first: PgId, slots: usize },
    /// Other drives would have to hold more than m slots of a PG, or there are none.
    #[error("drive {drive} keeps {slots} slots: there is nowhere to drain them to")]
    DrainBlocked { drive: DriveId, slots: usize },
    /// A move is not redirected while it runs: cancel it, then plan again.
    #[error("slot {} of PG {pg} is moving to drive {drive}, which takes no slots", slot.0)]
    MovingToUnplaceable { pg: PgId, slot: SlotIndex, drive: DriveId },
}

pub(super) fn collect(state: &State<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (id, profile) in &state.map.profiles {
        let pgs: Vec<&PgState> = state.pgs.iter().filter(|pg| pg.profile == *id).collect();
        if profile.m() == 0 && !pgs.is_empty() {
            warnings.push(Warning::NoRedundancy { profile: *id });
        }
        warnings.extend(crowded(state, *id, &pgs));
        warnings.extend(without_drive(*id, &pgs));
    }
    warnings.extend(blocked_drains(state));
    warnings.extend(lost_targets(state));
    warnings
}

fn crowded(state: &State<'_>, profile: ProfileId, pgs: &[&PgState]) -> Option<Warning> {
    let rule = pgs.first()?.rule;
    let fullest = |pg: &PgState| {
        let places: Vec<_> = pg.slots.iter().filter_map(|slot| slot.place).collect();
        state.layout.fullest_domain(rule.level, &places)
    };
    let over: Vec<(PgId, usize)> =
        pgs.iter().map(|pg| (pg.id, fullest(pg))).filter(|(_, most)| *most > rule.limit).collect();
    let (first, _) = *over.first()?;
    let most = over.iter().map(|(_, most)| *most).max()?;
    Some(Warning::MoreThanParityInOneDomain {
        profile,
        level: rule.level,
        first,
        pgs: over.len(),
        most,
        limit: rule.limit,
    })
}

fn without_drive(profile: ProfileId, pgs: &[&PgState]) -> Option<Warning> {
    let missing =
        |pg: &PgState| pg.slots.iter().filter(|slot| slot.place.is_none() && !slot.is_moving()).count();
    let first = pgs.iter().find(|pg| missing(pg) > 0)?.id;
    Some(Warning::NoDriveLeft { profile, first, slots: pgs.iter().map(|pg| missing(pg)).sum() })
}

fn blocked_drains(state: &State<'_>) -> impl Iterator<Item = Warning> {
    let mut blocked: BTreeMap<DriveId, usize> = BTreeMap::new();
    for slot in state.pgs.iter().flat_map(|pg| &pg.slots).filter(|slot| !slot.is_moving()) {
        let draining = slot.place.filter(|drive| state.layout.standing(*drive) == Standing::Draining);
        if let Some(drive) = draining {
            *blocked.entry(state.layout.id(drive)).or_default() += 1;
        }
    }
    blocked.into_iter().map(|(drive, slots)| Warning::DrainBlocked { drive, slots })
}

fn lost_targets(state: &State<'_>) -> impl Iterator<Item = Warning> {
    state.pgs.iter().flat_map(|pg| {
        (0..).zip(&pg.slots).filter_map(|(index, slot)| {
            let drive = slot.moving_to()?;
            let placeable = slot.place.is_some_and(|at| state.layout.standing(at) == Standing::Placeable);
            let warning = Warning::MovingToUnplaceable { pg: pg.id, slot: SlotIndex(index), drive };
            (!placeable).then_some(warning)
        })
    })
}
