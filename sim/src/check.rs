//! Oracles: what clients and replicas may have seen, whatever failed meanwhile.
//!
//! They share no code with the product, not even its types, and know nothing of the scenario that made what they
//! judge: a history goes in, a verdict comes out.

pub mod history;
pub mod recorder;
