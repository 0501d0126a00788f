//! The thread that writes the log: takes the whole queue, one write, one flush, answers in order.

use super::{
    record::{self, HEADER_LEN, Head, Kind},
    rewrite,
    state::{Pending, Shared},
};
use ashlar_runtime::Disk;
use std::{io, sync::Arc};

/// Makes the state machine durable before entries that it has applied are purged.
pub type BeforePurge = Box<dyn FnMut() -> io::Result<()> + Send>;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) before_purge: BeforePurge,
    /// Number of the last batch that was written.
    pub(super) batch: u64,
    /// The file is rewritten when so many bytes at its beginning are purged.
    pub(super) rewrite_bytes: u64,
}

impl Writer {
    /// Runs until the log is closed and everything queued is answered.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            let purges = batch.iter().any(|pending| pending.kind == Kind::Purge);
            if let Err(error) = self.commit(&batch, purges) {
                self.fail(batch, &error);
                return;
            }
            for pending in batch {
                pending.done.tell(Ok(()));
            }
            if purges && let Err(error) = rewrite::if_worth_it(&self.shared, &*self.disk, self.rewrite_bytes)
            {
                self.fail(Vec::new(), &error);
                return;
            }
        }
    }

    /// Waits for work; `None` when the log is closed and there is no more.
    async fn next_batch(&mut self) -> Option<Vec<Pending>> {
        loop {
            {
                let mut state = self.shared.lock();
                let batch = state.take_batch();
                if !batch.is_empty() {
                    return Some(batch);
                }
                if state.closing {
                    return None;
                }
            }
            self.shared.wake.notified().await;
        }
    }

    fn commit(&mut self, batch: &[Pending], purges: bool) -> io::Result<()> {
        if purges {
            (self.before_purge)()?;
        }
        self.batch += 1;
        let len = batch.iter().map(|pending| HEADER_LEN + pending.payload.len()).sum();
        let mut bytes = Vec::with_capacity(len);
        for (place, pending) in batch.iter().enumerate() {
            let closes = place + 1 == batch.len();
            let head = Head { kind: pending.kind, batch: self.batch, index: pending.index, closes };
            record::write(&mut bytes, self.shared.salt, head, &pending.payload);
        }
        let (placed, start) = {
            let state = self.shared.lock();
            (state.file.clone(), state.flushed)
        };
        placed.file.write_all_at(&bytes, placed.physical(start))?;
        placed.file.sync_data()?;
        let mut state = self.shared.lock();
        state.flushed = start + bytes.len() as u64;
        let flushed = state.flushed;
        state.slots.evict(flushed);
        Ok(())
    }

    /// What the file holds is not known any more: everyone who waits or comes later is told so.
    fn fail(&self, batch: Vec<Pending>, error: &io::Error) {
        tracing::error!(path = %self.shared.path.display(), %error, "the log cannot be written; the replica stops");
        let waiting = {
            let mut state = self.shared.lock();
            state.failed = Some("the log could not be written");
            std::mem::take(&mut state.queue)
        };
        for pending in batch.into_iter().chain(waiting) {
            pending.done.tell(Err(io::Error::new(error.kind(), "the log could not be written")));
        }
    }
}
