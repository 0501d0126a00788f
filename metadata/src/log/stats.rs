//! What the log tells about itself.

use super::batch::Batch;
use std::time::Duration;

/// The log of a node as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segments in use, without spare ones, and the bytes of their files.
    pub segments: usize,
    pub bytes: u64,
    /// Of these, the bytes of entries that are kept.
    pub live_bytes: u64,
    pub spare_segments: usize,
    /// Bytes that wait for the next batch.
    pub queued_bytes: usize,
    /// Since the log was opened.
    pub batches: u64,
    pub records: u64,
    pub written_bytes: u64,
    /// Records written once more so that a segment could be freed.
    pub moved_records: u64,
    /// Moving average over some dozen batches: what a node with slow flushes is known by.
    pub write: Duration,
    pub flush: Duration,
    /// Writes go past the page cache.
    pub direct: bool,
    /// A write or flush failed: nothing is taken any more.
    pub failed: bool,
}

/// One replica's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaLogStats {
    /// Of the records of all kept entries.
    pub bytes: u64,
    pub entries: u64,
    /// Indexes of the first and the last kept entry.
    pub first: Option<u64>,
    pub last: Option<u64>,
}

/// What is counted batch by batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) written_bytes: u64,
    pub(super) moved_records: u64,
    pub(super) write: Duration,
    pub(super) flush: Duration,
}

/// One batch's weight in the averages is one in so many.
const AVERAGE: u32 = 32;

impl Counts {
    pub(super) fn batch(&mut self, batch: &Batch, write: Duration, flush: Duration) {
        let average = |known: Duration, new: Duration| {
            if self.batches == 0 { new } else { (known * (AVERAGE - 1) + new) / AVERAGE }
        };
        (self.write, self.flush) = (average(self.write, write), average(self.flush, flush));
        let records: usize = batch.sections.values().map(Vec::len).sum();
        self.batches += 1;
        self.records += records as u64;
        self.written_bytes += batch.len as u64;
        self.moved_records += batch.moved.len() as u64;
        metrics::histogram!("raft_log_write_seconds").record(write.as_secs_f64());
        metrics::histogram!("raft_log_flush_seconds").record(flush.as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "a histogram is of floats")]
        metrics::histogram!("raft_log_batch_bytes").record(batch.len as f64);
    }
}
