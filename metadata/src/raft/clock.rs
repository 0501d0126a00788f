//! The clock of a group: what its leader stamps commands with.
//!
//! Owns what is known of the wall clocks of other nodes, and the clock that follows from it. Pure: times come as
//! arguments, probing is done by the node.
//!
//! A wall clock is known by its offset from this node's monotonic timer, so that a sample stays good while nobody's
//! clock is set. The group clock is where the median of the voters' clocks is, as soon as those of a majority are
//! known; until then it runs on from the group's last stamp by the timer alone. The leader's own wall clock counts as
//! one of the voters' and no more. A minority of wrong clocks moves nothing.
//!
//! Invariants:
//!  - stamps never go back, and never lie below the group's last stamp;
//!  - where the median is behind them, they stand still until it has caught up.

use crate::planted::{Plant, planted};
use ashlar_types::{NodeId, Timestamp};
use std::{collections::BTreeMap, time::Duration};

/// How a group's clock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSettings {
    /// A leader whose wall clock is farther from the median of the voters' hands over. Default 5 s: far more than
    /// synchronised clocks differ, far less than what signatures of requests tolerate.
    pub bound: Duration,
    /// How often the clocks of other nodes are asked for. Default 1 s.
    pub interval: Duration,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self { bound: Duration::from_secs(5), interval: Duration::from_secs(1) }
    }
}

impl ClockSettings {
    /// A sample older than this counts for nothing: its clock may have been set.
    fn fresh(self) -> Duration {
        self.interval * 10
    }
}

/// A wall clock less a timer, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offset(i64);

impl Offset {
    pub(crate) fn of(wall: Timestamp, timer: Duration) -> Self {
        let (wall, timer) = (i64::try_from(wall.0), i64::try_from(timer.as_millis()));
        Self(wall.unwrap_or(i64::MAX).saturating_sub(timer.unwrap_or(i64::MAX)))
    }

    /// What the wall clock shows when the timer does.
    fn at(self, timer: Duration) -> Timestamp {
        let timer = i64::try_from(timer.as_millis()).unwrap_or(i64::MAX);
        Timestamp(u64::try_from(self.0.saturating_add(timer)).unwrap_or(0))
    }

    /// How far this clock is ahead of another, in milliseconds.
    pub(crate) fn ahead_of(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

/// The wall clocks of other nodes, as this node's timer sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct WallClocks(BTreeMap<NodeId, Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset: Offset,
    taken: Duration,
}

impl WallClocks {
    /// A node was asked at `asked` and its answer was here at `answered`: it read its clock half-way, as far as can be
    /// told.
    pub(crate) fn learn(&mut self, node: NodeId, wall: Timestamp, asked: Duration, answered: Duration) {
        let taken = asked + answered.saturating_sub(asked) / 2;
        self.0.insert(node, Sample { offset: Offset::of(wall, taken), taken });
    }

    /// Forgets what is too old to count.
    pub(crate) fn expire(&mut self, settings: ClockSettings, now: Duration) {
        self.0.retain(|_, sample| now.saturating_sub(sample.taken) <= settings.fresh());
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<Offset> {
        self.0.get(&node).map(|sample| sample.offset)
    }
}

/// The clocks of a group's voters; `None` is not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct VoterClocks(pub(crate) BTreeMap<NodeId, Option<Offset>>);

impl VoterClocks {
    /// Of the clocks known, if they are a majority's. The lower one of an even number: what is locked stays locked
    /// rather longer.
    pub(crate) fn median(&self) -> Option<Offset> {
        let mut known: Vec<Offset> = self.0.values().flatten().copied().collect();
        if known.len() * 2 <= self.0.len() {
            return None;
        }
        known.sort_unstable();
        known.get((known.len() - 1) / 2).copied()
    }

    /// What a leader stamps by.
    pub(crate) fn deciding(&self, leader: NodeId) -> Option<Offset> {
        if planted(Plant::LeaderClockDecides) {
            self.0.get(&leader).copied().flatten()
        } else {
            self.median()
        }
    }

    /// How far a voter's clock is ahead of the median, in milliseconds.
    pub(crate) fn skew(&self, voter: NodeId) -> Option<i64> {
        let own = self.0.get(&voter).copied().flatten()?;
        self.median().map(|median| own.ahead_of(median))
    }

    /// Whether a voter's clock is known to be farther from the median than is allowed.
    pub(crate) fn outside(&self, voter: NodeId, settings: ClockSettings) -> bool {
        let bound = u64::try_from(settings.bound.as_millis()).unwrap_or(u64::MAX);
        self.skew(voter).is_some_and(|skew| skew.unsigned_abs() > bound)
    }

    /// Voters within the bound, the one nearest to the median first.
    pub(crate) fn candidates(&self, settings: ClockSettings) -> Vec<NodeId> {
        let mut within: Vec<(u64, NodeId)> = self
            .0
            .keys()
            .filter(|voter| !self.outside(**voter, settings))
            .filter_map(|voter| self.skew(*voter).map(|skew| (skew.unsigned_abs(), *voter)))
            .collect();
        within.sort_unstable();
        within.into_iter().map(|(_, voter)| voter).collect()
    }
}

/// See the module. One a replica; it counts while the replica leads.
#[derive(Debug, Default)]
pub(crate) struct GroupClock {
    tenure: Option<Tenure>,
}

#[derive(Clone, Copy, Debug)]
struct Tenure {
    term: u64,
    /// The last stamp, and the timer when it was due.
    stamp: Timestamp,
    at: Duration,
}

impl GroupClock {
    /// The stamp of a command that is proposed now by the leader of `term`. `applied`: the group's last stamp as far as it
    /// was applied here. `median`: see [`VoterClocks::median`].
    pub(crate) fn stamp(
        &mut self,
        term: u64,
        now: Duration,
        applied: Timestamp,
        median: Option<Offset>,
    ) -> Timestamp {
        let tenure = match self.tenure {
            Some(tenure) if tenure.term == term => tenure,
            // What an earlier tenure knew of the timer has nothing to do with what others stamped since.
            Some(_) | None => Tenure { term, stamp: applied, at: now },
        };
        let tenure = match median {
            Some(median) => Tenure { stamp: tenure.stamp.max(median.at(now)), at: now, ..tenure },
            None => tenure.advanced(now),
        };
        let tenure =
            if applied > tenure.stamp { Tenure { stamp: applied, at: now, ..tenure } } else { tenure };
        self.tenure = Some(tenure);
        tenure.stamp
    }
}

impl Tenure {
    /// By whole milliseconds, so that frequent readings lose none.
    fn advanced(self, now: Duration) -> Self {
        let ran = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let ran = Duration::from_millis(ran);
        Self { stamp: self.stamp.plus(ran), at: self.at.saturating_add(ran), ..self }
    }
}

#[cfg(test)]
mod tests;

/// What a leader stamps that is one of three voters and whose wall clock is ahead of the others' by so much.
#[cfg(mutants)]
pub fn stamp_of_a_leader_ahead_by(ahead: Duration) -> (Timestamp, Timestamp) {
    let now = Duration::from_secs(1_000);
    let (right, wrong) = (Timestamp(50_000_000), Timestamp(50_000_000).plus(ahead));
    let clock = |wall| Some(Offset::of(wall, now));
    let voters = [(NodeId(1), clock(wrong)), (NodeId(2), clock(right)), (NodeId(3), clock(right))];
    let median = VoterClocks(voters.into()).deciding(NodeId(1));
    (GroupClock::default().stamp(1, now, Timestamp(0), median), right)
}
