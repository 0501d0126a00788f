//! The replicated metadata store: state machine, Raft groups, log store and client.

pub mod api;
pub mod command;
pub mod error;
pub mod query;

pub use api::MetadataApi;
pub use error::MetadataError;
