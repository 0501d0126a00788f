//! Tasks, worker threads and bounded pools.
//!
//! Every task has an owner: a [`TaskHandle`] or [`TaskSet`] that joins or aborts it. A worker is a thread in
//! production and may be a task in simulation, so it only blocks on disks and on the channels of its owner.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

mod block_on;
mod pool;
mod real;

pub use pool::{Pool, PoolClosed};

/// What a spawner runs.
pub type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What makes tasks and workers; the simulated one lives in `sim`.
pub trait Spawner: fmt::Debug + Send + Sync {
    fn spawn(&self, name: &'static str, task: BoxedTask) -> TaskHandle;
    fn worker(&self, name: String, work: Box<dyn FnOnce() + Send>) -> WorkerHandle;

    /// See [`Tasks::driver`].
    fn driver(&self, name: String, drive: BoxedTask) -> WorkerHandle {
        self.worker(name, Box::new(move || block_on::block_on(drive)))
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<dyn Spawner>);

impl Tasks {
    pub fn new(spawner: Arc<dyn Spawner>) -> Self {
        Self(spawner)
    }

    /// Tokio tasks and named threads.
    pub fn real() -> Self {
        Self(Arc::new(real::RealSpawner))
    }

    /// Starts a task. Dropping the handle aborts it.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.0.spawn(name, Box::pin(task))
    }

    /// Starts a thread for blocking work. Dropping the handle lets it run on; `join` waits for it.
    pub fn worker(&self, name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> WorkerHandle {
        self.0.worker(name.into(), Box::new(work))
    }

    /// Starts a loop that blocks on disks between its awaits: on a thread of its own in production, as a task in
    /// simulation. It awaits channels, locks and notifications, never timers or sockets.
    pub fn driver(
        &self,
        name: impl Into<String>,
        drive: impl Future<Output = ()> + Send + 'static,
    ) -> WorkerHandle {
        self.0.driver(name.into(), Box::pin(drive))
    }
}

/// Owner of one task; aborts it when dropped.
#[derive(Debug)]
#[must_use = "dropping the handle aborts the task"]
pub struct TaskHandle {
    inner: Option<tokio::task::JoinHandle<()>>,
}

impl TaskHandle {
    pub fn from_join(handle: tokio::task::JoinHandle<()>) -> Self {
        Self { inner: Some(handle) }
    }

    /// Waits for the end. A panic of the task is resumed here. Dropping the future aborts the task.
    pub async fn join(mut self) {
        let Some(inner) = &mut self.inner else { return };
        let result = inner.await;
        self.inner = None;
        if let Err(error) = result
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    pub fn abort(&self) {
        if let Some(inner) = &self.inner {
            inner.abort();
        }
    }

    pub fn is_finished(&self) -> bool {
        self.inner.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }

    /// Lets the task run to its end without an owner; for work that must outlive the request that began it and is
    /// bounded by its own deadline.
    pub fn detach(mut self) {
        self.inner = None;
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Owner of many short tasks, such as one per connection. Dropping it aborts them all.
#[derive(Debug, Default)]
pub struct TaskSet {
    running: std::sync::Mutex<Vec<TaskHandle>>,
}

impl TaskSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task and forgets those that have ended.
    pub fn push(&self, task: TaskHandle) {
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.retain(|task| !task.is_finished());
        running.push(task);
    }

    /// Aborts all and forgets them.
    pub fn abort_all(&self) {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// Waits for all tasks there are now.
    pub async fn join_all(&self) {
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for task in running {
            task.join().await;
        }
    }
}

/// Owner of one worker thread.
pub struct WorkerHandle {
    /// Waits for the end. In a mutex because the handle is shared, though nobody joins through a shared one.
    join: std::sync::Mutex<Box<dyn FnOnce() + Send>>,
}

impl WorkerHandle {
    pub fn from_thread(handle: std::thread::JoinHandle<()>) -> Self {
        Self::from_join(Box::new(move || {
            if let Err(panic) = handle.join() {
                std::panic::resume_unwind(panic);
            }
        }))
    }

    /// For threads that are not the standard library's. `join` blocks until the worker ends and resumes a panic of
    /// it; dropped without a call, it lets the worker run on.
    pub fn from_join(join: Box<dyn FnOnce() + Send>) -> Self {
        Self { join: std::sync::Mutex::new(join) }
    }

    /// Blocks until the worker ends; a panic of it is resumed here.
    pub fn join(self) {
        self.join.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)();
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClockExt, RealClock};
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn giving_up_on_a_join_aborts_the_task() {
        let (held, dropped) = oneshot::channel::<()>();
        let task = Tasks::real().spawn("test", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(RealClock::new().timeout(Duration::from_millis(10), task.join()).await.is_err());
        assert!(dropped.await.is_err(), "the task was dropped, and its end of the channel with it");
    }

    #[test]
    fn a_worker_of_any_kind_is_joined_by_what_it_was_made_with() {
        let (ended, joined) = std::sync::mpsc::channel();
        WorkerHandle::from_join(Box::new(move || ended.send(1).unwrap())).join();
        assert_eq!(joined.try_recv(), Ok(1));
        let panicked = std::panic::catch_unwind(|| Tasks::real().worker("test", || panic!("planned")).join());
        assert!(panicked.is_err(), "a panic of the worker reaches its owner");
    }
}
