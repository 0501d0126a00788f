//! The cluster map: who is in the cluster and where chunks may go. Replicated by group 0, local on every node.
//!
//! A value, not a service: whoever changes it makes the next one and proposes it with the epoch it was made from.

use ashlar_types::{
    ClusterId, DriveId, DriveUuid, FailureDomain, GroupId, Incarnation, Interval, MapEpoch, NodeId, PgId,
    Profile, ProfileId, ReplicaId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One version of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    pub cluster: ClusterId,
    pub epoch: MapEpoch,
    pub phase: Phase,
    pub nodes: BTreeMap<NodeId, Node>,
    pub drives: BTreeMap<DriveId, Drive>,
    pub profiles: BTreeMap<ProfileId, Profile>,
    /// The profile of STANDARD; set by bootstrap.
    pub default_profile: Option<ProfileId>,
    pub pgs: BTreeMap<PgId, PlacementGroup>,
    pub groups: BTreeMap<GroupId, Group>,
    /// What commands and formats the whole cluster understands.
    pub feature_level: u32,
    /// How long garbage stays readable, in milliseconds.
    pub read_grace_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nodes join; there is no profile and no data yet.
    Forming,
    Ready,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `host:port` of node-to-node calls.
    pub rpc: String,
    /// `http://host:port` of the S3 front end, for status and for tools.
    pub s3: String,
    pub labels: Labels,
    pub state: NodeState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Empty: not told.
    pub rack: String,
    pub zone: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    Member,
    /// Being emptied by an operator.
    Draining,
    /// Given up: nothing is placed here, what was here is repaired elsewhere.
    Out,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    pub uuid: DriveUuid,
    pub node: NodeId,
    pub capacity_bytes: u64,
    pub state: DriveState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveState {
    In,
    Draining,
    Out,
}

/// A set of chunks placed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementGroup {
    pub profile: ProfileId,
    /// Raised by every change of this group.
    pub interval: Interval,
    /// k+m slots.
    pub slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// `None`: no drive is left to give it.
    pub current: Option<DriveId>,
    /// Where the slot is moving to: takes new shards.
    pub next: Option<DriveId>,
}

/// A metadata group and its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub voters: Vec<ReplicaId>,
    pub learners: Vec<ReplicaId>,
}

impl ClusterMap {
    /// The map of a cluster that has just been made: its first node is the only voter of group 0.
    pub fn forming(cluster: ClusterId, first: Node) -> Self {
        let id = NodeId(1);
        Self {
            cluster,
            epoch: MapEpoch(1),
            phase: Phase::Forming,
            nodes: BTreeMap::from([(id, first)]),
            drives: BTreeMap::new(),
            profiles: BTreeMap::new(),
            default_profile: None,
            pgs: BTreeMap::new(),
            groups: BTreeMap::from([(
                GroupId::SYSTEM,
                Group { voters: vec![ReplicaId { node: id, incarnation: Incarnation(1) }], learners: vec![] },
            )]),
            feature_level: 1,
            read_grace_ms: READ_GRACE_MS,
        }
    }

    pub fn drive_node(&self, drive: DriveId) -> Option<(NodeId, &Node)> {
        let id = self.drives.get(&drive)?.node;
        Some((id, self.nodes.get(&id)?))
    }

    /// Drives that may be given slots.
    pub fn placeable(&self) -> impl Iterator<Item = (DriveId, &Drive)> {
        self.drives.iter().filter_map(|(id, drive)| {
            let node = self.nodes.get(&drive.node)?;
            (drive.state == DriveState::In && node.state == NodeState::Member).then_some((*id, drive))
        })
    }

    /// What a drive shares its fate with at a level; nodes that carry no label of that level stand alone.
    pub fn domain_of(&self, drive: DriveId, level: FailureDomain) -> Option<Domain> {
        let (id, node) = self.drive_node(drive)?;
        let labelled = |label: &str| {
            if label.is_empty() { Domain::Node(id) } else { Domain::Label(label.to_owned()) }
        };
        Some(match level {
            FailureDomain::Drive => Domain::Drive(drive),
            FailureDomain::Node => Domain::Node(id),
            FailureDomain::Rack => labelled(&node.labels.rack),
            FailureDomain::Zone => labelled(&node.labels.zone),
        })
    }
}

/// One failure domain of some level.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    Drive(DriveId),
    Node(NodeId),
    Label(String),
}

/// One hour: longer than any GET that makes progress.
pub const READ_GRACE_MS: u64 = 3_600_000;
