//! Monotonic and wall clocks.
//!
//! Deadlines and intervals use the monotonic clock; the wall clock serves signatures, certificates and the stamps
//! that the group clock is held against. Neither decides anything in the state machine.

use ashlar_types::Timestamp;
use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

pub trait Clock: Debug + Send + Sync {
    /// Time since an arbitrary origin; never goes back.
    fn monotonic(&self) -> Duration;

    /// What the machine takes for the present time; may jump either way.
    fn wall(&self) -> Timestamp;

    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The wait was longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within the deadline")]
pub struct Elapsed;

/// Waits with a deadline on any clock.
pub trait ClockExt: Clock {
    /// Cancel-safe if `future` is; `future` is dropped when the time is over.
    fn timeout<F: Future + Send>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + Send {
        let sleep = self.sleep(limit);
        async move {
            tokio::select! {
                biased;
                output = future => Ok(output),
                () = sleep => Err(Elapsed),
            }
        }
    }
}

impl<C: Clock + ?Sized> ClockExt for C {}

/// The machine's clocks. Sleeping goes through tokio's timer, so a paused tokio runtime pauses it too.
#[derive(Debug)]
pub struct RealClock {
    origin: tokio::time::Instant,
}

impl RealClock {
    #[allow(clippy::disallowed_methods, reason = "this is the place the other crates are sent to")]
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the place the other crates are sent to")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}
