//! Tests of the state machine as a whole: against a naive model of S3, and its rules one by one.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test that gets another answer than it asks for fails")]

mod buckets;
mod digests;
mod fences;
mod fixture;
mod garbage;
mod inspect;
mod listing;
mod model;
mod objects;
mod outbox;
mod outcomes;
mod replicas;
mod steps;
mod system;
mod uploads;
mod verify;
