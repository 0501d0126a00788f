//! Stories told by real processes, seen through sockets only.
//!
//! This library is the harness: it builds the `ashlar` binary, runs clusters of it in temporary directories, talks
//! to them as an operator (`ashlar ... --json`) and as a client (the AWS SDK), and keeps the records that the
//! oracles judge. The stories themselves are in `tests/stories.rs`.
//!
//! Nothing here shares code with the product but the vocabulary of `types`, so that an oracle cannot repeat a
//! mistake of what it judges. All choices of a run come from one seed (`ASHLAR_SEED`); a failing story prints the
//! command that repeats it, though the interleaving of real processes is the machine's own.
#![allow(
    clippy::disallowed_methods,
    reason = "real processes run in real time: there is no simulated clock here"
)]

pub mod binary;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod content;
pub mod dev;
pub mod history;
pub mod ledger;
pub mod node;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod random;
pub mod status;
pub mod story;
pub mod tree;
pub mod until;
pub mod workers;
