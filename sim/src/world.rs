//! One machine after another, simulated: what a node takes from outside, made from one seed.
//!
//! Owns the implementations of the seams of `runtime` (clock, randomness, tasks, disk, net) over turmoil, and the hosts
//! that run metadata nodes on them. Does not know what is asked of the nodes (see `workload`) nor what befalls them (see
//! `faults`).
//! Invariants:
//!  - one thread runs at a time, and nothing depends on anything but the seed;
//!  - disk calls of drivers take simulated time, so that a crash falls between a write and its flush;
//!  - a host that is down does nothing: its disk fails, its threads have ended.

pub mod clock;
pub mod cluster;
pub mod coroutine;
pub mod disk;
pub mod host;
pub mod kv;
pub mod net;
pub mod rng;
pub mod tasks;
pub mod trace;

pub use cluster::Cluster;
pub use host::{Host, Life};
pub use rng::Seed;
pub use trace::Trace;
