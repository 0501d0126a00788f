//! Digests of the tables: what replicas compare with each other, and each with its own rows.
//!
//! A table's digest is the sum modulo 2^256 of BLAKE3(table, key, value) over its rows. A sum does not depend on the
//! order of rows, so it is carried on from batch to batch by what the batch changes, and written with it. Rows that
//! differ between replicas by right (the position, which depends on how entries were cut into batches, and the digests
//! themselves) do not count.
//!
//! Two ways to find a row that is not what was applied:
//!  - replicas compare the digests they had at the same `DigestMark` entry: finds what was applied or read differently,
//!    because a changed row that is written again leaves its difference in the sum;
//!  - a replica adds up the rows it has (`Rescan`) and compares with the digests it kept: finds what changed at rest.

use super::{Cached, StateError, StateMachine, record};
use crate::{
    encoding::Row,
    kv::{Direction, KeyRange, KvRead, Table},
    planted::{Plant, planted},
    tables,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::ControlFlow};

/// The sum of the digests of some rows: a number of 256 bits, little-endian. As bytes in the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub struct TableDigest([u64; 4]);

/// One digest a table; tables that are empty (whose sum is 0) have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digests(BTreeMap<Table, TableDigest>);

/// The digests that a replica had when it applied a `DigestMark` entry: the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    pub mark: u64,
    /// In order of tables; those that are empty are left out.
    pub digests: Vec<(Table, [u8; 32])>,
}

/// Adds up all rows of one snapshot, some at a time, to compare them with the digests kept for it.
///
/// Holds the snapshot, and with it data that was replaced since: to be carried on without long pauses.
pub struct Rescan {
    snapshot: Box<dyn KvRead>,
    kept: Digests,
    found: Digests,
    /// Index into `Table::ALL`, and where to go on there.
    next: (usize, Vec<u8>),
}

/// How far a [`Rescan`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RescanStep {
    More,
    /// Every row is what was applied.
    Sound,
    /// The rows of these tables are not: the replica's tables are to be replaced by a snapshot of another one.
    Differs(Vec<Table>),
}

impl From<[u8; 32]> for TableDigest {
    fn from(bytes: [u8; 32]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let mut sum = [0; 4];
        for (word, bytes) in sum.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(sum)
    }
}

impl From<TableDigest> for [u8; 32] {
    fn from(digest: TableDigest) -> Self {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(digest.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

// Replaced as a whole.
impl Row for Digests {}
impl Row for Marked {}

impl TableDigest {
    fn of_row(table: Table, key: &[u8], value: &[u8]) -> Self {
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[table.number()]).update(&len.to_le_bytes()).update(key).update(value);
        Self::from(*hasher.finalize().as_bytes())
    }

    fn plus(self, other: Self) -> Self {
        let mut carry = false;
        let mut sum = self;
        for (word, other) in sum.0.iter_mut().zip(other.0) {
            let (partial, first) = word.overflowing_add(other);
            let (whole, second) = partial.overflowing_add(u64::from(carry));
            *word = whole;
            carry = first || second;
        }
        sum
    }

    /// The number that gives 0 together with this one.
    fn negated(self) -> Self {
        Self(self.0.map(|word| !word)).plus(Self([1, 0, 0, 0]))
    }
}

impl Digests {
    /// Those of all rows. Reads everything.
    pub(super) fn of_all(kv: &dyn KvRead) -> Result<Self, StateError> {
        let mut digests = Self::default();
        for table in Table::ALL {
            kv.scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
                digests.add(table, key, value);
                ControlFlow::Continue(())
            })?;
        }
        Ok(digests)
    }

    pub(super) fn add(&mut self, table: Table, key: &[u8], value: &[u8]) {
        if counts(table, key) {
            self.change(table, TableDigest::of_row(table, key, value));
        }
    }

    pub(super) fn subtract(&mut self, table: Table, key: &[u8], value: &[u8]) {
        if counts(table, key) {
            self.change(table, TableDigest::of_row(table, key, value).negated());
        }
    }

    fn change(&mut self, table: Table, by: TableDigest) {
        let sum = self.0.get(&table).copied().unwrap_or_default().plus(by);
        if sum == TableDigest::default() {
            self.0.remove(&table);
        } else {
            self.0.insert(table, sum);
        }
    }

    pub(super) fn marked(&self, mark: u64) -> Marked {
        Marked { mark, digests: self.0.iter().map(|(table, digest)| (*table, (*digest).into())).collect() }
    }

    /// Tables whose digests are not the same.
    pub(super) fn difference(&self, other: &Self) -> Vec<Table> {
        Table::ALL.into_iter().filter(|table| self.0.get(table) != other.0.get(table)).collect()
    }
}

/// Whether a row is the same on all replicas.
fn counts(table: Table, key: &[u8]) -> bool {
    table != Table::Meta || (key != tables::POSITION && key != tables::DIGESTS && key != tables::MARK)
}

/// The digests stored with the rows; added up if there are none.
pub(super) fn stored(kv: &dyn KvRead) -> Result<Digests, StateError> {
    match record(kv, Table::Meta, tables::DIGESTS)? {
        Some(digests) => Ok(digests),
        None => Digests::of_all(kv),
    }
}

impl StateMachine {
    /// What the replica had at the last `DigestMark` it applied, or that the snapshot it was made from had applied.
    pub fn digest_mark(&self) -> Option<Marked> {
        self.cached().mark.clone()
    }

    /// A comparison of the rows as they are now with the digests kept for them.
    pub fn rescan(&self) -> Result<Rescan, StateError> {
        let snapshot = self.kv.snapshot()?;
        let kept = record(&*snapshot, Table::Meta, tables::DIGESTS)?;
        // Without digests nothing was written yet.
        Ok(Rescan { snapshot, kept: kept.unwrap_or_default(), found: Digests::default(), next: (0, vec![]) })
    }
}

impl Rescan {
    /// Reads at most `rows` more (at least one). After an answer that is not `More` it says the same again.
    pub fn step(&mut self, rows: usize) -> Result<RescanStep, StateError> {
        let mut left = rows.max(1);
        while let Some(&table) = Table::ALL.get(self.next.0) {
            let (found, mut last) = (&mut self.found, None);
            let range = KeyRange { from: std::mem::take(&mut self.next.1), to: None };
            self.snapshot.scan(table, &range, Direction::Forward, &mut |key, value| {
                found.add(table, key, value);
                left -= 1;
                if left > 0 {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            if let Some(mut after) = last {
                after.push(0);
                self.next.1 = after;
                return Ok(RescanStep::More);
            }
            self.next = (self.next.0 + 1, Vec::new());
        }
        let differing = self.kept.difference(&self.found);
        Ok(if differing.is_empty() || planted(Plant::DigestMismatchIgnored) {
            RescanStep::Sound
        } else {
            RescanStep::Differs(differing)
        })
    }
}

impl Cached {
    pub(super) fn marked(kv: &dyn KvRead) -> Result<Option<Marked>, StateError> {
        record(kv, Table::Meta, tables::MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn digest() -> impl Strategy<Value = TableDigest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(TableDigest::from),
            Just(TableDigest::default()),
            Just(TableDigest([u64::MAX; 4])),
            Just(TableDigest([u64::MAX, 0, u64::MAX, u64::MAX])),
        ]
    }

    proptest! {
        #[test]
        fn digests_are_numbers_modulo_two_to_the_256(a in digest(), b in digest(), c in digest()) {
            prop_assert_eq!(a.plus(b), b.plus(a));
            prop_assert_eq!(a.plus(b).plus(c), a.plus(b.plus(c)));
            prop_assert_eq!(a.plus(b).plus(b.negated()), a);
            prop_assert_eq!(TableDigest::from(<[u8; 32]>::from(a)), a);
        }

        #[test]
        fn the_order_of_rows_does_not_matter_but_every_byte_does(
            rows in vec((vec(any::<u8>(), 0..4), vec(any::<u8>(), 0..4)), 1..6),
        ) {
            let of = |rows: &mut dyn Iterator<Item = &(Vec<u8>, Vec<u8>)>| {
                let mut digests = Digests::default();
                rows.for_each(|(key, value)| digests.add(Table::Current, key, value));
                digests
            };
            let whole = of(&mut rows.iter());
            prop_assert_eq!(&of(&mut rows.iter().rev()), &whole);
            prop_assert_ne!(&of(&mut rows.iter().skip(1)), &whole);
            // A byte that moves between key and value is another row.
            let (key, value) = &rows[0];
            let mut other = whole.clone();
            other.subtract(Table::Current, key, value);
            if let Some((last, key)) = key.split_last() {
                other.add(Table::Current, key, &[std::slice::from_ref(last), value.as_slice()].concat());
                prop_assert_ne!(&other, &whole);
            }
            let mut none = whole;
            rows.iter().for_each(|(key, value)| none.subtract(Table::Current, key, value));
            prop_assert_eq!(none, Digests::default());
        }
    }

    #[test]
    fn a_sum_is_what_the_format_says() {
        let one = TableDigest([u64::MAX, u64::MAX, 0, 0]);
        assert_eq!(one.plus(TableDigest([1, 0, 0, 0])), TableDigest([0, 0, 1, 0]));
        assert_eq!(TableDigest([1, 0, 0, 0]).negated(), TableDigest([u64::MAX; 4]));
        let bytes: [u8; 32] = TableDigest([0x0102, 0, 0, 1 << 56]).into();
        assert_eq!((bytes[0], bytes[1], bytes[31]), (2, 1, 1));
        let row = TableDigest::of_row(Table::Current, b"k", b"v");
        assert_eq!(<[u8; 32]>::from(row), *blake3::hash(b"\x02\x01\0\0\0kv").as_bytes());
    }
}
