//! A client of the drive: asks, and notes what it was answered.

use super::{
    content::{UNITS, identify, meta, shard_id, units},
    history::History,
};
use ashlar_storage::{DriveStore, ScrubLimits, StoreError};
use futures_util::FutureExt;
use shuttle::future::block_on;

/// Shards have numbers below.
pub(crate) const NUMBERS: u8 = 12;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) store: DriveStore,
    pub(crate) history: History,
    /// Whether one of the clients closes the drive, so that others may find it closed.
    pub(crate) closing: bool,
}

impl Client {
    /// What a call that the drive answered gave; `None` if the drive was closed.
    fn answered<T>(&self, outcome: Result<T, StoreError>, call: &str) -> Option<T> {
        match outcome {
            Ok(answer) => Some(answer),
            Err(StoreError::Closed) if self.closing => None,
            Err(error) => panic!("{call}: {error:?}"),
        }
    }

    async fn write(&self, number: u8, value: u64) -> Result<(), StoreError> {
        let mut writer = self.store.put(meta(number, value)).await?;
        for unit in units(value) {
            writer.append(unit).await?;
        }
        writer.commit().await
    }

    pub(crate) fn put(&self, number: u8, value: u64) {
        let write = self.history.write(number, Some(value));
        if self.answered(block_on(self.write(number, value)), "put").is_some() {
            self.history.end(&write);
        }
    }

    /// A commit that nobody waits for: it may have its effect later.
    pub(crate) fn abandon(&self, number: u8, value: u64) {
        let write = self.history.write(number, Some(value));
        if let Some(outcome) = self.write(number, value).now_or_never()
            && self.answered(outcome, "abandoned put").is_some()
        {
            self.history.end(&write);
        }
    }

    /// A writer that is dropped before its commit has no effect.
    pub(crate) fn give_up(&self, number: u8, value: u64) {
        let given_up = async {
            let mut writer = self.store.put(meta(number, value)).await?;
            for unit in units(value) {
                writer.append(unit).await?;
            }
            Ok(())
        };
        self.answered(block_on(given_up), "a writer to be given up");
    }

    pub(crate) fn delete(&self, numbers: &[u8]) {
        let writes: Vec<_> = numbers.iter().map(|number| self.history.write(*number, None)).collect();
        let ids = numbers.iter().map(|number| shard_id(*number)).collect();
        if self.answered(block_on(self.store.delete(ids)), "delete").is_some() {
            writes.iter().for_each(|write| self.history.end(write));
        }
    }

    pub(crate) fn read(&self, number: u8) {
        let begun = self.history.begin();
        let outcome = match block_on(self.store.read(shard_id(number), 0..UNITS)) {
            Err(StoreError::NotFound) => Ok(None),
            outcome => outcome.map(Some),
        };
        if let Some(found) = self.answered(outcome, "read") {
            let held = found.map(|read| identify(&read).unwrap());
            self.history.saw(number, begun, held);
        }
    }

    pub(crate) fn stat(&self, number: u8) {
        let begun = self.history.begin();
        if let Some(found) = self.answered(block_on(self.store.stat(shard_id(number))), "stat") {
            self.history.saw(number, begun, found.map(|stat| stat.meta.chunk_len));
        }
    }

    /// Says of each shard what a read would.
    pub(crate) fn list(&self) {
        let begun = self.history.begin();
        let Some(list) = self.answered(block_on(self.store.list(None, usize::MAX)), "list") else { return };
        assert!(list.is_sorted_by(|a, b| a.meta.id < b.meta.id), "a list is in order");
        for number in 0..NUMBERS {
            let listed = list.iter().find(|stat| stat.meta.id == shard_id(number));
            self.history.saw(number, begun, listed.map(|stat| stat.meta.chunk_len));
        }
    }

    /// Finds no damage.
    pub(crate) fn scrub(&self) {
        let limits = ScrubLimits { bytes_per_second: 0, bytes: 1 };
        let mut after = None;
        while let Some(page) = self.answered(block_on(self.store.scrub(after, limits)), "scrub") {
            assert!(page.corrupt.is_empty() && page.unreadable.is_empty(), "a scrub found {page:?}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }

    pub(crate) fn checkpoint(&self) {
        self.answered(block_on(self.store.checkpoint()), "checkpoint");
    }

    pub(crate) fn reclaim(&self) {
        self.answered(block_on(self.store.reclaim()), "reclaim");
    }

    pub(crate) fn close(&self) {
        block_on(self.store.clone().close());
    }
}
