use super::*;

pub(crate) fn bytes_read_as_they_were_written(place: Place<'_>) {
    let file = place.file("f", b"");
    assert!(file.is_empty().unwrap());
    let bytes: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file.write_all_at(b"over", 4094).unwrap();
    file.write_all_at(&[], 5).unwrap();
    file.sync_data().unwrap();
    let mut expected = bytes;
    expected[4094..4098].copy_from_slice(b"over");
    assert_eq!(read(&*file), expected);
    let mut middle = [0; 9000];
    file.read_exact_at(&mut middle, 3000).unwrap();
    assert_eq!(middle[..], expected[3000..12_000]);
    file.read_exact_at(&mut [], 1 << 30).unwrap();
    assert!(!file.is_empty().unwrap());
}

pub(crate) fn parts_are_written_one_after_another(place: Place<'_>) {
    let file = place.file("f", b"----");
    file.write_parts_at(&[b"ab", b"", b"c", b"defg"], 2).unwrap();
    assert_eq!(read(&*file), b"--abcdefg");
    file.write_parts_at(&[], 100).unwrap();
    file.write_parts_at(&[b"", b""], 100).unwrap();
    assert_eq!(file.len().unwrap(), 9, "nothing was written");
    // More parts than one call of the system takes.
    let many: Vec<[u8; 3]> = (0..5000_u32).map(|n| [n.to_le_bytes()[0], n.to_le_bytes()[1], 7]).collect();
    let parts: Vec<&[u8]> = many.iter().map(|part| &part[..]).collect();
    file.write_parts_at(&parts, 1).unwrap();
    assert_eq!(read(&*file)[1..], many.concat());
}

pub(crate) fn a_read_past_the_end_fails_and_a_write_past_it_leaves_zeros(place: Place<'_>) {
    let file = place.file("f", b"abc");
    for (offset, len) in [(0, 4), (3, 1), (1 << 30, 1)] {
        let mut out = vec![0; len];
        assert_eq!(kind(file.read_exact_at(&mut out, offset)), ErrorKind::UnexpectedEof);
        assert!(!file.read_cached_at(&mut out, offset).unwrap());
    }
    file.write_all_at(b"z", 10_000).unwrap();
    let bytes = read(&*file);
    assert_eq!((&bytes[..3], &bytes[10_000..]), (&b"abc"[..], &b"z"[..]));
    assert!(bytes[3..10_000].iter().all(|byte| *byte == 0));
}

pub(crate) fn a_file_is_cut_and_grows_with_zeros(place: Place<'_>) {
    let file = place.file("f", &[7; 10_000]);
    file.truncate(5000).unwrap();
    assert_eq!(read(&*file), [7; 5000]);
    file.truncate(9000).unwrap();
    assert_eq!(read(&*file), [[7; 5000].as_slice(), &[0; 4000]].concat(), "nothing old comes back");
    file.truncate(0).unwrap();
    assert!(file.is_empty().unwrap());
}

pub(crate) fn a_file_opened_for_reading_refuses_changes(place: Place<'_>) {
    place.file("f", b"abc");
    let file = place.open("f", OpenMode::Read).unwrap();
    let code = |result: Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(code(file.write_all_at(b"x", 0)), libc::EBADF);
    assert_eq!(code(file.write_parts_at(&[b"x"], 0)), libc::EBADF);
    assert_eq!(code(file.punch(0, 1)), libc::EBADF);
    assert_eq!(code(file.truncate(0)), libc::EINVAL);
    file.sync_data().unwrap();
    assert_eq!(read(&*file), b"abc");
}

pub(crate) fn two_handles_see_one_file(place: Place<'_>) {
    let (first, second) = (place.file("f", b"abc"), place.open("f", OpenMode::ReadWrite).unwrap());
    second.write_all_at(b"d", 3).unwrap();
    assert_eq!(read(&*first), b"abcd");
    first.truncate(1).unwrap();
    assert_eq!(read(&*second), b"a");
}

pub(crate) fn what_is_in_memory_is_right(place: Place<'_>) {
    let bytes: Vec<u8> = (0..9000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let file = place.file("f", &bytes);
    let cached = |offset: usize, len: usize, expected: &[u8]| {
        let mut out = vec![1; len];
        // The system may have no answer at any time, but never a wrong one.
        if file.read_cached_at(&mut out, offset as u64).unwrap() {
            assert_eq!(out, &expected[offset..offset + len]);
        }
    };
    cached(100, 8000, &bytes);
    file.sync_data().unwrap();
    cached(0, 9000, &bytes);
    assert_eq!(read(&*file), bytes);
    file.punch(4096, 4096).unwrap();
    let mut expected = bytes;
    expected[4096..8192].fill(0);
    cached(0, 9000, &expected);
    cached(5000, 1, &expected);
}

pub(crate) fn impossible_offsets_are_refused(place: Place<'_>) {
    let file = place.file("f", b"abc");
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64] {
        file.write_all_at(b"xy", offset).unwrap_err();
        file.read_exact_at(&mut [0; 2], offset).unwrap_err();
        file.punch(offset, 2).unwrap_err();
    }
    file.truncate(u64::MAX).unwrap_err();
    assert_eq!(read(&*file), b"abc");
}
