//! Makes replicas and Raft members what the map says: after every new map, and from time to time.
//!
//! Every node opens the replicas that the map gives it. The first listed voter of a group that has not begun begins
//! it, once all its voters are there and none of them knows otherwise. A replica that the others remember as a voter but
//! that has no files here is not made again: it forgot what it promised. Each leader moves its group's members towards
//! the map, one step a pass, raises the write epoch when it is due, and hands over to the voter that should lead. All of it may be done again at any time.

use super::{MetadataNode, chain};
use crate::{
    calls::{self, Address},
    command::Command,
    encoding::decode,
    raft::replica::{Replica, ReplicaError},
};
use ashlar_placement::{ClusterMap, Group, NodeState};
use ashlar_runtime::ClockExt;
use ashlar_types::{GroupId, NodeId, ReplicaId};
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};
use tonic::Code;

const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// A change of members that takes longer has lost its quorum or its leadership; the next pass looks again.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Of each group led here.
type Tenures = BTreeMap<GroupId, Tenure>;

/// When a leader last did what it does from time to time, by the monotonic clock. It begins with its election: a new
/// leader waits a whole interval.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    epoch: Duration,
    balance: Duration,
}

/// Runs until the node stops or is gone.
pub(super) async fn run(node: Weak<MetadataNode>) {
    let Some((env, mut stopping, mut map, interval)) = node.upgrade().map(|node| {
        let interval = node.config.reconcile_interval;
        (node.shared.env.clone(), node.stopping.subscribe(), node.map.subscribe(), interval)
    }) else {
        return;
    };
    let mut tenures = Tenures::new();
    loop {
        let known = Arc::clone(&map.borrow_and_update());
        let Some(node) = node.upgrade() else { return };
        let mut stop = stopping.clone();
        tokio::select! {
            () = pass(&node, &known, &mut tenures) => {}
            () = async move { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        drop(node);
        tokio::select! {
            () = env.clock.sleep(interval) => {}
            changed = map.changed() => if changed.is_err() { return },
            _ = stopping.changed() => return,
        }
    }
}

async fn pass(node: &MetadataNode, map: &ClusterMap, tenures: &mut Tenures) {
    let Some(me) = node.node() else { return };
    let mut led = Vec::new();
    for (id, group) in &map.groups {
        let Some(mine) = listed(group, me) else { continue };
        match node.ensure(map, *id, mine).await {
            Ok(()) => {}
            Err(error @ ReplicaError::NotSure) => {
                tracing::info!(group = %id, error = %chain(&error), "a metadata replica is not made yet");
            }
            Err(error) => {
                tracing::error!(group = %id, error = %chain(&error), "a metadata replica cannot be made");
            }
        }
        if let Some(replica) = node.replica(*id) {
            led.push((replica, group));
        }
    }
    let now = node.shared.env.clock.monotonic();
    let passes = led.into_iter().map(|(replica, group)| {
        let tenure = tenures.get(&replica.group).copied();
        async move {
            if group.voters.first() == Some(&replica.id) {
                begin(node, map, &replica, group).await;
            }
            change_members(node, &replica, group).await;
            if !replica.leads() {
                return None;
            }
            let mut tenure = tenure.unwrap_or(Tenure { epoch: now, balance: now });
            advance_epoch(node, &replica, now, &mut tenure.epoch).await;
            balance(node, map, &replica, group, now, &mut tenure.balance).await;
            Some((replica.group, tenure))
        }
    });
    *tenures = join_all(passes).await.into_iter().flatten().collect();
}

fn listed(group: &Group, node: NodeId) -> Option<ReplicaId> {
    group.voters.iter().chain(&group.learners).find(|replica| replica.node == node).copied()
}

async fn begin(node: &MetadataNode, map: &ClusterMap, replica: &Replica, group: &Group) {
    if replica.is_initialized().await {
        return;
    }
    for voter in group.voters.iter().filter(|voter| **voter != replica.id) {
        match probe(node, map, replica.group, *voter, replica.id).await {
            Probed::Replica { initialized: false, .. } => {}
            // If it has begun, it did without us, and its leader will come.
            Probed::Replica { initialized: true, .. } | Probed::NoReplica | Probed::Unreachable => return,
        }
    }
    match replica.initialize(&group.voters).await {
        Ok(()) => {
            tracing::info!(group = %replica.group, voters = group.voters.len(), "began a metadata group")
        }
        Err(error) => tracing::warn!(group = %replica.group, error, "a metadata group could not be begun"),
    }
}

/// What a node says about its replica of a group.
enum Probed {
    Replica { initialized: bool, asker_votes: bool },
    NoReplica,
    Unreachable,
}

async fn probe(
    node: &MetadataNode,
    map: &ClusterMap,
    group: GroupId,
    target: ReplicaId,
    asker: ReplicaId,
) -> Probed {
    let Some(address) = map.nodes.get(&target.node).map(|node| &node.rpc) else { return Probed::Unreachable };
    let question = Address { group, raft_id: target.raft_id() }.with(&asker.raft_id());
    match node.shared.peers.call(address, calls::PROBE, question, PROBE_LIMIT).await {
        Ok(reply) => match decode(&reply) {
            Ok(calls::Probed { initialized, asker_votes }) => Probed::Replica { initialized, asker_votes },
            Err(_) => Probed::Unreachable,
        },
        Err(status) if status.code() == Code::NotFound => Probed::NoReplica,
        Err(_) => Probed::Unreachable,
    }
}

/// What the other replicas of a group remember of one that has no files here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    None,
    /// It is a voter, so it has had a log and a vote.
    Voted,
    Unknown,
}

/// Members that took effect are known to a majority of their voters, the asker perhaps among them: whoever asks so
/// many of the others that no such majority is left out, has asked one that knows.
pub(super) async fn history(
    node: &MetadataNode,
    map: &ClusterMap,
    group: GroupId,
    asker: ReplicaId,
) -> History {
    let voters = map.groups.get(&group).map_or(&[][..], |group| &group.voters);
    let others: Vec<ReplicaId> = voters.iter().filter(|voter| **voter != asker).copied().collect();
    let enough = (voters.len() - voters.len() / 2).min(others.len());
    let probes = others.iter().map(|other| probe(node, map, group, *other, asker));
    let mut answers = 0;
    for probed in join_all(probes).await {
        match probed {
            Probed::Replica { asker_votes: true, .. } => return History::Voted,
            Probed::Replica { asker_votes: false, .. } | Probed::NoReplica => answers += 1,
            Probed::Unreachable => {}
        }
    }
    if answers >= enough { History::None } else { History::Unknown }
}

async fn change_members(node: &MetadataNode, replica: &Replica, group: &Group) {
    let ids = |replicas: &[ReplicaId]| replicas.iter().map(|id| id.raft_id()).collect::<BTreeSet<_>>();
    let Some(change) = replica.next_change(&ids(&group.voters), &ids(&group.learners)) else { return };
    let changing = replica.change_members(change.clone());
    match node.shared.env.clock.timeout(CHANGE_LIMIT, changing).await {
        Ok(Ok(())) => {
            tracing::info!(group = %replica.group, ?change, "changed the members of a metadata group")
        }
        Ok(Err(error)) => {
            tracing::info!(group = %replica.group, ?change, error, "members are not changed yet")
        }
        Err(_) => tracing::warn!(group = %replica.group, ?change, "a change of members takes long"),
    }
}

/// Requests of the old epoch stay welcome far longer than the interval.
async fn advance_epoch(node: &MetadataNode, replica: &Replica, now: Duration, last: &mut Duration) {
    if now.saturating_sub(*last) < node.config.write_epoch {
        return;
    }
    let from = replica.state().group_state().write_epoch;
    let proposing = replica.propose(None, Command::AdvanceWriteEpoch { from });
    // Without an outcome the next pass tries again.
    if let Ok(Ok(_)) = node.shared.env.clock.timeout(CHANGE_LIMIT, proposing).await {
        *last = now;
    }
}

/// Hands the group over to the first listed voter on a node in service, so that the order in the map spreads leaders.
async fn balance(
    node: &MetadataNode,
    map: &ClusterMap,
    replica: &Replica,
    group: &Group,
    now: Duration,
    last: &mut Duration,
) {
    if now.saturating_sub(*last) < node.config.balance_interval {
        return;
    }
    *last = now;
    let in_service =
        |voter: &&ReplicaId| map.nodes.get(&voter.node).is_some_and(|node| node.state == NodeState::Member);
    if let Some(preferred) = group.voters.iter().find(in_service)
        && *preferred != replica.id
        && replica.hand_over(*preferred).await
    {
        tracing::info!(group = %replica.group, to = %preferred.node, "asked another voter to lead");
    }
}
