//! Every bug of the table is caught, and what is without one passes.

use super::oracles::{self, Oracle};
use ashlar_storage::{Plant, plant};

const PLANTS: [Plant; 9] = [
    Plant::AckBeforeFlush,
    Plant::NoFlush,
    Plant::NoDirectorySync,
    Plant::NoChecksumOnRead,
    Plant::ChecksumOverWrongRange,
    Plant::TornTailSwallowsMiddle,
    Plant::DeleteLostInCompaction,
    Plant::StaleRecordAccepted,
    Plant::LargeBeforeItsData,
];

/// What an oracle says is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Objection<'a> {
    oracle: &'a str,
    what: String,
}

/// Asks one oracle after the other until one objects. Returns that too, and the crash points that were right.
fn ask(oracles: &[Oracle]) -> (Option<Objection<'_>>, u64) {
    let mut points = 0;
    for oracle in oracles {
        let (more, objection) = oracle.ask();
        points += more;
        if let Some(what) = objection {
            return (Some(Objection { oracle: &oracle.name, what }), points);
        }
    }
    (None, points)
}

/// One test, because a bug is planted in all drives of the process.
#[test]
fn every_planted_bug_is_caught() {
    let oracles = oracles::all();
    plant(None);
    let (objection, points) = ask(&oracles);
    assert_eq!(objection, None, "without a planted bug");
    eprintln!("no mutant: {points} crash points pass");
    let mut survivors = Vec::new();
    for mutant in PLANTS {
        plant(Some(mutant));
        let (objection, points) = ask(&oracles);
        plant(None);
        match objection {
            Some(Objection { oracle, what }) => {
                eprintln!("mutant {mutant:?} caught by {oracle} after {points} crash points: {what}");
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
