//! What every store must do: the same suite for the one on disk and the one in memory.

use super::{
    Batch, Direction, FjallKv, FjallMemory, FjallOptions, KeyRange, Kv, KvError, KvRead, MemKv, Table,
};
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

#[test]
fn the_write_buffers_of_all_stores_together_stay_within_their_budget() {
    const STORES: usize = 6;
    const BATCH: usize = 16 << 10;
    /// The most that was buffered, of all stores.
    fn most_buffered(options: FjallOptions) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let memory = FjallMemory::new(options);
        let open = |number: usize| memory.open(&dir.path().join(number.to_string())).unwrap();
        let stores: Vec<_> = (0..STORES).map(open).collect();
        let mut most = 0;
        for number in 0..600u32 {
            // One after another falls idle with what it has buffered.
            let store = &stores[number as usize * STORES / 600];
            let mut batch = Batch::default();
            batch.put(Table::Current, number.to_be_bytes().to_vec(), vec![1; BATCH]);
            store.write(batch).unwrap();
            most = most.max(memory.write_buffer_bytes());
        }
        most
    }
    let budget = 2 << 20;
    let options = FjallOptions { cache_bytes: 1 << 20, write_buffer_bytes: budget, memtable_bytes: 64 << 20 };
    let most = most_buffered(options);
    assert!(most <= budget + budget / 4 + 2 * BATCH as u64, "{most}");
    // Nothing else holds them down.
    let most = most_buffered(FjallOptions { write_buffer_bytes: 1 << 30, ..options });
    assert!(most > 4 * budget, "{most}");
}

#[test]
fn stores_share_memory_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let memory = FjallMemory::new(SMALL);
    let one = OnDisk { kv: memory.open(&dir.path().join("one")).unwrap(), dir: tempfile::tempdir().unwrap() };
    let other = memory.open(&dir.path().join("other")).unwrap();
    put(&one.kv, Table::Current, b"one", b"1");
    put(&other, Table::Current, b"other", b"2");
    assert_eq!((dump(&one.kv).len(), dump(&other).len()), (1, 1));
    assert!(memory.open(&dir.path().join("one")).is_err(), "a directory has one store");
    // A store that failed neither stops the others nor counts against them.
    let tables = dir.path().join("one");
    let broken = OnDisk { kv: one.kv, dir: one.dir };
    std::fs::remove_dir_all(table_dir(&tables)).unwrap();
    let write = |number: u32| {
        let mut batch = Batch::default();
        batch.put(Table::Gc, number.to_be_bytes().to_vec(), vec![0; 8 << 10]);
        broken.kv.write(batch)
    };
    assert!((0..1000).any(|number| write(number).is_err()));
    for number in 0..400u32 {
        put(&other, Table::Gc, &number.to_be_bytes(), &[0; 8 << 10]);
    }
    other.persist().unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_torn_journal_keeps_whole_batches_from_the_start() {
    const BATCHES: u32 = 20;
    let subject = OnDisk::make();
    for n in 0..BATCHES {
        let mut batch = Batch::default();
        batch.put(Table::Current, vec![1], n.to_be_bytes().to_vec());
        batch.put(Table::Versions, vec![2], n.to_be_bytes().to_vec());
        batch.put(Table::Gc, n.to_be_bytes().to_vec(), vec![0; 100]);
        subject.kv().write(batch).unwrap();
    }
    // As a kill leaves it: the process never closed the store.
    let journal = std::fs::read(subject.dir.path().join("0/0.jnl")).unwrap();
    let end = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut kept_before = 0;
    for cut in (0..=end).step_by(97).chain([end]) {
        let torn = tempfile::tempdir().unwrap();
        drop(FjallKv::open(torn.path(), SMALL).unwrap());
        std::fs::write(torn.path().join("0/0.jnl"), &journal[..cut]).unwrap();
        // The directory of table files is that of an empty store: nothing was flushed yet.
        copy_dir(&subject.dir.path().join("0/keyspaces"), &torn.path().join("0/keyspaces"));
        let kv = FjallKv::open(torn.path(), SMALL).unwrap();
        let kept = rows(&kv, Table::Gc, &KeyRange::all(), Direction::Forward).len();
        let last = kept.checked_sub(1).map(|n| u32::try_from(n).unwrap().to_be_bytes().to_vec());
        for (table, key) in [(Table::Current, [1]), (Table::Versions, [2])] {
            assert_eq!(kv.get(table, &key).unwrap().map(|value| value.to_vec()), last, "cut at {cut}");
        }
        assert!(kept >= kept_before, "a longer journal keeps more");
        kept_before = kept;
    }
    assert_eq!(kept_before, BATCHES as usize);
}

/// A power cut keeps any of the pages that were not flushed, later ones too.
#[test]
fn a_lost_page_of_the_journal_ends_it_with_the_batch_before() {
    const BATCHES: u32 = 12;
    const PAGE: usize = 4096;
    // No table files: everything is in the journal.
    let options = FjallOptions::default();
    let dir = tempfile::tempdir().unwrap();
    let subject = OnDisk { kv: FjallKv::open(dir.path(), options).unwrap(), dir };
    let journal = subject.dir.path().join("0/0.jnl");
    let mut ends = vec![];
    for n in 0..BATCHES {
        let mut batch = Batch::default();
        batch.put(Table::Current, vec![1], n.to_be_bytes().to_vec());
        batch.put(Table::Gc, n.to_be_bytes().to_vec(), vec![7; 700 + 900 * n as usize]);
        subject.kv().write(batch).unwrap();
        let bytes = std::fs::read(&journal).unwrap();
        ends.push(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    }
    let whole = std::fs::read(&journal).unwrap();
    let end = *ends.last().unwrap();
    for page in (0..end.div_ceil(PAGE)).step_by(2) {
        let hole = page * PAGE..end.min((page + 1) * PAGE);
        let mut bytes = whole.clone();
        bytes[hole.clone()].fill(0);
        let torn = tempfile::tempdir().unwrap();
        copy_dir(&subject.dir.path().join("0/keyspaces"), &{
            drop(FjallKv::open(torn.path(), options).unwrap());
            torn.path().join("0/keyspaces")
        });
        std::fs::write(torn.path().join("0/0.jnl"), &bytes).unwrap();
        let kv = FjallKv::open(torn.path(), options).unwrap();
        let whole_batches = ends.iter().filter(|end| **end <= hole.start).count();
        assert_eq!(
            rows(&kv, Table::Gc, &KeyRange::all(), Direction::Forward).len(),
            whole_batches,
            "{hole:?}"
        );
        // What is written next is there after the next start.
        put(&kv, Table::Tokens, b"next", b"");
        kv.persist().unwrap();
        drop(kv);
        let kv = FjallKv::open(torn.path(), options).unwrap();
        assert_eq!(dump(&kv).len(), whole_batches + usize::from(whole_batches > 0) + 1);
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::remove_dir_all(to).unwrap();
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn remains_of_an_interrupted_replacement_are_removed_at_open() {
    let OnDisk { kv, dir } = OnDisk::make();
    put(&kv, Table::Current, b"kept", b"");
    let mut replacement = kv.replace().unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Current, &b"lost"[..], &b""[..]);
    replacement.write(batch).unwrap();
    // As a kill leaves it.
    assert!(dir.path().join("1").is_dir());
    let copy = tempfile::tempdir().unwrap();
    kv.persist().unwrap();
    drop(replacement);
    assert!(!dir.path().join("1").exists(), "dropped, it leaves no trace");
    drop(kv);
    copy_dir(dir.path(), copy.path());
    std::fs::create_dir(copy.path().join("1")).unwrap();
    std::fs::write(copy.path().join("CURRENT.new"), "1").unwrap();
    let kv = FjallKv::open(copy.path(), SMALL).unwrap();
    assert!(!copy.path().join("1").exists());
    assert_eq!(dump(&kv).len(), 1);
}

#[test]
fn files_of_a_replaced_generation_go_with_its_last_reader() {
    let OnDisk { kv, dir } = OnDisk::make();
    put(&kv, Table::Current, b"old", b"");
    let reader = kv.snapshot().unwrap();
    kv.replace().unwrap().commit().unwrap();
    assert!(dir.path().join("0").is_dir());
    assert_eq!(dump(&*reader).len(), 1);
    drop(reader);
    assert!(!dir.path().join("0").exists());
    assert!(dump(&kv).is_empty());
}

#[test]
fn a_store_without_the_generation_it_names_does_not_open() {
    let OnDisk { kv, dir } = OnDisk::make();
    drop(kv);
    std::fs::remove_dir_all(dir.path().join("0")).unwrap();
    assert!(matches!(FjallKv::open(dir.path(), SMALL), Err(KvError::Io { .. })));
}
