//! What can catch a bug: parts of the crash harness and scenarios of this package, from the cheapest on.

use super::{
    super::harness::{
        Counts, Failure, Limits,
        exhaustive::{STEPS, repeat},
        random::random,
        silent::decay,
    },
    scenarios::{self, Objection},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random runs, and operations of one.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;
const OPERATIONS: std::ops::RangeInclusive<u64> = 60..=80;
/// Places that decay in one part, one at a time.
const PLACES: u64 = 1000;

type Check = Box<dyn Fn() -> Result<Counts, Objection>>;

pub(crate) struct Oracle {
    pub(crate) name: String,
    check: Check,
}

impl Oracle {
    fn new(name: impl Into<String>, check: impl Fn() -> Result<Counts, Objection> + 'static) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    /// Crash points that are right, and what is wrong then; a panic is as good as an answer.
    pub(crate) fn ask(&self) -> (u64, Option<String>) {
        match catch_unwind(AssertUnwindSafe(&self.check)) {
            Ok(Ok(counts)) => (counts.points, None),
            Ok(Err((failure, points))) => (points, Some(failure.what)),
            Err(_) => (0, Some("a panic".to_owned())),
        }
    }
}

/// The harness does not say how far it came before a failure: those points are not counted.
fn of_harness(outcome: Result<Counts, Failure>) -> Result<Counts, Objection> {
    outcome.map_err(|failure| (failure, 0))
}

pub(crate) fn all() -> Vec<Oracle> {
    let mut oracles = vec![
        Oracle::new("slow flushes", scenarios::slow_flushes),
        Oracle::new("a delete beside compaction", scenarios::delete_beside_compaction),
        Oracle::new("damage in the middle of the log", scenarios::damage_in_the_middle),
    ];
    for base in ["Empty", "Aged", "Torn"] {
        for step in STEPS {
            let name = format!("{base}:{step:?}");
            oracles.push(Oracle::new(name.clone(), move || of_harness(repeat(&name))));
        }
    }
    oracles.push(Oracle::new("decay", || of_harness(decay(PLACES, &Limits::default()))));
    for seed in SEEDS {
        let limits = Limits { operations: OPERATIONS, ..Limits::default() };
        oracles.push(Oracle::new(format!("seed {seed}"), move || of_harness(random(seed, &limits))));
    }
    oracles
}
