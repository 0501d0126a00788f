//! Clusters to plan for, and the application of a plan, for the tests of this crate.

use crate::{ClusterMap, Drive, DriveState, Labels, Move, Node, NodeState, plan_initial};
use ashlar_types::{ClusterId, DriveId, DriveUuid, NodeId, PgId, Profile, ProfileId};

pub(crate) const PROFILE: ProfileId = ProfileId(1);
pub(crate) const TIB: u64 = 1 << 40;

pub(crate) fn node(id: u32, rack: &str) -> Node {
    Node {
        rpc: format!("10.0.0.{id}:7000"),
        s3: format!("http://10.0.0.{id}:9000"),
        labels: Labels { rack: rack.to_owned(), zone: String::new() },
        state: NodeState::Member,
    }
}

pub(crate) fn drive(id: DriveId, node: NodeId, capacity_bytes: u64) -> Drive {
    Drive { uuid: DriveUuid(u128::from(id.0)), node, capacity_bytes, state: DriveState::In }
}

/// One node for each entry, with so many drives of 1 TiB.
pub(crate) fn cluster_of(drives: &[usize]) -> ClusterMap {
    let weights: Vec<Vec<u64>> = drives.iter().map(|count| vec![TIB; *count]).collect();
    weighted(&weights)
}

pub(crate) fn cluster(nodes: usize, drives: usize) -> ClusterMap {
    cluster_of(&vec![drives; nodes])
}

/// One node for each entry, with drives of these capacities. Ids of nodes and drives count from 1.
pub(crate) fn weighted(nodes: &[Vec<u64>]) -> ClusterMap {
    let mut map = ClusterMap::forming(ClusterId(7), node(1, ""));
    for (id, capacities) in (1..).zip(nodes) {
        map.nodes.insert(NodeId(id), node(id, ""));
        for capacity in capacities {
            add_drive(&mut map, NodeId(id), *capacity);
        }
    }
    map
}

pub(crate) fn add_drive(map: &mut ClusterMap, node: NodeId, capacity_bytes: u64) -> DriveId {
    let id = DriveId(map.drives.last_key_value().map_or(1, |(last, _)| last.0 + 1));
    map.drives.insert(id, drive(id, node, capacity_bytes));
    id
}

/// Gives the map a profile with so many PGs.
pub(crate) fn with_pgs(mut map: ClusterMap, profile: Profile, count: u32) -> ClusterMap {
    map.profiles.insert(PROFILE, profile);
    map.default_profile = Some(PROFILE);
    map.pgs = (1..).map(PgId).zip(plan_initial(&map, PROFILE, count)).collect();
    map
}

/// The map once all moves are through.
pub(crate) fn moved(mut map: ClusterMap, moves: &[Move]) -> ClusterMap {
    for step in moves {
        let slot = map.pgs.get_mut(&step.pg).unwrap().slots.get_mut(usize::from(step.slot.0)).unwrap();
        assert_eq!((slot.current, slot.next), (step.from, None));
        slot.current = step.to;
    }
    map
}
