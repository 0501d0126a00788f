//! Randomness: ids, salts, jitter and credentials.

use rand::{TryRngCore, rngs::OsRng};
use std::fmt::Debug;

pub trait Rng: Debug + Send + Sync {
    /// Fills `out` with bytes fit for secrets.
    fn fill(&self, out: &mut [u8]);
}

/// Numbers from any source of bytes.
pub trait RngExt: Rng {
    fn u64(&self) -> u64 {
        let mut raw = [0; 8];
        self.fill(&mut raw);
        u64::from_le_bytes(raw)
    }

    fn u128(&self) -> u128 {
        let mut raw = [0; 16];
        self.fill(&mut raw);
        u128::from_le_bytes(raw)
    }

    /// A number in `0..bound`; 0 for a bound of 0. Biased by less than 2^-64 x bound.
    fn below(&self, bound: u64) -> u64 {
        let product = u128::from(self.u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two u64 fits one")
    }
}

impl<R: Rng + ?Sized> RngExt for R {}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealRng;

impl Rng for RealRng {
    fn fill(&self, out: &mut [u8]) {
        OsRng.try_fill_bytes(out).expect("the system's random source does not fail after boot");
    }
}
