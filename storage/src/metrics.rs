//! Metrics of one drive, labelled with its uuid.

use crate::store::DriveUsage;
use ashlar_types::DriveUuid;
use metrics::{Counter, Gauge, Histogram};

pub(crate) struct DriveMetrics {
    /// Seconds from the first unit of a shard until its commit was durable.
    pub(crate) shard_write_seconds: Histogram,
    /// Payload bytes read and verified.
    pub(crate) shard_read_bytes: Counter,
    /// Units, or shards whose description is damaged, that did not verify.
    pub(crate) corrupt_units: Counter,
    /// Jobs that wait for the commit thread.
    pub(crate) queue_jobs: Gauge,
    /// Of one batch of the log: bytes, records, seconds from its first step to its answers.
    pub(crate) batch_bytes: Histogram,
    pub(crate) batch_records: Histogram,
    pub(crate) batch_seconds: Histogram,
    /// Seconds of the write and of the flush of a batch.
    pub(crate) log_write_seconds: Histogram,
    pub(crate) flush_seconds: Histogram,
    /// Live bytes in segments that compaction should empty.
    pub(crate) compaction_debt_bytes: Gauge,
    /// Bytes that shards need, that are dead and not given back yet, both together, and that new shards can take.
    live_bytes: Gauge,
    dead_bytes: Gauge,
    used_bytes: Gauge,
    free_bytes: Gauge,
}

impl DriveMetrics {
    /// Binds to the recorder installed now.
    pub(crate) fn new(drive: DriveUuid) -> Self {
        let drive = drive.to_string();
        let gauge = |name: &'static str| metrics::gauge!(name, "drive" => drive.clone());
        let histogram = |name: &'static str| metrics::histogram!(name, "drive" => drive.clone());
        let counter = |name: &'static str| metrics::counter!(name, "drive" => drive.clone());
        Self {
            shard_write_seconds: histogram("shard_write_seconds"),
            shard_read_bytes: counter("shard_read_bytes_total"),
            corrupt_units: counter("drive_corrupt_units_total"),
            queue_jobs: gauge("drive_queue_jobs"),
            batch_bytes: histogram("drive_batch_bytes"),
            batch_records: histogram("drive_batch_records"),
            batch_seconds: histogram("drive_batch_seconds"),
            log_write_seconds: histogram("drive_log_write_seconds"),
            flush_seconds: histogram("drive_flush_seconds"),
            compaction_debt_bytes: gauge("drive_compaction_debt_bytes"),
            live_bytes: gauge("drive_live_bytes"),
            dead_bytes: gauge("drive_dead_bytes"),
            used_bytes: gauge("drive_used_bytes"),
            free_bytes: gauge("drive_free_bytes"),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes are exact")]
    pub(crate) fn measure(&self, usage: &DriveUsage) {
        self.live_bytes.set(usage.live as f64);
        self.dead_bytes.set(usage.dead as f64);
        self.used_bytes.set(usage.used as f64);
        self.free_bytes.set(usage.free as f64);
    }
}

impl std::fmt::Debug for DriveMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriveMetrics").finish_non_exhaustive()
    }
}
