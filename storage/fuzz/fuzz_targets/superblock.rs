#![no_main]

#[path = "../target.rs"]
mod target;

use target::fuzz::layout::Structure;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(Structure::Superblock, bytes));

libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], len: usize, max: usize, seed: u32| {
    target::mutate(Structure::Superblock, bytes, len, max, seed)
});
