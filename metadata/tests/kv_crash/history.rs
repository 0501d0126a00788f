//! What is written: batches that follow from the seed of a life of the process and their number, and the rows they make.

use ashlar_metadata::kv::{Batch, Direction, KeyRange, Kv, KvRead, Table};
use std::{collections::BTreeMap, ops::ControlFlow};

/// All rows of a store.
pub(crate) type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Of one run of the process. Its batches are numbered on from those that the last crash left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) seed: u64,
}

/// What happens under one number.
pub(crate) enum Step {
    Write(Batch),
    /// These rows and no others: durable when it is done.
    Replace(Batch),
}

/// Holds the number of the last step, written with it.
pub(crate) const POSITION: (Table, &[u8]) = (Table::Meta, b"position");
/// Few, so that most writes overwrite.
const KEYS: u64 = 400;
const TABLES: [Table; 3] = [Table::Current, Table::Versions, Table::Requests];
/// One change in so many is a delete.
const DELETES: u64 = 3;
/// One value in so many is long, as the bytes of small objects are.
const LONG_VALUES: u64 = 12;
const REPLACEMENTS: u64 = 150;
const FLUSHES: u64 = 12;

impl Life {
    pub(crate) fn step(self, number: u64) -> Step {
        let mut random = Random(self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let mut batch = Batch::default();
        batch.put(POSITION.0, POSITION.1.to_vec(), number.to_be_bytes().to_vec());
        let replaces = random.one_in(REPLACEMENTS);
        let mut changes = BTreeMap::new();
        for _ in 0..random.below(8) + if replaces { 50 } else { 0 } {
            let table = TABLES[usize::try_from(random.below(3)).unwrap()];
            let key = format!("key/{:04}", random.below(KEYS)).into_bytes();
            let value = (replaces || !random.one_in(DELETES)).then(|| value(number, &mut random));
            changes.insert((table, key), value);
        }
        for ((table, key), value) in changes {
            match value {
                Some(value) => batch.put(table, key, value),
                None => batch.remove(table, key),
            }
        }
        if replaces { Step::Replace(batch) } else { Step::Write(batch) }
    }

    /// Whether the process flushes after this step.
    pub(crate) fn flushes_after(self, number: u64) -> bool {
        Random(self.seed ^ number).one_in(FLUSHES)
    }
}

fn value(number: u64, random: &mut Random) -> Vec<u8> {
    let len = if random.one_in(LONG_VALUES) { 4000 + random.below(12_000) } else { random.below(600) };
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + usize::try_from(len).unwrap(), u8::try_from(number % 251).unwrap());
    value
}

/// What the rows are after a step.
pub(crate) fn apply(rows: &mut Rows, step: Step) {
    let batch = match step {
        Step::Write(batch) => batch,
        Step::Replace(batch) => {
            rows.clear();
            batch
        }
    };
    for change in batch.changes {
        let key = (change.table, change.key.to_vec());
        match change.value {
            Some(value) => rows.insert(key, value.to_vec()),
            None => rows.remove(&key),
        };
    }
}

pub(crate) fn dump(kv: &dyn KvRead) -> Rows {
    let mut rows = Rows::new();
    for table in Table::ALL {
        kv.scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
            rows.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    rows
}

/// 0: nothing was written yet.
pub(crate) fn position(kv: &dyn Kv) -> u64 {
    let found = kv.get(POSITION.0, POSITION.1).unwrap();
    found.map_or(0, |number| u64::from_be_bytes(number.as_ref().try_into().unwrap()))
}

/// Repeatable numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}
