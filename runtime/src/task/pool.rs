//! A bounded pool of workers for blocking calls: drive reads, coding of large rows, engine calls.

use super::{Tasks, WorkerHandle};
use crate::sync::Arc;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The pool was shut down, or the job panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker pool is closed")]
pub struct PoolClosed;

/// Workers that run closures in the order given. At most `queue` jobs wait; callers beyond wait asynchronously, which
/// is what bounds the channel.
#[derive(Clone, Debug)]
pub struct Pool {
    jobs: mpsc::UnboundedSender<Job>,
    places: Arc<Semaphore>,
    _workers: Arc<Vec<WorkerHandle>>,
}

impl Pool {
    pub fn new(tasks: &Tasks, name: &str, threads: usize, queue: usize) -> Self {
        let (jobs, waiting) = mpsc::unbounded_channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        let workers = (0..threads)
            .map(|number| {
                let waiting = Arc::clone(&waiting);
                tasks.driver(format!("{name}-{number}"), async move {
                    loop {
                        let job = waiting.lock().await.recv().await;
                        let Some(job) = job else { return };
                        // A panic ends its job alone: the caller sees `PoolClosed`, the worker lives on.
                        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                    }
                })
            })
            .collect();
        Self { jobs, places: Arc::new(Semaphore::new(threads + queue)), _workers: Arc::new(workers) }
    }

    /// Runs `work` on a worker. Not cancelled when the future is dropped: work once queued is done.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolClosed> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| PoolClosed)?;
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            let output = work();
            drop(place);
            // The caller may have gone; then nobody wants the output.
            let _ = done.send(output);
        });
        self.jobs.send(job).map_err(|_| PoolClosed)?;
        result.await.map_err(|_| PoolClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_job_does_not_take_the_pool_along() {
        let pool = Pool::new(&Tasks::real(), "test", 1, 4);
        assert_eq!(pool.run(|| 1).await, Ok(1));
        assert_eq!(pool.run(|| -> u32 { panic!("planned") }).await, Err(PoolClosed));
        assert_eq!(pool.run(|| 2).await, Ok(2));
    }
}
