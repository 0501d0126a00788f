//! Time of a host: tokio's paused clock, which turmoil advances, and a wall clock that may be wrong.

use super::coroutine;
use ashlar_runtime::{Clock, clock::Sleep};
use ashlar_types::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The true time of the simulation in milliseconds, moved by the one who steps it.
#[derive(Clone, Debug, Default)]
pub struct SimTime(Arc<AtomicU64>);

/// 2026-01-01, so that a clock may be years wrong either way.
const EPOCH_MS: u64 = 1_767_225_600_000;

impl SimTime {
    pub(crate) fn set(&self, elapsed: Duration) {
        self.0.store(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Since the beginning of the simulation.
    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn wall(&self) -> u64 {
        EPOCH_MS + self.millis()
    }
}

/// How wrong the wall clock of a host is.
#[derive(Clone, Debug, Default)]
pub struct Skew(Arc<AtomicI64>);

impl Skew {
    pub fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    pub fn millis(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct SimClock {
    origin: tokio::time::Instant,
    /// Nanoseconds, as of the last time that the process asked.
    last: AtomicU64,
    time: SimTime,
    skew: Skew,
}

impl SimClock {
    /// Of a process that starts now; called in its host.
    #[allow(clippy::disallowed_methods, reason = "the simulated clock is made from tokio's")]
    pub(crate) fn new(time: SimTime, skew: Skew) -> Self {
        Self { origin: tokio::time::Instant::now(), last: AtomicU64::new(0), time, skew }
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        let now = match coroutine::now() {
            Some(now) => now - self.origin,
            None if tokio::runtime::Handle::try_current().is_ok() => self.origin.elapsed(),
            // Whoever steps the simulation looks into a process from outside: tokio would tell the machine's time.
            None => return Duration::from_nanos(self.last.load(Ordering::SeqCst)),
        };
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last.fetch_max(nanos, Ordering::SeqCst);
        now
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.time.wall().saturating_add_signed(self.skew.millis()))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}
