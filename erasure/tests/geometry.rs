//! The geometry against a model that lays out a chunk byte by byte.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the tests assert")]

use ashlar_erasure::{Geometry, GeometryError, Piece, UNIT_ALIGN};
use proptest::prelude::*;

/// Where one byte of a chunk lies.
type Place = (u32, u8, u32);

/// The place of every byte: rows are cut off the chunk one after the other and dealt out to the slots.
fn model(k: u8, stripe_unit: u32, chunk_len: u64) -> Vec<Place> {
    let mut places = Vec::new();
    let (mut rest, mut stripe) = (chunk_len, 0);
    while rest > 0 {
        let row = rest.min(u64::from(stripe_unit) * u64::from(k));
        let mut unit = UNIT_ALIGN;
        while u64::from(unit) * u64::from(k) < row {
            unit += UNIT_ALIGN;
        }
        for byte in 0..u32::try_from(row).unwrap() {
            places.push((stripe, u8::try_from(byte / unit).unwrap(), byte % unit));
        }
        rest -= row;
        stripe += 1;
    }
    places
}

fn bytes_of(piece: Piece) -> impl Iterator<Item = Place> {
    (0..piece.len).map(move |byte| (piece.stripe, piece.slot, piece.unit_start + byte))
}

fn shape() -> impl Strategy<Value = (u8, u8, u32, u64)> {
    (1u8..=12, 0u8..=4, 1u32..=4).prop_flat_map(|(k, m, lines)| {
        let unit = lines * UNIT_ALIGN;
        let row = u64::from(unit) * u64::from(k);
        // Lengths at the edges of rows and units as often as any others.
        let edge = (0..4u64, 0..=u64::from(k), -1i64..=1).prop_map(move |(rows, units, off)| {
            (rows * row + units * u64::from(unit)).saturating_add_signed(off)
        });
        (Just(k), Just(m), Just(unit), prop_oneof![0..4 * row, edge])
    })
}

proptest! {
    #[test]
    fn every_byte_of_a_range_is_in_one_piece_in_order(
        (k, m, unit, chunk_len) in shape(),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let geometry = Geometry::new(k, m, unit).unwrap();
        let places = model(k, unit, chunk_len);
        let bytes = places.len() + 1;
        let (a, b) = (ends.0.index(bytes), ends.1.index(bytes));
        for (start, end) in [(0, places.len()), (a.min(b), a.max(b))] {
            let pieces: Vec<Piece> = geometry.locate(chunk_len, start as u64, end as u64).collect();
            let located: Vec<Place> = pieces.iter().copied().flat_map(bytes_of).collect();
            prop_assert_eq!(&located[..], &places[start..end]);
            prop_assert!(pieces.iter().all(|piece| piece.len > 0));
        }
    }

    #[test]
    fn units_and_shards_have_the_lengths_of_the_model((k, m, unit, chunk_len) in shape()) {
        let geometry = Geometry::new(k, m, unit).unwrap();
        let places = model(k, unit, chunk_len);
        let count = places.last().map_or(0, |&(stripe, ..)| stripe + 1);
        prop_assert_eq!(geometry.stripe_count(chunk_len), count);
        prop_assert_eq!(geometry.stripes(chunk_len).count(), count as usize);
        let mut next = 0;
        for (stripe, index) in geometry.stripes(chunk_len).zip(0..) {
            let data_len = places.iter().filter(|place| place.0 == index).count() as u64;
            prop_assert_eq!((stripe.index, stripe.data_start, stripe.data_len), (index, next, data_len));
            prop_assert!(stripe.unit_len <= unit && stripe.unit_len.is_multiple_of(UNIT_ALIGN));
            prop_assert!(index + 1 == count || stripe.unit_len == unit);
            next += data_len;
        }
        prop_assert_eq!(next, chunk_len);
        for slot in 0..k + m {
            let mut offset = 0;
            for stripe in geometry.stripes(chunk_len) {
                let in_unit = places.iter().filter(|place| (place.0, place.1) == (stripe.index, slot)).count() as u64;
                let wanted = if slot < k { in_unit } else { u64::from(stripe.unit_len) };
                let len = geometry.unit_data_len(chunk_len, stripe.index, slot);
                prop_assert_eq!(u64::from(len), wanted);
                prop_assert_eq!(geometry.unit_offset(chunk_len, slot, stripe.index), offset);
                offset += wanted;
            }
            prop_assert_eq!(geometry.shard_len(chunk_len, slot), offset);
        }
    }
}

#[test]
fn a_small_chunk_of_4_2_uses_all_its_drives() {
    let geometry = Geometry::new(4, 2, 65536).unwrap();
    let lengths = |chunk_len| [0, 1, 2, 3, 4, 5].map(|slot| geometry.shard_len(chunk_len, slot));
    assert_eq!(lengths(0), [0; 6]);
    assert_eq!(lengths(1), [1, 0, 0, 0, 64, 64]);
    assert_eq!(lengths(100), [64, 36, 0, 0, 64, 64]);
    assert_eq!(lengths(20_000), [5056, 5056, 5056, 4832, 5056, 5056]);
    assert_eq!(lengths(262_144), [65536; 6]);
    assert_eq!(lengths(262_145), [65537, 65536, 65536, 65536, 65600, 65600]);
}

#[test]
fn shapes_that_no_profile_has_are_refused() {
    assert_eq!(Geometry::new(0, 2, 64), Err(GeometryError::Slots { k: 0, m: 2 }));
    assert_eq!(Geometry::new(30, 3, 64), Err(GeometryError::Slots { k: 30, m: 3 }));
    for stripe_unit in [0, 63, 100] {
        assert_eq!(Geometry::new(4, 2, stripe_unit), Err(GeometryError::StripeUnit { stripe_unit }));
    }
}

#[test]
#[should_panic(expected = "bytes 3..11 of a chunk of 10")]
fn a_range_past_the_chunk_is_a_bug() {
    Geometry::new(4, 2, 64).unwrap().locate(10, 3, 11);
}
