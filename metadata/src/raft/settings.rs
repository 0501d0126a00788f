//! Timing and sizes of Raft groups.

use openraft::{Config, SnapshotPolicy};
use std::{sync::Arc, time::Duration};

/// The defaults suit nodes on one local network.
#[derive(Clone, Debug)]
pub struct RaftSettings {
    /// Default 100 ms.
    pub heartbeat: Duration,
    /// A follower that hears nothing for a random time between both stands for election. Default 500 ms and 1 s: a
    /// flush of some hundred milliseconds does not unseat a leader.
    pub election_min: Duration,
    pub election_max: Duration,
    /// Entries between two snapshots. Default 20 000: replaying that many takes a second or two.
    pub snapshot_entries: u64,
    /// Entries kept in the log behind a snapshot, for followers that are a little late. Default 5 000.
    pub kept_entries: u64,
    /// Entries kept for a member that is sent a snapshot; proposals become slow beyond them. Default 200 000.
    pub pinned_entries: u64,
    /// Entries purged at once; each purge flushes the tables first. Default 1 000.
    pub purge_entries: u64,
    /// Entries in one message to a follower; the log limits their bytes too. Default 1 024.
    pub message_entries: u64,
    /// Lets a leader that heard from a majority lately read without asking again. The value is how far two nodes' timers may
    /// drift apart while a lease lasts, which is `election_max`. All nodes of a group must have it, or none. Default none: every
    /// read is confirmed by a majority, and no clock matters.
    pub lease_drift: Option<Duration>,
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            snapshot_entries: 20_000,
            kept_entries: 5_000,
            pinned_entries: 200_000,
            purge_entries: 1_000,
            message_entries: 1_024,
            lease_drift: None,
        }
    }
}

impl RaftSettings {
    /// How long after a majority answered its leader may read without asking; `None`: not at all.
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.lease_drift.map(|drift| self.election_max.saturating_sub(drift))
    }

    /// `None` if the times contradict each other.
    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "ashlar".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            max_payload_entries: self.message_entries,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            // A follower is brought up from the log as long as the log has what it lacks.
            replication_lag_threshold: u64::MAX,
            max_in_snapshot_log_to_keep: self.kept_entries,
            purge_batch_size: self.purge_entries,
            // Without it a node that was cut off raises the term and unseats a good leader when it is back.
            enable_pre_vote: Some(true),
            // A leader whose messages arrive but who hears nothing back cannot commit. It falls silent for as long as an
            // election takes, so that the others choose one who can.
            quorum_loss_probe_interval: Some(2 * millis(self.election_max)),
            // The tables are flushed now and then, not with each entry: a leader earns its place again by election.
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ...500ms".to_owned(),
            ..Config::default()
        };
        config.validate().ok().map(Arc::new)
    }
}
