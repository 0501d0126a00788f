//! The checkers without the simulation, which would bring the metadata plane without bugs with it.

#![allow(dead_code, unreachable_pub, reason = "some of them are for the simulation alone")]

#[path = "../../../src/check/all.rs"]
pub(crate) mod all;
#[path = "../../../src/check/bucket.rs"]
pub(crate) mod bucket;
#[path = "../../../src/check/counters.rs"]
pub(crate) mod counters;
#[path = "../../../src/check/history.rs"]
pub(crate) mod history;
#[path = "../../../src/check/key.rs"]
pub(crate) mod key;
#[path = "../../../src/check/linearizability.rs"]
pub(crate) mod linearizability;
#[path = "../../../src/check/listing.rs"]
pub(crate) mod listing;
#[path = "../../../src/check/recorder.rs"]
pub(crate) mod recorder;
#[path = "../../../src/check/register.rs"]
pub(crate) mod register;
#[path = "../../../src/check/replicas.rs"]
pub(crate) mod replicas;
#[path = "../../../src/check/search.rs"]
pub(crate) mod search;
#[path = "../../../src/check/versions.rs"]
pub(crate) mod versions;

pub(crate) use all::judge;
