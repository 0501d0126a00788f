//! Which nodes vote in which metadata group.
//!
//! Owns the choice of nodes; incarnations, learners and the order of membership changes are the controller's.

use crate::{
    load::mix,
    map::{ClusterMap, Domain, NodeState},
};
use ashlar_types::{FailureDomain, GroupId, NodeId};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// More voters cost every commit more than they add.
const VOTERS_MAX: usize = 7;

/// What a cluster of so many domains affords, however little parity its data has.
const VOTERS_OF_FIVE_DOMAINS: usize = 5;

/// Voters of a metadata group: min(2m + 1, 7, largest odd number of domains), so that metadata survives what
/// data survives; at least 5 where there are 5 domains. One node always votes.
pub fn voter_count(m: u8, domains: usize) -> usize {
    let largest_odd = if domains.is_multiple_of(2) { domains.saturating_sub(1) } else { domains };
    let floor = if domains >= VOTERS_OF_FIVE_DOMAINS { VOTERS_OF_FIVE_DOMAINS } else { 1 };
    (2 * usize::from(m) + 1).max(floor).min(VOTERS_MAX).min(largest_odd.max(1))
}

/// How many domains there are to vote: those of the default profile's level with a node that is not given up. Nodes
/// of a cluster whose drives are the domains, because voters are nodes. A draining node counts until it is out: a
/// group must not become smaller while nobody has taken its votes.
pub fn voter_domains(map: &ClusterMap) -> usize {
    let members = map.nodes.iter().filter(|(_, node)| node.state != NodeState::Out);
    members.map(|(id, _)| domain(map, *id)).collect::<BTreeSet<_>>().len()
}

/// Voters for each of `groups`, as many as `count` and the member nodes allow, in the order of node ids. Few of
/// a group share a domain, nodes vote in equally many groups, and voters that exist stay unless one of the two
/// asks for a change. A draining node keeps its vote only where no member can take it.
pub fn plan_voters(map: &ClusterMap, groups: &[GroupId], count: usize) -> BTreeMap<GroupId, Vec<NodeId>> {
    let mut ballot = Ballot::new(map, groups);
    let groups: BTreeSet<GroupId> = groups.iter().copied().collect();
    for group in &groups {
        ballot.shrink(*group, count);
    }
    for group in &groups {
        ballot.fill(*group, count);
    }
    for group in &groups {
        ballot.spread(*group);
    }
    ballot.balance();
    ballot.voters.into_iter().map(|(group, nodes)| (group, nodes.into_iter().collect())).collect()
}

/// The domain of a node among voters.
fn domain(map: &ClusterMap, id: NodeId) -> Domain {
    let profile = map.default_profile.and_then(|id| map.profiles.get(&id));
    let label =
        map.nodes.get(&id).map_or("", |node| match profile.map_or(FailureDomain::Node, |p| p.domain) {
            FailureDomain::Drive | FailureDomain::Node => "",
            FailureDomain::Rack => &node.labels.rack,
            FailureDomain::Zone => &node.labels.zone,
        });
    if label.is_empty() { Domain::Node(id) } else { Domain::Label(label.to_owned()) }
}

struct Ballot {
    members: BTreeMap<NodeId, Domain>,
    /// Nodes that vote today and may not in the future.
    leaving: BTreeMap<NodeId, Domain>,
    voters: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// As the map has them.
    present: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// Votes of each member in all groups, also those that are not planned here.
    votes: BTreeMap<NodeId, usize>,
}

impl Ballot {
    fn new(map: &ClusterMap, groups: &[GroupId]) -> Self {
        let in_state = |state: NodeState| {
            let nodes = map.nodes.iter().filter(move |(_, node)| node.state == state);
            nodes.map(|(id, _)| (*id, domain(map, *id))).collect::<BTreeMap<_, _>>()
        };
        let (members, leaving) = (in_state(NodeState::Member), in_state(NodeState::Draining));
        let alive = |id: &NodeId| members.contains_key(id) || leaving.contains_key(id);
        let voters: BTreeMap<GroupId, BTreeSet<NodeId>> = groups
            .iter()
            .map(|group| {
                let present = map.groups.get(group).map_or(&[][..], |group| &group.voters);
                (*group, present.iter().map(|replica| replica.node).filter(alive).collect())
            })
            .collect();
        let elsewhere = map.groups.iter().filter(|(group, _)| !voters.contains_key(group));
        let mut votes: BTreeMap<NodeId, usize> = members.keys().map(|id| (*id, 0)).collect();
        let all = elsewhere
            .flat_map(|(_, group)| group.voters.iter().map(|replica| &replica.node))
            .chain(voters.values().flatten());
        for node in all {
            if let Some(count) = votes.get_mut(node) {
                *count += 1;
            }
        }
        Self { members, leaving, present: voters.clone(), voters, votes }
    }

    fn votes(&self, node: NodeId) -> usize {
        self.votes.get(&node).copied().unwrap_or_default()
    }

    /// Voters of a group in the domain of `node`, but for itself.
    fn crowding(&self, group: GroupId, node: NodeId) -> usize {
        let domain = |id: &NodeId| self.members.get(id).or_else(|| self.leaving.get(id));
        let own = domain(&node);
        self.voters[&group].iter().filter(|voter| **voter != node && domain(voter) == own).count()
    }

    fn add(&mut self, group: GroupId, node: NodeId) {
        self.voters.entry(group).or_default().insert(node);
        if let Some(votes) = self.votes.get_mut(&node) {
            *votes += 1;
        }
    }

    fn remove(&mut self, group: GroupId, node: NodeId) {
        self.voters.entry(group).or_default().remove(&node);
        if let Some(votes) = self.votes.get_mut(&node) {
            *votes -= 1;
        }
    }

    /// The member that suits a group best and is not in it: crowding, votes, then a fixed turn of the nodes.
    fn candidate(&self, group: GroupId) -> Option<NodeId> {
        let outside = self.members.keys().copied().filter(|node| !self.voters[&group].contains(node));
        outside.min_by_key(|node| {
            let turn = mix(u64::from(node.0), u64::from(group.0));
            (self.crowding(group, *node), self.votes(*node), turn)
        })
    }

    /// Drops voters that are too many: leaving ones, then crowded ones, then busy ones.
    fn shrink(&mut self, group: GroupId, count: usize) {
        while self.voters[&group].len() > count {
            let worst = self.voters[&group].iter().copied().max_by_key(|node| {
                (self.leaving.contains_key(node), self.crowding(group, *node), self.votes(*node), *node)
            });
            let Some(worst) = worst else { return };
            self.remove(group, worst);
        }
    }

    /// Adds members up to `count`, and puts members in the place of leaving voters.
    fn fill(&mut self, group: GroupId, count: usize) {
        while let Some(candidate) = self.candidate(group) {
            if self.voters[&group].len() >= count {
                let leaving =
                    self.voters[&group].iter().copied().find(|node| self.leaving.contains_key(node));
                let Some(leaving) = leaving else { return };
                self.remove(group, leaving);
            }
            self.add(group, candidate);
        }
    }

    /// Exchanges voters that share a domain although another domain has fewer.
    fn spread(&mut self, group: GroupId) {
        while let (Some(candidate), Some(worst)) = (self.candidate(group), self.most_crowded(group)) {
            if self.crowding(group, candidate) >= self.crowding(group, worst) {
                return;
            }
            self.remove(group, worst);
            self.add(group, candidate);
        }
    }

    fn most_crowded(&self, group: GroupId) -> Option<NodeId> {
        let voters = self.voters[&group].iter().copied();
        voters.max_by_key(|node| (self.crowding(group, *node), self.votes(*node), *node))
    }

    /// Exchanges voters of busy nodes for idle ones, where that crowds no domain, until votes differ by one.
    fn balance(&mut self) {
        while let Some((group, from, to)) = self.exchange() {
            self.remove(group, from);
            self.add(group, to);
        }
    }

    /// The busiest node that can give a vote to the idlest that can take it, if they differ by two or more.
    fn exchange(&self) -> Option<(GroupId, NodeId, NodeId)> {
        let mut by_votes: Vec<(usize, NodeId)> =
            self.votes.iter().map(|(node, votes)| (*votes, *node)).collect();
        by_votes.sort_unstable();
        for (most, from) in by_votes.iter().rev() {
            for (_, to) in by_votes.iter().take_while(|(votes, _)| votes + 2 <= *most) {
                let gives = |group: &GroupId| {
                    let voters = &self.voters[group];
                    voters.contains(from)
                        && !voters.contains(to)
                        && self.crowding_instead(*group, *to, *from) <= self.crowding(*group, *from)
                };
                // A vote that is given anew anyway may as well go elsewhere.
                let new = |group: &GroupId| !self.present[group].contains(from);
                let group =
                    self.voters.keys().copied().filter(gives).max_by_key(|id| (new(id), Reverse(*id)));
                if let Some(group) = group {
                    return Some((group, *from, *to));
                }
            }
        }
        None
    }

    /// The crowding of `node` once `instead_of` has left.
    fn crowding_instead(&self, group: GroupId, node: NodeId, instead_of: NodeId) -> usize {
        let shared = self.members.get(&node) == self.members.get(&instead_of);
        self.crowding(group, node) - usize::from(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Group,
        testing::{PROFILE, cluster, node},
    };
    use ashlar_types::{Incarnation, Profile, ReplicaId};
    use proptest::prelude::*;

    fn groups(count: u32) -> Vec<GroupId> {
        (0..=count).map(GroupId).collect()
    }

    fn voting(mut map: ClusterMap, plan: &BTreeMap<GroupId, Vec<NodeId>>) -> ClusterMap {
        for (group, nodes) in plan {
            let voters =
                nodes.iter().map(|node| ReplicaId { node: *node, incarnation: Incarnation(1) }).collect();
            map.groups.insert(*group, Group { voters, learners: vec![] });
        }
        map
    }

    fn votes(map: &ClusterMap, plan: &BTreeMap<GroupId, Vec<NodeId>>) -> Vec<usize> {
        let members = map.nodes.iter().filter(|(_, node)| node.state == NodeState::Member);
        members.map(|(id, _)| plan.values().flatten().filter(|node| *node == id).count()).collect()
    }

    fn assert_even(map: &ClusterMap, plan: &BTreeMap<GroupId, Vec<NodeId>>) {
        let votes = votes(map, plan);
        let (least, most) = (votes.iter().min().unwrap(), votes.iter().max().unwrap());
        assert!(most - least <= 1, "{votes:?}");
    }

    fn changes(before: &BTreeMap<GroupId, Vec<NodeId>>, after: &BTreeMap<GroupId, Vec<NodeId>>) -> usize {
        after
            .iter()
            .map(|(group, nodes)| nodes.iter().filter(|node| !before[group].contains(node)).count())
            .sum()
    }

    #[test]
    fn metadata_survives_what_data_survives() {
        let table = [
            (0, 1, 1),
            (1, 1, 1),
            (1, 2, 1),
            (2, 2, 1),
            (1, 3, 3),
            (2, 3, 3),
            (2, 4, 3),
            (2, 5, 5),
            (1, 5, 5),
            (2, 6, 5),
            (2, 8, 5),
            (3, 9, 7),
            (3, 7, 7),
            (3, 6, 5),
            (4, 12, 7),
            (4, 1000, 7),
            (2, 0, 1),
        ];
        for (m, domains, voters) in table {
            assert_eq!(voter_count(m, domains), voters, "m {m}, {domains} domains");
        }
    }

    proptest! {
        #[test]
        fn votes_are_spread_evenly_and_stay_when_planned_again(
            nodes in 1_usize..14, count in 0_u32..40, m in 0_u8..5,
        ) {
            let map = cluster(nodes, 2);
            let voters = voter_count(m, voter_domains(&map));
            let plan = plan_voters(&map, &groups(count), voters);
            prop_assert!(plan.values().all(|nodes| nodes.len() == voters));
            assert_even(&map, &plan);
            let settled = voting(map.clone(), &plan);
            prop_assert_eq!(plan_voters(&settled, &groups(count), voters), plan);
        }
    }

    #[test]
    fn a_lost_node_changes_little_beside_its_own_votes() {
        for (lost, count) in (1..=7).flat_map(|lost| (1..30).map(move |count| (lost, count))) {
            let map = cluster(7, 2);
            let before = plan_voters(&map, &groups(count), 5);
            let mut map = voting(map, &before);
            map.nodes.get_mut(&NodeId(lost)).unwrap().state = NodeState::Out;
            let after = plan_voters(&map, &groups(count), 5);
            let lost_votes = before.values().flatten().filter(|node| node.0 == lost).count();
            assert_even(&map, &after);
            assert!(after.values().all(|nodes| nodes.len() == 5 && !nodes.contains(&NodeId(lost))));
            let changed = changes(&before, &after);
            assert!((lost_votes..=lost_votes + 3).contains(&changed), "{changed} for {lost_votes}");
        }
    }

    #[test]
    fn voters_grow_with_the_cluster_and_the_first_stays() {
        let mut map = cluster(1, 2);
        let first = plan_voters(&map, &groups(8), 1);
        assert!(first.values().all(|nodes| nodes == &[NodeId(1)]));
        map = voting(map, &first);
        for id in 2..=5 {
            map.nodes.insert(NodeId(id), node(id, ""));
        }
        let five = plan_voters(&map, &groups(8), voter_count(2, voter_domains(&map)));
        assert!(five.values().all(|nodes| nodes.len() == 5));
    }

    #[test]
    fn voters_of_a_group_sit_in_different_racks() {
        let mut map = cluster(9, 2);
        for (id, node) in &mut map.nodes {
            node.labels.rack = format!("rack {}", id.0.div_ceil(3));
        }
        map.profiles.insert(PROFILE, Profile::new(4, 2, FailureDomain::Rack).unwrap());
        map.default_profile = Some(PROFILE);
        assert_eq!(voter_domains(&map), 3);
        let crowded = groups(6).into_iter().map(|group| (group, [1, 2, 3].map(NodeId).to_vec())).collect();
        let plan = plan_voters(&voting(map.clone(), &crowded), &groups(6), 3);
        for nodes in plan.values() {
            let racks: BTreeSet<&str> = nodes.iter().map(|id| map.nodes[id].labels.rack.as_str()).collect();
            assert_eq!(racks.len(), 3, "{nodes:?}");
        }
        assert_even(&map, &plan);
    }

    #[test]
    fn a_draining_node_votes_only_while_nobody_can_take_its_place() {
        let map = cluster(3, 2);
        let before = plan_voters(&map, &groups(3), 3);
        let mut map = voting(map, &before);
        map.nodes.get_mut(&NodeId(2)).unwrap().state = NodeState::Draining;
        assert_eq!(plan_voters(&map, &groups(3), 3), before);
        map.nodes.insert(NodeId(4), node(4, ""));
        let after = plan_voters(&map, &groups(3), 3);
        assert!(after.values().all(|nodes| nodes == &[1, 3, 4].map(NodeId)));
    }
}
