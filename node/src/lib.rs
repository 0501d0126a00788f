//! The ashlar daemon and command line; the only place where all crates meet.

pub mod admin;
pub mod backend;
pub mod buckets;
pub mod budgets;
pub mod capacity;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod drives;
pub mod entry;
pub mod explain;
pub mod forming;
pub mod health;
pub mod housekeeping;
pub mod identity;
pub mod join;
pub mod metrics_server;
pub mod node;
pub mod node_service;
pub mod ready;
pub mod running;
pub mod shard_client;
pub mod shard_service;
pub mod shard_wire;
pub mod start;
pub mod status;
