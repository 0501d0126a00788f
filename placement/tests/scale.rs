//! Plans for a large cluster.
//!
//! Here 100 nodes of 12 drives. The size that the design asks for runs with
//! `ASHLAR_PLACEMENT_SCALE=1000x24 cargo test -p ashlar-placement --test scale -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test file: what helpers cannot do fails the test")]

use ashlar_placement::{
    ClusterMap, Drive, DriveState, GAP_PERCENT, Labels, Node, NodeState, default_pg_count, default_profile,
    plan, plan_initial,
};
use ashlar_types::{ClusterId, DriveId, DriveUuid, NodeId, PgId, ProfileId};
use std::collections::{BTreeMap, BTreeSet};

fn size() -> (u32, u32) {
    let asked = std::env::var("ASHLAR_PLACEMENT_SCALE").unwrap_or_else(|_| "100x12".to_owned());
    let (nodes, drives) = asked.split_once('x').unwrap();
    (nodes.parse().unwrap(), drives.parse().unwrap())
}

fn node(id: u32) -> Node {
    Node { rpc: format!("n{id}:1"), s3: String::new(), labels: Labels::default(), state: NodeState::Member }
}

fn cluster(nodes: u32, drives: u32) -> ClusterMap {
    let mut map = ClusterMap::forming(ClusterId(1), node(1));
    for id in 1..=nodes {
        add_node(&mut map, id, drives);
    }
    let profile = default_profile(&map).unwrap();
    map.profiles.insert(ProfileId(1), profile);
    let count = default_pg_count(&map, &profile);
    map.pgs = (1..).map(PgId).zip(plan_initial(&map, ProfileId(1), count)).collect();
    map
}

fn add_node(map: &mut ClusterMap, id: u32, drives: u32) {
    map.nodes.insert(NodeId(id), node(id));
    for drive in (id - 1) * drives + 1..=id * drives {
        let uuid = DriveUuid(u128::from(drive));
        let drive_row = Drive { uuid, node: NodeId(id), capacity_bytes: 8 << 40, state: DriveState::In };
        map.drives.insert(DriveId(drive), drive_row);
    }
}

/// Fewest and most slots of a placeable drive.
fn extremes(map: &ClusterMap) -> (usize, usize) {
    let mut load: BTreeMap<DriveId, usize> = map.placeable().map(|(id, _)| (id, 0)).collect();
    for drive in map.pgs.values().flat_map(|pg| &pg.slots).filter_map(|slot| slot.current) {
        *load.get_mut(&drive).unwrap() += 1;
    }
    (*load.values().min().unwrap(), *load.values().max().unwrap())
}

/// Carries out what is planned; the number of moves.
fn settle(map: &mut ClusterMap) -> usize {
    let plan = plan(map);
    assert_eq!(plan.warnings, []);
    for step in &plan.moves {
        map.pgs.get_mut(&step.pg).unwrap().slots[usize::from(step.slot.0)].current = step.to;
    }
    for pg in map.pgs.values() {
        let nodes: BTreeSet<NodeId> =
            pg.slots.iter().map(|slot| map.drives[&slot.current.unwrap()].node).collect();
        assert_eq!(nodes.len(), pg.slots.len());
    }
    let (least, most) = extremes(map);
    let slots: usize = map.pgs.values().map(|pg| pg.slots.len()).sum();
    let allowed = slots * usize::try_from(GAP_PERCENT).unwrap() / 100 / map.placeable().count() + 1;
    assert!(most - least <= allowed, "drives carry {least} to {most} slots, {allowed} apart are allowed");
    plan.moves.len()
}

#[test]
fn a_large_cluster_is_planned_mended_and_grown_with_the_fewest_moves() {
    let (nodes, drives) = size();
    let mut map = cluster(nodes, drives);
    assert_eq!(settle(&mut map), 0);

    let (least, most) = extremes(&map);
    map.nodes.get_mut(&NodeId(nodes / 2)).unwrap().state = NodeState::Out;
    let mended = settle(&mut map);
    let drives_lost = usize::try_from(drives).unwrap();
    assert!((least * drives_lost..=most * drives_lost).contains(&mended), "{mended} moves");

    add_node(&mut map, nodes + 1, drives);
    let grown = settle(&mut map);
    assert!((mended * 9 / 10..=mended).contains(&grown), "{grown} moves, {mended} had been lost");
}
