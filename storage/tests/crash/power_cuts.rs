//! Power cuts and kills at every event. Each test says on stderr how many crash points it checked.

use super::super::harness::{
    Counts, Failure, Limits,
    exhaustive::{self, Base, exhaustive, exhaustive_from},
    formatting::formatting,
    random::random,
};
use std::env;

pub(super) fn report(counts: Result<Counts, Failure>) -> Counts {
    let counts = counts.unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("crash points: {}", counts.points);
    eprintln!("{counts:?}");
    counts
}

/// Everything once in small, through the entry points that other packages use.
#[test]
fn the_entry_points_run() {
    let limits = Limits { sequence_len: 1, operations: 10..=10, ..Limits::default() };
    let mut counts = exhaustive(&limits).unwrap_or_else(|failure| panic!("{failure}"));
    counts.add(random(0, &limits).unwrap_or_else(|failure| panic!("{failure}")));
    report(Ok(counts));
}

#[test]
fn every_short_sequence_on_an_empty_drive_survives_every_crash() {
    if let Ok(name) = env::var(exhaustive::VARIABLE) {
        report(exhaustive::repeat(&name));
        return;
    }
    let counts = report(exhaustive_from(Base::Empty, &Limits::default()));
    assert!(counts.torn_tails > 0 && counts.from_checkpoint > 0 && counts.kills > 0, "{counts:?}");
}

#[test]
fn every_short_sequence_on_an_aged_drive_survives_every_crash() {
    let counts = report(exhaustive_from(Base::Aged, &Limits::default()));
    assert!(counts.torn_tails > 0 && counts.from_checkpoint > 0 && counts.kills > 0, "{counts:?}");
}

#[test]
fn every_short_sequence_after_a_crash_survives_the_next_one() {
    report(exhaustive_from(Base::Torn, &Limits::default()));
}

#[test]
fn a_format_is_done_or_can_be_repeated_after_a_crash() {
    report(formatting());
}
