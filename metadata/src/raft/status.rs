//! What a replica says of itself: to operators, and to the controller of group 0's leader.

use ashlar_types::{GroupId, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

/// What a replica does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Learner,
    Follower,
    Candidate,
    Leader,
    /// Failed or shut down.
    Stopped,
}

/// Whether a replica may be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    Sound,
    /// Its log or its vote is damaged or gone: this incarnation never votes again.
    Damaged,
    /// The replicas of the group differ and no majority agrees: nothing is answered until a person has looked.
    Frozen,
    /// Log and vote are sound; the tables are being replaced by those of another replica.
    Reinstalling,
    /// Stopped after an error of its disk or engine; it is opened again when the process starts anew.
    Failed,
}

/// A replica as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub role: Role,
    pub condition: Condition,
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry that is known to be committed.
    pub committed: Option<u64>,
    pub last_applied: Option<u64>,
    /// Members as they took effect last, committed or not; both sets of voters while they change.
    pub voters: Vec<ReplicaId>,
    pub learners: Vec<ReplicaId>,
    /// The members are being changed: two sets of voters count, or the newest set is not committed.
    pub changing: bool,
    /// Index up to which the log was purged.
    pub purged: Option<u64>,
    /// Index that the last snapshot covers.
    pub snapshot: Option<u64>,
    /// Milliseconds since the last snapshot was made here.
    pub snapshot_age_ms: Option<u64>,
    /// Milliseconds since this replica began to lead; none if it does not.
    pub leading_ms: Option<u64>,
    /// Of a leader: entries that its slowest member lacks. Of others: committed entries not applied here.
    pub lag: u64,
    /// Bytes of this group in the node's log, dead ones not counted.
    pub log_bytes: Option<u64>,
    /// Microseconds that half, and 99 of 100, of the last proposals here took.
    pub proposal_p50_us: Option<u64>,
    pub proposal_p99_us: Option<u64>,
    /// The same of linearizable reads.
    pub read_p50_us: Option<u64>,
    pub read_p99_us: Option<u64>,
    /// Entries applied since the replica was opened.
    pub applied_entries: u64,
}

impl GroupStatus {
    /// Of a replica that is not open.
    pub(crate) fn closed(group: GroupId, replica: ReplicaId, condition: Condition) -> Self {
        Self {
            group,
            replica,
            role: Role::Stopped,
            condition,
            leader: None,
            term: 0,
            last_log: None,
            committed: None,
            last_applied: None,
            voters: Vec::new(),
            learners: Vec::new(),
            changing: false,
            purged: None,
            snapshot: None,
            snapshot_age_ms: None,
            leading_ms: None,
            lag: 0,
            log_bytes: None,
            proposal_p50_us: None,
            proposal_p99_us: None,
            read_p50_us: None,
            read_p99_us: None,
            applied_entries: 0,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.role == Role::Leader && self.condition == Condition::Sound
    }
}
