//! Tokio tasks and operating system threads.

use super::{BoxedTask, Spawner, TaskHandle, WorkerHandle};

#[derive(Debug)]
pub(super) struct RealSpawner;

impl Spawner for RealSpawner {
    #[allow(clippy::disallowed_methods, reason = "this is the place the other crates are sent to")]
    fn spawn(&self, _name: &'static str, task: BoxedTask) -> TaskHandle {
        TaskHandle::from_join(tokio::spawn(task))
    }

    fn worker(&self, name: String, work: Box<dyn FnOnce() + Send>) -> WorkerHandle {
        let thread = std::thread::Builder::new().name(name).spawn(work);
        WorkerHandle::from_thread(thread.expect("the system can start a thread"))
    }
}
