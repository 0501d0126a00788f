//! Locks of components whose schedules are explored by a model checker: they come from here, so that it can take
//! over. Poisoning is not used: a panic while a lock is held ends the process's part that owned it.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, atomic};
