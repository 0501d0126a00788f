//! Calls between nodes over loopback sockets.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod authority;
mod log;
mod loopback;
mod secured;
mod small;
mod unary;
