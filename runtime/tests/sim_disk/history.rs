use super::*;
use ashlar_runtime::disk::sim::{Change, Event, SimCache};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn notes_stand_between_the_events_around_them() {
    let disk = SimDisk::new();
    disk.note(1);
    let file = create(&disk, "/f");
    file.write_all_at(b"x", 0).unwrap();
    disk.note(2);
    file.sync_data().unwrap();
    disk.sync_dir(path("/")).unwrap();
    let events = disk.history().events;
    let (root, f) = (disk.image().node(path("/")).unwrap(), disk.image().node(path("/f")).unwrap());
    assert!(
        matches!(
            events[..],
            [
                Event::Note(1),
                Event::Change(Change::Link { .. }),
                Event::Change(Change::Write { .. }),
                Event::Note(2),
                Event::SyncFile(file),
                Event::SyncDir(dir)
            ] if (dir, file) == (root, f)
        ),
        "{events:?}"
    );
}

#[test]
fn a_killed_process_leaves_all_visible_and_not_all_durable() {
    let (disk, file) = with_file("/f", b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.note(7);
    let history = disk.history();
    let mut cursor = history.crashes();
    cursor.advance_to(2);
    for (killed, events) in [(history.kill(2), 2), (cursor.kill(), 1)] {
        assert_eq!(killed.image().read(path("/f")).unwrap(), b"new");
        assert_eq!(killed.history().events.len(), events);
        assert_eq!(crash_now(&killed, Survivors::None).read(path("/f")).unwrap(), b"old");
        create(&killed, "/f").sync_data().unwrap();
        assert_eq!(crash_now(&killed, Survivors::None).read(path("/f")).unwrap(), b"new");
    }
    assert_eq!(history.kill(0).image().read(path("/f")).unwrap(), b"old");
    drop(disk.lock(path("/lock")).unwrap());
    let held = disk.lock(path("/lock")).unwrap();
    let history = disk.history();
    history.kill(history.events.len()).lock(path("/lock")).unwrap();
    drop(held);
}

#[test]
fn a_new_node_never_gets_the_number_of_one_that_the_history_knows() {
    for bytes in [&b""[..], b"of the removed file"] {
        let disk = SimDisk::new();
        let file = create(&disk, "/f");
        if !bytes.is_empty() {
            file.write_all_at(bytes, 0).unwrap();
        }
        drop(file);
        disk.unlink(path("/f")).unwrap();
        let history = disk.history();
        let killed = history.kill(history.events.len());
        create(&killed, "/g");
        assert_eq!(crash_now(&killed, Survivors::All).read(path("/g")).unwrap(), b"");
        let image = crash_now(&killed, Survivors::Subset(!(1 << (history.events.len() - 1))));
        assert_eq!(image.read(path("/f")).unwrap(), bytes, "the removal is what was lost");
        assert_ne!(image.node(path("/f")), image.node(path("/g")));
    }
}

#[test]
fn a_history_that_was_forgotten_crashes_as_before() {
    let (disk, file) = with_file("/f", b"aaaa");
    file.write_all_at(b"S", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"1", 1).unwrap();
    create(&disk, "/g");
    let before: Vec<_> = (0..4).map(|bits| crash_now(&disk, Survivors::Subset(bits))).collect();
    disk.forget_history();
    let after: Vec<_> = (0..4).map(|bits| crash_now(&disk, Survivors::Subset(bits))).collect();
    assert!(before == after, "{before:?} {after:?}");
    assert_eq!(disk.history().events.len(), 2);
    assert_eq!(disk.image().read(path("/f")).unwrap(), b"S1aa");
}

#[test]
fn the_cache_holds_what_went_through_it() {
    let (disk, file) = with_file("/f", &[1; 16384]);
    let cached = |file: &dyn DiskFile, page: u64| file.read_cached_at(&mut [0; 4096], page * 4096).unwrap();
    assert!(!cached(&*file, 0));
    file.read_exact_at(&mut [0; 10], 4090).unwrap();
    assert!(cached(&*file, 0) && cached(&*file, 1) && !cached(&*file, 2));
    file.write_all_at(b"x", 8192).unwrap();
    let other = create(&disk, "/f");
    assert!(cached(&*other, 2) && !cached(&*other, 3), "the cache is the file's, not the handle's");
    file.punch(0, 4096).unwrap();
    assert!(!cached(&*file, 0) && cached(&*file, 1));
    let direct = disk.open_direct(path("/f"), OpenMode::ReadWrite).unwrap();
    direct.write_all_at(&ashlar_runtime::AlignedBuf::zeroed(4096), 4096).unwrap();
    assert!(!cached(&*file, 1) && cached(&*file, 2));
    disk.drop_caches();
    assert!(!cached(&*file, 2));
    let full = SimDisk::with_image(disk.image()).with_cache(SimCache::Everything);
    assert!(cached(&*create(&full, "/f"), 3));
    assert!(!full.open_direct(path("/f"), OpenMode::Read).unwrap().read_cached_at(&mut [], 0).unwrap());
    let empty = SimDisk::with_image(disk.image()).with_cache(SimCache::Nothing);
    let file = create(&empty, "/f");
    file.read_exact_at(&mut [0; 4096], 0).unwrap();
    assert!(!cached(&*file, 0));
}

#[test]
fn direct_io_can_be_refused() {
    let disk = SimDisk::new().without_direct_io();
    let refused = disk.open_direct(path("/f"), OpenMode::Create).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(disk.history().events.is_empty());
    create(&disk, "/f");
    SimDisk::with_image(disk.image()).open_direct(path("/f"), OpenMode::Read).unwrap();
}

#[test]
fn a_full_disk_refuses_what_would_occupy_more() {
    let disk = SimDisk::new().with_capacity(4 * 4096).with_device(9);
    let usage = || disk.usage(path("/")).unwrap();
    let (first, second) = (create(&disk, "/a"), create(&disk, "/b"));
    first.write_all_at(&[1; 3 * 4096], 0).unwrap();
    assert_eq!((usage().device, usage().total_bytes, usage().available_bytes), (9, 4 * 4096, 4096));
    let full = second.write_all_at(&[1; 4097], 0).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(second.len().unwrap(), 0);
    second.write_all_at(&[1; 4096], 0).unwrap();
    first.write_all_at(&[2; 3 * 4096], 0).unwrap();
    assert_eq!(usage().available_bytes, 0, "writing over what is there needs no space");
    first.punch(4096, 4096).unwrap();
    assert_eq!(usage().available_bytes, 4096);
    first.write_all_at(&[1], 5000).unwrap();
    disk.unlink(path("/a")).unwrap();
    assert_eq!(usage().available_bytes, 0, "an open file keeps its space");
    drop(first);
    assert_eq!(usage().available_bytes, 3 * 4096);
    second.truncate(0).unwrap();
    assert_eq!(usage().available_bytes, 4 * 4096);
}

#[test]
fn threads_share_a_disk() {
    let disk = SimDisk::new();
    let tasks = ashlar_runtime::Tasks::real();
    let workers: Vec<_> = (0..8_u8)
        .map(|number| {
            let disk = disk.clone();
            tasks.worker("writer", move || {
                let file = create(&disk, &format!("/{number}"));
                for at in 0..100 {
                    file.write_all_at(&[number; 100], at * 100).unwrap();
                }
                file.sync_data().unwrap();
            })
        })
        .collect();
    workers.into_iter().for_each(ashlar_runtime::WorkerHandle::join);
    disk.sync_dir(path("/")).unwrap();
    let image = crash_now(&disk, Survivors::None);
    for number in 0..8_u8 {
        assert_eq!(image.read(path(&format!("/{number}"))).unwrap(), [number; 10_000]);
    }
    assert_eq!(disk.operations(), 8 * 102 + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8, u64, usize),
    Truncate(u8, u64),
    Punch(u8, u64, u64),
    SyncFile(u8),
    SyncDir,
    Rename(u8, u8),
    Unlink(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..3_u8;
    prop_oneof![
        4 => (file.clone(), 0..9000_u64, 0..9000_usize).prop_map(|(file, at, len)| Step::Write(file, at, len)),
        1 => (file.clone(), 0..9000_u64).prop_map(|(file, len)| Step::Truncate(file, len)),
        1 => (file.clone(), 0..9000_u64, 0..9000_u64).prop_map(|(file, at, len)| Step::Punch(file, at, len)),
        2 => file.clone().prop_map(Step::SyncFile),
        2 => Just(Step::SyncDir),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => file.prop_map(Step::Unlink),
    ]
}

/// The model: names and bytes, durable and visible, of files in one directory.
#[derive(Clone, Debug, Default)]
struct Model {
    visible: BTreeMap<u8, usize>,
    durable: BTreeMap<u8, usize>,
    /// Bytes by number of the file: visible, durable.
    bytes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Model {
    fn image(&self) -> BTreeMap<u8, Vec<u8>> {
        self.durable.iter().map(|(name, file)| (*name, self.bytes[*file].1.clone())).collect()
    }

    fn bytes(&mut self, name: u8) -> &mut (Vec<u8>, Vec<u8>) {
        let file = *self.visible.entry(name).or_insert_with(|| {
            self.bytes.push(Default::default());
            self.bytes.len() - 1
        });
        &mut self.bytes[file]
    }
}

fn name(file: u8) -> String {
    format!("/{file}")
}

fn apply(disk: &SimDisk, model: &mut Model, step: &Step, byte: u8) {
    match *step {
        Step::Write(file, at, len) => {
            create(disk, &name(file)).write_all_at(&vec![byte; len], at).unwrap();
            let (bytes, at) = (&mut model.bytes(file).0, usize::try_from(at).unwrap());
            if len > 0 {
                bytes.resize(bytes.len().max(at + len), 0);
                bytes[at..at + len].fill(byte);
            }
        }
        Step::Truncate(file, len) => {
            create(disk, &name(file)).truncate(len).unwrap();
            model.bytes(file).0.resize(usize::try_from(len).unwrap(), 0);
        }
        Step::Punch(file, at, len) => {
            create(disk, &name(file)).punch(at, len).unwrap();
            let bytes = &mut model.bytes(file).0;
            let clamp = |at: u64| usize::try_from(at).unwrap().min(bytes.len());
            let (from, to) = (clamp(at), clamp(at + len));
            bytes[from..to].fill(0);
        }
        Step::SyncFile(file) => {
            create(disk, &name(file)).sync_data().unwrap();
            let bytes = model.bytes(file);
            bytes.1 = bytes.0.clone();
        }
        Step::SyncDir => {
            disk.sync_dir(path("/")).unwrap();
            model.durable = model.visible.clone();
        }
        Step::Rename(from, to) => {
            let renamed = disk.rename(path(&name(from)), path(&name(to)));
            assert_eq!(renamed.is_ok(), model.visible.contains_key(&from));
            if let Some(file) = model.visible.remove(&from) {
                model.visible.insert(to, file);
            }
        }
        Step::Unlink(file) => {
            let unlinked = disk.unlink(path(&name(file)));
            assert_eq!(unlinked.is_ok(), model.visible.remove(&file).is_some());
        }
    }
}

fn files(image: &DiskImage) -> BTreeMap<u8, Vec<u8>> {
    let file =
        |path: &std::path::PathBuf| (path.to_str().unwrap()[1..].parse().unwrap(), image.read(path).unwrap());
    image.files().iter().map(file).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_durable_at_every_moment_is_what_a_plain_model_says(steps in prop::collection::vec(step(), 1..30)) {
        let (disk, mut model) = (SimDisk::new(), Model::default());
        let mut moments = vec![(0, model.image(), files(&disk.image()))];
        for (number, step) in steps.iter().enumerate() {
            apply(&disk, &mut model, step, u8::try_from(number).unwrap() + 1);
            moments.push((disk.history().events.len(), model.image(), files(&disk.image())));
        }
        let history = disk.history();
        let mut cursor = history.crashes();
        for (end, durable, visible) in moments {
            cursor.advance_to(end);
            prop_assert_eq!(cursor.position(), end);
            prop_assert_eq!(&files(&cursor.crash(Survivors::None)), &durable);
            prop_assert_eq!(&files(&cursor.crash(Survivors::All)), &visible);
            prop_assert_eq!(&files(&cursor.kill().image()), &visible);
            prop_assert_eq!(&files(&history.kill(end).image()), &visible);
            for seed in 0..4 {
                let survivors = Survivors::Random { seed };
                let image = cursor.crash(survivors);
                prop_assert!(image == history.crash(end, survivors), "a walk and a single crash agree");
                prop_assert!(image == crash_now(&cursor.kill(), survivors), "and so does a killed disk");
            }
        }
    }
}
