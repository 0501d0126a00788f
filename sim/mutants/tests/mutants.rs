//! Bugs planted in the metadata plane, each of which an oracle has to catch.
//!
//! The metadata plane is compiled a second time for this, with a switch for each bug (`metadata/src/planted.rs`).

#![allow(clippy::wildcard_enum_match_arm, reason = "what a bug makes of an answer is not foreseen")]

extern crate ashlar_metadata_mutants as ashlar_metadata;

#[cfg(test)]
mod mutants {
    mod check;
    mod log;
    mod oracles;
    mod state;
    mod table;
}
