//! One object that several writers replace by compare-and-set: each write names the value that it replaces, so all
//! writes that happened form one chain from the first value to the last.
//!
//! ```text
//! initial <- a <- b <- c = last        every acknowledged token is on it, no refused one is,
//!                                      and it never runs against the order that clients saw
//! ```
//!
//! Tokens are unique, so the chain follows from the last value alone and is checked in O(n log n). Nothing is
//! deleted.

use super::{Outcome, Span, Token};
use std::collections::BTreeMap;

/// One compare-and-set.
#[derive(Clone, Debug)]
pub struct Increment {
    pub token: Token,
    /// The value whose ETag was the condition.
    pub predecessor: Token,
    pub span: Span,
    pub outcome: Outcome,
}

/// A read that gave `token`.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    pub token: Token,
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub attempts: Vec<Increment>,
    pub reads: Vec<Observed>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainViolation {
    #[error("both {first} and {second} replaced {predecessor} and were acknowledged: one update is lost")]
    Forked { predecessor: Token, first: Token, second: Token },
    #[error("{token} was acknowledged and is not among the ancestors of the last value")]
    LostUpdate { token: Token },
    #[error("{token} is on the chain and nobody wrote it")]
    Foreign { token: Token },
    #[error("{token} happened though it was refused")]
    RefusedButVisible { token: Token },
    #[error("{token} was applied twice")]
    Repeated { token: Token },
    #[error("{token} was read and is not on the chain")]
    ReadOffChain { token: Token },
    #[error("{token} was read before anyone began to write it")]
    ReadTooEarly { token: Token },
    #[error("{token} was read though a later value had been seen or acknowledged before the read began")]
    StaleRead { token: Token },
    #[error("{token} went below a value that had been seen or acknowledged before its write began")]
    WrittenIntoThePast { token: Token },
    #[error("{token} was refused while its predecessor {predecessor} was the value")]
    GroundlessRefusal { token: Token, predecessor: Token },
}

/// What a right history was made of: a story looks at it to see that it tried something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub acked: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Of the unknown ones, those that turned out to have happened.
    pub unknown_applied: usize,
}

impl Chain {
    /// Judges the history by the value that is there in the end.
    pub fn check(&self, initial: Token, last: Token) -> Result<Counts, ChainViolation> {
        self.check_forks()?;
        let by_token: BTreeMap<Token, &Increment> =
            self.attempts.iter().map(|attempt| (attempt.token, attempt)).collect();
        let path = path(&by_token, initial, last)?;
        let positions: BTreeMap<Token, usize> = path.iter().copied().zip(0..).collect();

        if let Some(lost) =
            self.acked().map(|attempt| attempt.token).find(|token| !positions.contains_key(token))
        {
            return Err(ChainViolation::LostUpdate { token: lost });
        }
        let floors = Floors::new(self, &positions);
        self.check_reads(&by_token, &positions, &floors)?;
        self.check_writes(&by_token, &path, &positions, &floors)?;
        Ok(self.count(&positions))
    }

    fn acked(&self) -> impl Iterator<Item = &Increment> {
        self.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acked)
    }

    /// A fork is a lost update too; named apart because it says which two writes were let through.
    fn check_forks(&self) -> Result<(), ChainViolation> {
        let mut heirs: BTreeMap<Token, Token> = BTreeMap::new();
        for attempt in self.acked() {
            if let Some(first) = heirs.insert(attempt.predecessor, attempt.token) {
                let (predecessor, second) = (attempt.predecessor, attempt.token);
                return Err(ChainViolation::Forked { predecessor, first, second });
            }
        }
        Ok(())
    }

    fn check_reads(
        &self,
        by_token: &BTreeMap<Token, &Increment>,
        positions: &BTreeMap<Token, usize>,
        floors: &Floors,
    ) -> Result<(), ChainViolation> {
        for read in &self.reads {
            let token = read.token;
            let Some(position) = positions.get(&token) else {
                return Err(ChainViolation::ReadOffChain { token });
            };
            if by_token.get(&token).is_some_and(|write| write.span.begin > read.span.end) {
                return Err(ChainViolation::ReadTooEarly { token });
            }
            if floors.before(read.span.begin).is_some_and(|floor| floor > *position) {
                return Err(ChainViolation::StaleRead { token });
            }
        }
        Ok(())
    }

    fn check_writes(
        &self,
        by_token: &BTreeMap<Token, &Increment>,
        path: &[Token],
        positions: &BTreeMap<Token, usize>,
        floors: &Floors,
    ) -> Result<(), ChainViolation> {
        for attempt in &self.attempts {
            let (token, predecessor) = (attempt.token, attempt.predecessor);
            match (attempt.outcome, positions.get(&token)) {
                (Outcome::Acked | Outcome::Unknown, Some(position)) => {
                    if floors.before(attempt.span.begin).is_some_and(|floor| floor >= *position) {
                        return Err(ChainViolation::WrittenIntoThePast { token });
                    }
                }
                (Outcome::Refused, _) => {
                    // The predecessor had been read, so only its successor can have been in the way.
                    let successor = positions.get(&predecessor).and_then(|position| path.get(position + 1));
                    let began = successor.and_then(|token| by_token.get(token)).map(|write| write.span.begin);
                    if began.is_none_or(|began| began >= attempt.span.end) {
                        return Err(ChainViolation::GroundlessRefusal { token, predecessor });
                    }
                }
                (Outcome::Acked | Outcome::Unknown, None) => {}
            }
        }
        Ok(())
    }

    fn count(&self, positions: &BTreeMap<Token, usize>) -> Counts {
        let mut counts = Counts::default();
        for attempt in &self.attempts {
            match attempt.outcome {
                Outcome::Acked => counts.acked += 1,
                Outcome::Refused => counts.refused += 1,
                Outcome::Unknown => {
                    counts.unknown += 1;
                    counts.unknown_applied += usize::from(positions.contains_key(&attempt.token));
                }
            }
        }
        counts
    }
}

/// The chain, first value first.
fn path(
    by_token: &BTreeMap<Token, &Increment>,
    initial: Token,
    last: Token,
) -> Result<Vec<Token>, ChainViolation> {
    let mut path = vec![last];
    let mut token = last;
    while token != initial {
        let Some(write) = by_token.get(&token) else { return Err(ChainViolation::Foreign { token }) };
        if write.outcome == Outcome::Refused {
            return Err(ChainViolation::RefusedButVisible { token });
        }
        // Longer than all attempts together: it goes in a circle.
        if path.len() > by_token.len() {
            return Err(ChainViolation::Repeated { token });
        }
        token = write.predecessor;
        path.push(token);
    }
    path.reverse();
    Ok(path)
}

/// The furthest position that was known to have been reached before a moment: ends of reads and acknowledged
/// writes, with the running maximum of their positions.
struct Floors(Vec<(u64, usize)>);

impl Floors {
    fn new(chain: &Chain, positions: &BTreeMap<Token, usize>) -> Self {
        let reads = chain.reads.iter().map(|read| (read.span.end, read.token));
        let writes = chain.acked().map(|write| (write.span.end, write.token));
        let mut ends: Vec<(u64, usize)> =
            reads.chain(writes).filter_map(|(end, token)| Some((end, *positions.get(&token)?))).collect();
        ends.sort_unstable();
        let mut highest = 0;
        for (_, position) in &mut ends {
            highest = highest.max(*position);
            *position = highest;
        }
        Self(ends)
    }

    fn before(&self, moment: u64) -> Option<usize> {
        let ended = self.0.partition_point(|(end, _)| *end < moment);
        ended.checked_sub(1).map(|last| self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Token = Token(0);

    fn write(token: u64, predecessor: u64, begin: u64, end: u64, outcome: Outcome) -> Increment {
        let span = Span { begin, end };
        Increment { token: Token(token), predecessor: Token(predecessor), span, outcome }
    }

    fn read(token: u64, begin: u64, end: u64) -> Observed {
        Observed { token: Token(token), span: Span { begin, end } }
    }

    fn judge(attempts: Vec<Increment>, reads: Vec<Observed>, last: u64) -> Result<Counts, ChainViolation> {
        Chain { attempts, reads }.check(INITIAL, Token(last))
    }

    #[test]
    fn a_right_history_with_every_outcome_passes() {
        let attempts = vec![
            write(1, 0, 0, 3, Outcome::Acked),
            write(2, 0, 1, 4, Outcome::Refused),
            write(3, 1, 5, 8, Outcome::Unknown),
            write(4, 1, 6, 7, Outcome::Unknown),
            write(5, 3, 12, 13, Outcome::Acked),
        ];
        let reads = vec![read(0, 0, 2), read(1, 2, 4), read(3, 9, 10), read(3, 10, 11), read(5, 14, 15)];
        let counts = judge(attempts, reads, 5).unwrap();
        assert_eq!(counts, Counts { acked: 2, refused: 1, unknown: 2, unknown_applied: 1 });
        assert!(judge(vec![], vec![], 0).is_ok());
    }

    #[test]
    fn a_lost_update_is_found() {
        let attempts = vec![write(1, 0, 0, 1, Outcome::Acked), write(2, 1, 2, 3, Outcome::Acked)];
        let lost = Err(ChainViolation::LostUpdate { token: Token(2) });
        assert_eq!(judge(attempts, vec![], 1), lost);
    }

    #[test]
    fn two_acknowledged_writes_over_one_value_are_found() {
        let attempts = vec![write(1, 0, 0, 1, Outcome::Acked), write(2, 0, 0, 1, Outcome::Acked)];
        assert!(matches!(judge(attempts, vec![], 2), Err(ChainViolation::Forked { .. })));
    }

    #[test]
    fn a_resurrected_value_is_found() {
        // 1 comes back over 2, first as what is left in the end ...
        let chain = vec![write(1, 0, 0, 1, Outcome::Acked), write(2, 1, 2, 3, Outcome::Acked)];
        assert!(judge(chain.clone(), vec![], 1).is_err());
        // ... then only for a reader ...
        let reads = vec![read(1, 4, 5)];
        assert_eq!(judge(chain.clone(), reads, 2), Err(ChainViolation::StaleRead { token: Token(1) }));
        // ... then for a writer that builds on it, with 2 never acknowledged but seen.
        let unacked = vec![
            write(1, 0, 0, 1, Outcome::Acked),
            write(2, 1, 2, 3, Outcome::Unknown),
            write(3, 1, 6, 7, Outcome::Acked),
        ];
        let reads = vec![read(2, 4, 5)];
        assert_eq!(judge(unacked, reads, 3), Err(ChainViolation::ReadOffChain { token: Token(2) }));
    }

    #[test]
    fn readers_never_go_back() {
        let chain = vec![write(1, 0, 0, 9, Outcome::Unknown)];
        let forth = vec![read(0, 1, 2), read(1, 3, 4)];
        assert!(judge(chain.clone(), forth, 1).is_ok());
        let back = vec![read(1, 1, 2), read(0, 3, 4)];
        assert_eq!(judge(chain, back, 1), Err(ChainViolation::StaleRead { token: Token(0) }));
    }

    #[test]
    fn a_refused_write_that_happened_is_found() {
        let attempts = vec![write(1, 0, 0, 1, Outcome::Refused)];
        let visible = Err(ChainViolation::RefusedButVisible { token: Token(1) });
        assert_eq!(judge(attempts, vec![], 1), visible);
    }

    #[test]
    fn a_value_from_nowhere_is_found() {
        assert_eq!(judge(vec![], vec![], 7), Err(ChainViolation::Foreign { token: Token(7) }));
        let attempts = vec![write(1, 7, 0, 1, Outcome::Acked)];
        assert_eq!(judge(attempts, vec![], 1), Err(ChainViolation::Foreign { token: Token(7) }));
    }

    #[test]
    fn a_circle_is_found() {
        let attempts = vec![write(1, 2, 0, 1, Outcome::Acked), write(2, 1, 2, 3, Outcome::Acked)];
        assert!(matches!(judge(attempts, vec![], 1), Err(ChainViolation::Repeated { .. })));
    }

    #[test]
    fn a_refusal_while_the_predecessor_stood_is_found() {
        // Nothing ever replaced 0.
        let attempts = vec![write(1, 0, 0, 1, Outcome::Refused)];
        assert!(matches!(judge(attempts, vec![], 0), Err(ChainViolation::GroundlessRefusal { .. })));
        // What replaced it began after the refusal had ended.
        let attempts = vec![write(1, 0, 0, 1, Outcome::Refused), write(2, 0, 2, 3, Outcome::Acked)];
        assert!(matches!(judge(attempts, vec![], 2), Err(ChainViolation::GroundlessRefusal { .. })));
    }

    #[test]
    fn a_value_read_before_its_write_began_is_found() {
        let attempts = vec![write(1, 0, 5, 6, Outcome::Acked)];
        let early = Err(ChainViolation::ReadTooEarly { token: Token(1) });
        assert_eq!(judge(attempts, vec![read(1, 1, 2)], 1), early);
    }

    #[test]
    fn a_write_below_what_was_already_seen_is_found() {
        // 2 stands above 1 on the chain, but was read before the write of 1 began.
        let attempts = vec![write(1, 0, 6, 7, Outcome::Acked), write(2, 1, 0, 1, Outcome::Unknown)];
        let past = Err(ChainViolation::WrittenIntoThePast { token: Token(1) });
        assert_eq!(judge(attempts, vec![read(2, 2, 3)], 2), past);
    }
}
