//! The Reed-Solomon codec of one profile.
//!
//! Owns the parity coefficients of k+m and checks every argument, so that kernels need not. Does not know what
//! the bytes are, how long a unit is in a chunk (see `geometry`), or which survivor is trustworthy: callers hand
//! in verified bytes only.

use crate::{
    interpolation::{Rows, coefficients},
    kernel::Kernel,
    plan::DecodePlan,
    slots::{SLOTS_MAX, SlotSet},
};

/// Bytes of parity that `verify` computes at a time: small enough for any stack and for the first-level cache.
const VERIFY_BLOCK: usize = 4096;

/// Encodes, rebuilds and verifies stripes of `k` data and `m` parity slots. Stateless after it is made; share it
/// or make it anew, as is easier.
#[derive(Clone, Debug)]
pub struct Codec {
    k: u8,
    m: u8,
    kernel: Kernel,
    parity: Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{k}+{m}: a code has at least one data slot and at most {SLOTS_MAX} slots in all")]
    Slots { k: u8, m: u8 },
    /// The stripe cannot be rebuilt from what is present.
    #[error("{present} of {needed} slots present")]
    TooFewSurvivors { present: usize, needed: u8 },
    #[error("slot {slot} of a stripe of {slots}")]
    SlotOutOfRange { slot: u8, slots: u8 },
    #[error("{found} slices where {expected} are needed")]
    SliceCount { expected: usize, found: usize },
    #[error("a slice of {found} bytes beside one of {expected}")]
    SliceLength { expected: usize, found: usize },
    #[error("the plan was made by a codec of another k+m")]
    ForeignPlan,
}

impl Codec {
    /// With the fastest kernel of this processor.
    pub fn new(k: u8, m: u8) -> Result<Self, CodecError> {
        Self::with_kernel(k, m, Kernel::detect())
    }

    pub fn with_kernel(k: u8, m: u8, kernel: Kernel) -> Result<Self, CodecError> {
        if k == 0 || k.checked_add(m).is_none_or(|slots| slots > SLOTS_MAX) {
            return Err(CodecError::Slots { k, m });
        }
        let data = SlotSet::first(k);
        let parity = coefficients(data, SlotSet::first(k + m).without(data));
        Ok(Self { k, m, kernel, parity })
    }

    /// Data slots.
    pub fn k(&self) -> u8 {
        self.k
    }

    /// Parity slots: how many may be lost.
    pub fn m(&self) -> u8 {
        self.m
    }

    /// Fills `parity` (m slices) from `data` (k slices), all of one length, which may be anything.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        let len = self.data_len(data)?;
        check_count(parity.len(), self.m)?;
        check_lengths(parity.iter().map(|slice| slice.len()), len)?;
        self.kernel.multiply(&self.parity[..parity.len()], data, parity);
        Ok(())
    }

    /// Plans how to rebuild the slots `want` from k of the slots `present`. A wanted slot may be present too.
    pub fn plan(&self, present: SlotSet, want: SlotSet) -> Result<DecodePlan, CodecError> {
        let slots = self.k + self.m;
        for set in [present, want] {
            if let Some(slot) = set.without(SlotSet::first(slots)).iter().next() {
                return Err(CodecError::SlotOutOfRange { slot, slots });
            }
        }
        if present.len() < usize::from(self.k) {
            return Err(CodecError::TooFewSurvivors { present: present.len(), needed: self.k });
        }
        Ok(DecodePlan::new(self.k, self.m, present, want))
    }

    /// Rebuilds the plan's targets into `out` from `survivors`, given in the order of `plan.sources()`; `out` is in
    /// the order of `plan.targets()`. Data and parity slots alike; all slices of one length.
    pub fn reconstruct(
        &self,
        plan: &DecodePlan,
        survivors: &[&[u8]],
        out: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        if (plan.k, plan.m) != (self.k, self.m) {
            return Err(CodecError::ForeignPlan);
        }
        let len = self.data_len(survivors)?;
        let targets = plan.target_set().len();
        if out.len() != targets {
            return Err(CodecError::SliceCount { expected: targets, found: out.len() });
        }
        check_lengths(out.iter().map(|slice| slice.len()), len)?;
        self.kernel.multiply(&plan.rows[..targets], survivors, out);
        Ok(())
    }

    /// Whether `parity` is what `data` encodes to.
    pub fn verify(&self, data: &[&[u8]], parity: &[&[u8]]) -> Result<bool, CodecError> {
        let len = self.data_len(data)?;
        check_count(parity.len(), self.m)?;
        check_lengths(parity.iter().map(|slice| slice.len()), len)?;
        let mut computed = [0; VERIFY_BLOCK];
        let mut block = [[].as_slice(); SLOTS_MAX as usize];
        for start in (0..len).step_by(VERIFY_BLOCK) {
            let end = len.min(start + VERIFY_BLOCK);
            for (part, slice) in block.iter_mut().zip(data) {
                *part = &slice[start..end];
            }
            for (row, parity) in self.parity.iter().zip(parity) {
                let computed = &mut computed[..end - start];
                self.kernel.multiply(std::slice::from_ref(row), &block[..data.len()], &mut [&mut *computed]);
                if *computed != parity[start..end] {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The common length of k slices.
    fn data_len(&self, slices: &[&[u8]]) -> Result<usize, CodecError> {
        check_count(slices.len(), self.k)?;
        let len = slices.first().map_or(0, |slice| slice.len());
        check_lengths(slices.iter().map(|slice| slice.len()), len)?;
        Ok(len)
    }
}

fn check_count(found: usize, expected: u8) -> Result<(), CodecError> {
    let expected = usize::from(expected);
    if found == expected { Ok(()) } else { Err(CodecError::SliceCount { expected, found }) }
}

fn check_lengths(mut lengths: impl Iterator<Item = usize>, expected: usize) -> Result<(), CodecError> {
    match lengths.find(|&len| len != expected) {
        None => Ok(()),
        Some(found) => Err(CodecError::SliceLength { expected, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_codes_are_refused() {
        for (k, m) in [(0, 0), (0, 4), (33, 0), (31, 2), (255, 255)] {
            assert_eq!(Codec::new(k, m).err(), Some(CodecError::Slots { k, m }));
        }
        for (k, m) in [(1, 0), (32, 0), (1, 31)] {
            assert!(Codec::new(k, m).is_ok(), "{k}+{m}");
        }
    }

    #[test]
    fn slices_of_the_wrong_number_or_length_are_refused() {
        let codec = Codec::new(2, 1).unwrap();
        let mut out = [0; 4];
        let wrong_count = |found, expected| Err(CodecError::SliceCount { expected, found });
        let wrong_length = Err(CodecError::SliceLength { expected: 4, found: 3 });
        assert_eq!(codec.encode(&[&[0; 4]], &mut [&mut out]), wrong_count(1, 2));
        assert_eq!(codec.encode(&[&[0; 4], &[0; 4]], &mut []), wrong_count(0, 1));
        assert_eq!(codec.encode(&[&[0; 4], &[0; 3]], &mut [&mut out]), wrong_length);
        assert_eq!(codec.encode(&[&[0; 4], &[0; 4]], &mut [&mut out[..3]]), wrong_length);
        assert_eq!(codec.verify(&[&[0; 4], &[0; 4]], &[&[0; 3]]), wrong_length.map(|()| true));
        assert_eq!(codec.verify(&[&[0; 4], &[0; 4]], &[]), wrong_count(0, 1).map(|()| true));
        let plan = codec.plan(SlotSet::of(&[0, 2]), SlotSet::of(&[1])).unwrap();
        assert_eq!(codec.reconstruct(&plan, &[&[0; 4]], &mut [&mut out]), wrong_count(1, 2));
        assert_eq!(codec.reconstruct(&plan, &[[0; 4].as_slice(); 2], &mut []), wrong_count(0, 1));
        assert_eq!(codec.reconstruct(&plan, &[[0; 4].as_slice(); 2], &mut [&mut out[..3]]), wrong_length);
    }

    #[test]
    fn plans_need_k_survivors_of_the_stripe() {
        let codec = Codec::new(4, 2).unwrap();
        let too_few = codec.plan(SlotSet::of(&[0, 1, 5]), SlotSet::of(&[2])).err();
        assert_eq!(too_few, Some(CodecError::TooFewSurvivors { present: 3, needed: 4 }));
        let out_of_range = Some(CodecError::SlotOutOfRange { slot: 6, slots: 6 });
        assert_eq!(codec.plan(SlotSet::first(7), SlotSet::of(&[2])).err(), out_of_range);
        assert_eq!(codec.plan(SlotSet::first(6), SlotSet::of(&[6])).err(), out_of_range);
        let foreign = Codec::new(4, 3).unwrap().plan(SlotSet::first(6), SlotSet::of(&[6])).unwrap();
        let refused = codec.reconstruct(&foreign, &[[0; 4].as_slice(); 4], &mut [&mut [0; 4]]);
        assert_eq!(refused, Err(CodecError::ForeignPlan));
    }

    #[test]
    fn data_slots_are_preferred_as_sources() {
        let codec = Codec::new(4, 2).unwrap();
        let sources = |present: &[u8]| {
            let plan = codec.plan(SlotSet::of(present), SlotSet::of(&[1])).unwrap();
            plan.sources().collect::<Vec<_>>()
        };
        assert_eq!(sources(&[5, 4, 3, 2, 0]), [0, 2, 3, 4]);
        assert_eq!(sources(&[5, 3, 2, 1, 0]), [0, 1, 2, 3]);
        assert_eq!(sources(&[5, 4, 3, 0]), [0, 3, 4, 5]);
    }

    #[test]
    fn a_flipped_bit_anywhere_fails_verification() {
        let codec = Codec::new(3, 2).unwrap();
        let len = VERIFY_BLOCK + 300;
        let mut data: Vec<Vec<u8>> = (1..=3u8).map(|seed| vec![seed.wrapping_mul(57); len]).collect();
        let mut parity = vec![vec![0; len]; 2];
        {
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            codec.encode(&data, &mut parity).unwrap();
        }
        let verify = |data: &[Vec<u8>], parity: &[Vec<u8>]| {
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let parity: Vec<&[u8]> = parity.iter().map(Vec::as_slice).collect();
            codec.verify(&data, &parity).unwrap()
        };
        assert!(verify(&data, &parity));
        for at in [0, 127, 128, VERIFY_BLOCK - 1, VERIFY_BLOCK, len - 1] {
            for slot in 0..3 {
                data[slot][at] ^= 0x10;
                assert!(!verify(&data, &parity), "data {slot} at {at}");
                data[slot][at] ^= 0x10;
            }
            for slot in 0..2 {
                parity[slot][at] ^= 1;
                assert!(!verify(&data, &parity), "parity {slot} at {at}");
                parity[slot][at] ^= 1;
            }
        }
    }
}
