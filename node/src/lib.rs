//! The ashlar daemon and command line; the only place where all crates meet.

mod admin;
mod backend;
mod buckets;
mod capacity;
pub mod cli;
pub mod config;
mod credentials;
mod drives;
mod explain;
mod forming;
mod health;
mod housekeeping;
mod identity;
mod join;
mod metrics_server;
pub mod node;
mod node_service;
mod ready;
mod running;
mod shard_client;
mod shard_service;
mod shard_wire;
mod start;
mod status;
