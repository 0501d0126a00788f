//! `ashlar group`: the replicas of the metadata groups, for operators.

use crate::running::Running;
use ashlar_metadata::node::{Condition, GroupStatus, Role};
use ashlar_proto::admin as wire;
use ashlar_types::{NodeId, ReplicaId};

/// Asks every node of the map.
pub(crate) async fn groups(running: &Running) -> wire::GroupsReply {
    let mut reply = wire::GroupsReply::default();
    for (node, report) in running.metadata_node.survey().await {
        match report {
            Some(report) => {
                reply.replicas.extend(report.groups.into_iter().map(|status| replica(node, status)));
            }
            None => reply.silent_nodes.push(node.0),
        }
    }
    reply.replicas.sort_by_key(|replica| (replica.group, replica.node));
    reply
}

fn replica(node: NodeId, status: GroupStatus) -> wire::Replica {
    let nodes = |replicas: &[ReplicaId]| replicas.iter().map(|replica| replica.node.0).collect();
    wire::Replica {
        group: status.group.0,
        node: node.0,
        incarnation: status.replica.incarnation.0,
        role: match status.role {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        }
        .into(),
        condition: match status.condition {
            Condition::Sound => "sound",
            Condition::Damaged => "damaged",
            Condition::Frozen => "frozen",
            Condition::Reinstalling => "reinstalling",
            Condition::Failed => "failed",
        }
        .into(),
        leader: status.leader.map_or(0, |leader| leader.0),
        term: status.term,
        last_log_index: status.last_log,
        commit_index: status.committed,
        applied_index: status.last_applied,
        purged_index: status.purged,
        snapshot_index: status.snapshot,
        snapshot_age_ms: status.snapshot_age_ms,
        leading_ms: status.leading_ms,
        lag_entries: status.lag,
        log_bytes: status.log_bytes,
        proposal_p50_us: status.proposal_p50_us,
        proposal_p99_us: status.proposal_p99_us,
        read_p50_us: status.read_p50_us,
        read_p99_us: status.read_p99_us,
        applied_entries: status.applied_entries,
        voters: nodes(&status.voters),
        learners: nodes(&status.learners),
        changing: status.changing,
    }
}
