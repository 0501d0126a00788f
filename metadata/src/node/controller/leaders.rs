//! Which groups should be led elsewhere: a pure function of the map and of what the nodes said.
//!
//! Leaders leave nodes that drain, whose disk is slow to flush, whose clock is off, or that are given up; the others are
//! spread so that no node leads two groups more than another that could take one.

use super::{plan::Patience, views::Views};
use crate::raft::status::{Condition, Role};
use ashlar_placement::{ClusterMap, NodeState};
use ashlar_types::{GroupId, NodeId, ReplicaId};
use std::{collections::BTreeMap, time::Duration};

/// A flush that takes less is fast enough, whatever the others do.
const SLOW_FLUSH_US: u64 = 50_000;
/// And one that takes so many times what the usual node takes is slow.
const SLOW_FACTOR: u64 = 4;
/// Entries that a new leader may lack when it is asked to take over.
const NEAR_ENTRIES: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    pub(crate) to: ReplicaId,
    /// The node should not lead at all; else it only leads too much.
    pub(crate) urgent: bool,
}

pub(crate) fn plan_leaders(
    map: &ClusterMap,
    views: &Views,
    now: Duration,
    patience: Patience,
) -> Vec<Transfer> {
    let leader = |group: GroupId| views.leader(group, now, patience.down);
    let fit = |node: NodeId| {
        let member = map.nodes.get(&node).is_some_and(|node| node.state == NodeState::Member);
        let up = views.has_heard(node) && views.silence(node, now) < patience.down;
        member && up && !is_slow(map, views, node) && !views.is_clock_off(node)
    };
    let mut leads: BTreeMap<NodeId, usize> =
        map.nodes.keys().filter(|node| fit(**node)).map(|node| (*node, 0)).collect();
    let mut leaders: BTreeMap<GroupId, NodeId> = BTreeMap::new();
    for group in map.groups.keys() {
        if let Some((node, _)) = leader(*group).filter(|(_, status)| !status.changing) {
            leaders.insert(*group, node);
            if let Some(count) = leads.get_mut(&node) {
                *count += 1;
            }
        }
    }
    let takers = |group: GroupId, not: NodeId| {
        let leader = leader(group).map(|(_, status)| status);
        let last = leader.and_then(|status| status.last_log);
        let voters = leader.map_or(&[][..], |status| &status.voters);
        voters.iter().copied().filter(move |voter| {
            voter.node != not
                && fit(voter.node)
                && views.replica(voter.node, group).is_some_and(|status| {
                    status.replica == *voter
                        && status.role == Role::Follower
                        && status.condition == Condition::Sound
                        && status.last_log.map(|index| index + NEAR_ENTRIES) >= last
                })
        })
    };
    let mut transfers = Vec::new();
    for (group, from) in leaders.clone() {
        if fit(from) {
            continue;
        }
        let to = takers(group, from).min_by_key(|to| (leads.get(&to.node).copied(), to.node));
        if let Some(to) = to {
            *leads.entry(to.node).or_default() += 1;
            leaders.insert(group, to.node);
            transfers.push(Transfer { group, from, to, urgent: true });
        }
    }
    // Each turn makes the counts more even, so this ends.
    while let Some(transfer) = leaders
        .iter()
        .filter(|(group, _)| transfers.iter().all(|transfer: &Transfer| transfer.group != **group))
        .filter_map(|(group, from)| {
            let most = leads.get(from).copied()?;
            let to = takers(*group, *from).min_by_key(|to| (leads.get(&to.node).copied(), to.node))?;
            let least = leads.get(&to.node).copied()?;
            (most >= least + 2)
                .then(|| (most - least, Transfer { group: *group, from: *from, to, urgent: false }))
        })
        .max_by_key(|(gap, transfer)| (*gap, transfer.group))
        .map(|(_, transfer)| transfer)
    {
        if let Some(count) = leads.get_mut(&transfer.from) {
            *count -= 1;
        }
        *leads.entry(transfer.to.node).or_default() += 1;
        leaders.insert(transfer.group, transfer.to.node);
        transfers.push(transfer);
    }
    transfers
}

/// Far slower than half of the others.
fn is_slow(map: &ClusterMap, views: &Views, node: NodeId) -> bool {
    let Some(own) = views.flush_us(node) else { return false };
    let mut others: Vec<u64> =
        map.nodes.keys().filter(|id| **id != node).filter_map(|id| views.flush_us(*id)).collect();
    others.sort_unstable();
    let usual = others.get(others.len() / 2);
    usual.is_some_and(|usual| own >= SLOW_FLUSH_US && own >= usual.saturating_mul(SLOW_FACTOR))
}

#[cfg(test)]
mod tests;
