//! A node's side of the log: everything on one thread, nothing random but the seed.

use ashlar_metadata::log::{LogError, LogOptions, LogStore, NodeLog};
use ashlar_runtime::{BoxedTask, Env, Pool, Rng, SimDisk, Spawner, TaskHandle, Tasks, WorkerHandle};
use ashlar_types::GroupId;
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) const DIR: &str = "/log";

/// A replica of the test: group and Raft id.
pub(crate) type Key = (u32, u64);

/// Tasks of the runtime that is running; a driver is one of them.
#[derive(Debug)]
struct OneThread;

impl Spawner for OneThread {
    #[allow(clippy::disallowed_methods, reason = "the tests' own spawner")]
    fn spawn(&self, _name: &'static str, task: BoxedTask) -> TaskHandle {
        TaskHandle::from_join(tokio::spawn(task))
    }

    fn worker(&self, name: String, _work: Box<dyn FnOnce() + Send>) -> WorkerHandle {
        panic!("{name} would be a thread");
    }

    #[allow(clippy::disallowed_methods, reason = "the tests' own spawner")]
    fn driver(&self, _name: String, drive: BoxedTask) -> WorkerHandle {
        drop(tokio::spawn(drive));
        WorkerHandle::from_join(Box::new(|| ()))
    }
}

#[derive(Debug)]
struct Seeded(Mutex<super::Dice>);

impl Rng for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut dice = self.0.lock().unwrap();
        for chunk in out.chunks_mut(8) {
            let word = dice.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Runs a life of the node to its end; what is still running then stops as in a crash.
pub(crate) fn live<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(life)
}

pub(crate) fn env(disk: &SimDisk, seed: u64) -> Env {
    Env {
        disk: Arc::new(disk.clone()),
        tasks: Tasks::new(Arc::new(OneThread)),
        rng: Arc::new(Seeded(Mutex::new(super::Dice::new(seed)))),
        ..Env::real()
    }
}

pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        first_segment_bytes: 16 << 10,
        cache_bytes: 4 << 10,
        queue_bytes: 1 << 20,
        read_bytes: 1 << 10,
    }
}

pub(crate) fn open(env: &Env) -> Result<NodeLog, LogError> {
    NodeLog::open(env, Path::new(DIR), options())
}

/// What a state machine has made durable, by the note that says so.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    disk: SimDisk,
    key: Key,
    /// Applied so far, and durable from the next time on that the log asks.
    pub(crate) applied: Arc<AtomicU64>,
}

impl Tables {
    pub(crate) fn new(disk: &SimDisk, key: Key) -> Self {
        Self { disk: disk.clone(), key, applied: Arc::default() }
    }
}

pub(crate) fn replica(log: &NodeLog, env: &Env, tables: &Tables) -> Result<LogStore, LogError> {
    let key = tables.key;
    let pool = Pool::new(&env.tasks, "reads", 1, 16);
    let tables = tables.clone();
    let before_purge = Arc::new(move || {
        let index = tables.applied.load(Ordering::SeqCst);
        tables.disk.note(super::model::Note::Persisted { key, index }.encode());
        Ok(())
    });
    log.replica(GroupId(key.0), key.1, pool, before_purge)
}
