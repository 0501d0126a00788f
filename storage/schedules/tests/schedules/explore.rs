//! Runs a scenario under many schedules, or under the one that failed.

use super::drive::Base;
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, RoundRobinScheduler, Scheduler},
};
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

/// A schedule as a failure prints it, to be run alone.
const SCHEDULE: &str = "ASHLAR_SCHEDULE";
/// Multiplies the number of schedules.
const FACTOR: &str = "ASHLAR_SCHEDULES_FACTOR";
/// Seed of all schedulers.
const SEED: u64 = 11;
/// Changes of priority in one schedule of the priority scheduler, and one: enough for what takes so many
/// preemptions to go wrong.
const DEPTHS: [usize; 3] = [2, 3, 5];
const STACK_BYTES: usize = 256 << 10;

/// How many schedules each scheduler makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedules(pub(crate) usize);

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // Orderings are taken for sequentially consistent, of which the explorer warns; the drive has no atomic on
    // which other memory depends.
    config.silence_warnings = true;
    config
}

/// Under one schedule that is fair to all.
pub(crate) fn once(work: impl Fn() + Send + Sync + 'static) {
    Runner::new(RoundRobinScheduler::new(1), config()).run(work);
}

/// Plays the scenario of that name under random schedules and under those with few preemptions.
pub(crate) fn explore(
    name: &str,
    base: Base,
    schedules: Schedules,
    play: impl Fn(&Base) + Send + Sync + 'static,
) {
    let work = Arc::new(move || play(&base));
    if let Ok(schedule) = env::var(SCHEDULE) {
        run(name, ReplayScheduler::new_from_encoded(&schedule), &work);
        return;
    }
    let factor = env::var(FACTOR).map_or(1, |factor| factor.parse().unwrap());
    let each = schedules.0 * factor;
    let mut count = run(name, RandomScheduler::new_from_seed(SEED, each), &work);
    for depth in DEPTHS {
        count += run(name, PctScheduler::new_from_seed(SEED, depth, each), &work);
    }
    eprintln!("{name}: {count} schedules");
}

fn run(
    name: &str,
    scheduler: impl Scheduler + 'static,
    work: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let work = Arc::clone(work);
    let runner = Runner::new(scheduler, config());
    catch_unwind(AssertUnwindSafe(|| runner.run(move || work()))).unwrap_or_else(|panic| {
        eprintln!(
            "repeat, with the failing schedule from above: {SCHEDULE}='...' cargo test -p ashlar-storage-schedules \
             --test schedules {name}"
        );
        resume_unwind(panic)
    })
}
