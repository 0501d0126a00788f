//! Which replicas the map should list: a pure function of the map and of what the nodes said.
//!
//! Owns the rules; does not propose anything, and does not know how Raft members follow the map (see `reconcile`).
//!
//! Rules, each of which keeps a group from losing what it promised:
//!  - nothing is changed in a group whose leader is not known: it could not follow, and a group that has not begun must
//!    not be begun by someone else;
//!  - a replica whose log or vote is damaged or gone is replaced by a new incarnation on its node; an incarnation is
//!    numbered by the map that lists it first, so none is ever given twice;
//!  - voters move only when every node in service is heard of or was given up, so that a short silence moves nothing;
//!  - a group whose members have not followed the map yet is left alone, unless what it waits for is dead;
//!  - a voter that is dead stays until there is a node to take its vote.

use super::views::Views;
use crate::raft::status::{Condition, GroupStatus};
use ashlar_placement::{ClusterMap, Group, NodeState, Phase, plan_voters, voter_count, voter_domains};
use ashlar_types::{GroupId, Incarnation, MapEpoch, NodeId, ReplicaId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Groups whose voters move at a time: each new replica is sent everything its group holds.
const MOVES_AT_ONCE: usize = 4;

/// When a silent node counts for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A node silent for so long is not given anything new.
    pub(crate) down: Duration,
    /// A voter whose node is silent for so long, or cannot serve its replicas, is replaced.
    pub(crate) dead: Duration,
}

/// One step of what the map lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MapChange {
    /// The same node, with nothing but its place.
    Reincarnate {
        group: GroupId,
        old: ReplicaId,
        new: ReplicaId,
    },
    SetVoters {
        group: GroupId,
        voters: Vec<ReplicaId>,
    },
    /// Group 0 only: every node follows it.
    AddLearner {
        group: GroupId,
        learner: ReplicaId,
    },
    /// Of a node that the map does not know any more.
    RemoveLearner {
        group: GroupId,
        learner: ReplicaId,
    },
}

pub(crate) fn plan(map: &ClusterMap, views: &Views, now: Duration, patience: Patience) -> Vec<MapChange> {
    let planner = Planner { map, views, now, patience, incarnation: next_incarnation(map) };
    let mut changes = planner.damaged();
    changes.extend(planner.learners());
    // Members first become sound, then move: one kind of change to a group at a time.
    if changes.is_empty() && map.phase == Phase::Ready {
        changes.extend(planner.voters());
    }
    changes
}

/// The map that follows from these changes.
pub(crate) fn changed(map: &ClusterMap, changes: &[MapChange]) -> ClusterMap {
    let mut next = map.clone();
    next.epoch = MapEpoch(map.epoch.0 + 1);
    for change in changes {
        match change {
            MapChange::Reincarnate { group, old, new } => {
                let Some(group) = next.groups.get_mut(group) else { continue };
                let listed = group.voters.iter_mut().chain(&mut group.learners);
                listed.filter(|replica| *replica == old).for_each(|replica| *replica = *new);
            }
            MapChange::SetVoters { group, voters } => {
                let system = *group == GroupId::SYSTEM;
                let Some(group) = next.groups.get_mut(group) else { continue };
                let left = group.voters.iter().filter(|old| !voters.contains(old)).copied();
                let mut learners: Vec<ReplicaId> = if system { left.collect() } else { Vec::new() };
                learners.extend(group.learners.iter().filter(|id| !voters.contains(id)));
                *group = Group { voters: voters.clone(), learners };
            }
            MapChange::AddLearner { group, learner } => {
                let Some(group) = next.groups.get_mut(group) else { continue };
                group.learners.push(*learner);
            }
            MapChange::RemoveLearner { group, learner } => {
                let Some(group) = next.groups.get_mut(group) else { continue };
                group.learners.retain(|known| known != learner);
            }
        }
    }
    next
}

/// The map's next epoch: higher than that of any map that has listed a replica.
fn next_incarnation(map: &ClusterMap) -> Incarnation {
    Incarnation(u32::try_from(map.epoch.0 + 1).unwrap_or(u32::MAX))
}

struct Planner<'a> {
    map: &'a ClusterMap,
    views: &'a Views,
    now: Duration,
    patience: Patience,
    incarnation: Incarnation,
}

impl Planner<'_> {
    fn new_replica(&self, node: NodeId) -> ReplicaId {
        ReplicaId { node, incarnation: self.incarnation }
    }

    fn leader(&self, group: GroupId) -> Option<(NodeId, &GroupStatus)> {
        self.views.leader(group, self.now, self.patience.down)
    }

    fn is_dead(&self, node: NodeId) -> bool {
        let useless = self.views.silence(node, self.now).max(self.views.failing(node, self.now));
        useless >= self.patience.dead
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.views.has_heard(node)
            && self.views.silence(node, self.now) < self.patience.down
            && self.views.failing(node, self.now).is_zero()
    }

    fn damaged(&self) -> Vec<MapChange> {
        let led = self.map.groups.iter().filter(|(id, _)| self.leader(**id).is_some());
        led.flat_map(|(id, group)| group.voters.iter().chain(&group.learners).map(move |old| (*id, *old)))
            .filter(|(id, old)| {
                self.views
                    .replica(old.node, *id)
                    .is_some_and(|status| status.replica == *old && status.condition == Condition::Damaged)
            })
            .map(|(group, old)| MapChange::Reincarnate { group, old, new: self.new_replica(old.node) })
            .collect()
    }

    fn learners(&self) -> Vec<MapChange> {
        let group = GroupId::SYSTEM;
        let Some(system) = self.map.groups.get(&group) else { return Vec::new() };
        let listed: BTreeSet<NodeId> =
            system.voters.iter().chain(&system.learners).map(|replica| replica.node).collect();
        let serving = self.map.nodes.iter().filter(|(_, node)| node.state != NodeState::Out);
        let missing = serving.map(|(id, _)| *id).filter(|id| !listed.contains(id));
        let gone = system.learners.iter().filter(|learner| !self.map.nodes.contains_key(&learner.node));
        missing
            .map(|node| MapChange::AddLearner { group, learner: self.new_replica(node) })
            .chain(gone.map(|learner| MapChange::RemoveLearner { group, learner: *learner }))
            .collect()
    }

    fn voters(&self) -> Vec<MapChange> {
        let serving = || self.map.nodes.iter().filter(|(_, node)| node.state != NodeState::Out);
        if !serving().all(|(id, _)| self.is_up(*id) || self.is_dead(*id)) {
            return Vec::new();
        }
        let Some(m) = self.map.default_profile.and_then(|id| self.map.profiles.get(&id)).map(|p| p.m())
        else {
            return Vec::new();
        };
        // Counted with those that are dead: losing a node must not make the group smaller.
        let count = voter_count(m, voter_domains(self.map));
        let mut living = self.map.clone();
        for (id, node) in &mut living.nodes {
            if node.state == NodeState::Member && self.is_dead(*id) {
                node.state = NodeState::Draining;
            }
        }
        let groups: Vec<GroupId> = self.map.groups.keys().copied().collect();
        let wanted = plan_voters(&living, &groups, count);
        let mut moving = groups.iter().filter(|id| !self.is_settled(**id)).count();
        let mut changes = Vec::new();
        for (group, nodes) in wanted {
            let known = &self.map.groups[&group];
            let present: BTreeSet<NodeId> = known.voters.iter().map(|voter| voter.node).collect();
            let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
            if nodes == present || nodes.is_empty() || self.leader(group).is_none() {
                continue;
            }
            let settled = self.is_settled(group);
            if !settled && !known.voters.iter().any(|voter| self.is_lost(voter.node)) {
                continue;
            }
            if settled {
                if moving >= MOVES_AT_ONCE {
                    continue;
                }
                moving += 1;
            }
            // Those that stay keep their order, and the first its place.
            let stay = known.voters.iter().filter(|voter| nodes.contains(&voter.node)).copied();
            let come = nodes.difference(&present).map(|node| self.place(group, *node));
            let voters = stay.chain(come).collect();
            changes.push(MapChange::SetVoters { group, voters });
        }
        changes
    }

    /// A voter there need not be waited for.
    fn is_lost(&self, node: NodeId) -> bool {
        let out = self.map.nodes.get(&node).is_none_or(|node| node.state == NodeState::Out);
        out || self.is_dead(node)
    }

    /// The replica that a node brings: the sound one that follows the group already, or a new one.
    fn place(&self, group: GroupId, node: NodeId) -> ReplicaId {
        let learners = self.map.groups.get(&group).map_or(&[][..], |group| &group.learners);
        let member = self.leader(group).and_then(|(_, leader)| {
            let members = leader.voters.iter().chain(&leader.learners);
            members.copied().filter(|id| id.node == node).max()
        });
        let listed = learners.iter().find(|learner| learner.node == node).copied();
        let known = listed.or(member.filter(|member| self.views.is_sound(*member, group)));
        known.unwrap_or_else(|| self.new_replica(node))
    }

    /// Whether the members of a group are those that the map lists.
    fn is_settled(&self, id: GroupId) -> bool {
        let (Some(group), Some((_, leader))) = (self.map.groups.get(&id), self.leader(id)) else {
            return false;
        };
        let set = |replicas: &[ReplicaId]| replicas.iter().copied().collect::<BTreeSet<_>>();
        !leader.changing
            && set(&leader.voters) == set(&group.voters)
            && set(&leader.learners) == set(&group.learners)
    }
}

/// What changes in each group: for the log.
pub(crate) fn summary(changes: &[MapChange]) -> BTreeMap<GroupId, String> {
    let id = |replica: &ReplicaId| format!("{}.{}", replica.node, replica.incarnation);
    changes
        .iter()
        .map(|change| match change {
            MapChange::Reincarnate { group, old, new } => {
                (*group, format!("replica {} is damaged; {} takes its place", id(old), id(new)))
            }
            MapChange::SetVoters { group, voters } => {
                let voters: Vec<String> = voters.iter().map(id).collect();
                (*group, format!("voters become {}", voters.join(" ")))
            }
            MapChange::AddLearner { group, learner } => {
                (*group, format!("{} becomes a learner", id(learner)))
            }
            MapChange::RemoveLearner { group, learner } => (*group, format!("{} leaves", id(learner))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
