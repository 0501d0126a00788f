//! The replicated metadata store: state machine, Raft groups, log store and client.

pub mod api;
pub(crate) mod calls;
pub mod client;
pub mod command;
pub mod encoding;
pub mod error;
pub mod event;
pub mod kv;
pub mod log;
pub(crate) mod metrics;
pub mod node;
mod planted;
pub mod query;
pub(crate) mod raft;
pub(crate) mod service;
pub mod state;
pub mod tables;

pub use api::MetadataApi;
pub use client::MetadataClient;
pub use error::MetadataError;
pub use node::{MetadataConfig, MetadataNode};
#[cfg(mutants)]
pub use {
    planted::{Plant, plant},
    raft::clock::stamp_of_a_leader_ahead_by,
};
