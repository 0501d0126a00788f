//! What the data path may use and how long it waits.

use ashlar_runtime::ByteBudget;
use ashlar_types::NodeId;
use std::time::Duration;

/// Immutable once the store is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Label of this gateway's metrics.
    pub node: NodeId,
    /// Bytes of rows that all requests of this gateway hold together. A request takes its worst case before it reads
    /// a byte, and is refused with `SlowDown` when that is not there.
    pub memory: ByteBudget,
    /// Threads that hash, encode and reconstruct rows. Default 2: one stream keeps one busy with MD5, the second keeps
    /// short requests from waiting behind it; nodes with more cores set it to their number.
    pub coding_threads: usize,
    /// Shortest time that a slot may lag behind the others before a write goes on without it. Default 1 s: longer
    /// than the stalls of a healthy drive (collection, flush storms), short enough for clients' timeouts.
    pub straggler_min: Duration,
    /// A straggler also gets this many times the median of the others. Default 20: when everything is slow, nobody is
    /// a straggler.
    pub straggler_factor: u32,
    /// Longest wait for a drive to open a shard before another drive is asked. Default 2 s: an open moves no payload.
    pub open_deadline: Duration,
    /// Longest wait for one call to metadata, or for any progress of the drives of a write or read. Default 30 s, like
    /// the time without progress after which a client's connection is closed.
    pub request_deadline: Duration,
    /// How long a slot left behind by a short commit may go on. Default 60 s: then repair is cheaper than waiting.
    pub late_deadline: Duration,
    /// How long a failed write tries to delete its own shards before it leaves them to the garbage rows. Default 30 s.
    pub cleanup_deadline: Duration,
    /// Units that may wait for each drive. Default 2: one on the wire, one ready.
    pub queue_units: usize,
    /// First rows of a chunk kept until the next is sent, so that a drive that fails early is replaced and not
    /// missing. Default 2: small objects are then always written in full while drives are left.
    pub replay_rows: usize,
    /// Rows read ahead of the client. Default 2.
    pub read_ahead_rows: usize,
    /// Shortest time before a read asks further drives. Default 200 ms: above a seek and a network retry, below what
    /// people notice.
    pub hedge_min: Duration,
    /// A drive also gets this many times the median of the read's units so far. Default 5.
    pub hedge_factor: u32,
    /// Damaged slots that readers report to metadata in a second. Default 20: repair finds the rest of a bad drive by
    /// itself, and reports must not crowd out writes.
    pub reports_per_second: u32,
    /// A slot is reported again after this time. Default 10 min.
    pub report_again: Duration,
    /// Rows of one garbage pass. Default 256: a few thousand shards, seconds of work.
    pub garbage_rows: u32,
}

impl Settings {
    pub fn new(memory: ByteBudget) -> Self {
        Self {
            node: NodeId(0),
            memory,
            coding_threads: 2,
            straggler_min: Duration::from_secs(1),
            straggler_factor: 20,
            open_deadline: Duration::from_secs(2),
            request_deadline: Duration::from_secs(30),
            late_deadline: Duration::from_secs(60),
            cleanup_deadline: Duration::from_secs(30),
            queue_units: 2,
            replay_rows: 2,
            read_ahead_rows: 2,
            hedge_min: Duration::from_millis(200),
            hedge_factor: 5,
            reports_per_second: 20,
            report_again: Duration::from_secs(600),
            garbage_rows: 256,
        }
    }
}
