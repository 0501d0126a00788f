//! Cluster map and the pure rules over it: acting sets, voters, default profiles, what-ifs.
//!
//! Knows no I/O, no clock and no randomness: the same map always gives the same answer.

pub mod map;

pub use map::{
    ClusterMap, Domain, Drive, DriveState, Group, Labels, Node, NodeState, Phase, PlacementGroup, Slot,
};
