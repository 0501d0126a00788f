//! What `ashlar status --json` and `ashlar explain --json` print: the fields of the admin protocol that stories look
//! at, under the names it gives them. A field that is missing is an error, one that is not looked at is ignored.

use serde::Deserialize;
use std::{collections::BTreeSet, path::PathBuf};

#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// `unformed`, `forming` or `ready`.
    pub phase: String,
    pub node: u32,
    pub nodes: Vec<NodeStatus>,
    pub drives: Vec<DriveStatus>,
    pub groups: Vec<GroupStatus>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    pub id: u32,
    pub state: String,
    pub up: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DriveStatus {
    pub id: u32,
    pub node: u32,
    pub condition: String,
    pub shards: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct GroupStatus {
    pub id: u32,
    /// 0: not known.
    pub leader: u32,
    pub voters: Vec<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Explain {
    pub group: u32,
    pub inline: bool,
    pub chunks: Vec<ChunkStatus>,
    /// Losses that the weakest chunk survives now; negative: not readable.
    pub margin: i32,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ChunkStatus {
    pub len: u64,
    pub k: u32,
    pub m: u32,
    pub margin_at_ack: i32,
    pub margin: i32,
    pub slots: Vec<SlotStatus>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SlotStatus {
    pub slot: u32,
    /// 0: none.
    pub drive: u32,
    pub node: u32,
    /// `ok`, `missing`, `corrupt`, `unreachable` or `unassigned`.
    pub state: String,
    pub file: PathBuf,
    pub offset: u64,
    pub len: u64,
}

impl Status {
    pub fn leader_of(&self, group: u32) -> Option<u32> {
        self.groups.iter().find(|other| other.id == group).map(|group| group.leader).filter(|id| *id != 0)
    }

    /// Why the cluster is not at its best as this node sees it, if these nodes are the living ones.
    pub fn unsettled(&self, living: &BTreeSet<u32>) -> Option<String> {
        if self.phase != "ready" {
            return Some(format!("node {} is {}", self.node, self.phase));
        }
        if self.groups.is_empty() {
            return Some(format!("node {} knows no groups", self.node));
        }
        if let Some(group) = self.groups.iter().find(|group| !living.contains(&group.leader)) {
            return Some(format!(
                "node {} sees {} as the leader of group {}",
                self.node, group.leader, group.id
            ));
        }
        let down = self.nodes.iter().find(|node| living.contains(&node.id) && !node.up);
        if let Some(node) = down {
            return Some(format!("node {} sees node {} down", self.node, node.id));
        }
        let seen = self.nodes.iter().filter(|node| living.contains(&node.id)).count();
        if seen != living.len() {
            return Some(format!("node {} knows {seen} of {} nodes", self.node, living.len()));
        }
        self.drives
            .iter()
            .find(|drive| living.contains(&drive.node) && drive.condition != "ok")
            .map(|drive| format!("node {} sees drive {} {}", self.node, drive.id, drive.condition))
    }
}

impl ChunkStatus {
    pub fn slot(&self, slot: u32) -> Option<&SlotStatus> {
        self.slots.iter().find(|other| other.slot == slot)
    }

    pub fn in_state(&self, state: &str) -> BTreeSet<u32> {
        self.slots.iter().filter(|slot| slot.state == state).map(|slot| slot.slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "phase": "ready", "cluster": "c", "node": 1, "map_epoch": 3,
            "nodes": [
                {"id": 1, "rpc": "r", "s3": "s", "rack": "", "zone": "", "state": "member", "up": true},
                {"id": 2, "rpc": "r", "s3": "s", "rack": "", "zone": "", "state": "member", "up": true},
            ],
            "drives": [{"id": 1, "uuid": "u", "node": 2, "condition": "ok", "capacity_bytes": 1,
                        "used_bytes": 0, "shards": 0, "slots": 4}],
            "groups": [{"id": 0, "leader": 2, "voters": [1, 2], "learners": [], "term": 1, "last_applied": 4}],
            "profiles": [], "placement_groups": 1, "capacity_bytes": 1, "used_bytes": 0, "warnings": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_settled_cluster_has_leaders_nodes_and_drives() {
        let both = BTreeSet::from([1, 2]);
        assert_eq!(status().unsettled(&both), None);
        assert_eq!(status().leader_of(0), Some(2));
        assert_eq!(status().leader_of(1), None);

        // The leader that the node names is dead.
        assert!(status().unsettled(&BTreeSet::from([1])).is_some());
        assert!(status().unsettled(&BTreeSet::from([1, 2, 3])).is_some());
        let mut changed = status();
        changed.groups[0].leader = 0;
        assert!(changed.unsettled(&both).is_some());
        let mut changed = status();
        changed.nodes[1].up = false;
        assert!(changed.unsettled(&both).is_some());
        let mut changed = status();
        changed.drives[0].condition = "failed".into();
        assert!(changed.unsettled(&both).is_some());
        let mut changed = status();
        changed.phase = "forming".into();
        assert!(changed.unsettled(&both).is_some());
    }
}
