//! What can catch a bug, from the cheapest on.

use super::{log, state};
use ashlar_metadata::stamp_of_a_leader_ahead_by;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

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
    let mut oracles = vec![Oracle::new("a leader with a clock that is wrong", skewed_leader)];
    for seed in STATE_SEEDS {
        oracles.push(Oracle::new(format!("state machine, seed {seed}"), move || state::run(seed)));
    }
    oracles.push(Oracle::new("segments that are used again", log::recycling));
    oracles.push(Oracle::new("power cuts right after answers", log::power_cuts));
    oracles.push(Oracle::new("flipped bits of the log", log::damage));
    oracles
}

/// Two voters of three agree about the time: the third one, which leads, is an hour ahead.
fn skewed_leader() -> Result<u64, String> {
    let (stamp, right) = stamp_of_a_leader_ahead_by(Duration::from_secs(3_600));
    if stamp == right { Ok(1) } else { Err(format!("stamps {stamp:?} where the others have {right:?}")) }
}
