//! What openraft is instantiated with.
//!
//! A Raft node id is a [`ReplicaId`] as one number, so an older incarnation of a replica is another Raft node. Raft
//! members carry no address: it follows from the node by the cluster map and may change.

use crate::command::{Entry, Outcome};
use ashlar_types::ReplicaId;
use openraft::{
    EmptyNode,
    alias::{LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf},
    rt::deterministic_rng::DeterministicRng,
};
use std::fmt;

#[allow(deprecated, reason = "the crate it moved to is a part of openraft that we do not name")]
type Tokio = openraft::impls::TokioRuntime;

openraft::declare_raft_types!(
    /// Election timers and the like draw from a seed, so that a simulation repeats; every entry point runs in a
    /// scope of [`Runtime`].
    pub RaftTypes:
        D = Entry,
        R = Outcome,
        NodeId = u64,
        Node = EmptyNode,
        AsyncRuntime = DeterministicRng<Tokio>,
);

pub(crate) type Runtime = DeterministicRng<Tokio>;
pub type RaftEntry = openraft::alias::EntryOf<RaftTypes>;
pub type LogId = LogIdOf<RaftTypes>;
pub type LeaderTerm = openraft::alias::CommittedLeaderIdOf<RaftTypes>;
pub type Vote = VoteOf<RaftTypes>;
pub(crate) type StoredMembership = StoredMembershipOf<RaftTypes>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<RaftTypes>;

/// For openraft's messages: what kind of command it is, never what is in it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command.name())
    }
}

/// The replica behind a Raft id.
pub(crate) fn replica(raft_id: u64) -> ReplicaId {
    ReplicaId::from_raft_id(raft_id)
}
