use super::*;
use ashlar_runtime::{
    AlignedBuf,
    disk::sim::{Fault, FaultKind, FaultOn, Operation},
};
use std::{
    io::{ErrorKind, Result},
    sync::{Arc, Mutex},
    time::Duration,
};

fn fault(operation: Operation, path_contains: &str, nth: u64, kind: FaultKind) -> Fault {
    Fault { on: FaultOn { operation, path_contains: path_contains.to_owned(), nth }, kind }
}

fn code<T>(result: Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn read(file: &dyn DiskFile, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    file.read_exact_at(&mut out, 0).unwrap();
    out
}

#[test]
fn every_kind_of_call_fails_once_as_planned() {
    let (disk, file) = with_file("/f", b"abcd");
    let call = |operation| match operation {
        Operation::Open => disk.open(path("/f"), OpenMode::Read).map(|_| ()),
        Operation::Read => file.read_exact_at(&mut [0], 0),
        Operation::Write => file.write_all_at(b"a", 0),
        Operation::Truncate => file.truncate(4),
        Operation::Punch => file.punch(4, 1),
        Operation::SyncFile => file.sync_data(),
        Operation::SyncDir => disk.sync_dir(path("/")),
        Operation::Rename => disk.rename(path("/f"), path("/f")),
        Operation::Unlink => {
            create(&disk, "/u");
            disk.unlink(path("/u"))
        }
        Operation::CreateDir => disk.create_dir_all(path("/d")),
        Operation::ListDir => disk.list_dir(path("/")).map(|_| ()),
        Operation::Lock => disk.lock(path("/lock")).map(|_| ()),
    };
    for operation in [
        Operation::Open,
        Operation::Read,
        Operation::Write,
        Operation::Truncate,
        Operation::Punch,
        Operation::SyncFile,
        Operation::SyncDir,
        Operation::Rename,
        Operation::Unlink,
        Operation::CreateDir,
        Operation::ListDir,
        Operation::Lock,
    ] {
        for (kind, errno) in [(FaultKind::Eio, libc::EIO), (FaultKind::Enospc, libc::ENOSPC)] {
            let before = (disk.operations_of(operation), disk.operations());
            disk.inject(fault(operation, "", 1, kind));
            call(operation).unwrap();
            assert_eq!(code(call(operation)), Some(errno), "{operation:?}");
            call(operation).unwrap();
            assert_eq!(disk.operations_of(operation), before.0 + 3);
            assert!(disk.operations() >= before.1 + 3);
        }
    }
    assert_eq!(disk.faults().fired().len(), 24);
}

#[test]
fn a_fault_waits_for_its_path_and_its_turn() {
    let disk = SimDisk::new();
    let (first, second) = (create(&disk, "/1"), create(&disk, "/2"));
    disk.inject(fault(Operation::Write, "2", 1, FaultKind::Eio));
    first.write_all_at(b"x", 0).unwrap();
    first.write_all_at(b"x", 0).unwrap();
    second.write_all_at(b"x", 0).unwrap();
    first.write_all_at(b"x", 0).unwrap();
    second.read_exact_at(&mut [0], 0).unwrap();
    assert!(disk.faults().fired().is_empty());
    assert_eq!(code(second.write_all_at(b"x", 0)), Some(libc::EIO));
    disk.inject(fault(Operation::Rename, "to", 0, FaultKind::Eio));
    assert_eq!(code(disk.rename(path("/1"), path("/to"))), Some(libc::EIO));
    disk.rename(path("/1"), path("/to")).unwrap();
    assert_eq!(disk.faults().fired().len(), 2);
}

#[test]
fn lasting_faults_last_until_they_are_cleared() {
    let (disk, file) = with_file("/f", b"abcd");
    disk.faults().inject_lasting(fault(Operation::Read, "/f", 1, FaultKind::Eio));
    file.read_exact_at(&mut [0], 0).unwrap();
    for _ in 0..3 {
        assert_eq!(code(file.read_exact_at(&mut [0], 0)), Some(libc::EIO));
    }
    disk.faults().clear();
    file.read_exact_at(&mut [0], 0).unwrap();
}

#[test]
fn a_failed_write_leaves_its_first_half() {
    let (disk, file) = with_file("/f", &[1; 4096]);
    disk.inject(fault(Operation::Write, "", 0, FaultKind::Enospc));
    assert_eq!(file.write_all_at(&[2; 4096], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(read(&*file, 4096), [[2; 2048], [1; 2048]].concat());
}

#[test]
fn a_failed_sync_loses_what_it_should_have_kept_and_the_next_one_succeeds() {
    let (disk, file) = with_file("/f", b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.inject(fault(Operation::SyncFile, "", 0, FaultKind::SyncLosesPages));
    assert_eq!(code(file.sync_data()), Some(libc::EIO));
    assert_eq!(read(&*file, 3), b"new", "the cache still shows it");
    file.sync_data().unwrap();
    let history = disk.history();
    assert_eq!(history.unsynced(history.events.len()), 0);
    assert_eq!(crash_now(&disk, Survivors::All).read(path("/f")).unwrap(), b"old");
    assert_eq!(history.kill(history.events.len()).image().read(path("/f")).unwrap(), b"new");
    file.write_all_at(b"X", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/f")).unwrap(), b"Xld");
}

#[test]
fn a_failed_sync_of_a_directory_loses_its_names_and_no_others() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/d")).unwrap();
    create(&disk, "/d/f");
    disk.inject(fault(Operation::SyncDir, "/d", 0, FaultKind::SyncLosesPages));
    assert_eq!(code(disk.sync_dir(path("/d"))), Some(libc::EIO));
    create(&disk, "/d/g");
    disk.sync_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(crash_now(&disk, Survivors::All).files(), [path("/d/g")]);
}

#[test]
fn an_error_of_a_sync_alone_leaves_the_pages_dirty() {
    let (disk, file) = with_file("/f", b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.inject(fault(Operation::SyncFile, "", 0, FaultKind::Eio));
    file.sync_data().unwrap_err();
    assert_eq!(crash_now(&disk, Survivors::None).read(path("/f")).unwrap(), b"old");
    assert_eq!(crash_now(&disk, Survivors::All).read(path("/f")).unwrap(), b"new");
}

#[test]
fn a_lost_write_is_lost_even_after_a_flush() {
    let (disk, file) = with_file("/f", b"old");
    disk.inject(fault(Operation::Write, "", 0, FaultKind::LostWrite));
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&*file, 3), b"old");
    assert_eq!(crash_now(&disk, Survivors::All).read(path("/f")).unwrap(), b"old");
}

#[test]
fn a_misdirected_write_lands_elsewhere_in_its_file() {
    let (disk, file) = with_file("/f", &[1; 12]);
    disk.inject(fault(Operation::Write, "", 0, FaultKind::Misdirected { by: 5 }));
    disk.inject(fault(Operation::Write, "", 1, FaultKind::Misdirected { by: -2 }));
    file.write_all_at(&[2; 2], 2).unwrap();
    file.write_all_at(&[3; 2], 2).unwrap();
    assert_eq!(read(&*file, 12), [3, 3, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1]);
    file.sync_data().unwrap();
    let image = crash_now(&disk, Survivors::None);
    assert_eq!(image.read(path("/f")).unwrap(), [3, 3, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1]);
}

#[test]
fn a_flipped_bit_stays_in_a_write_and_passes_in_a_read() {
    let (disk, file) = with_file("/f", &[0; 4]);
    disk.inject(fault(Operation::Read, "", 0, FaultKind::BitFlip { bit: 9 }));
    assert_eq!(read(&*file, 4), [0, 2, 0, 0]);
    assert_eq!(read(&*file, 4), [0; 4]);
    disk.inject(fault(Operation::Write, "", 0, FaultKind::BitFlip { bit: 16 + 3 }));
    file.write_all_at(&[0; 2], 2).unwrap();
    assert_eq!(read(&*file, 4), [0, 0, 8, 0]);
}

#[test]
fn a_stale_read_returns_what_the_last_change_replaced() {
    let (disk, file) = with_file("/f", &[1; 8]);
    let stale = |len| {
        disk.inject(fault(Operation::Read, "", 0, FaultKind::StaleRead));
        read(&*file, len)
    };
    assert_eq!(stale(8), [1; 8], "nothing has changed");
    file.write_all_at(&[2; 4], 0).unwrap();
    file.write_all_at(&[3; 2], 0).unwrap();
    file.write_all_at(&[4; 4], 4).unwrap();
    assert_eq!(stale(4), [2; 4], "a change elsewhere does not count");
    assert_eq!(stale(8), [3, 3, 2, 2, 1, 1, 1, 1]);
    file.write_all_at(&[5; 4], 8).unwrap();
    assert_eq!(stale(12), [3, 3, 2, 2, 4, 4, 4, 4, 0, 0, 0, 0]);
    file.punch(0, 8).unwrap();
    assert_eq!(stale(8), [3, 3, 2, 2, 4, 4, 4, 4]);
    assert_eq!(read(&*file, 8), [0; 8]);
}

#[test]
fn a_slow_call_takes_its_time_and_then_works() {
    let (disk, file) = with_file("/f", b"abcd");
    let passed = Arc::new(Mutex::new(Duration::ZERO));
    let clock = Arc::clone(&passed);
    let disk = disk.with_delay(move |delay| *clock.lock().unwrap() += delay);
    disk.inject(fault(Operation::Read, "/f", 0, FaultKind::Slow(Duration::from_secs(60))));
    assert_eq!(read(&*file, 4), b"abcd");
    assert_eq!(*passed.lock().unwrap(), Duration::from_secs(60));
}

#[test]
fn direct_and_cached_transfers_can_go_wrong_too() {
    let (disk, file) = with_file("/f", &[1; 4096]);
    let direct = disk.open_direct(path("/f"), OpenMode::ReadWrite).unwrap();
    disk.inject(fault(Operation::Write, "/f", 0, FaultKind::LostWrite));
    direct.write_parts_at(&[&AlignedBuf::zeroed(4096)], 0).unwrap();
    assert_eq!(read(&*file, 4096), [1; 4096]);
    disk.inject(fault(Operation::Read, "/f", 0, FaultKind::Eio));
    assert_eq!(code(file.read_cached_at(&mut [0; 8], 0)), Some(libc::EIO));
    disk.drop_caches();
    disk.inject(fault(Operation::Read, "/f", 0, FaultKind::Eio));
    assert!(!file.read_cached_at(&mut [0; 8], 0).unwrap(), "no answer from the cache cannot go wrong");
    assert_eq!(code(file.read_exact_at(&mut [0; 8], 0)), Some(libc::EIO));
}

#[test]
#[should_panic(expected = "cannot happen")]
fn a_fault_that_cannot_happen_is_refused() {
    SimDisk::new().inject(fault(Operation::SyncFile, "", 0, FaultKind::StaleRead));
}
