//! What open snapshots keep in memory.
//!
//! The engine keeps every write buffer that was begun since its oldest snapshot was taken, written out or not, until that
//! snapshot goes: for a transfer of minutes, all that is written meanwhile. It tells nobody, so it is counted here, and
//! writers slow down as it grows: the reader of a snapshot gets ahead, or its holder gives it up at a deadline.

use ashlar_runtime::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
use std::{collections::BTreeMap, sync::PoisonError};

#[derive(Default)]
pub(super) struct Pins {
    /// Bytes written in all.
    written: AtomicU64,
    /// How many snapshots were taken when so many bytes were written.
    open: Mutex<BTreeMap<u64, usize>>,
}

/// A snapshot is open.
pub(super) struct Pin {
    pins: Arc<Pins>,
    at: u64,
}

impl Pins {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn pin(self: &Arc<Self>) -> Pin {
        let at = self.written.load(Ordering::Relaxed);
        *self.open().entry(at).or_default() += 1;
        Pin { pins: Arc::clone(self), at }
    }

    /// Written since the oldest open snapshot was taken.
    pub(super) fn bytes(&self) -> u64 {
        let oldest = self.open().first_key_value().map(|(at, _)| *at);
        oldest.map_or(0, |at| self.written.load(Ordering::Relaxed).saturating_sub(at))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut open = self.pins.open();
        if let Some(count) = open.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_open_snapshot_counts() {
        let pins = Arc::new(Pins::default());
        pins.add_written(10);
        assert_eq!(pins.bytes(), 0);
        let (first, same) = (pins.pin(), pins.pin());
        pins.add_written(5);
        let second = pins.pin();
        pins.add_written(2);
        assert_eq!(pins.bytes(), 7);
        drop(first);
        assert_eq!(pins.bytes(), 7);
        drop(same);
        assert_eq!(pins.bytes(), 2);
        drop(second);
        assert_eq!(pins.bytes(), 0);
    }
}
