//! Hyper's timer on the clock of the environment.

use ashlar_runtime::Clock;
use hyper::rt::{Sleep, Timer};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Hyper speaks of `Instant`s; here they are offsets of the clock from one arbitrary `Instant`.
#[derive(Clone, Debug)]
pub(super) struct HyperClock {
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl HyperClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "an arbitrary origin: only differences of the clock's times count"
    )]
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let origin = Instant::now().checked_sub(clock.monotonic()).unwrap_or_else(Instant::now);
        Self { clock, origin }
    }
}

impl Timer for HyperClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(ClockSleep(Mutex::new(self.clock.sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.monotonic()
    }
}

/// The lock only makes it `Sync`, which hyper asks for; it is never contended.
struct ClockSleep(Mutex<ashlar_runtime::clock::Sleep>);

impl Future for ClockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}

impl Sleep for ClockSleep {}
