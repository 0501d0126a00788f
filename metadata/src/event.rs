//! What happened to the objects of buckets whose events are recorded: the rows of the outbox.

use ashlar_types::{BucketId, ETag, ObjectKey, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

/// Written in the apply that did it, so none is missing and none is of something that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub time: Timestamp,
    pub kind: EventKind,
}

/// Version ids are `None` in a bucket that was never versioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    Created {
        by: Creation,
        version_id: Option<VersionId>,
        size: u64,
        etag: ETag,
    },
    DeleteMarkerCreated {
        version_id: VersionId,
    },
    /// A version (or a delete marker) is gone.
    Deleted {
        version_id: Option<VersionId>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Creation {
    Put,
    CompleteUpload,
}

/// Whether a bucket's events go to the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventRecording {
    #[default]
    Off,
    On,
}

/// How much of the outbox is kept for readers that are slow. What goes beyond is dropped from its beginning, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxLimits {
    pub bytes: u64,
    /// By the group's clock.
    pub age_ms: u64,
}

impl Default for OutboxLimits {
    /// A day of events, and not more than a hundredth of what a group of a million objects takes.
    fn default() -> Self {
        Self { bytes: 16 << 20, age_ms: 24 * 3_600_000 }
    }
}

impl crate::encoding::Row for Event {}
