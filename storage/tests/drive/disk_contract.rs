//! What any disk does, so that the simulated one proves something about the real one.

use super::{
    fixture::real_disk,
    simulated_disk::{Image, SimulatedDisk, Survivors},
};
use ashlar_runtime::{Disk, OpenMode};
use std::{io::ErrorKind, path::Path};

fn keeps_the_contract(disk: &dyn Disk, root: &Path) {
    let (dir, other) = (root.join("a/b"), root.join("c"));
    assert_eq!(disk.list_dir(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&other).unwrap();

    let path = dir.join("file");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(disk.open(&path, mode).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(disk.open(&root.join("z/z"), OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::NotFound);
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(disk.open(&path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(file.is_empty().unwrap());
    file.write_all_at(b"world", 6).unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    let mut out = [0; 11];
    file.read_exact_at(&mut out, 0).unwrap();
    assert_eq!((&out, file.len().unwrap()), (b"hello\0world", 11));
    assert_eq!(file.read_exact_at(&mut out, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(disk.open(&path, OpenMode::Create).unwrap().len().unwrap(), 11);
    file.sync_data().unwrap();

    let target = other.join("target");
    disk.open(&target, OpenMode::Create).unwrap().write_all_at(b"old", 0).unwrap();
    let before = disk.open(&target, OpenMode::Read).unwrap();
    disk.rename(&path, &target).unwrap();
    disk.sync_dir(&other).unwrap();
    assert_eq!(disk.rename(&path, &target).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.list_dir(&dir).unwrap(), Vec::<String>::new());
    assert_eq!(disk.list_dir(root).unwrap(), ["a", "c"]);
    assert_eq!(disk.open(&target, OpenMode::Read).unwrap().len().unwrap(), 11);
    // An open file outlives its name.
    assert_eq!(before.len().unwrap(), 3);
    file.truncate(5).unwrap();
    disk.unlink(&target).unwrap();
    assert_eq!(disk.unlink(&target).unwrap_err().kind(), ErrorKind::NotFound);
    file.read_exact_at(&mut out[..5], 0).unwrap();
    assert_eq!((&out[..5], file.len().unwrap()), (&b"hello"[..], 5));

    let lock = disk.lock(&root.join("lock")).unwrap();
    assert_eq!(disk.lock(&root.join("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    drop(disk.lock(&root.join("lock")).unwrap());
    assert!(disk.usage(root).unwrap().available_bytes > 0);
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    keeps_the_contract(real_disk().as_ref(), root.path());
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    let disk = SimulatedDisk::<()>::new(Image::empty());
    disk.create_dir_all(Path::new("/root")).unwrap();
    keeps_the_contract(&disk, Path::new("/root"));
}

#[test]
fn a_power_cut_takes_what_was_not_flushed() {
    let disk = SimulatedDisk::<()>::new(Image::empty());
    let (dir, file) = (Path::new("/d"), Path::new("/d/f"));
    let content = |survivors| {
        let after = SimulatedDisk::<()>::new(disk.power_cut(survivors));
        let file = after.open(file, OpenMode::Read).ok()?;
        let mut out = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut out, 0).unwrap();
        Some(out)
    };
    disk.create_dir_all(dir).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let opened = disk.open(file, OpenMode::CreateNew).unwrap();
    opened.write_all_at(b"one", 0).unwrap();
    assert_eq!(content(Survivors::None), None);
    assert_eq!(content(Survivors::All), Some(b"one".to_vec()));
    disk.sync_dir(dir).unwrap();
    assert_eq!(content(Survivors::None), Some(Vec::new()), "the name without the data");
    opened.sync_data().unwrap();
    opened.write_all_at(b"two", 0).unwrap();
    assert_eq!(content(Survivors::None), Some(b"one".to_vec()));
    disk.unlink(file).unwrap();
    assert_eq!(content(Survivors::None), Some(b"one".to_vec()));
    disk.sync_dir(dir).unwrap();
    assert_eq!(content(Survivors::None), None);
}
