//! How recent the tables of a follower are.
//!
//! Pure. A message of the leader says what was committed when it was sent; the tables are as recent as that message once they
//! cover it. A follower that hears its leader but does not keep up is as old as what it has applied.

use std::time::Duration;

/// Times are of the follower's own timer, when it got a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contact {
    covered: Option<Duration>,
    /// The oldest message that the tables do not cover yet.
    waiting: Option<(u64, Duration)>,
}

impl Contact {
    /// The leader's message came at `at` and told that `committed` is the last entry committed.
    pub(crate) fn heard(&mut self, at: Duration, committed: Option<u64>, applied: Option<u64>) {
        self.settle(applied);
        match committed {
            Some(index) if applied < Some(index) => {
                self.waiting.get_or_insert((index, at));
            }
            Some(_) | None => {
                self.covered = Some(at);
                self.waiting = None;
            }
        }
    }

    /// When the leader last said something that the tables cover.
    pub(crate) fn covered(&mut self, applied: Option<u64>) -> Option<Duration> {
        self.settle(applied);
        self.covered
    }

    fn settle(&mut self, applied: Option<u64>) {
        if let Some((_, at)) = self.waiting.take_if(|(index, _)| applied >= Some(*index)) {
            self.covered = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn tables_are_as_recent_as_the_last_message_that_they_cover() {
        let mut contact = Contact::default();
        assert_eq!(contact.covered(Some(9)), None);
        contact.heard(seconds(1), Some(10), Some(10));
        assert_eq!(contact.covered(Some(10)), Some(seconds(1)));
        // It hears more than it applies.
        contact.heard(seconds(2), Some(11), Some(10));
        contact.heard(seconds(3), Some(20), Some(10));
        assert_eq!(contact.covered(Some(10)), Some(seconds(1)));
        assert_eq!(contact.covered(Some(11)), Some(seconds(2)));
        contact.heard(seconds(4), Some(20), Some(19));
        assert_eq!(contact.covered(Some(19)), Some(seconds(2)));
        contact.heard(seconds(5), Some(21), Some(20));
        assert_eq!(contact.covered(Some(20)), Some(seconds(4)));
        contact.heard(seconds(6), None, Some(21));
        assert_eq!(contact.covered(Some(21)), Some(seconds(6)));
    }
}
