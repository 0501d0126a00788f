//! Randomness from the seed: SplitMix64, because a seed must mean the same run in every release.

use ashlar_runtime::Rng;
use std::sync::{Mutex, PoisonError};

/// A stream of numbers; the same for the same seed. Forks are streams of their own.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.number()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two u64 fits one")
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than a usize")
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.index(of.len());
        of.get(index)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn u128(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }
}

/// The random source of one process of a host.
#[derive(Debug)]
pub(crate) struct SimRng(Mutex<Seed>);

impl SimRng {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        let mut seed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&seed.number().to_le_bytes()[..chunk.len()]);
        }
    }
}
