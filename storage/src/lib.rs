//! The shard store of one drive.
//!
//! Owns the bytes and the layout of a drive directory (`docs/formats/drive.md`). Knows neither stripes nor buckets:
//! a shard is a sequence of checksummed units with a description that is carried along unread. Small shards travel in
//! a log that one thread writes and flushes for all that waits; large ones are written to extents and exist by a record in
//! that log.
//!
//! Invariants:
//!  - what `commit` and `delete` acknowledged survives a power cut;
//!  - a unit that does not verify is an error, never bytes;
//!  - a failed write or flush (but for want of space) is final: nothing is acknowledged after it.

mod checkpoint;
mod commit;
mod drive;
mod error;
mod extents;
mod format;
mod housekeeping;
mod layout;
mod listing;
mod metrics;
mod offline;
mod planted;
mod queue;
mod reading;
mod reclaim;
mod recovery;
mod scrub;
mod segment_file;
mod store;
mod sync;
mod tables;
mod width;
mod workers;
mod writer;

pub use error::{DriveFailure, FileOperation, OpenError, StoreError};
pub use format::DriveIdentity;
pub use layout::FormatOptions;
pub use offline::{OfflineDrive, SegmentReport, SegmentUse, SuperblockReport, VerifyProgress, VerifyReport};
#[cfg(mutants)]
pub use planted::{Plant, plant};
pub use reclaim::Reclaimed;
pub use recovery::{DamagedRegion, RecoveryReport};
pub use scrub::{CorruptUnit, ScrubLimits, ScrubPage};
pub use store::{DriveOptions, DriveState, DriveStore, DriveUsage, Housekeeping, ShardLocation, UnitRead};
pub use writer::{ShardUnit, ShardWriter, UNIT_MAX_LEN, UNITS_MAX};
