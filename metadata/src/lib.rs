//! The replicated metadata store: state machine, Raft groups, log store and client.

pub mod api;
pub mod command;
pub mod encoding;
pub mod error;
pub mod kv;
pub mod query;
pub mod state;
pub mod tables;

pub use api::MetadataApi;
pub use error::MetadataError;
