//! Asks other nodes for their wall clocks, and hands groups over that are led by a node whose own clock is off.
//!
//! What is made of the clocks is decided in [`crate::raft::clock`]. One question a node and interval serves all groups.

use super::MetadataNode;
use crate::{
    calls,
    encoding::decode,
    metrics,
    raft::{clock::ClockSettings, replica::Replica},
};
use ashlar_runtime::ClockExt;
use ashlar_types::{GroupId, NodeId, Timestamp};
use bytes::Bytes;
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

/// An answer that takes longer says too little about when the clock was read.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// A group is handed over at most this often: the new leader needs time to show itself.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(5);

/// Runs until the node stops or is gone.
pub(super) async fn run(node: Weak<MetadataNode>) {
    let Some((env, settings, mut map, mut stopping)) = node.upgrade().map(|node| {
        let settings = node.config.clock;
        (node.shared.env.clone(), settings, node.map.subscribe(), node.stopping.subscribe())
    }) else {
        return;
    };
    let mut handed_over = BTreeMap::new();
    loop {
        let Some(node) = node.upgrade() else { return };
        let mut stop = stopping.clone();
        tokio::select! {
            () = pass(&node, settings, &mut handed_over) => {}
            () = async move { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        drop(node);
        tokio::select! {
            () = env.clock.sleep(settings.interval) => {}
            // New groups wait for clocks.
            changed = map.changed() => if changed.is_err() { return },
            _ = stopping.changed() => return,
        }
    }
}

async fn pass(node: &MetadataNode, settings: ClockSettings, handed_over: &mut BTreeMap<GroupId, Duration>) {
    let Some(me) = node.node() else { return };
    let replicas: Vec<_> = node.replicas().values().cloned().collect();
    replicas.iter().for_each(|replica| replica.end_quiet());
    join_all(fellow_voters(node, &replicas, me).into_iter().map(|voter| ask(node, voter))).await;
    let now = node.shared.env.clock.monotonic();
    node.shared.clocks.lock().unwrap_or_else(PoisonError::into_inner).expire(settings, now);
    for replica in replicas.iter().filter(|replica| replica.leads()) {
        let clocks = replica.voter_clocks();
        for (voter, skew) in clocks.0.keys().filter_map(|voter| Some((*voter, clocks.skew(*voter)?))) {
            metrics::clock_skew(me, voter, skew);
        }
        let last = handed_over.get(&replica.group);
        let rested = last.is_none_or(|last| now >= *last + HAND_OVER_PAUSE);
        if clocks.outside(me, settings) && rested {
            hand_over(replica, me, settings).await;
            handed_over.insert(replica.group, now);
        }
    }
}

/// Whether a leader here would have to hand over.
pub(super) fn is_off(node: &MetadataNode) -> bool {
    let Some(me) = node.node() else { return false };
    let replicas: Vec<_> = node.replicas().values().cloned().collect();
    replicas.iter().any(|replica| replica.voter_clocks().outside(me, node.config.clock))
}

/// Whose clocks count in some group in which this node votes, or will vote when the group begins.
fn fellow_voters(node: &MetadataNode, replicas: &[Arc<Replica>], me: NodeId) -> BTreeSet<NodeId> {
    let map = Arc::clone(&node.map.borrow());
    let planned = map.groups.values().map(|group| group.voters.iter().map(|voter| voter.node).collect());
    let present = replicas.iter().map(|replica| replica.voter_clocks().0.into_keys().collect());
    let with_me = |voters: &BTreeSet<NodeId>| voters.contains(&me);
    let mut fellows: BTreeSet<NodeId> = planned.chain(present).filter(with_me).flatten().collect();
    fellows.remove(&me);
    fellows
}

async fn ask(node: &MetadataNode, voter: NodeId) {
    let address = node.map.borrow().nodes.get(&voter).map(|node| node.rpc.clone());
    let Some(address) = address else { return };
    let clock = &node.shared.env.clock;
    let asked = clock.monotonic();
    let call = node.shared.peers.call(&address, calls::CLOCK, Bytes::new(), ASK_LIMIT);
    let Ok(Ok(reply)) = clock.timeout(ASK_LIMIT, call).await else { return };
    let answered = clock.monotonic();
    let Ok(wall) = decode::<Timestamp>(&reply) else { return };
    let mut clocks = node.shared.clocks.lock().unwrap_or_else(PoisonError::into_inner);
    clocks.learn(voter, wall, asked, answered);
}

/// To the voter nearest to the median that is ready. The stamps are the median's meanwhile.
async fn hand_over(replica: &Replica, me: NodeId, settings: ClockSettings) {
    let clocks = replica.voter_clocks();
    let skew_ms = clocks.skew(me).unwrap_or_default();
    let voters = replica.status().voters;
    for node in clocks.candidates(settings) {
        let Some(to) = voters.iter().find(|voter| voter.node == node) else { continue };
        if replica.hand_over(*to).await {
            tracing::error!(
                group = %replica.group,
                skew_ms,
                to = %node,
                "the clock of this node is off: another voter was asked to lead"
            );
            return;
        }
    }
    tracing::error!(group = %replica.group, skew_ms, "the clock of this node is off, and no other voter is ready to lead");
}
