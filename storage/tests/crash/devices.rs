//! Devices that fail or lie, one call at a time.

use super::super::harness::{Counts, Failure, Limits, failing, silent};

fn report(counts: Result<Counts, Failure>) {
    let counts = counts.unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("crash points: {}", counts.points);
    assert!(counts.points > 0);
}

#[test]
fn a_failed_call_loses_nothing_and_a_failed_flush_ends_acknowledgements() {
    report(failing::failing_calls(&Limits::default()));
}

#[test]
fn a_device_that_lies_costs_a_shard_and_never_shows_wrong_bytes() {
    report(silent::silent_faults(&Limits::default()));
}

#[test]
fn a_drive_that_decays_serves_the_rest() {
    report(silent::decay(2000, &Limits::default()));
}

#[test]
fn a_recovery_that_is_lied_to_shows_nothing_wrong_and_breaks_nothing() {
    report(silent::lies_during_recovery(&Limits::default()));
}
