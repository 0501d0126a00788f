//! Tasks of a host: tokio tasks on the host's own runtime; the loops of logs keep threads, see `coroutine`.

use super::coroutine::Coroutine;
use ashlar_runtime::{BoxedTask, Spawner, TaskHandle, WorkerHandle};

/// Drivers whose disk calls take time. The others, pools, run as plain tasks: their disk calls are off the path that
/// decides what is durable.
const SLOW_DRIVER: &str = "raft-log";

#[derive(Debug)]
pub(crate) struct SimSpawner;

impl Spawner for SimSpawner {
    #[allow(clippy::disallowed_methods, reason = "the simulated spawner is made from tokio's")]
    fn spawn(&self, _name: &'static str, task: BoxedTask) -> TaskHandle {
        TaskHandle::from_join(tokio::spawn(task))
    }

    /// # Panics
    /// Always: a worker blocks its thread, and there is only one.
    fn worker(&self, name: String, _work: Box<dyn FnOnce() + Send>) -> WorkerHandle {
        panic!("worker {name} would block the simulation; make it a driver");
    }

    /// Nobody can wait for the end of a driver without letting it run, so joining does not.
    #[allow(clippy::disallowed_methods, reason = "the simulated spawner is made from tokio's")]
    fn driver(&self, name: String, drive: BoxedTask) -> WorkerHandle {
        if name.starts_with(SLOW_DRIVER) {
            drop(tokio::spawn(Coroutine::new(name, drive)));
        } else {
            drop(tokio::spawn(drive));
        }
        WorkerHandle::from_join(Box::new(|| ()))
    }
}
