//! The three steps of a plan: mend what must move, spread what sits together, balance what is left.
//!
//! Each step lowers a measure of its own and never raises that of a step before it (slots without a proper
//! drive; then slots over the limit, pairs on one node, pairs in one domain; then the unevenness of loads), so
//! repeating them ends, and planning again after the moves finds nothing to do.

use super::{
    GAP_PERCENT, GAP_SLOTS,
    state::{SlotAt, State},
};
use crate::{
    layout::{DriveIndex, Standing},
    load::Fill,
};
use std::{cmp::Reverse, collections::BTreeSet};

/// Whether a step changed anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Changed,
    Nothing,
}

impl Step {
    fn of(changes: usize) -> Self {
        if changes == 0 { Self::Nothing } else { Self::Changed }
    }
}

impl State<'_> {
    /// Repeats the steps until none finds anything to do: a move may open a place for another PG's slot.
    pub(super) fn settle(&mut self) {
        loop {
            let steps = [self.mend(), self.spread(), self.balance()];
            if steps == [Step::Nothing; 3] {
                return;
            }
        }
    }

    /// Gives a drive to every slot that has none, and to every slot of a draining drive. The shards of a
    /// draining drive are whole, so they stay if leaving would put more than m of them in one domain.
    fn mend(&mut self) -> Step {
        let mut mended = 0;
        for at in self.open_pgs().flat_map(|pg| self.slots_of(pg)).collect::<Vec<_>>() {
            let slot = self.slot(at);
            let draining = match slot.place.map(|drive| self.layout.standing(drive)) {
                _ if slot.is_moving() => continue,
                Some(Standing::Placeable) => continue,
                Some(Standing::Draining) => true,
                Some(Standing::Out) | None => false,
            };
            let Some((then, drive)) = self.pick(at) else { continue };
            let crowds = then.over_limit && !self.crowding(at).is_some_and(|now| now.over_limit);
            if !(draining && crowds) {
                self.place(at, drive);
                mended += 1;
            }
        }
        Step::of(mended)
    }

    /// Moves slots that share a node or a domain although another has room; of those that share, the ones on the
    /// fullest drives.
    fn spread(&mut self) -> Step {
        let mut spread = 0;
        for pg in self.open_pgs() {
            let mut slots: Vec<SlotAt> = self.slots_of(pg).filter(|at| self.may_leave(*at)).collect();
            slots.sort_by_key(|at| Reverse(self.slot(*at).place.map(|drive| self.load.fill(drive))));
            for at in slots {
                let Some(now) = self.crowding(at).filter(|now| self.may_improve(at, *now)) else { continue };
                if let Some((_, drive)) = self.pick(at).filter(|(then, _)| *then < now) {
                    self.place(at, drive);
                    spread += 1;
                }
            }
        }
        Step::of(spread)
    }

    /// Moves slots from the fullest drives to the emptiest, never to a place that is more crowded.
    fn balance(&mut self) -> Step {
        let mut balanced = 0;
        let mut slots_of: Vec<Vec<SlotAt>> = vec![Vec::new(); self.layout.drives.len()];
        for at in self.open_pgs().flat_map(|pg| self.slots_of(pg)).filter(|at| self.may_leave(*at)) {
            if let Some(drive) = self.slot(at).place {
                slots_of[drive.0].push(at);
            }
        }
        let gap =
            Fill((self.load.mean_fill().0 * u128::from(GAP_PERCENT) / 100).max(Fill::slots(GAP_SLOTS).0));
        let mut givers: BTreeSet<(Fill, DriveIndex)> =
            self.layout.placeable().map(|drive| (self.load.fill(drive), drive)).collect();
        while let Some((full, giver)) = givers.pop_last() {
            let Some((position, taker)) = self.give(&slots_of[giver.0], full, gap) else { continue };
            let at = slots_of[giver.0].remove(position);
            givers.remove(&(self.load.fill(taker), taker));
            self.place(at, taker);
            slots_of[taker.0].push(at);
            givers.insert((self.load.fill(giver), giver));
            givers.insert((self.load.fill(taker), taker));
            balanced += 1;
        }
        Step::of(balanced)
    }

    /// Which of these slots of a drive with this fill goes to which drive: the emptiest that can take one.
    fn give(&self, slots: &[SlotAt], full: Fill, gap: Fill) -> Option<(usize, DriveIndex)> {
        let takers = self
            .load
            .ascending()
            .take_while(|taker| self.load.fill(*taker).0 + gap.0 < full.0)
            .filter(|taker| self.load.fill_after_one_more(*taker) < full);
        for taker in takers {
            let fits = slots.iter().position(|at| {
                self.crowding(*at).zip(self.crowding_on(*at, taker)).is_some_and(|(now, then)| then <= now)
            });
            if let Some(position) = fits {
                return Some((position, taker));
            }
        }
        None
    }

    /// Slots that stay where they are unless something gets better.
    fn may_leave(&self, at: SlotAt) -> bool {
        let slot = self.slot(at);
        let placeable = slot.place.is_some_and(|drive| self.layout.standing(drive) == Standing::Placeable);
        placeable && !slot.is_moving()
    }
}
