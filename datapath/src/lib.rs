//! Object data: striping, acknowledgement, degraded reads, garbage and uploads.
//!
//! Reaches drives only through [`ShardIo`] and metadata only through `MetadataApi`; knows neither the S3 protocol nor
//! where a drive is.

mod copy;
pub mod explain;
mod garbage;
mod metrics;
mod objects;
mod read;
mod refusal;
mod settings;
pub mod shard_io;
mod store;
mod upload;
mod write;

pub use explain::{ExplainedChunk, ExplainedEntry, ExplainedSlot, ExplainedSource, Explanation, SlotState};
pub use refusal::{object_error, propose_error, query_error};
pub use settings::Settings;
pub use shard_io::{ShardError, ShardIo, ShardSink, ShardSource, Unit};
pub use store::ObjectStore;
