//! The random mode with fresh seeds for as long as one likes, on two threads.

use super::super::harness::{Counts, Failure, Limits, random::random};
use ashlar_runtime::{Clock, RealClock, RealRng, RngExt, Tasks};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const THREADS: usize = 2;
const REPORT_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Progress {
    counts: Counts,
    seeds: u64,
    last_seed: u64,
    failures: u64,
    reported: Duration,
}

/// Fails at the end if any seed did.
pub(crate) fn soak(end: Duration) {
    let (clock, progress) = (Arc::new(RealClock::new()), Arc::new(Mutex::new(Progress::default())));
    let begun = clock.monotonic();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (clock, progress) = (Arc::clone(&clock), Arc::clone(&progress));
            Tasks::real().worker(format!("soak-{number}"), move || {
                while clock.monotonic() - begun < end {
                    // Seeds that are short to type.
                    let seed = RealRng.u64() >> 32;
                    let outcome = random(seed, &Limits::default());
                    let took = clock.monotonic() - begun;
                    progress.lock().unwrap().add(seed, outcome, took);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join();
    }
    let progress = progress.lock().unwrap();
    progress.print(clock.monotonic() - begun);
    eprintln!("crash points: {}", progress.counts.points);
    assert_eq!(progress.failures, 0, "seeds failed, see above");
}

impl Progress {
    fn add(&mut self, seed: u64, outcome: Result<Counts, Failure>, took: Duration) {
        self.seeds += 1;
        self.last_seed = seed;
        match outcome {
            Ok(counts) => self.counts.add(counts),
            Err(failure) => {
                self.failures += 1;
                eprintln!("FAILED {failure}");
            }
        }
        if took >= self.reported + REPORT_EVERY {
            self.reported = took;
            self.print(took);
        }
    }

    fn print(&self, took: Duration) {
        let Self { counts, seeds, last_seed, failures, .. } = self;
        eprintln!(
            "{} s: {seeds} seeds (last {last_seed}), {} points, {} double crashes, {} kills, {failures} failures",
            took.as_secs(),
            counts.points,
            counts.second_lives,
            counts.kills,
        );
    }
}
