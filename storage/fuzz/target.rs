//! What the three programs share: the targets of `cargo test`, with libFuzzer's own changes among the structured ones.

#[path = "../tests/fuzz"]
#[allow(dead_code, reason = "each program has one of the targets")]
pub(crate) mod fuzz {
    pub(crate) mod bytes;
    pub(crate) mod drive;
    pub(crate) mod layout;
    pub(crate) mod measure;
    pub(crate) mod mutator;
    pub(crate) mod oracle;
    pub(crate) mod targets;
    pub(crate) mod witness;
}

use fuzz::{bytes::Dice, layout::Structure, mutator, targets};

#[global_allocator]
static COUNTING: fuzz::measure::Counting = fuzz::measure::Counting;

pub(crate) fn run(structure: Structure, bytes: &[u8]) {
    if let Err(reason) = targets::run(structure, bytes) {
        panic!("{reason}");
    }
}

/// Changes `bytes[..len]` in place and gives the new length.
pub(crate) fn mutate(structure: Structure, bytes: &mut [u8], len: usize, max: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed.into());
    if dice.once_in(3) {
        // Finds what nobody thought of, and uses the dictionary.
        let len = libfuzzer_sys::fuzzer_mutate(bytes, len, max);
        mutator::finish(structure, &mut bytes[..len], &mut dice);
        len
    } else {
        let mut mutated = bytes[..len].to_vec();
        let seeds = targets::seeds(structure);
        let other = &seeds[dice.below(seeds.len())];
        mutator::mutate(structure, &mut mutated, other, max, &mut dice);
        bytes[..mutated.len()].copy_from_slice(&mutated);
        mutated.len()
    }
}
