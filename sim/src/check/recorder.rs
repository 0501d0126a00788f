//! Clients write into it what they call and what they are answered.
//!
//! One recorder for all clients of a run: the order in which it is called is the order of the history. A client
//! records the invocation before anything of the call can have an effect, and the return after all of it.

use super::history::{Call, Client, History, Moment, Operation, Outcome};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Clone, Default)]
pub struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    history: History,
    events: u64,
}

/// A call that has not returned. Dropping it leaves the outcome unknown.
#[must_use = "a call that never returns may still take effect, which explains much"]
pub struct Pending {
    place: usize,
    recorder: Recorder,
}

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Said before the first call on the bucket.
    pub fn versioned(&self, bucket: impl Into<String>) {
        self.lock().history.versioned.insert(bucket.into());
    }

    /// `now`: simulated time since the beginning.
    pub fn invoke(&self, client: Client, operation: Operation, now: Duration) -> Pending {
        let mut recorded = self.lock();
        let invoked = recorded.moment();
        let place = recorded.history.calls.len();
        recorded.history.calls.push(Call {
            client,
            operation,
            invoked,
            returned: None,
            outcome: Outcome::Unknown,
            times: (now, None),
        });
        Pending { place, recorder: self.clone() }
    }

    /// As of now.
    pub fn history(&self) -> History {
        self.lock().history.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    fn moment(&mut self) -> Moment {
        self.events += 1;
        Moment(self.events)
    }
}

impl Pending {
    /// With [`Outcome::Unknown`] the call may still take effect later.
    pub fn finish(self, outcome: Outcome, now: Duration) {
        let mut recorded = self.recorder.lock();
        let returned = recorded.moment();
        if let Some(call) = recorded.history.calls.get_mut(self.place) {
            call.returned = Some(returned);
            call.outcome = outcome;
            call.times.1 = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_an_order_and_dropped_calls_stay_unknown() {
        let recorder = Recorder::new();
        let head = |name: &str| Operation::HeadBucket { name: name.to_owned() };
        let first = recorder.invoke(Client(1), head("a"), Duration::ZERO);
        let second = recorder.invoke(Client(2), head("b"), Duration::ZERO);
        first.finish(Outcome::NotDone, Duration::from_secs(1));
        drop(second);
        recorder.versioned("a");
        let history = recorder.history();
        let spans: Vec<_> = history.calls.iter().map(|call| (call.invoked.0, call.returned)).collect();
        assert_eq!(spans, [(1, Some(Moment(3))), (2, None)]);
        assert_eq!(history.calls[1].outcome, Outcome::Unknown);
        assert!(history.versioned.contains("a"));
    }
}
