use super::*;

const PAGES: u64 = 64;
const PAGE: u64 = ALIGN as u64;

pub(crate) fn holes_read_as_zeros_and_give_their_space_back(place: Place<'_>) {
    let mut expected = vec![9; usize::try_from(PAGES * PAGE).unwrap()];
    let file = place.file("f", &expected);
    file.sync_data().unwrap();
    let full = file.allocated_bytes().unwrap();
    assert!(full >= PAGES * PAGE);
    file.punch(16 * PAGE, 32 * PAGE).unwrap();
    expected[16 * ALIGN..48 * ALIGN].fill(0);
    assert_eq!(read(&*file), expected);
    file.sync_data().unwrap();
    let punched = file.allocated_bytes().unwrap();
    assert!(punched + 32 * PAGE <= full, "{full} before, {punched} after");
    file.write_all_at(&[8; 8 * ALIGN], 20 * PAGE).unwrap();
    expected[20 * ALIGN..28 * ALIGN].fill(8);
    assert_eq!(read(&*file), expected);
    file.sync_data().unwrap();
    assert!(file.allocated_bytes().unwrap() >= punched + 8 * PAGE, "space is taken again");
}

pub(crate) fn a_hole_keeps_the_length_and_what_is_around_it(place: Place<'_>) {
    let mut expected: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0] | 1).collect();
    let file = place.file("f", &expected);
    for (offset, len) in [(0, 10), (4000, 200), (5000, 10_000), (19_000, 5000), (1 << 20, 10)] {
        file.punch(offset, len).unwrap();
        let (from, to) = (offset.min(20_000), (offset + len).min(20_000));
        expected[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].fill(0);
        assert_eq!(read(&*file), expected);
    }
    file.punch(1, 0).unwrap();
    assert_eq!(read(&*file), expected);
}

pub(crate) fn growing_and_skipping_occupy_nothing(place: Place<'_>) {
    let file = place.file("f", b"");
    file.truncate(1 << 24).unwrap();
    file.write_all_at(b"x", 1 << 23).unwrap();
    file.sync_data().unwrap();
    let allocated = file.allocated_bytes().unwrap();
    assert!((1..1 << 20).contains(&allocated), "{allocated} bytes for one");
    file.truncate(0).unwrap();
    file.sync_data().unwrap();
    assert!(file.allocated_bytes().unwrap() < PAGE);
}

pub(crate) fn a_directory_knows_its_device_and_its_space(place: Place<'_>) {
    let usage = place.disk.usage(place.root).unwrap();
    assert!(usage.available_bytes <= usage.total_bytes && usage.total_bytes > 0);
    place.disk.create_dir_all(&place.path("a")).unwrap();
    let inside = place.disk.usage(&place.path("a")).unwrap();
    assert_eq!((usage.device, usage.total_bytes), (inside.device, inside.total_bytes));
}
