//! Histories of conditional writes and the pure functions that judge them.
//!
//! A history is what clients saw: each operation with its begin, its end and its outcome. The checkers know nothing
//! of the cluster; their own tests plant the violations that they are there to find.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

pub mod chain;
pub mod creates;

/// The value of one write: never used twice in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Begin and end of an operation on the clients' common counter: one that ended before another began has the
/// smaller end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub begin: u64,
    pub end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked,
    /// 412: the condition did not hold at some moment of the span, so this is a read as well.
    Refused,
    /// It may have happened, or may happen yet.
    Unknown,
}

/// Counts begins and ends of all clients of a story: order without clocks.
#[derive(Debug, Default)]
pub struct Events(AtomicU64);

impl Events {
    pub fn next(&self) -> u64 {
        // The strongest order, so that what one client saw end is what another's begin comes after.
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}
