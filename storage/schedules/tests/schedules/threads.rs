//! Threads of the drive store as threads of the explorer, and randomness that repeats.

use ashlar_runtime::{Rng, TaskHandle, Tasks, WorkerHandle, task::Spawner};
use std::{
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

#[derive(Debug)]
struct Explored;

impl Spawner for Explored {
    fn spawn(&self, name: &'static str, _task: Pin<Box<dyn Future<Output = ()> + Send>>) -> TaskHandle {
        unreachable!("the drive store has threads, but was to start the task {name}")
    }

    fn worker(&self, name: String, work: Box<dyn FnOnce() + Send>) -> WorkerHandle {
        let thread = shuttle::thread::Builder::new().name(name).spawn(work).unwrap();
        WorkerHandle::from_join(Box::new(move || thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
    }
}

pub(crate) fn tasks() -> Tasks {
    Tasks::new(Arc::new(Explored))
}

/// splitmix64, one number a step of a counter: never twice the same in one run. Drives that share a disk must not
/// have the same seed.
#[derive(Debug)]
pub(crate) struct Counted(AtomicU64);

impl Counted {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }

    fn next(&self) -> u64 {
        let mut mixed = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Rng for Counted {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
