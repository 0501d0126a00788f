use super::*;
use ashlar_runtime::disk::sim::Event;
use std::collections::BTreeSet;

#[test]
fn unsynced_bytes_are_lost_kept_or_chosen_and_synced_ones_stay() {
    let (disk, file) = with_file("/f", b"aaaa");
    file.write_all_at(b"S", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"1", 1).unwrap();
    file.write_all_at(b"2", 2).unwrap();
    file.truncate(3).unwrap();
    let read = |survivors| crash_now(&disk, survivors).read(path("/f")).unwrap();
    assert_eq!(read(Survivors::None), b"Saaa");
    assert_eq!(read(Survivors::All), b"S12");
    assert_eq!(read(Survivors::Subset(0)), b"Saaa");
    assert_eq!(read(Survivors::Subset(0b001)), b"S1aa");
    assert_eq!(read(Survivors::Subset(0b010)), b"Sa2a");
    assert_eq!(read(Survivors::Subset(0b101)), b"S1a");
    assert_eq!(read(Survivors::Subset(u64::MAX)), b"S12");
    let history = disk.history();
    assert_eq!(history.unsynced(history.events.len()), 3);
    assert_eq!(history.unsynced(2), 0, "the write and its sync");
    assert_eq!(history.unsynced(1), 1);
}

#[test]
fn a_sync_covers_its_own_file_alone_through_any_handle() {
    let disk = SimDisk::new();
    let (first, second) = (create(&disk, "/a"), create(&disk, "/b"));
    disk.sync_dir(path("/")).unwrap();
    first.write_all_at(b"first", 0).unwrap();
    second.write_all_at(b"second", 0).unwrap();
    create(&disk, "/a").sync_data().unwrap();
    let image = crash_now(&disk, Survivors::None);
    assert_eq!(image.read(path("/a")).unwrap(), b"first");
    assert_eq!(image.read(path("/b")).unwrap(), b"");
}

#[test]
fn a_name_needs_a_sync_of_its_own_directory() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/d/e")).unwrap();
    let file = create(&disk, "/d/e/f");
    file.write_all_at(b"bytes", 0).unwrap();
    file.sync_data().unwrap();
    for synced in ["/d/e", "/d", "/"] {
        assert!(crash_now(&disk, Survivors::None).files().is_empty());
        disk.sync_dir(path(synced)).unwrap();
    }
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/d/e/f")).unwrap(), b"bytes");
    disk.unlink(path("/d/e/f")).unwrap();
    assert_eq!(crash_now(&disk, Survivors::None).files(), [path("/d/e/f")], "it comes back");
    disk.sync_dir(path("/d/e")).unwrap();
    assert!(crash_now(&disk, Survivors::None).files().is_empty());
}

#[test]
fn a_name_may_be_durable_before_its_bytes() {
    let disk = SimDisk::new();
    create(&disk, "/f").write_all_at(b"bytes", 0).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/f")).unwrap(), b"");
}

#[test]
fn the_two_changes_of_a_rename_survive_apart() {
    let (disk, _) = with_file("/old", b"bytes");
    disk.rename(path("/old"), path("/new")).unwrap();
    let names = |survivors| crash_now(&disk, survivors).files();
    assert_eq!(names(Survivors::None), [path("/old")]);
    assert_eq!(names(Survivors::Subset(0b01)), [path("/new"), path("/old")]);
    assert!(names(Survivors::Subset(0b10)).is_empty());
    assert_eq!(names(Survivors::All), [path("/new")]);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names(Survivors::None), [path("/new")]);
}

#[test]
fn a_rename_over_a_file_leaves_the_one_or_the_other() {
    let (disk, _) = with_file("/f", b"old");
    let file = create(&disk, "/f.tmp");
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    disk.rename(path("/f.tmp"), path("/f")).unwrap();
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/f")).unwrap(), b"old");
    assert_eq!(crash_now(&disk, Survivors::All).read(path("/f")).unwrap(), b"new");
}

#[test]
fn a_directory_never_survives_in_two_places() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/a")).unwrap();
    create(&disk, "/a/f");
    disk.create_dir_all(path("/b")).unwrap();
    let disk = SimDisk::with_image(disk.image());
    disk.rename(path("/a"), path("/b/a")).unwrap();
    let image = crash_now(&disk, Survivors::Subset(0b01));
    assert_eq!(image.files().len(), 1, "one of its two names: {:?}", image.files());
}

#[test]
fn a_hole_is_a_change_like_any_other() {
    let (disk, file) = with_file("/f", &[7; 8192]);
    file.punch(0, 4096).unwrap();
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/f")).unwrap(), [7; 8192]);
    file.sync_data().unwrap();
    let image = crash_now(&disk, Survivors::None);
    assert_eq!(image.read(path("/f")).unwrap(), [[0; 4096], [7; 4096]].concat());
    let disk = SimDisk::with_image(image);
    assert_eq!(create(&disk, "/f").allocated_bytes().unwrap(), 4096, "a crash keeps holes");
}

/// What is in a sector after a torn write of `2`s over `1`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sector {
    New,
    Old,
    Zeros,
    Garbage,
}

fn sectors(bytes: &[u8]) -> Vec<Sector> {
    let classify = |sector: &[u8]| match sector[0] {
        2 if sector.iter().all(|byte| *byte == 2) => Sector::New,
        1 if sector.iter().all(|byte| *byte == 1) => Sector::Old,
        0 if sector.iter().all(|byte| *byte == 0) => Sector::Zeros,
        _ => Sector::Garbage,
    };
    bytes.chunks(512).map(classify).collect()
}

#[test]
fn torn_writes_are_cut_at_sectors_and_leave_old_bytes_zeros_or_garbage() {
    let (disk, file) = with_file("/f", &[1; 32 << 10]);
    file.write_all_at(&[2; 16 << 10], 8 << 10).unwrap();
    let mut seen = BTreeSet::new();
    let (mut inside_a_block, mut front, mut back, mut middle) = (false, false, false, false);
    for seed in 0..2000 {
        let bytes = crash_now(&disk, Survivors::Random { seed }).read(path("/f")).unwrap();
        assert_eq!(bytes.len(), 32 << 10);
        assert!(bytes[..8 << 10].iter().all(|byte| *byte == 1), "nothing before the write is touched");
        assert!(bytes[24 << 10..].iter().all(|byte| *byte == 1), "nothing after the write is touched");
        let sectors = sectors(&bytes[8 << 10..24 << 10]);
        let kinds: BTreeSet<Sector> = sectors.iter().copied().collect();
        assert!(kinds.len() <= 2, "one kind of damage a write: {kinds:?}");
        let borders: Vec<usize> = (1..sectors.len()).filter(|at| sectors[*at] != sectors[at - 1]).collect();
        inside_a_block |= borders.iter().any(|at| at % 8 != 0);
        let (first, last) = (sectors[0] == Sector::New, sectors[sectors.len() - 1] == Sector::New);
        front |= borders.len() == 1 && first;
        back |= borders.len() == 1 && last;
        middle |= borders.len() > 1;
        seen.insert(kinds);
    }
    use Sector::{Garbage, New, Old, Zeros};
    for kinds in [
        vec![New],
        vec![Old],
        vec![Zeros],
        vec![Garbage],
        vec![New, Old],
        vec![New, Zeros],
        vec![New, Garbage],
    ] {
        assert!(seen.contains(&kinds.iter().copied().collect()), "{kinds:?} never came");
    }
    assert!(inside_a_block && front && back && middle);
}

#[test]
fn a_torn_write_that_is_not_aligned_is_cut_at_sectors_of_the_file() {
    let (disk, file) = with_file("/f", &[1; 4096]);
    file.write_all_at(&[2; 2000], 100).unwrap();
    for seed in 0..500 {
        let bytes = crash_now(&disk, Survivors::Random { seed }).read(path("/f")).unwrap();
        assert!(bytes[..100].iter().chain(&bytes[2100..]).all(|byte| *byte == 1));
        for border in 101..2100 {
            let torn = (bytes[border] == 2) != (bytes[border - 1] == 2);
            // Garbage holds every byte, so only what is new or old on both sides tells.
            if torn
                && [1, 2].contains(&bytes[border])
                && [1, 2].contains(&bytes[border - 1])
                && garbage_free(&bytes)
            {
                assert_eq!(border % 512, 0, "seed {seed}");
            }
        }
    }
}

fn garbage_free(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte < 3)
}

#[test]
fn a_seed_is_one_crash_and_other_seeds_are_others() {
    let (disk, file) = with_file("/f", &[1; 64 << 10]);
    for at in 0..16 {
        file.write_all_at(&[2; 4096], at * 4096).unwrap();
    }
    let crash = |seed| crash_now(&disk, Survivors::Random { seed }).read(path("/f")).unwrap();
    let images: BTreeSet<Vec<u8>> = (0..100).map(crash).collect();
    assert!(images.len() > 90, "{} of 100 differ", images.len());
    for seed in 0..100 {
        assert_eq!(crash(seed), crash(seed));
    }
}

#[test]
fn every_unsynced_change_may_survive_alone_or_be_lost_alone() {
    let (disk, file) = with_file("/f", &[0; 8]);
    for at in 0..8_u8 {
        file.write_all_at(&[1], u64::from(at)).unwrap();
    }
    let survivors: Vec<Vec<u8>> = (0..5000)
        .map(|seed| crash_now(&disk, Survivors::Random { seed }).read(path("/f")).unwrap())
        .filter(|bytes| bytes.iter().all(|byte| *byte < 2))
        .collect();
    for at in 0..8 {
        let alone = (0..8).map(|i| u8::from(i == at)).collect();
        let lost = (0..8).map(|i| u8::from(i != at)).collect();
        assert!(survivors.contains(&alone) && survivors.contains(&lost), "change {at}");
    }
}

#[test]
fn the_crash_of_a_disk_is_a_disk_of_its_own() {
    let (disk, file) = with_file("/f", b"old");
    let crashed = SimDisk::with_image(crash_now(&disk, Survivors::None));
    let handle = create(&crashed, "/f");
    file.write_all_at(b"new", 0).unwrap();
    let mut out = [0; 3];
    handle.read_exact_at(&mut out, 0).unwrap();
    assert_eq!(&out, b"old");
    assert!(crashed.history().events.is_empty());
    assert!(matches!(disk.history().events[..], [Event::Change(_)]));
}
