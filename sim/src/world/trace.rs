//! What happened, as one hash: the same seed gives the same hash, or something depends on more than the seed.

use super::clock::SimTime;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Cheap to clone; all clones are one trace.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    time: SimTime,
    hasher: Mutex<blake3::Hasher>,
    echo: Echo,
}

/// Whether events are shown as they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    Quiet,
    StandardError,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    pub fn new(time: SimTime, echo: Echo) -> Self {
        Self(Arc::new(Inner { time, hasher: Mutex::default(), echo }))
    }

    /// Something worth reading.
    #[allow(clippy::print_stderr, reason = "the one who repeats a seed asks for it")]
    pub fn event(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>9} {event}", Millis(self.0.time.millis()));
        if self.0.echo == Echo::StandardError {
            eprintln!("{line}");
        }
        self.mix(line.as_bytes());
    }

    /// Bytes that left a host.
    pub(crate) fn sent(&self, host: usize, bytes: &[u8]) {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&self.0.time.millis().to_le_bytes());
        head[8..16].copy_from_slice(&(host as u64).to_le_bytes());
        head[16..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        let mut hasher = self.0.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&head).update(bytes);
    }

    fn mix(&self, bytes: &[u8]) {
        self.0.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
    }

    pub fn hash(&self) -> String {
        let hash = self.0.hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize();
        hash.to_hex()[..32].to_owned()
    }
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1000, self.0 % 1000))
    }
}
