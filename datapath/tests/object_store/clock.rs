//! A clock that stands still until a test moves it, and random numbers from a seed.

use ashlar_runtime::{Clock, Rng, clock::Sleep};
use ashlar_types::Timestamp;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::watch;

#[derive(Debug)]
pub struct TestClock(watch::Sender<Duration>);

impl TestClock {
    pub fn new() -> Self {
        Self(watch::Sender::new(Duration::ZERO))
    }

    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        *self.0.borrow()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0).plus(self.monotonic())
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut now = self.0.subscribe();
        let until = *now.borrow() + duration;
        Box::pin(async move {
            if now.wait_for(|now| *now >= until).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// SplitMix64.
#[derive(Debug)]
pub struct SeededRng(AtomicU64);

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
