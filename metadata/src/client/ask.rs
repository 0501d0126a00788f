//! One question or proposal, from its first attempt to its answer or its deadline.
//!
//! Pauses between turns only, or where a node has enough to do. A group in which no node could name a leader for longer than
//! elections take is given up before the deadline, and while that lasts every further question makes one turn only:
//! callers on the wrong side of a partition hear so at once.

use super::{
    Inner,
    attempt::{Ask, Tried, attempt},
    turn::{Next, Turn},
};
use crate::MetadataError;
use ashlar_runtime::RngExt;
use ashlar_types::{GroupId, NodeId};
use std::{sync::Arc, time::Duration};

/// An attempt without an answer is given up for the next replica: longer than an election, so that it is rarely in
/// vain.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);
/// Pause between attempts: random in this range, so that many callers do not come in step.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl Inner {
    /// Cancel-safe for queries; a dropped proposal may or may not be applied.
    pub(super) async fn ask<A: Ask>(
        &self,
        group: GroupId,
        ask: A,
        limit: Duration,
    ) -> Result<A::Answer, MetadataError> {
        let clock = &self.env().clock;
        let deadline = clock.monotonic() + limit;
        let mut turn = self.turn::<A>(group);
        let mut maybe_done = false;
        let mut reason = "no node of the group is known";
        loop {
            let now = clock.monotonic();
            if now >= deadline {
                break;
            }
            let mut next = Next::Over;
            if let Some(target) = turn.next() {
                let left = (deadline - now).min(ATTEMPT_LIMIT);
                let leader = match attempt(&ask, &self.node, group, target, left).await {
                    Tried::Done { value, write_epoch } => {
                        self.answered::<A>(group, target, write_epoch);
                        return Ok(value);
                    }
                    Tried::NotLeader(leader) => {
                        reason = "the group has no leader";
                        leader
                    }
                    Tried::NotSent => {
                        reason = "the group's leader cannot be reached";
                        None
                    }
                    Tried::Busy => {
                        // Nobody else would do instead.
                        reason = "the group is overloaded";
                        self.pause(deadline).await;
                        turn = self.turn::<A>(group);
                        continue;
                    }
                    Tried::Unknown => {
                        reason = "the group's leader does not answer";
                        maybe_done = true;
                        None
                    }
                    Tried::Malformed => return Err(MetadataError::Failed("a reply could not be read")),
                };
                next = turn.missed(target, leader);
                self.learn(group, |known| known.leader = leader.filter(|leader| *leader != target));
            }
            if next != Next::Over {
                continue;
            }
            if self.given_up(group) {
                break;
            }
            self.pause(deadline).await;
            turn = self.turn::<A>(group);
        }
        Err(if maybe_done && A::CHANGES {
            MetadataError::Ambiguous { group }
        } else {
            MetadataError::Unavailable { group, reason }
        })
    }

    async fn pause(&self, deadline: Duration) {
        let clock = &self.env().clock;
        let spread = u64::try_from((PAUSE_MAX - PAUSE_MIN).as_millis()).unwrap_or(0);
        let pause = PAUSE_MIN + Duration::from_millis(self.env().rng.below(spread));
        clock.sleep(pause.min(deadline.saturating_sub(clock.monotonic()))).await;
    }

    /// Proposals go to the leader, and to voters to ask for it; queries to this node's own replica, and to any other.
    fn turn<A: Ask>(&self, group: GroupId) -> Turn {
        let map = Arc::clone(&self.map.borrow());
        let Some(replicas) = map.groups.get(&group) else { return Turn::default() };
        let learners = if A::CHANGES { &[][..] } else { &replicas.learners };
        let nodes: Vec<NodeId> = replicas.voters.iter().chain(learners).map(|replica| replica.node).collect();
        let here = self.node.node().filter(|_| !A::CHANGES && self.node.replica(group).is_some());
        let first = here.or(self.known(group).leader);
        let place = self.env().rng.below(nodes.len().max(1) as u64);
        Turn::new(first, nodes, usize::try_from(place).unwrap_or(0))
    }

    /// Notes a turn without an answer. `true`: such turns go on for longer than a group takes to elect a leader.
    fn given_up(&self, group: GroupId) -> bool {
        let now = self.env().clock.monotonic();
        let mut since = now;
        self.learn(group, |known| since = *known.silent_since.get_or_insert(now));
        now.saturating_sub(since) >= self.node.patience()
    }
}
