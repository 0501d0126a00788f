//! What every disk promises, on the real one and on the simulated one: the same cases, the same kinds of errors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures as well")]

use ashlar_runtime::{AlignedBuf, Disk, DiskFile, OpenMode, RealDisk, SimDisk, buf::ALIGN};
use std::{
    io::{ErrorKind, Result},
    path::{Path, PathBuf},
};

#[path = "disk_contract/bytes.rs"]
mod bytes;
#[path = "disk_contract/direct.rs"]
mod direct;
#[path = "disk_contract/names.rs"]
mod names;
#[path = "disk_contract/space.rs"]
mod space;

/// An empty directory of a disk.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn open(&self, name: &str, mode: OpenMode) -> Result<Box<dyn DiskFile>> {
        self.disk.open(&self.path(name), mode)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
        let file = self.open(name, OpenMode::Create).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn names(&self) -> Vec<String> {
        self.disk.list_dir(self.root).unwrap()
    }
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

/// Runs a case where direct I/O may be refused: a temporary directory, memory, and both kinds of simulated disk.
fn everywhere(case: impl Fn(Place<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    case(Place { disk: &RealDisk, root: dir.path() });
    if let Ok(dir) = tempfile::tempdir_in("/dev/shm") {
        case(Place { disk: &RealDisk, root: dir.path() });
    }
    for disk in [SimDisk::new(), SimDisk::new().without_direct_io()] {
        disk.create_dir_all(Path::new("/root/of")).unwrap();
        case(Place { disk: &disk, root: Path::new("/root/of") });
    }
}

macro_rules! contract {
    ($($module:ident: $($case:ident)*;)*) => {
        $($(
            #[test]
            fn $case() {
                everywhere($module::$case);
            }
        )*)*
    };
}

contract! {
    names: a_mode_says_whether_a_file_must_or_may_exist
        a_path_through_nothing_or_through_a_file_leads_nowhere
        directories_are_made_with_their_parents_and_listed_in_order
        a_file_takes_the_place_of_another_of_its_new_name
        directories_move_with_all_that_is_in_them
        a_removed_file_lives_while_it_is_open
        a_lock_has_one_owner_until_it_is_dropped
        names_are_synced_where_there_is_a_directory;
    bytes: bytes_read_as_they_were_written
        parts_are_written_one_after_another
        a_read_past_the_end_fails_and_a_write_past_it_leaves_zeros
        a_file_is_cut_and_grows_with_zeros
        a_file_opened_for_reading_refuses_changes
        two_handles_see_one_file
        what_is_in_memory_is_right
        impossible_offsets_are_refused;
    direct: a_direct_file_is_refused_whole_or_works
        direct_and_buffered_handles_agree
        unaligned_direct_transfers_are_invalid
        a_direct_read_past_the_end_fails;
    space: holes_read_as_zeros_and_give_their_space_back
        a_hole_keeps_the_length_and_what_is_around_it
        growing_and_skipping_occupy_nothing
        a_directory_knows_its_device_and_its_space;
}
