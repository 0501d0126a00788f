//! Long runs of concurrent clients, from seeds.

use super::{
    super::harness::{Counts, Limits, random::random},
    power_cuts::report,
    soak::soak,
};
use std::{env, time::Duration};

/// Runs one seed alone.
const SEED: &str = "ASHLAR_CRASH_SEED";
/// Runs fresh seeds for so long.
const SOAK_SECONDS: &str = "ASHLAR_SOAK_SECONDS";

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {value}")))
}

fn random_runs(seeds: impl Iterator<Item = u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        counts.add(random(seed, &Limits::default()).unwrap_or_else(|failure| panic!("{failure}")));
    }
    report(Ok(counts))
}

#[test]
fn concurrent_clients_keep_what_was_acknowledged_through_two_crashes() {
    if let Some(seed) = number(SEED) {
        random_runs([seed].into_iter());
    } else if let Some(seconds) = number(SOAK_SECONDS) {
        soak(Duration::from_secs(seconds));
    } else {
        let counts = random_runs(1..=10);
        assert!(counts.second_lives > 0 && counts.kills > 0 && counts.from_checkpoint > 0, "{counts:?}");
    }
}

#[test]
fn other_concurrent_clients_keep_what_was_acknowledged_through_two_crashes() {
    random_runs(11..=20);
}
