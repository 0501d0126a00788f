//! Seeds of the simulation, each in a fresh process: more than half an hour of a cluster's life.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

use ashlar_sim::soak::{Soak, Verdict};
use std::ops::RangeInclusive;

fn soak(seeds: RangeInclusive<u64>, minutes: u64) -> Soak {
    Soak { program: env!("CARGO_BIN_EXE_ashlar-sim").into(), seeds, minutes, jobs: 2, ledger: None }
}

#[test]
fn no_seed_breaks_a_promise_and_together_they_meet_what_matters() {
    let soak = soak(1..=10, 3);
    let (sums, lines) = soak.run().unwrap();
    for line in &lines {
        let report = line.report.as_ref();
        assert!(
            matches!(line.verdict, Verdict::Passed | Verdict::Thin),
            "seed {} is {:?}: {:?} {:?}\nrepeat it with: {}",
            line.seed,
            line.verdict,
            report.map(|report| &report.violations),
            line.last_words,
            soak.repeat(line.seed),
        );
    }
    assert!(sums.simulated_hours >= 0.5, "{sums:?}");
    assert!(
        sums.snapshots_installed > 0 && sums.histories > 300 && sums.undecided * 50 < sums.histories,
        "{sums:?}"
    );
    let met = ["leader_in_minority", "leader_in_majority", "one_way", "killed_in_complete", "leader_crashed"];
    for what in met {
        assert!(sums.coverage.contains_key(what), "no run met {what}: {sums:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_in_another_process() {
    let traces = |seed| {
        let (_, lines) = soak(seed..=seed, 1).run().unwrap();
        lines[0].report.as_ref().unwrap().trace.clone()
    };
    assert_eq!(traces(77), traces(77));
    assert_ne!(traces(77), traces(78));
}
