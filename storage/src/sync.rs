//! Locks and atomics of this crate: those of the runtime, or, in the build that explores schedules, those of the
//! explorer.

#[cfg(not(schedules))]
pub(crate) use ashlar_runtime::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};
#[cfg(schedules)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};

pub(crate) use std::sync::Arc;
use std::sync::PoisonError;

/// A panic while a lock is held leaves nothing half done: all state under the locks of this crate changes in one
/// step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the condition to be signalled; wakes without reason too.
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Lets others run who are ready to.
pub(crate) fn give_way() {
    #[cfg(not(schedules))]
    std::thread::yield_now();
    #[cfg(schedules)]
    shuttle::thread::yield_now();
}

/// Waits on a thread for what another one sends; `None` if it never will.
pub(crate) fn receive<T>(receiver: tokio::sync::oneshot::Receiver<T>) -> Option<T> {
    #[cfg(not(schedules))]
    return receiver.blocking_recv().ok();
    #[cfg(schedules)]
    return shuttle::future::block_on(receiver).ok();
}
