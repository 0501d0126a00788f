//! The object store over drives in memory and one metadata state machine in memory, with faults.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures as well")]
#![allow(unreachable_pub, reason = "nothing outside this test binary can reach it anyway")]

mod clock;
mod cluster;
mod garbage;
mod memory;
mod metadata;
mod multipart;
mod reading;
mod round_trips;
mod world;
mod writing;
