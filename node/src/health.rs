//! Which peers and drives answer, as this node sees it.
//!
//! Soft state, outside the cluster map: a peer that fails a ping or a call counts as down until it answers again.
//! Reads and writes ask here before they try a drive; nothing here decides what exists.

use ashlar_placement::ClusterMap;
use ashlar_proto::node::{DriveCondition, PingReply, PingRequest, node_service_client::NodeServiceClient};
use ashlar_rpc::{Class, Peers};
use ashlar_runtime::{ClockExt, Env};
use ashlar_types::{DriveId, GroupId, NodeId};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::watch;

/// Between two pings of one peer.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The same while one is down: its drives are missed until it is found to be back.
const PING_INTERVAL_DOWN: Duration = Duration::from_millis(250);
/// A peer that takes longer is treated as down: five missed heartbeats' worth, within which leaders move too.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of one drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveHealth {
    pub condition: DriveCondition,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub shards: u64,
}

#[derive(Debug, Default)]
struct Seen {
    up: BTreeMap<NodeId, bool>,
    drives: BTreeMap<DriveId, DriveHealth>,
    groups: BTreeMap<GroupId, GroupView>,
}

/// Who leads a group, as its replica with the highest term says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub leader: Option<NodeId>,
    pub term: u64,
    pub last_applied: u64,
}

/// Shared view; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    this: NodeId,
    seen: Arc<RwLock<Seen>>,
}

impl Health {
    pub fn new(this: NodeId) -> Self {
        Self { this, seen: Arc::default() }
    }

    /// A peer that has not been asked yet counts as up: the first call finds out.
    pub fn is_up(&self, node: NodeId) -> bool {
        node == self.this || self.read(|seen| seen.up.get(&node).copied().unwrap_or(true))
    }

    pub fn drive(&self, drive: DriveId) -> Option<DriveHealth> {
        self.read(|seen| seen.drives.get(&drive).copied())
    }

    /// Whether new shards may be sent to the drive.
    pub fn is_usable(&self, map: &ClusterMap, drive: DriveId) -> bool {
        let Some((node, _)) = map.drive_node(drive) else { return false };
        self.is_up(node) && self.drive(drive).is_none_or(|health| health.condition == DriveCondition::Ok)
    }

    /// A call found the peer out of reach.
    pub fn mark_down(&self, node: NodeId) {
        self.set_up(node, false);
    }

    pub fn set_drive(&self, drive: DriveId, health: DriveHealth) {
        self.write(|seen| seen.drives.insert(drive, health));
    }

    fn set_up(&self, node: NodeId, up: bool) {
        let before = self.write(|seen| seen.up.insert(node, up));
        match (before, up) {
            (None | Some(true), false) => tracing::warn!(peer = node.0, "peer is down"),
            (Some(false), true) => tracing::info!(peer = node.0, "peer is up"),
            (None | Some(true), true) | (Some(false), false) => {}
        }
    }

    fn answered(&self, node: NodeId, reply: &PingReply) {
        for drive in &reply.drives {
            let health = DriveHealth {
                condition: drive.condition(),
                capacity_bytes: drive.capacity_bytes,
                used_bytes: drive.used_bytes,
                shards: drive.shards,
            };
            self.set_drive(DriveId(drive.drive), health);
        }
        for view in &reply.groups {
            let leader = (view.leader != 0).then_some(NodeId(view.leader));
            let told = GroupView { leader, term: view.term, last_applied: view.last_applied };
            self.set_group(GroupId(view.group), told);
        }
        self.set_up(node, true);
    }

    /// Keeps what the newest term says.
    pub fn set_group(&self, group: GroupId, view: GroupView) {
        self.write(|seen| {
            let known = seen.groups.entry(group).or_insert(view);
            if (view.term, view.leader.is_some()) >= (known.term, known.leader.is_some()) {
                *known = view;
            }
        });
    }

    pub fn group(&self, group: GroupId) -> Option<GroupView> {
        self.read(|seen| seen.groups.get(&group).copied())
    }

    fn read<T>(&self, f: impl FnOnce(&Seen) -> T) -> T {
        f(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.seen.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Pings all peers of the map, over and over, until the task is aborted.
    pub async fn watch(self, env: Env, peers: Peers, map: watch::Receiver<Arc<ClusterMap>>) {
        loop {
            let nodes: Vec<_> = map
                .borrow()
                .nodes
                .iter()
                .filter(|(id, _)| **id != self.this)
                .map(|(id, node)| (*id, node.rpc.clone()))
                .collect();
            let ids: Vec<_> = nodes.iter().map(|(id, _)| *id).collect();
            let pings = nodes.into_iter().map(|(id, address)| self.ping(&env, &peers, id, address));
            futures_util::future::join_all(pings).await;
            let all_up = ids.into_iter().all(|id| self.is_up(id));
            env.clock.sleep(if all_up { PING_INTERVAL } else { PING_INTERVAL_DOWN }).await;
        }
    }

    async fn ping(&self, env: &Env, peers: &Peers, node: NodeId, address: String) {
        let mut client = NodeServiceClient::new(peers.service(&address, Class::Small));
        match env
            .clock
            .timeout(PING_TIMEOUT, client.ping(ashlar_rpc::request(PingRequest {}, PING_TIMEOUT)))
            .await
        {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                // Another process may have taken over the address.
                if reply.node == node.0 { self.answered(node, &reply) } else { self.mark_down(node) }
            }
            Ok(Err(_)) | Err(_) => self.mark_down(node),
        }
    }
}
