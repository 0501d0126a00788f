//! Oracles: what clients and replicas may have seen, whatever failed meanwhile.
//!
//! They share no code with the product, not even its types, and know nothing of the scenario that made what they
//! judge: a history goes in, a verdict comes out.

mod all;
mod bucket;
pub mod counters;
pub mod history;
mod key;
pub mod linearizability;
pub mod listing;
pub mod raft;
pub mod recorder;
pub mod register;
pub mod replicas;
pub mod search;
pub mod versions;

#[cfg(test)]
mod cross;
#[cfg(test)]
mod planted;

pub use all::judge;
