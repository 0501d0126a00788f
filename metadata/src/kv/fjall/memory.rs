//! The memory that the stores of a node share, however many groups it has.
//!
//! Blocks of table files are in one cache. Rows that are not in table files yet are in write buffers, one or more a store:
//! when all of them together reach the budget, the largest is written out, whoever owns it, and a writer that finds them a
//! quarter past the budget waits. So an idle group gives its buffer back, and dozens of groups need no more than one that is
//! busy.

use super::{FjallOptions, generation::Generation};
use ashlar_runtime::sync::{Arc, Condvar, Mutex, MutexGuard};
use lsm_tree::Cache;
use std::{
    sync::{PoisonError, Weak},
    time::Duration,
};

/// The engine tells nobody when it has written a buffer out.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

pub(super) struct Shared {
    pub(super) options: FjallOptions,
    pub(super) cache: Arc<Cache>,
    stores: Mutex<Vec<Weak<Generation>>>,
    /// Never told: waiting on it is waiting for a while.
    pause: Condvar,
}

impl Shared {
    pub(super) fn new(options: FjallOptions) -> Self {
        Self {
            options,
            cache: Arc::new(Cache::with_capacity_bytes(options.cache_bytes)),
            stores: Mutex::default(),
            pause: Condvar::new(),
        }
    }

    fn stores(&self) -> MutexGuard<'_, Vec<Weak<Generation>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts its write buffers from now on.
    pub(super) fn admit(&self, store: &Arc<Generation>) {
        let mut stores = self.stores();
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    /// Those that still write their buffers out.
    fn sound(&self) -> Vec<Arc<Generation>> {
        let stores: Vec<_> = self.stores().iter().filter_map(Weak::upgrade).collect();
        stores.into_iter().filter(|store| !store.has_failed()).collect()
    }

    pub(super) fn write_buffer_bytes(&self) -> u64 {
        self.sound().iter().map(|store| store.write_buffer_bytes()).sum()
    }

    pub(super) fn pinned_bytes(&self) -> u64 {
        self.sound().iter().map(|store| store.pinned_bytes()).sum()
    }

    /// Has the largest buffer written out if all together are at the budget. `false`: the caller should wait.
    pub(super) fn relieve(&self) -> bool {
        let budget = self.options.write_buffer_bytes;
        let stores = self.sound();
        let total: u64 = stores.iter().map(|store| store.write_buffer_bytes()).sum();
        if total < budget {
            return true;
        }
        let idle = stores.iter().filter(|store| !store.is_flushing());
        if let Some(largest) = idle.max_by_key(|store| store.write_buffer_bytes()) {
            largest.flush_soon();
        }
        let room = total < budget + budget / 4;
        if !room {
            // A store whose engine gave up would hold its buffers for ever.
            stores.iter().for_each(|store| store.notice_failure());
        }
        room
    }

    pub(super) fn pause(&self) {
        let stores = self.stores();
        // Poisoned or not: time has passed.
        drop(self.pause.wait_timeout(stores, LOOK_AGAIN));
    }
}
