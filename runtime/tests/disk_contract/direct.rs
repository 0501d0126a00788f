use super::*;
use std::io::Write;

/// `None` where there is no direct I/O.
fn open(place: Place<'_>, name: &str, mode: OpenMode) -> Option<Box<dyn DiskFile>> {
    match place.disk.open_direct(&place.path(name), mode) {
        Ok(file) => Some(file),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported), "{error}");
            None
        }
    }
}

fn filled(len: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(byte);
    buf
}

pub(crate) fn a_direct_file_is_refused_whole_or_works(place: Place<'_>) {
    match open(place, "f", OpenMode::CreateNew) {
        None => {
            assert!(place.names().is_empty(), "what was refused leaves nothing");
            place.open("f", OpenMode::CreateNew).unwrap();
        }
        Some(file) => {
            let exists = place.disk.open_direct(&place.path("f"), OpenMode::CreateNew);
            assert_eq!(kind(exists), ErrorKind::AlreadyExists);
            let none = place.disk.open_direct(&place.path("none"), OpenMode::ReadWrite);
            assert_eq!(kind(none), ErrorKind::NotFound);
            file.write_all_at(&filled(2 * ALIGN, 7), ALIGN as u64).unwrap();
            file.sync_data().unwrap();
            assert_eq!(file.len().unwrap(), 3 * ALIGN as u64);
            let mut out = filled(2 * ALIGN, 1);
            file.read_exact_at(&mut out, 0).unwrap();
            assert!(out[..ALIGN].iter().all(|byte| *byte == 0) && out[ALIGN..].iter().all(|byte| *byte == 7));
            file.truncate(ALIGN as u64).unwrap();
            assert_eq!(file.len().unwrap(), ALIGN as u64);
        }
    }
}

pub(crate) fn direct_and_buffered_handles_agree(place: Place<'_>) {
    let Some(direct) = open(place, "f", OpenMode::Create) else { return };
    let buffered = place.open("f", OpenMode::ReadWrite).unwrap();
    let (first, second) = (filled(ALIGN, 1), filled(2 * ALIGN, 2));
    direct.write_parts_at(&[&first, &second], 0).unwrap();
    assert_eq!(read(&*buffered), [&first[..], &second].concat());
    buffered.write_all_at(b"between", 4090).unwrap();
    let mut out = AlignedBuf::zeroed(3 * ALIGN);
    direct.read_exact_at(&mut out, 0).unwrap();
    assert_eq!(&out[4088..4098], b"\x01\x01between\x02");
    direct.write_all_at(&first, ALIGN as u64).unwrap();
    let mut cached = vec![0; ALIGN];
    if buffered.read_cached_at(&mut cached, ALIGN as u64).unwrap() {
        assert_eq!(cached[..], first[..], "the cache holds nothing from before a direct write");
    }
    assert!(!direct.read_cached_at(&mut out, 0).unwrap(), "a direct read asks the device");
}

pub(crate) fn unaligned_direct_transfers_are_invalid(place: Place<'_>) {
    let Some(file) = open(place, "f", OpenMode::Create) else { return };
    let mut buf = filled(3 * ALIGN, 5);
    file.write_all_at(&buf, 0).unwrap();
    let refused = |result| assert_eq!(kind(result), ErrorKind::InvalidInput);
    for (from, len, offset) in
        [(0, ALIGN, 512), (0, ALIGN, 1), (0, 512, 0), (0, ALIGN - 1, 0), (512, ALIGN, 0), (1, ALIGN, 0)]
    {
        refused(file.write_all_at(&buf[from..from + len], offset));
        refused(file.read_exact_at(&mut buf[from..from + len], offset));
    }
    refused(file.write_parts_at(&[&buf[..ALIGN], &buf[ALIGN..ALIGN + 512], &buf[..ALIGN]], 0));
    file.write_parts_at(&[&buf[..ALIGN], &[], &buf[ALIGN..]], ALIGN as u64).unwrap();
}

pub(crate) fn a_direct_read_past_the_end_fails(place: Place<'_>) {
    let Some(direct) = open(place, "f", OpenMode::Create) else { return };
    let buffered = place.file("f", &[3; ALIGN + 100]);
    buffered.sync_data().unwrap();
    let mut out = AlignedBuf::zeroed(2 * ALIGN);
    assert_eq!(kind(direct.read_exact_at(&mut out, 0)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(direct.read_exact_at(&mut out[..ALIGN], ALIGN as u64)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(direct.read_exact_at(&mut out[..ALIGN], 2 * ALIGN as u64)), ErrorKind::UnexpectedEof);
    direct.read_exact_at(&mut out[..ALIGN], 0).unwrap();
    assert!(out[..ALIGN].iter().all(|byte| *byte == 3));
}

#[test]
fn a_direct_file_of_this_machine_goes_past_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { disk: &RealDisk, root: dir.path() };
    let Some(_file) = open(place, "f", OpenMode::CreateNew) else {
        // Past the capture of the test harness, so that the run tells.
        let root = place.root.display();
        writeln!(std::io::stderr(), "SKIP disk_contract: no direct I/O in {root}").unwrap();
        return;
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
    let is_ours = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target == place.path("f"))
    };
    let name = descriptors.filter(is_ours).map(|entry| entry.file_name()).next().unwrap();
    let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(name)).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & libc::O_DIRECT, 0, "{info}");
}
