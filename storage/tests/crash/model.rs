//! What a drive may hold: for each shard the operations whose effect may be the last one.
//!
//! Clients say in notes of the disk's history when an operation began, was acknowledged or was refused. An operation
//! that was acknowledged before another one began, which was acknowledged too, has been overwritten. All others may
//! be what is found; the test fails if anything else is.

use super::content::Round;
use ashlar_runtime::disk::sim::{Event, History};
use std::collections::BTreeMap;

/// What recovery found: shards that are absent are not in the map.
pub(crate) type Found = BTreeMap<u8, Round>;

/// What a client knows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    PutBegun,
    PutAcked,
    DeleteBegun,
    DeleteAcked,
    /// The drive said that it did nothing.
    Refused,
    /// The drive was opened after a crash and showed this content.
    Shown,
    /// The drive was opened after a crash and did not have the shard.
    ShownAbsent,
    /// A mark of the test's, which changes nothing.
    Mark,
}

const NOTES: [Note; 8] = [
    Note::PutBegun,
    Note::PutAcked,
    Note::DeleteBegun,
    Note::DeleteAcked,
    Note::Refused,
    Note::Shown,
    Note::ShownAbsent,
    Note::Mark,
];

impl Note {
    /// As the history carries it: note (3 bits), shard (8), round or number of the delete (53).
    pub(crate) fn encode(self, number: u8, round: Round) -> u64 {
        let kind = NOTES.iter().position(|known| *known == self).expect("the list has all notes") as u64;
        (kind << 61) | (u64::from(number) << 53) | round.0
    }

    pub(crate) fn decode(raw: u64) -> (Self, u8, Round) {
        let kind = usize::try_from(raw >> 61).expect("three bits");
        let number = u8::try_from((raw >> 53) & 0xff).expect("eight bits");
        (NOTES[kind], number, Round(raw & ((1 << 53) - 1)))
    }
}

/// A mark of the test's in a history.
pub(crate) const MARK: u64 = 7 << 61;

/// Where in a history the last mark is, or its beginning.
pub(crate) fn last_mark(history: &History) -> usize {
    let is_mark = |event: &Event| matches!(event, Event::Note(raw) if *raw == MARK);
    history.events.iter().rposition(is_mark).unwrap_or(0)
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    round: Round,
    /// `false` for a delete.
    puts: bool,
    begun: u64,
    acked: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    now: u64,
    shards: BTreeMap<u8, Vec<Operation>>,
}

impl Model {
    /// All of this was shown, and nothing else.
    pub(crate) fn holding(found: &Found) -> Self {
        let shown = |(number, round): (&u8, &Round)| (*number, vec![Self::settled(0, *round, true)]);
        Self { now: 0, shards: found.iter().map(shown).collect() }
    }

    /// What is known after some events of a history that began with nothing.
    pub(crate) fn after(events: &[Event]) -> Self {
        let mut model = Self::default();
        for event in events {
            if let Event::Note(raw) = event {
                model.note(*raw);
            }
        }
        model
    }

    fn settled(now: u64, round: Round, puts: bool) -> Operation {
        Operation { round, puts, begun: now, acked: Some(now) }
    }

    pub(crate) fn note(&mut self, raw: u64) {
        self.now += 1;
        let now = self.now;
        let (note, number, round) = Note::decode(raw);
        if note == Note::Mark {
            return;
        }
        let absent = || vec![Self::settled(0, Round(u64::MAX), false)];
        let operations = self.shards.entry(number).or_insert_with(absent);
        match note {
            Note::PutBegun | Note::DeleteBegun => {
                operations.push(Operation { round, puts: note == Note::PutBegun, begun: now, acked: None });
            }
            Note::PutAcked | Note::DeleteAcked => {
                let acked = operations.iter_mut().find(|operation| operation.round == round);
                let acked = acked.expect("what is acknowledged was begun");
                acked.acked = Some(now);
                let begun = acked.begun;
                operations.retain(|other| other.acked.is_none_or(|acked| acked >= begun));
            }
            Note::Refused => operations.retain(|operation| operation.round != round),
            Note::Shown => *operations = vec![Self::settled(now, round, true)],
            Note::ShownAbsent => *operations = vec![Self::settled(now, round, false)],
            Note::Mark => {}
        }
    }

    /// What may be found of a shard; `None` stands for no shard.
    pub(crate) fn allowed(&self, number: u8) -> Vec<Option<Round>> {
        match self.shards.get(&number) {
            Some(operations) => operations.iter().map(|one| one.puts.then_some(one.round)).collect(),
            None => vec![None],
        }
    }

    pub(crate) fn check(&self, found: &Found) -> Result<(), String> {
        let numbers = self.shards.keys().chain(found.keys());
        for number in numbers {
            let (round, allowed) = (found.get(number).copied(), self.allowed(*number));
            if !allowed.contains(&round) {
                return Err(format!("shard {number} is {round:?}, which is none of {allowed:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(notes: &[(Note, u64)]) -> Vec<Option<u64>> {
        let mut model = Model::default();
        for (note, round) in notes {
            let raw = note.encode(7, Round(*round));
            assert_eq!(Note::decode(raw), (*note, 7, Round(*round)));
            model.note(raw);
        }
        model.allowed(7).into_iter().map(|round| round.map(|round| round.0)).collect()
    }

    #[test]
    fn an_acknowledged_operation_ends_what_came_before_it() {
        use Note::{DeleteAcked, DeleteBegun, PutAcked, PutBegun, Refused};
        assert_eq!(Note::Mark.encode(0, Round(0)), MARK);
        assert_eq!(after(&[(PutBegun, 1)]), [None, Some(1)]);
        assert_eq!(after(&[(PutBegun, 1), (PutAcked, 1)]), [Some(1)]);
        assert_eq!(after(&[(PutBegun, 1), (PutAcked, 1), (DeleteBegun, 2)]), [Some(1), None]);
        assert_eq!(after(&[(PutBegun, 1), (PutAcked, 1), (DeleteBegun, 2), (DeleteAcked, 2)]), [None]);
        assert_eq!(after(&[(PutBegun, 1), (Refused, 1)]), [None]);
    }

    #[test]
    fn of_two_operations_at_once_either_may_be_the_last() {
        use Note::{PutAcked, PutBegun};
        let both = [(PutBegun, 1), (PutBegun, 2), (PutAcked, 1), (PutAcked, 2)];
        assert_eq!(after(&both), [Some(1), Some(2)]);
        assert_eq!(after(&[&both[..], &[(PutBegun, 3), (PutAcked, 3)]].concat()), [Some(3)]);
    }

    #[test]
    fn what_is_not_allowed_is_told() {
        let found = Found::from([(1, Round(5))]);
        assert!(Model::default().check(&found).is_err());
        assert!(Model::holding(&found).check(&found).is_ok());
        assert!(Model::holding(&found).check(&Found::new()).is_err());
    }
}
