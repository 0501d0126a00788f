//! Every bug of the table is caught, and what is without one passes.

use super::oracles::{self, Oracle};
use ashlar_metadata::{Plant, plant};

const PLANTS: [Plant; 16] = [
    Plant::VoteNotSynced,
    Plant::AckBeforeFlush,
    Plant::TornTailSwallowsMiddle,
    Plant::StaleRecordAccepted,
    Plant::PurgePastPersisted,
    Plant::WipedVoterVotes,
    Plant::LeaderClockDecides,
    Plant::CompleteNotAtomic,
    Plant::ConditionOutsideLog,
    Plant::SnapshotWithoutTable,
    Plant::GarbageIgnoresUpload,
    Plant::OutcomesEvictedByCount,
    Plant::ExpiredCommandApplied,
    Plant::CountersOutsideApply,
    Plant::FenceIgnored,
    Plant::DigestMismatchIgnored,
];

/// Asks one oracle after the other until one objects.
fn ask(oracles: &[Oracle]) -> Option<(&str, String)> {
    oracles.iter().find_map(|oracle| Some((oracle.name.as_str(), oracle.ask()?)))
}

/// One test, because a bug is planted in all of the process.
#[test]
fn every_planted_bug_is_caught() {
    let oracles = oracles::all();
    plant(None);
    assert_eq!(ask(&oracles), None, "without a planted bug");
    let mut survivors = Vec::new();
    for mutant in PLANTS {
        plant(Some(mutant));
        let objection = ask(&oracles);
        plant(None);
        match objection {
            Some((oracle, what)) => {
                let first = what.lines().next().unwrap_or_default();
                eprintln!("mutant {mutant:?} caught by {oracle}: {first}");
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
