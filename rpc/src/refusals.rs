//! Says who was refused and why, on both sides, once in a while and not for every try.

use ashlar_runtime::{Clock, sync::Mutex};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Between two lines about the same peer and reason: a node tries again several times a second.
const EVERY: Duration = Duration::from_secs(30);
/// Peers and reasons that are told apart; strangers cannot make it grow.
const KNOWN_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Refusals {
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<(String, String), Known>>,
}

#[derive(Debug)]
struct Known {
    told: Duration,
    untold: u64,
}

impl Refusals {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// This node refused a caller.
    pub(crate) fn told_to(&self, peer: &str, reason: &str) {
        if let Some(untold) = self.is_due(format!("from {peer}"), reason) {
            tracing::warn!(peer, reason, untold, "refused a caller");
        }
    }

    /// A peer refused this node.
    pub(crate) fn told_by(&self, peer: &str, reason: &str) {
        if let Some(untold) = self.is_due(format!("to {peer}"), reason) {
            tracing::warn!(peer, reason, untold, "refused by a peer");
        }
    }

    /// This node did not take what answered at a peer's address.
    pub(crate) fn refused_peer(&self, peer: &str, reason: &str) {
        if let Some(untold) = self.is_due(format!("to {peer}"), reason) {
            tracing::warn!(peer, reason, untold, "refused a peer");
        }
    }

    /// How many were not told since the last one, if it is time to tell another.
    fn is_due(&self, who: String, reason: &str) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, known| now.saturating_sub(known.told) < EVERY);
        }
        let key = (who, reason.to_owned());
        if let Some(known) = known.get_mut(&key) {
            if now.saturating_sub(known.told) < EVERY {
                known.untold += 1;
                return None;
            }
            known.told = now;
            return Some(std::mem::take(&mut known.untold));
        }
        if known.len() >= KNOWN_MAX {
            return None;
        }
        known.insert(key, Known { told: now, untold: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::clock::Sleep;
    use ashlar_types::Timestamp;

    #[derive(Debug, Default)]
    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn sleep(&self, _: Duration) -> Sleep {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_refusal_is_told_once_in_a_while() {
        let clock = Arc::new(Hand::default());
        let refusals = Refusals::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let due = |who: &str, why| refusals.is_due(who.to_owned(), why);
        assert_eq!(due("a", "why"), Some(0));
        assert_eq!(due("a", "why"), None);
        assert_eq!(due("a", "why"), None);
        assert_eq!(due("b", "why"), Some(0));
        assert_eq!(due("a", "another"), Some(0));
        *clock.0.lock().unwrap() += EVERY;
        assert_eq!(due("a", "why"), Some(2));
        for stranger in 0..2 * KNOWN_MAX {
            due(&stranger.to_string(), "why");
        }
        assert!(refusals.known.lock().unwrap().len() <= KNOWN_MAX);
    }
}
