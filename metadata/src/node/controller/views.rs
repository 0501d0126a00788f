//! What the controller knows of the nodes: what each said last, and when.
//!
//! Soft state of one tenure of group 0's leader, by its monotonic clock: a node that has not been heard of since the
//! tenure began counts as silent since then.

use crate::raft::status::{Condition, GroupStatus};
use ashlar_types::{GroupId, MapEpoch, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    pub epoch: MapEpoch,
    pub groups: Vec<GroupStatus>,
    /// Microseconds that a flush of its log usually takes now.
    pub flush_us: Option<u64>,
    /// Its wall clock is farther from the median of the voters' than a leader's may be.
    pub clock_off: bool,
}

#[derive(Clone, Debug)]
struct Heard {
    at: Duration,
    report: NodeReport,
}

#[derive(Clone, Debug)]
pub(crate) struct Views {
    since: Duration,
    heard: BTreeMap<NodeId, Heard>,
    /// Nodes that answer and have replicas that stopped, since when they said so without a break.
    failing: BTreeMap<NodeId, Duration>,
}

impl Views {
    /// Of a tenure that begins.
    pub(crate) fn new(since: Duration) -> Self {
        Self { since, heard: BTreeMap::new(), failing: BTreeMap::new() }
    }

    pub(crate) fn hear(&mut self, node: NodeId, at: Duration, report: NodeReport) {
        if report.groups.iter().any(|status| status.condition == Condition::Failed) {
            self.failing.entry(node).or_insert(at);
        } else {
            self.failing.remove(&node);
        }
        self.heard.insert(node, Heard { at, report });
    }

    pub(crate) fn silence(&self, node: NodeId, now: Duration) -> Duration {
        now.saturating_sub(self.heard.get(&node).map_or(self.since, |heard| heard.at))
    }

    /// How long a node has answered that it cannot serve its replicas: what a disk that failed leaves.
    pub(crate) fn failing(&self, node: NodeId, now: Duration) -> Duration {
        self.failing.get(&node).map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    pub(crate) fn has_heard(&self, node: NodeId) -> bool {
        self.heard.contains_key(&node)
    }

    pub(crate) fn flush_us(&self, node: NodeId) -> Option<u64> {
        self.heard.get(&node)?.report.flush_us
    }

    pub(crate) fn is_clock_off(&self, node: NodeId) -> bool {
        self.heard.get(&node).is_some_and(|heard| heard.report.clock_off)
    }

    /// What a node said of its replica of a group.
    pub(crate) fn replica(&self, node: NodeId, group: GroupId) -> Option<&GroupStatus> {
        self.heard.get(&node)?.report.groups.iter().find(|status| status.group == group)
    }

    pub(crate) fn is_sound(&self, replica: ReplicaId, group: GroupId) -> bool {
        self.replica(replica.node, group)
            .is_some_and(|status| status.replica == replica && status.condition == Condition::Sound)
    }

    /// What the leader of a group said, if one is known: the one of the highest term. One that has not been heard of
    /// lately may have been deposed.
    pub(crate) fn leader(
        &self,
        group: GroupId,
        now: Duration,
        fresh: Duration,
    ) -> Option<(NodeId, &GroupStatus)> {
        let heard = self.heard.keys().filter(|node| self.silence(**node, now) < fresh);
        let statuses = heard.filter_map(|node| Some((*node, self.replica(*node, group)?)));
        statuses.filter(|(_, status)| status.leads()).max_by_key(|(_, status)| status.term)
    }

    /// These as they would be had the others been heard first.
    #[cfg(test)]
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        self.failing.clone_from(&earlier.failing);
        self
    }
}
