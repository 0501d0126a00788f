//! Runs one future on the present thread, which sleeps while the future waits.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// There is no timer and no reactor here: the future waits for channels, locks and notifications only.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake that comes before the park lets it return at once.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tasks;
    use tokio::sync::mpsc;

    #[test]
    fn a_future_is_woken_from_other_threads() {
        let (numbers, mut receiver) = mpsc::unbounded_channel();
        let sender = Tasks::real().worker("sender", move || {
            (0..1000).for_each(|number| numbers.send(number).unwrap());
        });
        let sum = block_on(async {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            sum
        });
        assert_eq!(sum, 999 * 1000 / 2);
        sender.join();
    }
}
