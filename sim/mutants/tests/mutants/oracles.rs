//! What can catch a bug, from the cheapest on.

use super::state;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random runs of the state machine.
const STATE_SEEDS: std::ops::RangeInclusive<u64> = 1..=4;

type Check = Box<dyn Fn() -> Result<u64, String>>;

pub(crate) struct Oracle {
    pub(crate) name: String,
    check: Check,
}

impl Oracle {
    fn new(name: impl Into<String>, check: impl Fn() -> Result<u64, String> + 'static) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    /// What is wrong; a panic is as good as an answer.
    pub(crate) fn ask(&self) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(&self.check)) {
            Ok(Ok(_)) => None,
            Ok(Err(what)) => Some(what),
            Err(_) => Some("a panic".to_owned()),
        }
    }
}

pub(crate) fn all() -> Vec<Oracle> {
    STATE_SEEDS
        .map(|seed| Oracle::new(format!("state machine, seed {seed}"), move || state::run(seed)))
        .collect()
}
