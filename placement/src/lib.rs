//! Cluster map and the pure rules over it: acting sets, voters, default profiles, what-ifs.
//!
//! Knows no I/O, no clock and no randomness: the same map always gives the same answer.

mod choose;
mod default_profile;
mod layout;
mod load;
pub mod map;
mod plan;
#[cfg(test)]
mod testing;
mod voters;
mod what_if;

pub use choose::{choose_pg, handoff};
pub use default_profile::{default_pg_count, default_profile};
pub use map::{
    ClusterMap, Domain, Drive, DriveState, Group, Labels, Node, NodeState, Phase, PlacementGroup, Slot,
};
pub use plan::{GAP_PERCENT, GAP_SLOTS, Move, Plan, Warning, plan, plan_initial, plan_moves};
pub use voters::{plan_voters, voter_count, voter_domains};
pub use what_if::{Change, Impact, what_if};
