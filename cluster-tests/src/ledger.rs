//! What the writers of a story know: for each key, which write was acknowledged last and which ones may or may not
//! have happened.
//!
//! One writer at a time writes a key, and each write has content of its own. So a read may see the last
//! acknowledged content, or one of unknown outcome, and nothing else. An unknown write stays possible after a later
//! acknowledged one: nothing bounds when a request that its client gave up on takes effect.

use crate::{client::Sent, content::Content};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
pub struct Ledger(Mutex<BTreeMap<Object, Record>>);

/// Bucket and key.
pub type Object = (String, String);

#[derive(Clone, Debug, Default)]
pub struct Record {
    pub acked: Option<Content>,
    pub unknown: Vec<Content>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("an acknowledged object is gone")]
    Lost,
    #[error("an older or foreign content of {len} bytes instead of the acknowledged {expected:?}")]
    Wrong { len: u64, expected: Option<Content> },
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Object, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn acked(&self, bucket: &str, key: &str, content: Content) {
        self.lock().entry((bucket.to_owned(), key.to_owned())).or_default().acked = Some(content);
    }

    pub fn unknown(&self, bucket: &str, key: &str, content: Content) {
        self.lock().entry((bucket.to_owned(), key.to_owned())).or_default().unknown.push(content);
    }

    /// A copy of all that is known now.
    pub fn records(&self) -> Vec<(Object, Record)> {
        self.lock().iter().map(|(object, record)| (object.clone(), record.clone())).collect()
    }

    pub fn acked_count(&self) -> usize {
        self.lock().values().filter(|record| record.acked.is_some()).count()
    }

    pub fn unknown_count(&self) -> usize {
        self.lock().values().map(|record| record.unknown.len()).sum()
    }
}

impl Record {
    /// Judges what a read found; `None` is a 404.
    pub fn check(&self, found: Option<&Sent>) -> Result<(), Violation> {
        match (found, self.acked) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Violation::Lost),
            (Some(sent), acked) => {
                let right = acked.iter().chain(&self.unknown).any(|content| sent.is(*content));
                if right { Ok(()) } else { Err(Violation::Wrong { len: sent.len, expected: acked }) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(content: Content) -> Sent {
        Sent { len: content.len, sha256: content.sha256() }
    }

    #[test]
    fn a_read_sees_the_last_acknowledged_or_an_unknown_content() {
        let [old, new, open, foreign] = [1, 2, 3, 4].map(|seed| Content::new(seed, 100));
        let ledger = Ledger::default();
        ledger.acked("b", "k", old);
        ledger.acked("b", "k", new);
        ledger.unknown("b", "k", open);
        ledger.unknown("b", "maybe", open);
        assert_eq!((ledger.acked_count(), ledger.unknown_count()), (1, 2));

        let records = ledger.records();
        let (known, maybe) = (&records[0].1, &records[1].1);
        assert_eq!(known.check(Some(&sent(new))), Ok(()));
        assert_eq!(known.check(Some(&sent(open))), Ok(()));
        assert_eq!(known.check(None), Err(Violation::Lost));
        let wrong = Err(Violation::Wrong { len: 100, expected: Some(new) });
        assert_eq!(known.check(Some(&sent(old))), wrong);
        assert_eq!(known.check(Some(&sent(foreign))), wrong);

        assert_eq!(maybe.check(None), Ok(()));
        assert_eq!(maybe.check(Some(&sent(open))), Ok(()));
        assert!(maybe.check(Some(&sent(foreign))).is_err());
        // A body that was cut, or mixed from two writes.
        let cut = Sent { len: 99, ..sent(new) };
        assert!(known.check(Some(&cut)).is_err());
    }
}
