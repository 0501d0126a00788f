//! A plan in the making: where each slot would be, and what each drive would carry.
//!
//! Owns the copy of the acting sets that the steps change; the difference to the map is the list of moves, so a
//! slot that one step moves and another moves again is still one move.
//! Invariant: `load` counts exactly the `place`s of `pgs`.

use super::{Move, Warning, warning};
use crate::{
    layout::{Crowding, DriveIndex, Layout, SpreadRule, Standing},
    load::Load,
    map::ClusterMap,
};
use ashlar_types::{DriveId, PgId, Profile, ProfileId, SlotIndex};
use std::cmp::Reverse;

pub(super) struct State<'a> {
    pub(super) map: &'a ClusterMap,
    pub(super) layout: &'a Layout,
    pub(super) load: Load<'a>,
    pub(super) pgs: Vec<PgState>,
    /// PGs before this one count, but stay as they are.
    fixed: usize,
}

pub(super) struct PgState {
    pub(super) id: PgId,
    pub(super) profile: ProfileId,
    pub(super) rule: SpreadRule,
    pub(super) slots: Vec<SlotState>,
}

pub(super) struct SlotState {
    /// What the map says: the slot's drive, and where it is moving to.
    current: Option<DriveId>,
    next: Option<DriveId>,
    /// Where the slot will be; a drive that is out is no place.
    pub(super) place: Option<DriveIndex>,
    /// A drive that is still occupied by a slot on its way to `place`.
    leaving: Option<DriveIndex>,
}

impl SlotState {
    pub(super) fn is_moving(&self) -> bool {
        self.next.is_some()
    }

    pub(super) fn moving_to(&self) -> Option<DriveId> {
        self.next
    }
}

/// One slot of one PG of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotAt {
    pub(super) pg: usize,
    pub(super) slot: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Lost,
    Draining,
    Better,
}

impl<'a> State<'a> {
    pub(super) fn new(map: &'a ClusterMap, layout: &'a Layout) -> Self {
        let mut load = Load::new(layout);
        let held = |drive: Option<DriveId>| {
            layout.find(drive?).filter(|drive| layout.standing(*drive) != Standing::Out)
        };
        let mut pgs = Vec::with_capacity(map.pgs.len());
        for (id, pg) in &map.pgs {
            let Some(profile) = map.profiles.get(&pg.profile) else { continue };
            let slots: Vec<SlotState> = pg
                .slots
                .iter()
                .map(|slot| SlotState {
                    current: slot.current,
                    next: slot.next,
                    place: held(slot.next.or(slot.current)),
                    leaving: slot.next.and_then(|_| held(slot.current)),
                })
                .collect();
            slots.iter().filter_map(|slot| slot.place).for_each(|drive| load.add(drive));
            pgs.push(PgState { id: *id, profile: pg.profile, rule: SpreadRule::of(profile), slots });
        }
        Self { map, layout, load, pgs, fixed: 0 }
    }

    /// New PGs, whose slots have no drive yet; only they may be changed from now on.
    pub(super) fn add_empty(&mut self, profile: ProfileId, known: &Profile, count: u32) {
        self.fixed = self.pgs.len();
        let first = self.map.pgs.last_key_value().map_or(1, |(last, _)| last.0 + 1);
        let empty = |id| PgState {
            id: PgId(id),
            profile,
            rule: SpreadRule::of(known),
            slots: (0..known.slots())
                .map(|_| SlotState { current: None, next: None, place: None, leaving: None })
                .collect(),
        };
        self.pgs.extend((first..).take(usize::try_from(count).expect("a u32 fits in a usize")).map(empty));
    }

    /// The drives of the PGs that were added.
    pub(super) fn added(&self) -> impl Iterator<Item = Vec<DriveId>> {
        self.pgs[self.fixed..]
            .iter()
            .map(|pg| pg.slots.iter().filter_map(|slot| Some(self.layout.id(slot.place?))).collect())
    }

    /// The PGs that may be changed.
    pub(super) fn open_pgs(&self) -> std::ops::Range<usize> {
        self.fixed..self.pgs.len()
    }

    pub(super) fn slots_of(&self, pg: usize) -> impl Iterator<Item = SlotAt> + use<> {
        (0..self.pgs[pg].slots.len()).map(move |slot| SlotAt { pg, slot })
    }

    pub(super) fn slot(&self, at: SlotAt) -> &SlotState {
        &self.pgs[at.pg].slots[at.slot]
    }

    /// The places of the other slots of a PG.
    fn others(&self, at: SlotAt) -> Vec<DriveIndex> {
        self.slots_but(at).filter_map(|slot| slot.place).collect()
    }

    fn slots_but(&self, at: SlotAt) -> impl Iterator<Item = &SlotState> {
        let slots = self.pgs[at.pg].slots.iter().enumerate();
        slots.filter(move |(slot, _)| *slot != at.slot).map(|(_, slot)| slot)
    }

    /// Drives that a slot may not have: another slot of its PG is there, or has not left yet.
    fn taken(&self, at: SlotAt) -> Vec<DriveIndex> {
        self.slots_but(at).flat_map(|slot| [slot.place, slot.leaving]).flatten().collect()
    }

    /// How a slot stands where it is.
    pub(super) fn crowding(&self, at: SlotAt) -> Option<Crowding> {
        let place = self.slot(at).place?;
        Some(self.layout.crowding(self.pgs[at.pg].rule, place, &self.others(at)))
    }

    /// How a slot would stand on another drive; `None` when its PG is there already.
    pub(super) fn crowding_on(&self, at: SlotAt, drive: DriveIndex) -> Option<Crowding> {
        let taken = self.slots_but(at).any(|slot| slot.place == Some(drive) || slot.leaving == Some(drive));
        (!taken).then(|| self.layout.crowding(self.pgs[at.pg].rule, drive, &self.others(at)))
    }

    /// The best drive for a slot.
    pub(super) fn pick(&self, at: SlotAt) -> Option<(Crowding, DriveIndex)> {
        self.load.pick(self.pgs[at.pg].rule, &self.others(at), &self.taken(at))
    }

    /// Whether some drive may be less crowded for the slot than `crowding`; cheap, and never a false no.
    pub(super) fn may_improve(&self, at: SlotAt, crowding: Crowding) -> bool {
        self.layout.least_crowding(self.pgs[at.pg].rule, &self.others(at)) < crowding
    }

    pub(super) fn place(&mut self, at: SlotAt, drive: DriveIndex) {
        if let Some(before) = self.pgs[at.pg].slots[at.slot].place.replace(drive) {
            self.load.remove(before);
        }
        self.load.add(drive);
    }

    /// The difference to the map.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<(Urgency, Reverse<usize>, Move)> = Vec::new();
        for pg in &self.pgs {
            let urgency = |slot: &SlotState| match slot.current.and_then(|drive| self.layout.find(drive)) {
                None => Urgency::Lost,
                Some(drive) => match self.layout.standing(drive) {
                    Standing::Out => Urgency::Lost,
                    Standing::Draining => Urgency::Draining,
                    Standing::Placeable => Urgency::Better,
                },
            };
            let lost = pg.slots.iter().filter(|slot| urgency(slot) == Urgency::Lost).count();
            for (index, slot) in (0..).zip(&pg.slots) {
                let to = slot.place.map(|drive| self.layout.id(drive));
                if slot.is_moving() || to == slot.current {
                    continue;
                }
                let step = Move { pg: pg.id, slot: SlotIndex(index), from: slot.current, to };
                moves.push((urgency(slot), Reverse(lost), step));
            }
        }
        moves.sort_unstable();
        moves.into_iter().map(|(_, _, step)| step).collect()
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        warning::collect(self)
    }
}
