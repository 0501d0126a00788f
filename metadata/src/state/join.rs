//! Nodes that join: a token lets one node in, once; the same node may ask again.

use super::apply::{Applied, Apply};
use crate::{
    command::{Done, JoinDrive, JoinNode, Refusal},
    kv::Table,
    tables::record::{TokenRecord, TokenUse},
};
use ashlar_placement::{ClusterMap, Drive, DriveState, Node, NodeState};
use ashlar_types::{DriveId, DriveUuid, GroupId, Incarnation, MapEpoch, NodeId, ReplicaId, Timestamp};

impl Apply<'_> {
    /// A token that was used stays used.
    pub(super) fn put_join_token(&mut self, hash: &[u8; 32], expires: Timestamp) -> Applied {
        let known = self.record::<TokenRecord>(Table::Tokens, hash)?;
        let (used, kept) = known.map(|known| (known.used, known.kept)).unwrap_or_default();
        self.put(Table::Tokens, hash.to_vec(), &TokenRecord { expires, used, kept });
        Ok(Done::Nothing)
    }

    pub(super) fn join_node(&mut self, join: &JoinNode) -> Applied {
        let token = self.record::<TokenRecord>(Table::Tokens, &join.token_hash)?;
        let mut token = token.ok_or(Refusal::BadToken)?;
        let mut map = self.current_map()?.ok_or(Refusal::NotUnderstood)?;
        let mut drives: Vec<DriveUuid> = join.drives.iter().map(|drive| drive.uuid).collect();
        drives.sort_unstable();
        match &token.used {
            Some(used) if used.drives == drives => return Ok(joined(used.node, &drives, map)),
            Some(_) => return Err(Refusal::BadToken.into()),
            None if token.expires <= self.now() => return Err(Refusal::BadToken.into()),
            None => {}
        }
        let node = known_node(&map, &drives)?;
        let before = map.clone();
        let node = admit(&mut map, node, join);
        if map != before {
            map.epoch = MapEpoch(before.epoch.0 + 1);
            self.put_map(map.clone())?;
        }
        token.used = Some(TokenUse { node, drives: drives.clone() });
        self.put(Table::Tokens, join.token_hash.to_vec(), &token);
        Ok(joined(node, &drives, map))
    }
}

/// The node that these drives are known at, if any is known.
fn known_node(map: &ClusterMap, drives: &[DriveUuid]) -> Applied<Option<NodeId>> {
    let mut node = None;
    for drive in map.drives.values().filter(|drive| drives.contains(&drive.uuid)) {
        if *node.get_or_insert(drive.node) != drive.node {
            return Err(Refusal::DriveKnownElsewhere { uuid: drive.uuid }.into());
        }
    }
    Ok(node)
}

/// Gives the node and its new drives the next free numbers; a node that was known gets its new addresses.
fn admit(map: &mut ClusterMap, known: Option<NodeId>, join: &JoinNode) -> NodeId {
    let JoinNode { rpc, s3, labels, drives, token_hash: _ } = join;
    let node = known.unwrap_or_else(|| NodeId(map.nodes.last_key_value().map_or(0, |(id, _)| id.0) + 1));
    let state = map.nodes.get(&node).map_or(NodeState::Member, |known| known.state);
    map.nodes.insert(node, Node { rpc: rpc.clone(), s3: s3.clone(), labels: labels.clone(), state });
    for drive in drives {
        if map.drives.values().all(|known| known.uuid != drive.uuid) {
            let id = DriveId(map.drives.last_key_value().map_or(0, |(id, _)| id.0) + 1);
            let JoinDrive { uuid, capacity_bytes } = *drive;
            map.drives.insert(id, Drive { uuid, node, capacity_bytes, state: DriveState::In });
        }
    }
    let system = map.groups.get_mut(&GroupId::SYSTEM);
    if let Some(system) = system
        && !system.voters.iter().chain(&system.learners).any(|replica| replica.node == node)
    {
        system.learners.push(ReplicaId { node, incarnation: Incarnation(1) });
    }
    node
}

fn joined(node: NodeId, drives: &[DriveUuid], map: ClusterMap) -> Done {
    let drives = map
        .drives
        .iter()
        .filter(|(_, drive)| drives.contains(&drive.uuid))
        .map(|(id, drive)| (drive.uuid, *id))
        .collect();
    Done::Joined { node, drives, map: Box::new(map) }
}
