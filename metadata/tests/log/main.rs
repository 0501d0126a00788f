//! The crash proof of the Raft log: whatever a power cut, a kill, a full disk or damage leaves, what was answered is there,
//! what was not is whole or absent, and a replica whose records are damaged says so and never serves others.
//!
//! Replicas of several groups work on one log on a simulated disk that records every change and, between them, what the
//! replicas were told (`model`). Then the history is cut at every event, with chosen survivors among the changes that were
//! not durable, and the log is recovered from what is left and read in full (`sweep`). All runs on one thread in an order
//! that follows from the seed alone. Nothing here shares code with the product but its public types.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod client;
mod crash;
mod damage;
mod exhaustive;
mod failing;
mod model;
mod node;
mod sweep;

/// SplitMix64: a seed means the same run in every release.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).expect("less than the bound")
    }
}
