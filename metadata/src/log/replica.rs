//! What the log holds of one replica.

use super::{
    format::{Kind, RecordHead, State},
    slots::{Slots, UseNumber},
};
use crate::raft::types::LogId;
use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Sound,
    /// Flushed records were unreadable: it never votes again.
    Condemned,
    /// It was condemned and then forgotten, but for that.
    Retired,
}

#[derive(Debug)]
pub(super) struct ReplicaLog {
    pub(super) condition: Condition,
    /// A store hands its calls on.
    pub(super) open: bool,
    pub(super) failed: Option<&'static str>,
    pub(super) state: State,
    /// The newest state is written with the next batch, whatever that is made for.
    pub(super) dirty: bool,
    /// Where the newest record of the state lies; `None` before the first.
    pub(super) state_at: Option<UseNumber>,
    /// What is purged as soon as the state machine is durable.
    pub(super) purging: Option<LogId>,
    pub(super) slots: Slots,
}

impl ReplicaLog {
    /// One that begins with nothing.
    pub(super) fn new() -> Self {
        Self::found(Condition::Sound, State::default(), Slots::default(), None)
    }

    pub(super) fn found(
        condition: Condition,
        state: State,
        slots: Slots,
        state_at: Option<UseNumber>,
    ) -> Self {
        Self { condition, open: false, failed: None, state, dirty: false, state_at, purging: None, slots }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match (self.failed, self.condition, self.open) {
            (Some(reason), _, _) => Err(io::Error::other(reason)),
            (None, Condition::Condemned | Condition::Retired, _) => Err(io::Error::other("log damaged")),
            (None, Condition::Sound, false) => Err(io::Error::other("the log is closed")),
            (None, Condition::Sound, true) => Ok(()),
        }
    }

    /// As the replica knows it, durable or not.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.state.purged.max(self.purging)
    }

    /// Of the last entry, or of what was purged before it.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.last().map(|slot| slot.id).max(self.purged())
    }

    /// The record that says all there is to say but for the entries.
    pub(super) fn state_record(&self) -> (RecordHead, Vec<u8>) {
        match self.condition {
            Condition::Sound => (RecordHead::of(Kind::State), self.state.encode()),
            Condition::Condemned => (RecordHead::of(Kind::Condemned), Vec::new()),
            Condition::Retired => (RecordHead::of(Kind::Retired), Vec::new()),
        }
    }
}
