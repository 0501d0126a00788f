//! `ashlar status`: the cluster as this node sees it.

use crate::{node::Shared, running::Running};
use ashlar_placement::{ClusterMap, DriveState, NodeState, Phase};
use ashlar_proto::{admin as wire, node::DriveCondition};
use ashlar_types::{DriveId, GroupId};
use std::collections::BTreeMap;

pub(crate) fn status(shared: &Shared) -> wire::StatusReply {
    match shared.running.get() {
        None => wire::StatusReply {
            phase: "unformed".into(),
            warnings: vec!["this node belongs to no cluster: run `ashlar cluster init` or `join`".into()],
            ..Default::default()
        },
        Some(running) => of(running),
    }
}

fn of(running: &Running) -> wire::StatusReply {
    running.report();
    let map = running.map.borrow().clone();
    let mut slots: BTreeMap<DriveId, u32> = BTreeMap::new();
    for drive in map.pgs.values().flat_map(|pg| &pg.slots).filter_map(|slot| slot.current) {
        *slots.entry(drive).or_default() += 1;
    }
    let drives: Vec<_> = map.drives.keys().map(|id| drive(running, &map, *id, &slots)).collect();
    let groups: Vec<_> = map.groups.keys().map(|id| group(running, &map, *id)).collect();
    let mut warnings = Vec::new();
    for (id, node) in &map.nodes {
        if !running.health.is_up(*id) {
            warnings.push(format!("node {id} ({}) does not answer", node.rpc));
        }
    }
    for drive in drives.iter().filter(|drive| drive.condition == "failed" || drive.condition == "full") {
        warnings.push(format!("drive {} of node {} is {}", drive.id, drive.node, drive.condition));
    }
    warnings.extend(running.drives.warnings());
    for group in groups.iter().filter(|group| group.leader == 0) {
        warnings.push(format!("metadata group {} has no leader that this node knows", group.id));
    }
    wire::StatusReply {
        phase: match map.phase {
            Phase::Forming => "forming".into(),
            Phase::Ready => "ready".into(),
        },
        cluster: map.cluster.to_string(),
        node: running.identity.node.0,
        map_epoch: map.epoch.0,
        nodes: map
            .nodes
            .iter()
            .map(|(id, node)| wire::Node {
                id: id.0,
                rpc: node.rpc.clone(),
                s3: node.s3.clone(),
                rack: node.labels.rack.clone(),
                zone: node.labels.zone.clone(),
                state: match node.state {
                    NodeState::Member => "member".into(),
                    NodeState::Draining => "draining".into(),
                    NodeState::Out => "out".into(),
                },
                up: running.health.is_up(*id),
            })
            .collect(),
        capacity_bytes: drives.iter().map(|drive| drive.capacity_bytes).sum(),
        used_bytes: drives.iter().map(|drive| drive.used_bytes).sum(),
        drives,
        groups,
        profiles: map
            .profiles
            .iter()
            .map(|(id, profile)| wire::Profile {
                id: u32::from(id.0),
                name: profile.to_string(),
                domain: format!("{:?}", profile.domain).to_lowercase(),
                stripe_unit: profile.stripe_unit(),
                standard: map.default_profile == Some(*id),
            })
            .collect(),
        placement_groups: u32::try_from(map.pgs.len()).unwrap_or(u32::MAX),
        warnings,
    }
}

fn drive(running: &Running, map: &ClusterMap, id: DriveId, slots: &BTreeMap<DriveId, u32>) -> wire::Drive {
    let Some(entry) = map.drives.get(&id) else { return wire::Drive::default() };
    let health = running.health.drive(id);
    let condition = match (entry.state, running.health.is_up(entry.node), health.map(|h| h.condition)) {
        (DriveState::Out, _, _) => "out",
        (_, false, _) | (_, _, None) => "unreachable",
        (_, _, Some(DriveCondition::Ok)) => "ok",
        (_, _, Some(DriveCondition::Full)) => "full",
        (_, _, Some(DriveCondition::Failed | DriveCondition::Unspecified)) => "failed",
    };
    wire::Drive {
        id: id.0,
        uuid: entry.uuid.to_string(),
        node: entry.node.0,
        condition: condition.into(),
        capacity_bytes: health.map_or(entry.capacity_bytes, |h| h.capacity_bytes),
        used_bytes: health.map_or(0, |h| h.used_bytes),
        shards: health.map_or(0, |h| h.shards),
        slots: slots.get(&id).copied().unwrap_or(0),
    }
}

fn group(running: &Running, map: &ClusterMap, id: GroupId) -> wire::Group {
    let entry = map.groups.get(&id);
    let view = running.health.group(id);
    // A leader that does not answer any more leads nothing; its group is about to elect another.
    let leader = view.and_then(|view| view.leader).filter(|leader| running.health.is_up(*leader));
    let replicas = |of: Option<&Vec<ashlar_types::ReplicaId>>| {
        of.map(|replicas| replicas.iter().map(|replica| replica.node.0).collect()).unwrap_or_default()
    };
    wire::Group {
        id: id.0,
        leader: leader.map_or(0, |leader| leader.0),
        voters: replicas(entry.map(|group| &group.voters)),
        learners: replicas(entry.map(|group| &group.learners)),
        term: view.map_or(0, |view| view.term),
        last_applied: view.map_or(0, |view| view.last_applied),
    }
}
