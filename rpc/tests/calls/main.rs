//! Calls between nodes over loopback sockets.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod loopback;
mod small;
mod unary;
