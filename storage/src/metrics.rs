//! Metrics of one drive, labelled with its uuid.

use ashlar_types::DriveUuid;
use metrics::{Counter, Gauge, Histogram};

pub(crate) struct DriveMetrics {
    /// Seconds from the first unit of a shard until its commit was durable.
    pub(crate) shard_write_seconds: Histogram,
    /// Payload bytes read and verified.
    pub(crate) shard_read_bytes: Counter,
    /// Units, or shards whose description is damaged, that did not verify.
    pub(crate) corrupt_units: Counter,
    /// Bytes that shards and unfinished writes take.
    pub(crate) used_bytes: Gauge,
}

impl DriveMetrics {
    /// Binds to the recorder installed now.
    pub(crate) fn new(drive: DriveUuid) -> Self {
        let drive = drive.to_string();
        Self {
            shard_write_seconds: metrics::histogram!("shard_write_seconds", "drive" => drive.clone()),
            shard_read_bytes: metrics::counter!("shard_read_bytes_total", "drive" => drive.clone()),
            corrupt_units: metrics::counter!("drive_corrupt_units_total", "drive" => drive.clone()),
            used_bytes: metrics::gauge!("drive_used_bytes", "drive" => drive),
        }
    }
}

impl std::fmt::Debug for DriveMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriveMetrics").finish_non_exhaustive()
    }
}
