//! The invariants of Raft, fed with what replicas show of themselves.
//!
//! D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus Algorithm", section 5: election safety, log
//! matching, leader completeness, state machine safety. Observations come in the order in which they were made, but may be
//! few: what was not looked at is not judged.

use super::history::Violation;
use std::collections::BTreeMap;

/// Where an entry stands: index and term. Two entries of a group at the same index and term are the same entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub index: u64,
    pub term: u64,
}

/// Of one replica of one group. Replicas are named by node and incarnation in one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It says that it leads. `last`: the end of its log at that moment.
    Leads { term: u64, last: Option<At> },
    /// It voted, durably.
    Voted { term: u64, candidate: u64 },
    /// An entry of its log, and a digest of what is in it.
    Holds { at: At, digest: u64 },
    /// It knows that the entry is committed.
    Committed { at: At },
    /// It applied the entry, and a digest of what is in it, if that is known.
    Applied { at: At, digest: Option<u64> },
}

/// All replicas of one group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    held: BTreeMap<At, u64>,
    /// Term by index of what is committed or applied anywhere.
    decided: BTreeMap<u64, u64>,
    applied: BTreeMap<u64, u64>,
    observations: u64,
}

impl Group {
    pub fn observe(&mut self, replica: u64, observed: &Observed) -> Result<(), Violation> {
        self.observations += 1;
        match *observed {
            Observed::Leads { term, last } => self.leads(replica, term, last),
            Observed::Voted { term, candidate } => {
                let known = *self.votes.entry((replica, term)).or_insert(candidate);
                let what = || format!("{replica:#x} voted for {known:#x} and {candidate:#x} in term {term}");
                same("one vote a term", known == candidate, what)
            }
            Observed::Holds { at, digest } => {
                let known = *self.held.entry(at).or_insert(digest);
                same("log matching", known == digest, || {
                    format!("{at:?} is two entries, one on {replica:#x}")
                })
            }
            Observed::Committed { at } => self.decide(replica, at),
            Observed::Applied { at, digest } => {
                self.decide(replica, at)?;
                let Some(digest) = digest else { return Ok(()) };
                let known = *self.applied.entry(at.index).or_insert(digest);
                same("state machine safety", known == digest, || {
                    format!("{at:?} is applied as two entries, one on {replica:#x}")
                })
            }
        }
    }

    pub fn observations(&self) -> u64 {
        self.observations
    }

    fn leads(&mut self, replica: u64, term: u64, last: Option<At>) -> Result<(), Violation> {
        let known = *self.leaders.entry(term).or_insert(replica);
        same("election safety", known == replica, || {
            format!("{known:#x} and {replica:#x} lead in term {term}")
        })?;
        // Whatever was committed in an earlier term is in the log of whoever leads now.
        let newest = self.decided.iter().rev().find(|(_, decided)| **decided < term);
        let missing = newest.filter(|(index, _)| last.is_none_or(|last| last.index < **index));
        same("leader completeness", missing.is_none(), || {
            format!(
                "{replica:#x} leads in term {term} with a log up to {last:?}, and {missing:?} was committed"
            )
        })
    }

    fn decide(&mut self, replica: u64, at: At) -> Result<(), Violation> {
        let known = *self.decided.entry(at.index).or_insert(at.term);
        same("state machine safety", known == at.term, || {
            format!("index {} is of term {known} and, on {replica:#x}, of term {}", at.index, at.term)
        })
    }
}

fn same(rule: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(rule, what())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> At {
        At { index, term }
    }

    fn judge(observed: &[(u64, Observed)]) -> Result<(), &'static str> {
        let mut group = Group::default();
        observed
            .iter()
            .try_for_each(|(replica, observed)| group.observe(*replica, observed).map_err(|v| v.rule))
    }

    #[test]
    fn a_history_of_a_group_passes() {
        let history = [
            (1, Observed::Voted { term: 1, candidate: 1 }),
            (2, Observed::Voted { term: 1, candidate: 1 }),
            (1, Observed::Leads { term: 1, last: None }),
            (1, Observed::Leads { term: 1, last: Some(at(1, 1)) }),
            (1, Observed::Holds { at: at(1, 1), digest: 7 }),
            (2, Observed::Holds { at: at(1, 1), digest: 7 }),
            (1, Observed::Committed { at: at(1, 1) }),
            (2, Observed::Applied { at: at(1, 1), digest: Some(7) }),
            (2, Observed::Leads { term: 2, last: Some(at(1, 1)) }),
            // An entry that was never committed gives way to another one.
            (1, Observed::Holds { at: at(2, 1), digest: 8 }),
            (2, Observed::Holds { at: at(2, 2), digest: 9 }),
            (1, Observed::Applied { at: at(2, 2), digest: Some(9) }),
        ];
        assert_eq!(judge(&history), Ok(()));
    }

    #[test]
    fn each_invariant_is_seen_broken() {
        let broken = [
            (
                "election safety",
                vec![
                    (1, Observed::Leads { term: 1, last: None }),
                    (2, Observed::Leads { term: 1, last: None }),
                ],
            ),
            (
                "one vote a term",
                vec![
                    (1, Observed::Voted { term: 1, candidate: 1 }),
                    (1, Observed::Voted { term: 1, candidate: 2 }),
                ],
            ),
            (
                "log matching",
                vec![
                    (1, Observed::Holds { at: at(1, 1), digest: 7 }),
                    (2, Observed::Holds { at: at(1, 1), digest: 8 }),
                ],
            ),
            (
                "leader completeness",
                vec![
                    (1, Observed::Committed { at: at(3, 1) }),
                    (2, Observed::Leads { term: 2, last: Some(at(2, 1)) }),
                ],
            ),
            (
                "state machine safety",
                vec![
                    (1, Observed::Committed { at: at(1, 1) }),
                    (2, Observed::Applied { at: at(1, 2), digest: None }),
                ],
            ),
            (
                "state machine safety",
                vec![
                    (1, Observed::Applied { at: at(1, 1), digest: Some(1) }),
                    (2, Observed::Applied { at: at(1, 1), digest: Some(2) }),
                ],
            ),
        ];
        for (rule, history) in broken {
            assert_eq!(judge(&history), Err(rule), "{history:?}");
        }
    }
}
