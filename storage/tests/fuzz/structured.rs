//! Mutations of the seeds for a few seconds: fields, entries and batches changed, checksums right again.

use super::{
    bytes::Dice,
    layout::Structure,
    measure::{mark, now},
    mutator::mutate,
    targets::{LEN_MAX, run, seeds},
};
use std::{panic, path::PathBuf, time::Duration};

const SEED: u64 = 0x5eed_0000_0001_0000;
const SECONDS: u64 = 5;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")),
        Err(_) => default,
    }
}

/// The case of this number: a seed, mutated one to three times.
fn case(structure: Structure, number: u64, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(3) {
        let other = &seeds[dice.below(seeds.len())];
        mutate(structure, &mut bytes, other, LEN_MAX, &mut dice);
    }
    bytes
}

/// Runs the cases from the seed on. The first one that fails is kept as a file, to become a regression seed.
fn fuzz(structure: Structure, folder: &str) {
    let seeds = seeds(structure);
    let seed = number("ASHLAR_FUZZ_SEED", SEED);
    let until = now() + Duration::from_secs(number("ASHLAR_FUZZ_SECONDS", SECONDS));
    let mut cases = 0;
    while now() < until {
        let number = seed.wrapping_add(cases);
        mark(number);
        let bytes = case(structure, number, &seeds);
        let outcome = panic::catch_unwind(|| run(structure, &bytes));
        let reason = match outcome {
            Ok(Ok(())) => {
                cases += 1;
                continue;
            }
            Ok(Err(reason)) => reason,
            Err(_) => "it panicked".to_owned(),
        };
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{folder}-{number:016x}"));
        std::fs::write(&path, &bytes).unwrap();
        panic!(
            "case {cases}, kept as {}: {reason}\nASHLAR_FUZZ_SEED={number} cargo test -p ashlar-storage --test fuzz {folder}",
            path.display()
        );
    }
    println!("{folder}: {cases} cases from seed {seed}");
    assert!(cases > 0);
}

#[test]
fn mutated_superblocks_open_or_are_refused() {
    fuzz(Structure::Superblock, "superblocks");
}

#[test]
fn mutated_segments_open_or_are_refused() {
    fuzz(Structure::Segment, "segments");
}

#[test]
fn mutated_checkpoints_open_or_are_refused() {
    fuzz(Structure::Checkpoint, "checkpoints");
}
