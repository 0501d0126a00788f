//! The Raft log of one replica: entries, vote and commit point in one append-only file.
//!
//! Owns the file `log` of a replica's directory and the thread that writes it. Does not know what entries mean.
//! The bytes are described in `record`.
//!
//! Everything goes through one queue, votes included: the writer takes the whole queue, writes it with one call,
//! flushes once and answers in order. The flush under way is the batching window; there is no timer.
//! Invariants:
//!  - what was answered is durable;
//!  - entries are readable as soon as `append` returns, from memory until they are flushed;
//!  - indexes are consecutive from the first kept entry on;
//!  - nothing is purged before the state machine has made it durable (`before_purge`);
//!  - after a failed write or flush every call fails: what the file holds is then unknown.

mod cache;
mod reader;
mod record;
mod recovery;
mod rewrite;
mod state;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use store::{LogOptions, LogStore};
pub use writer::BeforePurge;

use std::{io, path::PathBuf};

/// The log of a replica cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Records that had been flushed are unreadable. The replica must not vote or answer again: it is removed and
    /// comes back under a new incarnation.
    #[error("log damaged: {path} has no valid record at byte {offset} but valid ones after it")]
    Damaged { path: PathBuf, offset: u64 },
    #[error("log damaged: {path} holds a record at byte {offset} that does not follow from those before it")]
    Inconsistent { path: PathBuf, offset: u64 },
    #[error("{path} is not a log of this format")]
    NotALog { path: PathBuf },
    #[error("log file {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
