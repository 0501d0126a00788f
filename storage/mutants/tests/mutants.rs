//! Bugs planted in the drive store, each of which the crash harness or a scenario has to catch.
//!
//! The store is compiled a second time for this, with a switch for each bug (`storage/src/planted.rs`).

extern crate ashlar_storage_mutants as ashlar_storage;

#[cfg(test)]
#[path = "../../tests/crash/harness.rs"]
#[allow(dead_code, reason = "some of the harness is for the crash proof alone")]
mod harness;

#[cfg(test)]
mod mutants {
    mod oracles;
    mod scenarios;
    mod table;
}
