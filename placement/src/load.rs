//! How many slots each drive carries for its weight, kept in order, and the choice of a drive for a slot.
//!
//! Invariant: `order` holds every placeable drive exactly once, under the key of its present load.

use crate::layout::{Crowding, DriveIndex, Layout, SpreadRule};
use std::collections::BTreeSet;

/// Slots on a drive of mean weight, as a fixed-point number with [`FRACTION_BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fill(pub(crate) u128);

const FRACTION_BITS: u32 = 16;

impl Fill {
    pub(crate) fn slots(count: u64) -> Self {
        Self(u128::from(count) << FRACTION_BITS)
    }
}

pub(crate) struct Load<'a> {
    layout: &'a Layout,
    slots: Vec<u64>,
    mean_weight: u128,
    order: BTreeSet<(u128, DriveIndex)>,
}

impl<'a> Load<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        let weights: Vec<u128> =
            layout.placeable().map(|drive| u128::from(layout.weights[drive.0])).collect();
        let count = u128::try_from(weights.len()).expect("a usize fits in a u128");
        let mut load = Self {
            layout,
            slots: vec![0; layout.drives.len()],
            mean_weight: weights.iter().sum::<u128>().checked_div(count).unwrap_or(1).max(1),
            order: BTreeSet::new(),
        };
        load.order = layout.placeable().map(|drive| (load.key(drive), drive)).collect();
        load
    }

    pub(crate) fn add(&mut self, drive: DriveIndex) {
        self.change(drive, |slots| slots + 1);
    }

    pub(crate) fn remove(&mut self, drive: DriveIndex) {
        self.change(drive, |slots| slots - 1);
    }

    fn change(&mut self, drive: DriveIndex, by: impl FnOnce(u64) -> u64) {
        let placeable = self.order.remove(&(self.key(drive), drive));
        self.slots[drive.0] = by(self.slots[drive.0]);
        if placeable {
            self.order.insert((self.key(drive), drive));
        }
    }

    /// The fill that a drive would have with so many slots.
    fn fill_with(&self, drive: DriveIndex, slots: u64) -> Fill {
        Fill(Fill::slots(slots).0 * self.mean_weight / u128::from(self.layout.weights[drive.0]))
    }

    pub(crate) fn fill(&self, drive: DriveIndex) -> Fill {
        self.fill_with(drive, self.slots[drive.0])
    }

    pub(crate) fn fill_after_one_more(&self, drive: DriveIndex) -> Fill {
        self.fill_with(drive, self.slots[drive.0] + 1)
    }

    /// The fill of every placeable drive if weights alone decided.
    pub(crate) fn mean_fill(&self) -> Fill {
        let slots: u64 = self.order.iter().map(|(_, drive)| self.slots[drive.0]).sum();
        let drives = u128::try_from(self.order.len()).expect("a usize fits in a u128");
        Fill(Fill::slots(slots).0.checked_div(drives).unwrap_or_default())
    }

    /// The fill at a moment within a drive's next slot that differs by drive and by slot. Drives taken in the order of these
    /// keys get slots by weight, and each round meets them in another order, so that a drive shares its PGs with many others.
    fn key(&self, drive: DriveIndex) -> u128 {
        let slots = self.slots[drive.0];
        let within = u128::from(mix(u64::from(self.layout.id(drive).0), slots) >> (64 - FRACTION_BITS));
        (Fill::slots(slots).0 + within) * self.mean_weight / u128::from(self.layout.weights[drive.0])
    }

    /// Placeable drives, the emptiest first.
    pub(crate) fn ascending(&self) -> impl DoubleEndedIterator<Item = DriveIndex> {
        self.order.iter().map(|(_, drive)| *drive)
    }

    /// The least crowded drive outside `taken` for a slot beside `others`, and of those the emptiest.
    pub(crate) fn pick(
        &self,
        rule: SpreadRule,
        others: &[DriveIndex],
        taken: &[DriveIndex],
    ) -> Option<(Crowding, DriveIndex)> {
        let least = self.layout.least_crowding(rule, others);
        let mut best: Option<(Crowding, DriveIndex)> = None;
        for drive in self.ascending().filter(|drive| !taken.contains(drive)) {
            let crowding = self.layout.crowding(rule, drive, others);
            if best.is_none_or(|(so_far, _)| crowding < so_far) {
                best = Some((crowding, drive));
                if crowding <= least {
                    break;
                }
            }
        }
        best
    }
}

/// A fixed mixing of two numbers (the finaliser of SplitMix64): spreads choices without randomness.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x6a09_e667_f3bc_c909);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
