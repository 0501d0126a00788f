//! The Raft log of a node: one write-ahead log that all its replicas share.
//!
//! Owns the directory `log` of a node's metadata and the thread that writes it. Does not know what entries mean. The
//! bytes are in `docs/formats/raft-log.md` and `format`.
//!
//! ```text
//! append, vote, ..  ->  queue (`state`)  ->  batch (`batch`)  ->  one write, one flush (`commit`)  ->  answers in order
//!                                              segments are used one after the other, and again (`space`, `maker`)
//! ```
//!
//! The commit thread takes the whole queue, of all replicas, each time: the flush under way is the batching window and
//! there is no timer. Whatever a replica does, votes included, goes through that queue, so what is on disk is always what
//! the log looked like at one moment.
//! Invariants:
//!  - what was answered is durable; answers come in the order of the calls;
//!  - entries are readable as soon as `append` returns, from memory until they are flushed;
//!  - the indexes of a replica are consecutive from its first kept entry on;
//!  - nothing is purged before the state machine has made it durable (`BeforePurge`), and no segment is used again before
//!    a flushed batch says that it is not needed;
//!  - a record that was flushed and is unreadable condemns its replica for good; a batch that nobody was told of may go;
//!  - after a failed write or flush every call fails: what the files hold is then unknown.

mod batch;
mod commit;
mod format;
mod maker;
mod node_log;
mod recovery;
mod replica;
mod segment;
mod slots;
mod space;
mod state;
mod stats;
mod store;
mod window;

#[cfg(test)]
mod tests;

pub use node_log::{LogCondition, LogOptions, LoggedReplica, NodeLog};
pub use stats::{LogStats, ReplicaLogStats};
pub use store::{BeforePurge, LogStore};

/// What records are made of, for those who test and measure the log.
pub mod raft {
    pub use crate::raft::types::{LeaderTerm, LogId, RaftEntry, RaftTypes, Vote};
}

use ashlar_types::GroupId;
use std::{io, path::PathBuf};

/// The log, or a replica's part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Records of this replica that had been flushed are unreadable. It must not vote or answer again: it is removed and
    /// comes back under a new incarnation.
    #[error("log damaged: records of group {group}, replica {raft_id:x}, are unreadable")]
    Damaged { group: GroupId, raft_id: u64 },
    #[error("the log of group {group}, replica {raft_id:x}, is open already")]
    InUse { group: GroupId, raft_id: u64 },
    /// Written by a newer release.
    #[error("{path} has format version {found}, which is not known here")]
    Version { path: PathBuf, found: u32 },
    /// The log failed before, or is closed.
    #[error("{0}")]
    Stopped(&'static str),
    #[error("log file {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
