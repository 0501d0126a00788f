//! The shard store of one drive.
//!
//! Owns the bytes and the layout of a drive directory (`docs/formats/drive.md`). Knows neither stripes nor buckets:
//! a shard is a sequence of checksummed units with a description that is carried along unread. This version keeps
//! one file per shard.
//!
//! Invariants:
//!  - what `commit` and `delete` acknowledged survives a power cut;
//!  - a unit that does not verify is an error, never bytes;
//!  - a failed write or flush (but for want of space) is final: nothing is acknowledged after it.

mod error;
mod format;
mod index;
mod metrics;
mod shard_file;
mod store;
mod superblock;

pub use error::{DriveFailure, FileOperation, OpenError, StoreError};
pub use store::{
    DriveOptions, DriveState, DriveStore, DriveUsage, ShardLocation, ShardUnit, ShardWriter, UNIT_MAX_LEN,
    UNITS_MAX, UnitRead,
};
pub use superblock::DriveIdentity;
