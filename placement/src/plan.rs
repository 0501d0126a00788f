//! Acting sets for new PGs, and the smallest list of moves that mends and balances those that exist.
//!
//! Owns the decision only: whoever carries a plan out paces the moves, and asks again after every change of the
//! map. Deterministic: the same map gives the same plan.
//!
//! What is decided, in this order:
//!  - a slot on a drive that is out, or on none, gets a drive; a slot on a draining drive leaves it;
//!  - no domain holds more than m slots of a PG, if the cluster allows;
//!  - as few slots of a PG as possible share a node, then a domain of the profile's level;
//!  - drives carry slots by weight, within [`GAP_PERCENT`] or [`GAP_SLOTS`] of each other.
//!
//! Invariants: the drives of a PG are distinct; a slot that is already moving is never moved again.

mod rebalance;
mod state;
#[cfg(test)]
mod tests;
mod warning;

pub use warning::Warning;

use crate::{
    layout::Layout,
    load::mix,
    map::{ClusterMap, PlacementGroup, Slot},
};
use ashlar_types::{DriveId, Interval, PgId, ProfileId, SlotIndex};
use state::State;

/// Drives may differ by this much of the mean before slots are moved for balance alone: every drive stays within
/// half of it, and a plan does not chase its own rounding.
pub const GAP_PERCENT: u64 = 6;

/// Where PGs are few, a percentage is less than what whole slots allow.
pub const GAP_SLOTS: u64 = 4;

/// One slot changes its drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    pub pg: PgId,
    pub slot: SlotIndex,
    /// `None`: the slot has no drive. A drive that is out, or unknown to the map, has nothing left to copy.
    pub from: Option<DriveId>,
    /// `None`: no drive is left to give it.
    pub to: Option<DriveId>,
}

/// What to change, and what cannot be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The most urgent first: lost slots, those of PGs that have lost the most before others; then slots of
    /// draining drives; then moves for spread and balance.
    pub moves: Vec<Move>,
    pub warnings: Vec<Warning>,
}

/// Acting sets for `pg_count` new PGs of a profile of the map, beside the PGs that exist. A slot is empty when
/// there are fewer drives than slots. Empty when the map does not know the profile.
pub fn plan_initial(map: &ClusterMap, profile: ProfileId, pg_count: u32) -> Vec<PlacementGroup> {
    let Some(known) = map.profiles.get(&profile) else { return Vec::new() };
    let layout = Layout::new(map);
    let mut state = State::new(map, &layout);
    state.add_empty(profile, known, pg_count);
    state.settle();
    let acting_set = |(ordinal, mut drives): (u32, Vec<DriveId>)| {
        turn(&mut drives, ordinal);
        let mut slots: Vec<Slot> =
            drives.into_iter().map(|drive| Slot { current: Some(drive), next: None }).collect();
        slots.resize(usize::from(known.slots()), Slot::default());
        PlacementGroup { profile, interval: Interval(1), slots }
    };
    (0..).zip(state.added()).map(acting_set).collect()
}

/// Starts the slots at another drive in each PG: a drive that is always picked first would otherwise only ever
/// hold data, and take all the reads.
fn turn(drives: &mut [DriveId], ordinal: u32) {
    let count = u64::try_from(drives.len()).expect("a PG has at most 32 slots");
    let Some(start) = mix(u64::from(ordinal), 0).checked_rem(count) else { return };
    drives.rotate_left(usize::try_from(start).expect("the remainder is below the number of slots"));
}

/// The moves of [`plan`].
pub fn plan_moves(map: &ClusterMap) -> Vec<Move> {
    plan(map).moves
}

/// The smallest list of moves that mends and balances the map, and what it cannot mend.
pub fn plan(map: &ClusterMap) -> Plan {
    let layout = Layout::new(map);
    let mut state = State::new(map, &layout);
    state.settle();
    Plan { moves: state.moves(), warnings: state.warnings() }
}
