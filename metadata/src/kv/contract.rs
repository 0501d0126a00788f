//! What every store must do: the same suite for the one on disk and the one in memory.

mod on_disk;

use super::{Batch, Direction, FjallKv, FjallOptions, KeyRange, Kv, KvError, KvRead, MemKv, Table};
use proptest::{collection::vec, option, prelude::*};
use std::{collections::BTreeMap, ops::ControlFlow};
use tempfile::TempDir;

/// A store that can be closed and opened again.
trait Subject: Sized {
    fn make() -> Self;
    fn kv(&self) -> &dyn Kv;
    /// Everything was persisted before.
    fn reopen(self) -> Self;
    /// Makes the engine give up. Some more rows may be written to `Gc` until it does.
    fn break_engine(&self);
}

impl Subject for MemKv {
    fn make() -> Self {
        Self::new()
    }

    fn kv(&self) -> &dyn Kv {
        self
    }

    fn reopen(self) -> Self {
        self.crash();
        self
    }

    fn break_engine(&self) {
        self.fail();
    }
}

struct OnDisk {
    kv: FjallKv,
    dir: TempDir,
}

/// Small enough that a test reaches table files.
const SMALL: FjallOptions =
    FjallOptions { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20, memtable_bytes: 16 << 10 };

impl Subject for OnDisk {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { kv: FjallKv::open(dir.path(), SMALL).unwrap(), dir }
    }

    fn kv(&self) -> &dyn Kv {
        &self.kv
    }

    fn reopen(self) -> Self {
        let Self { kv, dir } = self;
        drop(kv);
        Self { kv: FjallKv::open(dir.path(), SMALL).unwrap(), dir }
    }

    /// Takes away the directory that its table files go to.
    fn break_engine(&self) {
        let tables = table_dir(self.dir.path());
        let aside = self.dir.path().join("aside");
        std::fs::rename(&tables, &aside).unwrap();
        let mut batches = 0..1000u32;
        let failed = loop {
            let mut batch = Batch::default();
            let number = batches.next().expect("a write fails before long");
            batch.put(Table::Gc, number.to_be_bytes().to_vec(), vec![0; 8 << 10]);
            if let Err(error) = self.kv.write(batch) {
                break error;
            }
        };
        assert!(matches!(failed, KvError::Engine(_) | KvError::Failed), "{failed:?}");
        std::fs::rename(aside, tables).unwrap();
    }
}

/// Where the keyspace keeps its table files.
fn table_dir(dir: &std::path::Path) -> std::path::PathBuf {
    let keyspaces = std::fs::read_dir(dir.join("0/keyspaces")).unwrap();
    let names: Vec<_> = keyspaces.map(|entry| entry.unwrap().path()).collect();
    // Number 0 is the engine's own.
    names.into_iter().find(|path| !path.ends_with("0")).unwrap().join("tables")
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn rows(kv: &dyn KvRead, table: Table, range: &KeyRange, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = vec![];
    kv.scan(table, range, direction, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn dump(kv: &dyn KvRead) -> Model {
    Table::ALL
        .into_iter()
        .flat_map(|table| {
            rows(kv, table, &KeyRange::all(), Direction::Forward)
                .into_iter()
                .map(move |(key, value)| ((table, key), value))
        })
        .collect()
}

fn put(kv: &dyn Kv, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), value.to_vec());
    kv.write(batch).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(Table, Vec<u8>, Option<Vec<u8>>)>),
    Snapshot,
    Reopen,
    Replace { rows: Vec<(Table, Vec<u8>, Vec<u8>)>, commit: bool },
    Scan { table: Table, from: Vec<u8>, to: Option<Vec<u8>>, backward: bool },
}

fn table() -> impl Strategy<Value = Table> {
    // Neighbours, the first and the last: rows of one must not show in another.
    prop::sample::select(vec![Table::Meta, Table::Current, Table::Versions, Table::Tokens])
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), 0..4)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..8), (any::<u8>(), 1usize..6000).prop_map(|(byte, len)| vec![byte; len])]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec((table(), key(), option::of(value())), 0..8).prop_map(Step::Write),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => (vec((table(), key(), value()), 0..8), any::<bool>())
            .prop_map(|(rows, commit)| Step::Replace { rows, commit }),
        6 => (table(), key(), option::of(key()), any::<bool>())
            .prop_map(|(table, from, to, backward)| Step::Scan { table, from, to, backward }),
    ]
}

/// Runs the steps on a store and on a map; the two must never differ, and no snapshot may change.
fn behaves_like_a_map<S: Subject>(steps: Vec<Step>) {
    let mut subject = S::make();
    let mut model = Model::new();
    let mut snapshots = vec![];
    for step in steps {
        match step {
            Step::Write(changes) => {
                let mut batch = Batch::default();
                // A batch names a row once.
                let changes: BTreeMap<_, _> =
                    changes.into_iter().map(|(table, key, value)| ((table, key), value)).collect();
                for ((table, key), value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(table, key.clone(), value.clone());
                            model.insert((table, key), value);
                        }
                        None => {
                            batch.remove(table, key.clone());
                            model.remove(&(table, key));
                        }
                    }
                }
                subject.kv().write(batch).unwrap();
            }
            Step::Snapshot => snapshots.push((subject.kv().snapshot().unwrap(), model.clone())),
            Step::Reopen => {
                snapshots.clear();
                subject.kv().persist().unwrap();
                subject = subject.reopen();
            }
            Step::Replace { rows, commit } => {
                let mut replacement = subject.kv().replace().unwrap();
                let mut next = Model::new();
                for (table, key, value) in rows {
                    let mut batch = Batch::default();
                    batch.put(table, key.clone(), value.clone());
                    replacement.write(batch).unwrap();
                    next.insert((table, key), value);
                }
                if commit {
                    replacement.commit().unwrap();
                    model = next;
                }
            }
            Step::Scan { table, from, to, backward } => {
                let range = KeyRange { from, to };
                let mut expected: Vec<_> = model
                    .iter()
                    .filter(|((t, key), _)| *t == table && range.contains(key))
                    .map(|((_, key), value)| (key.clone(), value.clone()))
                    .collect();
                let direction = if backward { Direction::Backward } else { Direction::Forward };
                if backward {
                    expected.reverse();
                }
                assert_eq!(rows(subject.kv(), table, &range, direction), expected);
            }
        }
        for ((table, key), value) in &model {
            assert_eq!(subject.kv().get(*table, key).unwrap().as_deref(), Some(value.as_slice()));
        }
    }
    assert_eq!(dump(subject.kv()), model);
    for (snapshot, then) in snapshots {
        assert_eq!(dump(&*snapshot), then);
        for ((table, key), value) in &then {
            assert_eq!(snapshot.get(*table, key).unwrap().as_deref(), Some(value.as_slice()));
        }
    }
    // What is persisted is all there after the next start.
    subject.kv().persist().unwrap();
    let subject = subject.reopen();
    assert_eq!(dump(subject.kv()), model);
}

/// A replacement survives the next start without a `persist` of its own.
fn a_committed_replacement_is_durable<S: Subject>() {
    let subject = S::make();
    put(subject.kv(), Table::Current, b"old", b"1");
    let mut replacement = subject.kv().replace().unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Current, &b"new"[..], &b"2"[..]);
    replacement.write(batch).unwrap();
    replacement.commit().unwrap();
    let subject = subject.reopen();
    assert_eq!(dump(subject.kv()), Model::from([((Table::Current, b"new".to_vec()), b"2".to_vec())]));
}

fn a_scan_ends_when_it_is_told<S: Subject>() {
    let subject = S::make();
    for key in [b"a", b"b", b"c"] {
        put(subject.kv(), Table::Current, key, b"");
    }
    for (direction, expected) in [(Direction::Forward, b"ab"), (Direction::Backward, b"cb")] {
        let mut seen = vec![];
        subject
            .kv()
            .scan(Table::Current, &KeyRange::all(), direction, &mut |key, _| {
                seen.extend_from_slice(key);
                if seen.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        assert_eq!(seen, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn the_store_in_memory_behaves_like_a_map(steps in vec(step(), 1..40)) {
        behaves_like_a_map::<MemKv>(steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_behaves_like_a_map(steps in vec(step(), 1..40)) {
        behaves_like_a_map::<OnDisk>(steps);
    }
}

#[test]
fn committed_replacements_are_durable() {
    a_committed_replacement_is_durable::<MemKv>();
    a_committed_replacement_is_durable::<OnDisk>();
}

#[test]
fn scans_end_when_they_are_told() {
    a_scan_ends_when_it_is_told::<MemKv>();
    a_scan_ends_when_it_is_told::<OnDisk>();
}

#[test]
fn a_power_cut_in_memory_loses_whole_batches_from_the_end() {
    let kv = MemKv::new();
    put(&kv, Table::Current, b"a", b"1");
    kv.persist().unwrap();
    for (key, value) in [(b"a", b"2"), (b"b", b"3"), (b"c", b"4")] {
        put(&kv, Table::Current, key, value);
    }
    assert_eq!(kv.unpersisted(), 3);
    kv.crash_keeping(2);
    let row = |key: &[u8], value: &[u8]| ((Table::Current, key.to_vec()), value.to_vec());
    assert_eq!(dump(&kv), Model::from([row(b"a", b"2"), row(b"b", b"3")]));
    put(&kv, Table::Current, b"d", b"5");
    kv.crash();
    assert_eq!(dump(&kv), Model::from([row(b"a", b"2"), row(b"b", b"3")]));
}

/// Nothing is read or written through a failed store, by whatever handle; a restart gives what is durable.
fn a_failed_store_takes_nothing_until_it_restarts<S: Subject>() {
    let subject = S::make();
    put(subject.kv(), Table::Current, b"durable", b"1");
    subject.kv().persist().unwrap();
    let snapshot = subject.kv().snapshot().unwrap();
    let mut replacement = subject.kv().replace().unwrap();
    let unfinished = subject.kv().replace();
    subject.break_engine();

    let failed = |result: Result<(), KvError>| assert!(matches!(result, Err(KvError::Failed)), "{result:?}");
    let nothing = KeyRange::all();
    let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
    for (kv, direction) in
        [(subject.kv() as &dyn KvRead, Direction::Forward), (&*snapshot, Direction::Backward)]
    {
        failed(kv.get(Table::Current, b"durable").map(drop));
        failed(kv.scan(Table::Current, &nothing, direction, &mut visit));
    }
    let mut batch = Batch::default();
    batch.put(Table::Current, &b"late"[..], &b"2"[..]);
    failed(subject.kv().write(batch.clone()));
    failed(subject.kv().persist());
    failed(subject.kv().snapshot().map(drop));
    failed(subject.kv().replace().map(drop));
    failed(replacement.write(batch));
    failed(replacement.commit());
    drop((snapshot, unfinished));

    let subject = subject.reopen();
    let current = rows(subject.kv(), Table::Current, &KeyRange::all(), Direction::Forward);
    assert_eq!(current, [(b"durable".to_vec(), b"1".to_vec())]);
    put(subject.kv(), Table::Current, b"later", b"3");
    subject.kv().persist().unwrap();
}

#[test]
fn failed_stores_take_nothing_until_they_restart() {
    a_failed_store_takes_nothing_until_it_restarts::<MemKv>();
    a_failed_store_takes_nothing_until_it_restarts::<OnDisk>();
}
