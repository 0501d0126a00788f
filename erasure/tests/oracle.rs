//! The codec against `reed-solomon-erasure`, whose bytes are the disk format's.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the tests assert")]

use ashlar_erasure::{Codec, SlotSet};
use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// Bytes without a pattern, the same for the same seed.
fn fill(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

/// All k+m units of a stripe; the parity is the oracle's.
fn stripe_of_oracle(k: u8, m: u8, len: usize) -> Vec<Vec<u8>> {
    let slots = usize::from(k) + usize::from(m);
    let mut stripe: Vec<Vec<u8>> = (1..=k).map(|slot| fill(u64::from(slot), len)).collect();
    stripe.resize(slots, vec![0; len]);
    // The oracle knows neither codes without parity nor empty slices.
    if m > 0 && len > 0 {
        ReedSolomon::new(usize::from(k), usize::from(m)).unwrap().encode(&mut stripe).unwrap();
    }
    stripe
}

fn slices(units: &[Vec<u8>]) -> Vec<&[u8]> {
    units.iter().map(Vec::as_slice).collect()
}

fn assert_encodes_like_the_oracle(k: u8, m: u8, len: usize) {
    let stripe = stripe_of_oracle(k, m, len);
    let (data, parity) = stripe.split_at(usize::from(k));
    let mut encoded = vec![vec![0xaa; len]; usize::from(m)];
    let codec = Codec::new(k, m).unwrap();
    let mut out: Vec<&mut [u8]> = encoded.iter_mut().map(Vec::as_mut_slice).collect();
    codec.encode(&slices(data), &mut out).unwrap();
    assert!(encoded == parity, "{k}+{m}, {len} bytes");
    assert!(codec.verify(&slices(data), &slices(parity)).unwrap(), "{k}+{m}, {len} bytes");
}

fn assert_reconstructs(codec: &Codec, stripe: &[Vec<u8>], lost: SlotSet) {
    let slots = codec.k() + codec.m();
    let present = SlotSet::first(slots).without(lost);
    let plan = codec.plan(present, lost).unwrap();
    assert_eq!(plan.targets().collect::<SlotSet>(), lost);
    assert_eq!(plan.sources().count(), usize::from(codec.k()));
    assert!(plan.sources().all(|slot| present.contains(slot)));
    let survivors: Vec<&[u8]> = plan.sources().map(|slot| stripe[usize::from(slot)].as_slice()).collect();
    let mut rebuilt = vec![vec![0xaa; stripe[0].len()]; lost.len()];
    let mut out: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
    codec.reconstruct(&plan, &survivors, &mut out).unwrap();
    for (slot, rebuilt) in plan.targets().zip(&rebuilt) {
        assert!(
            *rebuilt == stripe[usize::from(slot)],
            "{}+{} lost {lost:?}: slot {slot}",
            codec.k(),
            codec.m()
        );
    }
}

#[test]
fn every_code_up_to_32_slots_encodes_like_the_oracle() {
    for k in 1..=32 {
        for m in 0..=32 - k {
            assert_encodes_like_the_oracle(k, m, 41);
        }
    }
}

#[test]
fn every_short_length_and_those_around_blocks_encode_like_the_oracle() {
    let around = [4096, 65536].into_iter().flat_map(|len| len - 2..=len + 2);
    for len in (0..=300).chain(around) {
        for (k, m) in [(1, 1), (4, 2), (8, 4)] {
            assert_encodes_like_the_oracle(k, m, len);
        }
    }
}

#[test]
fn every_erasure_of_every_code_up_to_12_slots_is_rebuilt() {
    for slots in 1..=12u8 {
        for m in 0..slots {
            let codec = Codec::new(slots - m, m).unwrap();
            let stripe = stripe_of_oracle(slots - m, m, 19);
            for pattern in 0..1u32 << slots {
                let lost: SlotSet = (0..slots).filter(|slot| pattern >> slot & 1 == 1).collect();
                if lost.len() <= usize::from(m) {
                    assert_reconstructs(&codec, &stripe, lost);
                }
            }
        }
    }
}

#[test]
fn slices_at_any_misalignment_encode_like_aligned_ones() {
    let (k, m, len) = (3, 2, 333);
    let stripe = stripe_of_oracle(k, m, len);
    let codec = Codec::new(k, m).unwrap();
    for shift in 0..16 {
        let shifted: Vec<Vec<u8>> = stripe
            .iter()
            .enumerate()
            .map(|(slot, unit)| [vec![0; (shift + slot * 5) % 16], unit.clone()].concat())
            .collect();
        let data: Vec<&[u8]> = shifted[..3].iter().map(|unit| &unit[unit.len() - len..]).collect();
        let mut parity = vec![vec![0; len + shift]; 2];
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|unit| &mut unit[shift..]).collect();
        codec.encode(&data, &mut out).unwrap();
        for (parity, wanted) in parity.iter().zip(&stripe[3..]) {
            assert_eq!(parity[shift..], wanted[..]);
            assert!(parity[..shift].iter().all(|&byte| byte == 0), "written before the slice");
        }
    }
}

#[test]
fn present_slots_can_be_wanted_too() {
    let (k, m) = (4, 3);
    let stripe = stripe_of_oracle(k, m, 100);
    let codec = Codec::new(k, m).unwrap();
    let plan = codec.plan(SlotSet::of(&[1, 2, 4, 5, 6]), SlotSet::first(7)).unwrap();
    let survivors: Vec<&[u8]> = plan.sources().map(|slot| stripe[usize::from(slot)].as_slice()).collect();
    let mut all = vec![vec![0; 100]; 7];
    let mut out: Vec<&mut [u8]> = all.iter_mut().map(Vec::as_mut_slice).collect();
    codec.reconstruct(&plan, &survivors, &mut out).unwrap();
    assert_eq!(all, stripe);
}

fn code_and_loss() -> impl Strategy<Value = (u8, u8, usize, Vec<u8>)> {
    (1u8..=32).prop_flat_map(|k| (Just(k), 0..=32 - k)).prop_flat_map(|(k, m)| {
        let slots: Vec<u8> = (0..k + m).collect();
        let lost = proptest::sample::subsequence(slots, 0..=usize::from(m));
        (Just(k), Just(m), 0usize..700, lost)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_losses_of_random_codes_are_rebuilt((k, m, len, lost) in code_and_loss()) {
        let stripe = stripe_of_oracle(k, m, len);
        assert_reconstructs(&Codec::new(k, m).unwrap(), &stripe, SlotSet::of(&lost));
    }
}
