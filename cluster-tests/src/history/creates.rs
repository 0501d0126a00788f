//! Keys that are created with `If-None-Match: *` by several writers and never deleted: exactly one write per key may
//! ever happen.

use super::{Outcome, Span, Token};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Create {
    pub key: String,
    pub token: Token,
    pub span: Span,
    pub outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateViolation {
    #[error("{key}: both {first} and {second} were acknowledged")]
    DoubleAck { key: String, first: Token, second: Token },
    #[error("{key}: {token} was acknowledged and is gone")]
    Lost { key: String, token: Token },
    #[error("{key}: {acked} was acknowledged, {found} is there")]
    Replaced { key: String, acked: Token, found: Token },
    #[error("{key}: {found} is there, which nobody wrote")]
    Foreign { key: String, found: Token },
    #[error("{key}: {found} is there though it was refused")]
    RefusedButVisible { key: String, found: Token },
    #[error("{key}: {token} was refused while nothing could have been there")]
    GroundlessRefusal { key: String, token: Token },
}

/// Judges all attempts by what the keys hold in the end; a key that is not in `found` holds nothing.
pub fn check(attempts: &[Create], found: &BTreeMap<String, Token>) -> Result<(), CreateViolation> {
    let mut by_key: BTreeMap<&str, Vec<&Create>> = BTreeMap::new();
    for attempt in attempts {
        by_key.entry(&attempt.key).or_default().push(attempt);
    }
    if let Some((key, found)) = found.iter().find(|(key, _)| !by_key.contains_key(key.as_str())) {
        return Err(CreateViolation::Foreign { key: key.clone(), found: *found });
    }
    by_key.into_iter().try_for_each(|(key, attempts)| check_key(key, &attempts, found.get(key).copied()))
}

fn check_key(key: &str, attempts: &[&Create], found: Option<Token>) -> Result<(), CreateViolation> {
    let key = || key.to_owned();
    let mut acked = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acked);
    let winner = acked.next().map(|attempt| attempt.token);
    if let (Some(first), Some(second)) = (winner, acked.next()) {
        return Err(CreateViolation::DoubleAck { key: key(), first, second: second.token });
    }
    match (winner, found) {
        (Some(token), None) => return Err(CreateViolation::Lost { key: key(), token }),
        (Some(acked), Some(found)) if acked != found => {
            return Err(CreateViolation::Replaced { key: key(), acked, found });
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    let written = match found {
        None => None,
        Some(found) => match attempts.iter().find(|attempt| attempt.token == found) {
            None => return Err(CreateViolation::Foreign { key: key(), found }),
            Some(attempt) if attempt.outcome == Outcome::Refused => {
                return Err(CreateViolation::RefusedButVisible { key: key(), found });
            }
            Some(attempt) => Some(attempt),
        },
    };
    // What is there in the end is all that ever was: a refusal that ended before its write began saw a ghost.
    let groundless = attempts.iter().find(|attempt| {
        attempt.outcome == Outcome::Refused
            && written.is_none_or(|written| written.span.begin >= attempt.span.end)
    });
    match groundless {
        Some(attempt) => Err(CreateViolation::GroundlessRefusal { key: key(), token: attempt.token }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(token: u64, begin: u64, end: u64, outcome: Outcome) -> Create {
        Create { key: "k".into(), token: Token(token), span: Span { begin, end }, outcome }
    }

    fn judge(attempts: &[Create], found: Option<u64>) -> Result<(), CreateViolation> {
        check(attempts, &found.map(|token| ("k".to_owned(), Token(token))).into_iter().collect())
    }

    #[test]
    fn one_winner_and_refused_or_unknown_losers_are_right() {
        let attempts = [
            create(1, 0, 9, Outcome::Unknown),
            create(2, 1, 5, Outcome::Acked),
            create(3, 2, 3, Outcome::Refused),
            create(4, 6, 7, Outcome::Refused),
        ];
        assert_eq!(judge(&attempts, Some(2)), Ok(()));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_have_happened_or_not() {
        let attempts = [create(1, 0, 1, Outcome::Unknown)];
        assert_eq!(judge(&attempts, None), Ok(()));
        assert_eq!(judge(&attempts, Some(1)), Ok(()));
    }

    #[test]
    fn two_acknowledged_creations_are_found() {
        let attempts = [create(1, 0, 1, Outcome::Acked), create(2, 2, 3, Outcome::Acked)];
        assert!(matches!(judge(&attempts, Some(2)), Err(CreateViolation::DoubleAck { .. })));
    }

    #[test]
    fn a_lost_creation_is_found() {
        let attempts = [create(1, 0, 1, Outcome::Acked)];
        assert!(matches!(judge(&attempts, None), Err(CreateViolation::Lost { .. })));
    }

    #[test]
    fn a_late_write_over_an_acknowledged_one_is_found() {
        let attempts = [create(1, 0, 1, Outcome::Unknown), create(2, 2, 3, Outcome::Acked)];
        assert!(matches!(judge(&attempts, Some(1)), Err(CreateViolation::Replaced { .. })));
    }

    #[test]
    fn a_refused_write_that_is_there_is_found() {
        let attempts = [create(1, 0, 1, Outcome::Refused)];
        assert!(matches!(judge(&attempts, Some(1)), Err(CreateViolation::RefusedButVisible { .. })));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        let attempts = [create(1, 0, 1, Outcome::Unknown)];
        assert!(matches!(judge(&attempts, Some(9)), Err(CreateViolation::Foreign { .. })));
        assert!(matches!(judge(&[], Some(9)), Err(CreateViolation::Foreign { .. })));
    }

    #[test]
    fn a_refusal_without_a_reason_is_found() {
        let alone = [create(1, 0, 1, Outcome::Refused)];
        assert!(matches!(judge(&alone, None), Err(CreateViolation::GroundlessRefusal { .. })));
        let early = [create(1, 0, 1, Outcome::Refused), create(2, 2, 3, Outcome::Acked)];
        assert!(matches!(judge(&early, Some(2)), Err(CreateViolation::GroundlessRefusal { .. })));
    }
}
