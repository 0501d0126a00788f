//! The whole protocol without sockets: signed requests in, responses out, over a small model of the object service.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod bad_input;
mod client;
mod clock;
mod conditions;
mod copying;
mod listing;
mod logs;
mod matrix;
mod memory;
mod multipart;
mod objects;
mod serving;
mod versions;
