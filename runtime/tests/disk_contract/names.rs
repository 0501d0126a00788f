use super::*;

pub(crate) fn a_mode_says_whether_a_file_must_or_may_exist(place: Place<'_>) {
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(kind(place.open("f", mode)), ErrorKind::NotFound);
    }
    assert!(place.names().is_empty(), "a refused open makes nothing");
    place.open("f", OpenMode::CreateNew).unwrap().write_all_at(b"kept", 0).unwrap();
    assert_eq!(kind(place.open("f", OpenMode::CreateNew)), ErrorKind::AlreadyExists);
    for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create] {
        assert_eq!(read(&*place.open("f", mode).unwrap()), b"kept");
    }
    place.open("g", OpenMode::Create).unwrap();
    assert_eq!(place.names(), ["f", "g"]);
    assert_eq!(kind(place.disk.open(place.root, OpenMode::ReadWrite)), ErrorKind::IsADirectory);
    assert_eq!(kind(place.disk.open(place.root, OpenMode::Create)), ErrorKind::IsADirectory);
    assert_eq!(kind(place.disk.open(place.root, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
}

pub(crate) fn a_path_through_nothing_or_through_a_file_leads_nowhere(place: Place<'_>) {
    let disk = place.disk;
    place.file("f", b"");
    for (name, expected) in [("none/x", ErrorKind::NotFound), ("f/x", ErrorKind::NotADirectory)] {
        let path = place.path(name);
        for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create, OpenMode::CreateNew] {
            assert_eq!(kind(disk.open(&path, mode)), expected, "{name} {mode:?}");
        }
        assert_eq!(kind(disk.rename(&path, &place.path("y"))), expected);
        assert_eq!(kind(disk.rename(&place.path("f"), &path)), expected);
        assert_eq!(kind(disk.unlink(&path)), expected);
        assert_eq!(kind(disk.list_dir(&path)), expected);
        assert_eq!(kind(disk.sync_dir(&path)), expected);
        assert_eq!(kind(disk.usage(&path)), expected);
        assert_eq!(kind(disk.lock(&path)), expected);
    }
    assert_eq!(kind(disk.unlink(&place.path("none"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(&place.path("none"), &place.path("y"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.list_dir(&place.path("f"))), ErrorKind::NotADirectory);
    assert_eq!(place.names(), ["f"]);
}

pub(crate) fn directories_are_made_with_their_parents_and_listed_in_order(place: Place<'_>) {
    let disk = place.disk;
    disk.create_dir_all(&place.path("b/c/d")).unwrap();
    disk.create_dir_all(&place.path("b/c")).unwrap();
    place.file("b/z", b"");
    place.file("b/a", b"");
    assert_eq!(disk.list_dir(&place.path("b")).unwrap(), ["a", "c", "z"]);
    assert_eq!(disk.list_dir(&place.path("b/c")).unwrap(), ["d"]);
    assert!(disk.list_dir(&place.path("b/c/d")).unwrap().is_empty());
    assert_eq!(kind(disk.create_dir_all(&place.path("b/z"))), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_dir_all(&place.path("b/z/y"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.unlink(&place.path("b/c/d"))), ErrorKind::IsADirectory);
}

pub(crate) fn a_file_takes_the_place_of_another_of_its_new_name(place: Place<'_>) {
    let disk = place.disk;
    let replaced = place.file("old", b"replaced");
    let moved = place.file("new.tmp", b"moved");
    disk.rename(&place.path("new.tmp"), &place.path("old")).unwrap();
    assert_eq!(place.names(), ["old"]);
    assert_eq!(read(&*place.open("old", OpenMode::Read).unwrap()), b"moved");
    assert_eq!(read(&*replaced), b"replaced", "whoever has it open keeps it");
    moved.write_all_at(b"M", 0).unwrap();
    assert_eq!(read(&*place.open("old", OpenMode::Read).unwrap()), b"Moved", "a handle follows its file");
    disk.rename(&place.path("old"), &place.path("old")).unwrap();
    assert_eq!(place.names(), ["old"]);
}

pub(crate) fn directories_move_with_all_that_is_in_them(place: Place<'_>) {
    let disk = place.disk;
    disk.create_dir_all(&place.path("a/b")).unwrap();
    disk.create_dir_all(&place.path("empty")).unwrap();
    let file = place.file("a/b/f", b"inside");
    disk.rename(&place.path("a/b"), &place.path("empty")).unwrap();
    assert_eq!(read(&*place.open("empty/f", OpenMode::Read).unwrap()), b"inside");
    assert!(disk.list_dir(&place.path("a")).unwrap().is_empty());
    file.write_all_at(b"I", 0).unwrap();
    assert_eq!(read(&*place.open("empty/f", OpenMode::Read).unwrap()), b"Inside");
    place.file("g", b"");
    let rename = |from, to| kind(disk.rename(&place.path(from), &place.path(to)));
    assert_eq!(rename("g", "a"), ErrorKind::IsADirectory);
    assert_eq!(rename("a", "g"), ErrorKind::NotADirectory);
    assert_eq!(rename("a", "empty"), ErrorKind::DirectoryNotEmpty);
    assert_eq!(rename("a", "a/inside"), ErrorKind::InvalidInput);
    assert_eq!(place.names(), ["a", "empty", "g"]);
}

pub(crate) fn a_removed_file_lives_while_it_is_open(place: Place<'_>) {
    let file = place.file("f", b"old");
    let second = place.open("f", OpenMode::Read).unwrap();
    place.disk.unlink(&place.path("f")).unwrap();
    assert_eq!(kind(place.open("f", OpenMode::Read)), ErrorKind::NotFound);
    let other = place.file("f", b"another");
    file.write_all_at(b"er", 3).unwrap();
    file.sync_data().unwrap();
    drop(file);
    assert_eq!((read(&*second), read(&*other)), (b"older".to_vec(), b"another".to_vec()));
}

pub(crate) fn a_lock_has_one_owner_until_it_is_dropped(place: Place<'_>) {
    let (disk, path) = (place.disk, place.path("lock"));
    let held = disk.lock(&path).unwrap();
    assert_eq!(place.names(), ["lock"]);
    assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
    let other = disk.lock(&place.path("other")).unwrap();
    place.open("lock", OpenMode::ReadWrite).unwrap().write_all_at(b"1", 0).unwrap();
    drop(held);
    drop(disk.lock(&path).unwrap());
    drop((disk.lock(&path).unwrap(), other));
}

pub(crate) fn names_are_synced_where_there_is_a_directory(place: Place<'_>) {
    place.file("f", b"");
    place.disk.sync_dir(place.root).unwrap();
    assert_eq!(kind(place.disk.sync_dir(&place.path("none"))), ErrorKind::NotFound);
}
