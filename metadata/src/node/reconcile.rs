//! Makes replicas and Raft members what the map says: after every new map, and from time to time.
//!
//! Every node opens the replicas that the map gives it. The first listed voter of a group that has not begun begins
//! it, once all its voters are there and none of them knows otherwise. A replica that the others remember as a voter but
//! that has no files here is not made again: it forgot what it promised. One that the map does not list any more ends when
//! the group's leader says that it is no member, not before: the group may still count on it. Each leader moves its
//! group's members towards the map, one step a pass, and raises the write epoch when it is due. A node without a replica of group 0
//! asks others for the map. All of it may be done again at any time.

use super::{
    MetadataNode, chain, files,
    peer::{Answer, Question, ask},
    reinstall,
};
use crate::{
    calls::{self, Address},
    command::Command,
    encoding::decode,
    raft::{
        replica::{Membership, Replica, ReplicaError},
        status::{Condition, Role},
    },
};
use ashlar_placement::{ClusterMap, Group};
use ashlar_runtime::{ClockExt, RngExt};
use ashlar_types::{GroupId, MapEpoch, NodeId, ReplicaId};
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

/// What is remembered from pass to pass.
#[derive(Default)]
struct Memory {
    tenures: BTreeMap<GroupId, Tenure>,
    /// Epoch of the map that is in the file.
    kept: MapEpoch,
}

/// When the leader of a group here last did what it does from time to time, by the monotonic clock. It begins with its
/// election: a new leader waits a whole interval.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    epoch: Duration,
}

/// Runs until the node stops or is gone.
pub(super) async fn run(node: Weak<MetadataNode>) {
    let Some((env, mut stopping, mut map, interval)) = node.upgrade().map(|node| {
        let interval = node.config.reconcile_interval;
        (node.shared.env.clone(), node.stopping.subscribe(), node.map.subscribe(), interval)
    }) else {
        return;
    };
    let mut memory = Memory::default();
    loop {
        let known = Arc::clone(&map.borrow_and_update());
        let Some(node) = node.upgrade() else { return };
        let mut stop = stopping.clone();
        tokio::select! {
            () = pass(&node, &known, &mut memory) => {}
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

async fn pass(node: &Arc<MetadataNode>, map: &Arc<ClusterMap>, memory: &mut Memory) {
    let Some(me) = node.node() else { return };
    keep_map(node, map, &mut memory.kept).await;
    hear_of_newer_map(node, map).await;
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
        let tenure = memory.tenures.get(&replica.group).copied();
        async move {
            if group.voters.first() == Some(&replica.id) {
                begin(node, map, &replica, group).await;
            }
            change_members(node, &replica, group).await;
            if !replica.leads() {
                return None;
            }
            let mut tenure = tenure.unwrap_or(Tenure { epoch: now });
            advance_epoch(node, &replica, now, &mut tenure.epoch).await;
            Some((replica.group, tenure))
        }
    });
    node.replicas().values().for_each(|replica| replica.tend());
    memory.tenures = join_all(passes).await.into_iter().flatten().collect();
    tend_closed(node).await;
    retire_unlisted(node, map, me).await;
}

/// Writes a new map to the file from which a node starts that lost its replica of group 0.
async fn keep_map(node: &MetadataNode, map: &Arc<ClusterMap>, kept: &mut MapEpoch) {
    if map.epoch <= *kept {
        return;
    }
    let (disk, root, map) = (Arc::clone(&node.shared.env.disk), node.config.dir.clone(), Arc::clone(map));
    let epoch = map.epoch;
    match node.shared.apply_pool.run(move || files::save_map(&*disk, &root, &map)).await {
        Ok(Ok(())) => *kept = epoch,
        Ok(Err(error)) => tracing::warn!(%error, "the cluster map could not be kept in a file"),
        // The node shuts down.
        Err(_) => {}
    }
}

/// A node whose replica of group 0 is not there asks another one, in turn at random.
async fn hear_of_newer_map(node: &Arc<MetadataNode>, map: &ClusterMap) {
    let open = node.replica(GroupId::SYSTEM);
    if open.is_some_and(|replica| replica.status().role != Role::Stopped) {
        return;
    }
    let others: Vec<NodeId> = map.nodes.keys().copied().filter(|id| Some(*id) != node.node()).collect();
    let Ok(count) = u64::try_from(others.len()) else { return };
    let place = usize::try_from(node.shared.env.rng.below(count)).ok();
    let Some(other) = place.and_then(|place| others.get(place)) else { return };
    let question = Question::Map { known: map.epoch };
    if let Some(Answer::Map(Some(newer))) = ask(node, map, *other, &question, PROBE_LIMIT).await
        && newer.cluster == map.cluster
    {
        node.set_map_hint(*newer);
    }
}

/// Goes on with what was begun.
async fn tend_closed(node: &Arc<MetadataNode>) {
    let closed = node.lock(&node.closed).clone();
    for (group, closed) in closed {
        if closed.condition == Condition::Reinstalling {
            reinstall::begin(node, group, closed.id, None).await;
        }
    }
}

/// Ends replicas here that the map does not list and whose groups do not count on them any more.
async fn retire_unlisted(node: &Arc<MetadataNode>, map: &ClusterMap, me: NodeId) {
    let open = node.replicas().values().map(|replica| (replica.group, replica.id)).collect::<Vec<_>>();
    let closed =
        node.lock(&node.closed).iter().map(|(group, closed)| (*group, closed.id)).collect::<Vec<_>>();
    for (id, replica) in open.into_iter().chain(closed) {
        let Some(group) = map.groups.get(&id) else { continue };
        if listed(group, me).is_some() || node.lock(&node.reinstalling).contains(&id) {
            continue;
        }
        let question = Question::Member { group: id, replica };
        let asked = group.voters.iter().map(|voter| ask(node, map, voter.node, &question, PROBE_LIMIT));
        let told = join_all(asked).await;
        if !told.contains(&Some(Answer::Member(Membership::NotMember))) {
            continue;
        }
        match node.retire(id, replica).await {
            Ok(()) => {
                tracing::info!(group = %id, incarnation = %replica.incarnation, "a metadata replica ended")
            }
            Err(error) => tracing::warn!(group = %id, %error, "a metadata replica could not be set aside"),
        }
    }
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
