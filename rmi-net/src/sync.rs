//! Locks that a panic cannot poison.
//!
//! No user code runs under a lock of this crate, so what a panic leaves behind is consistent.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever became of the thread that held it last.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
