//! Object data: striping, acknowledgement, degraded reads, garbage and uploads.

pub mod shard_io;

pub use shard_io::{ShardError, ShardIo, ShardSink, ShardSource, Unit};
