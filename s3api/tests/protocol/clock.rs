//! A clock that moves only when a test says so.

use crate::memory::START;
use ashlar_runtime::{Clock, clock::Sleep};
use ashlar_types::Timestamp;
use std::{
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct TestClock(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Duration,
    sleepers: Vec<Waker>,
}

impl TestClock {
    /// Lets all that can happen now happen, then moves on. Tests run on one thread, so giving way often enough lets
    /// every other task come to a stop.
    pub(crate) async fn advance(&self, by: Duration) {
        settle().await;
        let sleepers = {
            let mut state = self.0.lock().unwrap();
            state.now += by;
            std::mem::take(&mut state.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
        settle().await;
    }
}

pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    /// Stands still, so that signatures do not age.
    fn wall(&self) -> Timestamp {
        START
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let clock = self.clone();
        let deadline = self.monotonic() + duration;
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = clock.0.lock().unwrap();
            if state.now >= deadline {
                return Poll::Ready(());
            }
            state.sleepers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}
