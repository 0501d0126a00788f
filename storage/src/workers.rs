//! Threads for blocking work of one drive, started when there is work for them.
//!
//! Jobs run in the order given, a bounded number of them waiting. Dropping the owner lets what waits be done and ends
//! the threads.

use crate::sync::{Arc, Condvar, Mutex, locked, wait};
use ashlar_runtime::{Tasks, WorkerHandle};
use std::{collections::VecDeque, fmt};
use tokio::sync::oneshot;

type Run = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    waiting: VecDeque<Run>,
    idle: usize,
    threads: Vec<WorkerHandle>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub(crate) struct Workers {
    tasks: Tasks,
    name: &'static str,
    threads_max: usize,
    waiting_max: usize,
    shared: Arc<Shared>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Busy,
    Closed,
}

impl Workers {
    pub(crate) fn new(tasks: &Tasks, name: &'static str, threads_max: usize, waiting_max: usize) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        Self { tasks: tasks.clone(), name, threads_max, waiting_max, shared }
    }

    /// Runs `work` on a thread. The receiver fails if the work panicked. Work once accepted is done, even if nobody
    /// waits for it any more.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refused> {
        let (done, output) = oneshot::channel();
        let run = Box::new(move || {
            let result = work();
            let _ = done.send(result);
        });
        let mut state = locked(&self.shared.state);
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.waiting_max {
            return Err(Refused::Busy);
        }
        state.waiting.push_back(run);
        if state.idle < state.waiting.len() && state.threads.len() < self.threads_max {
            let shared = Arc::clone(&self.shared);
            let name = format!("{}-{}", self.name, state.threads.len());
            state.threads.push(self.tasks.worker(name, move || serve(&shared)));
        }
        drop(state);
        self.shared.changed.notify_one();
        Ok(output)
    }

    /// Refuses more work. What waits is done.
    pub(crate) fn close(&self) {
        locked(&self.shared.state).closed = true;
        self.shared.changed.notify_all();
    }

    /// Waits for the threads to end, after `close`. Blocks.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut locked(&self.shared.state).threads);
        for thread in threads {
            thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(shared: &Shared) {
    let mut state = locked(&shared.state);
    loop {
        if let Some(run) = state.waiting.pop_front() {
            drop(state);
            // A panic ends its job alone: whoever waits for it is told by the closed channel.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            state = locked(&shared.state);
        } else if state.closed {
            return;
        } else {
            state.idle += 1;
            state = wait(&shared.changed, state);
            state.idle -= 1;
        }
    }
}
