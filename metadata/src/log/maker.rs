//! Makes segments one ahead and deletes those that are not needed, beside the commit thread: writing a new segment once
//! takes as long as many batches.

use super::commit::Shared;
use std::sync::Arc;

/// Runs until the commit thread has ended or failed: while the log is being closed, what waits may need a segment yet.
pub(super) async fn run(shared: &Shared) {
    loop {
        let (order, surplus) = {
            let mut state = shared.lock();
            if state.committed && state.space.is_idle() || state.failed.is_some() {
                return;
            }
            (state.space.order(), state.space.take_surplus())
        };
        if order.is_none() && surplus.is_empty() {
            shared.make.notified().await;
            continue;
        }
        for id in surplus {
            // A segment that comes back holds nothing that is needed; the next opening deletes it.
            if let Err(error) = shared.files.unlink(id) {
                tracing::warn!(segment = %id, %error, "a segment of the log could not be deleted");
            }
        }
        if let Some((id, len)) = order {
            let made = shared.files.create(id, shared.salt, len);
            let mut state = shared.lock();
            match made {
                Ok(file) => state.space.delivered(Arc::new(file)),
                Err(error) => {
                    tracing::warn!(%error, "no segment could be made for the log");
                    state.space.refused(error.kind());
                }
            }
            drop(state);
            shared.made.notify_waiters();
        }
    }
}
