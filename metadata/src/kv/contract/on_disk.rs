//! What only the store on disk does: memory shared between stores, journals after a crash, generations.

use super::*;
use crate::kv::FjallMemory;

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

#[test]
fn a_snapshot_counts_what_it_keeps_in_memory_until_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let memory = FjallMemory::new(SMALL);
    let kv = memory.open(dir.path()).unwrap();
    put(&kv, Table::Current, b"before", &[0; 1000]);
    let snapshot = kv.snapshot().unwrap();
    assert_eq!(memory.pinned_bytes(), 0);
    put(&kv, Table::Current, b"after", &[0; 1000]);
    assert_eq!(memory.pinned_bytes(), 1005);
    drop(snapshot);
    assert_eq!(memory.pinned_bytes(), 0);
}
