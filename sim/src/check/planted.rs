//! Random histories of a naive store pass; with each flaw planted in it some are caught, by the rule that is meant to.

mod store;

use self::store::{Flaw, random_history};
use super::{history::Violation, judge};

const SEEDS: u64 = 400;

#[test]
fn histories_of_a_store_without_flaw_pass() {
    let (mut zones, mut searched) = (0, 0);
    for seed in 0..4 * SEEDS {
        let history = random_history(seed, Flaw::None);
        let judged = judge(&history);
        assert!(judged.violations.is_empty(), "seed {seed}: {}", judged.violations[0]);
        assert!(judged.undecided.is_empty(), "seed {seed}: {:?}", judged.undecided);
        zones += judged.by_zones;
        searched += judged.by_search;
    }
    assert!(zones > 1000 && searched > 5000, "{zones} {searched}");
}

#[test]
fn each_flaw_is_caught_by_its_rule() {
    let mut missed = Vec::new();
    for (flaw, rules) in [
        (Flaw::StaleRead, &["linearizable"][..]),
        (Flaw::StaleListing, &["linearizable"]),
        (Flaw::LostWrite, &["linearizable"]),
        (Flaw::LateWrite, &["linearizable"]),
        (Flaw::ConditionIgnored, &["linearizable"]),
        (Flaw::RefusedButDone, &["linearizable", "body"]),
        (Flaw::MarkerForgotten, &["linearizable"]),
        (Flaw::DeleteForgotten, &["linearizable"]),
        (Flaw::AppliedTwice, &["linearizable", "applied twice"]),
        (Flaw::PartMissing, &["linearizable", "multipart atomicity"]),
        (Flaw::CompletedTwice, &["linearizable", "multipart atomicity"]),
        (Flaw::AbortForgotten, &["linearizable", "multipart atomicity"]),
        (Flaw::KeySkipped, &["linearizable"]),
        (Flaw::KeyRepeated, &["listing"]),
        (Flaw::KeyInvented, &["listing"]),
        (Flaw::PageTooLong, &["listing"]),
        (Flaw::VersionsTurned, &["linearizable", "version order"]),
        (Flaw::BytesChanged, &["body", "linearizable"]),
        (Flaw::BucketBack, &["bucket"]),
    ] {
        for rule in rules {
            let breaks =
                |violations: &[Violation]| violations.iter().any(|violation| violation.rule == *rule);
            if !(0..SEEDS).any(|seed| breaks(&judge(&random_history(seed, flaw)).violations)) {
                missed.push((flaw, *rule));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
