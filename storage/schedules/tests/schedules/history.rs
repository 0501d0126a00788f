//! What clients asked and were answered, and whether some order of it explains the answers.
//!
//! Each shard is a register: a put or delete takes effect at one moment between its call and its answer, a read
//! shows the effect before it. What was never answered may take effect at any moment after its call, or never.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

/// What a shard holds; `None` is no shard.
pub(crate) type Held = Option<u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A put, or with `None` a delete.
    Set(Held),
    Saw(Held),
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    act: Act,
    begun: u64,
    ended: Option<u64>,
}

#[derive(Debug, Default)]
struct Record {
    now: u64,
    /// Before the first operation.
    held: BTreeMap<u8, u64>,
    operations: BTreeMap<u8, Vec<Operation>>,
}

impl Record {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

/// Cheap to clone. No thread of the explorer waits while the lock is held.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Record>>);

/// When an operation was called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(u64);

/// A write that was called, to be ended when it is answered.
#[derive(Debug)]
#[must_use = "a write that is not ended may or may not have had its effect"]
pub(crate) struct Write {
    shard: u8,
    at: usize,
}

impl History {
    pub(crate) fn of(held: &BTreeMap<u8, u64>) -> Self {
        Self(Arc::new(Mutex::new(Record { held: held.clone(), ..Record::default() })))
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun(self.0.lock().unwrap().tick())
    }

    pub(crate) fn saw(&self, shard: u8, begun: Begun, held: Held) {
        let mut record = self.0.lock().unwrap();
        let operation = Operation { act: Act::Saw(held), begun: begun.0, ended: Some(record.tick()) };
        record.operations.entry(shard).or_default().push(operation);
    }

    pub(crate) fn write(&self, shard: u8, held: Held) -> Write {
        let mut record = self.0.lock().unwrap();
        let operation = Operation { act: Act::Set(held), begun: record.tick(), ended: None };
        let operations = record.operations.entry(shard).or_default();
        operations.push(operation);
        Write { shard, at: operations.len() - 1 }
    }

    pub(crate) fn end(&self, write: &Write) {
        let mut record = self.0.lock().unwrap();
        let ended = record.tick();
        record.operations.get_mut(&write.shard).unwrap()[write.at].ended = Some(ended);
    }

    /// Fails with the operations on a shard that no order explains.
    pub(crate) fn check(&self) -> Result<(), String> {
        let record = self.0.lock().unwrap();
        for (shard, operations) in &record.operations {
            let held = record.held.get(shard).copied();
            if !is_explained(held, operations) {
                let mut lines: Vec<String> = operations.iter().map(line).collect();
                lines.sort();
                return Err(format!(
                    "no order explains what was seen of shard {shard}, which held {held:x?}:\n  {}",
                    lines.join("\n  ")
                ));
            }
        }
        Ok(())
    }
}

fn line(operation: &Operation) -> String {
    let Operation { act, begun, ended } = operation;
    let ended = ended.map_or("never".to_owned(), |ended| format!("{ended:05}"));
    format!("{begun:05} to {ended}: {act:x?}")
}

/// Tries all orders, those prefixes once that did the same operations and left the same.
fn is_explained(held: Held, operations: &[Operation]) -> bool {
    assert!(operations.len() < 64, "too many operations on one shard for this check");
    let all_answered = operations
        .iter()
        .zip(0..)
        .filter(|(one, _)| one.ended.is_some())
        .fold(0_u64, |all, (_, at)| all | 1 << at);
    let mut tried: HashSet<(u64, Held)> = HashSet::new();
    let mut open = vec![(0_u64, held)];
    while let Some((done, held)) = open.pop() {
        if done & all_answered == all_answered {
            return true;
        }
        if !tried.insert((done, held)) {
            continue;
        }
        let left = || operations.iter().zip(0..).filter(|(_, at)| done & 1 << at == 0);
        let first_answer = left().filter_map(|(one, _)| one.ended).min().unwrap_or(u64::MAX);
        for (one, at) in left().filter(|(one, _)| one.begun < first_answer) {
            match one.act {
                Act::Set(set) => open.push((done | 1 << at, set)),
                Act::Saw(saw) if saw == held => open.push((done | 1 << at, held)),
                Act::Saw(_) => {}
            }
        }
    }
    false
}

#[test]
fn an_order_is_found_only_where_there_is_one() {
    let explained = |acts: &[(Act, u64, u64)]| {
        let operation = |(act, begun, ended): &(Act, u64, u64)| Operation {
            act: *act,
            begun: *begun,
            ended: (*ended > 0).then_some(*ended),
        };
        is_explained(Some(7), &acts.iter().map(operation).collect::<Vec<_>>())
    };
    let (set, saw) = (|held| Act::Set(Some(held)), |held| Act::Saw(Some(held)));
    assert!(explained(&[(saw(7), 1, 2)]));
    assert!(!explained(&[(saw(8), 1, 2)]), "out of nothing");
    assert!(explained(&[(set(8), 1, 4), (saw(7), 2, 3)]) && explained(&[(set(8), 1, 4), (saw(8), 2, 3)]));
    assert!(!explained(&[(set(8), 1, 2), (saw(7), 3, 4)]), "a lost write");
    assert!(!explained(&[(set(8), 1, 9), (saw(8), 2, 3), (saw(7), 4, 5)]), "back in time");
    assert!(explained(&[(set(8), 1, 0), (saw(7), 2, 3), (saw(8), 4, 5)]), "late, but never answered");
    assert!(!explained(&[(Act::Set(None), 1, 2), (set(8), 3, 4), (Act::Saw(None), 5, 6)]));
    assert!(explained(&[(set(8), 1, 9), (set(9), 2, 8), (saw(9), 3, 4), (saw(8), 5, 6)]), "two at once");
    assert!(!explained(&[(set(8), 1, 2), (set(9), 3, 4), (saw(9), 5, 6), (saw(8), 7, 8)]), "out of order");
}
