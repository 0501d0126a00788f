//! Hostile bytes on a device: superblocks, log segments and checkpoints of any content.
//!
//! `cargo test` replays the seeds and what was found before, then mutates for a few seconds a target;
//! `storage/fuzz` runs the same targets under libFuzzer for as long as one likes. `ASHLAR_FUZZ_SEED` sets the seed,
//! `ASHLAR_FUZZ_SECONDS` how long each target is mutated.

#[cfg(test)]
mod fuzz {
    mod bytes;
    mod drive;
    mod layout;
    mod measure;
    mod mutator;
    mod oracle;
    mod targets;
    mod witness;

    mod oracles;
    mod replay;
    mod seeds;
    mod structured;

    #[global_allocator]
    static COUNTING: measure::Counting = measure::Counting;
}
