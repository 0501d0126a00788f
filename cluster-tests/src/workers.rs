//! Many at a time, but not all at once.

use anyhow::Result;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinSet;

/// Runs `work` for each item, `concurrency` of them at a time. The first failure ends it, and everything with it.
pub async fn for_each<T, W, F>(items: impl IntoIterator<Item = T>, concurrency: usize, work: W) -> Result<()>
where
    T: Send + 'static,
    W: Fn(T) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let queue: Arc<Mutex<VecDeque<T>>> = Arc::new(Mutex::new(items.into_iter().collect()));
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (queue, work) = (Arc::clone(&queue), work.clone());
        workers.spawn(async move {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                match next {
                    Some(item) => work(item).await?,
                    None => return anyhow::Ok(()),
                }
            }
        });
    }
    join_all(workers).await.map(|_: Vec<()>| ())
}

/// Waits for all; the first failure aborts the others.
pub async fn join_all<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        results.push(joined??);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn each_item_is_worked_on_once_and_a_failure_is_told() {
        let sum = Arc::new(AtomicUsize::new(0));
        let add = {
            let sum = Arc::clone(&sum);
            move |item: usize| {
                let sum = Arc::clone(&sum);
                async move {
                    sum.fetch_add(item, Ordering::Relaxed);
                    Ok(())
                }
            }
        };
        for_each(1..=100, 7, add).await.unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 5050);

        let refuse = |item| async move { if item == 3 { anyhow::bail!("not three") } else { Ok(()) } };
        assert!(for_each(0..9, 2, refuse).await.is_err());
    }
}
