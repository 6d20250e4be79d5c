//! Locks that a panic cannot poison, and what else the threads of a node share.
//!
//! No user code runs under a lock of this crate, so what a panic leaves behind is consistent. Tests under loom have
//! primitives of which every order of events is tried.

#[cfg(all(test, rmi_loom))]
mod under_loom;

#[cfg(all(test, rmi_loom))]
pub(crate) use self::under_loom::{Mutex, MutexGuard, Notify, atomic};
#[cfg(not(all(test, rmi_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(all(test, rmi_loom)))]
pub(crate) use tokio::sync::Notify;

use std::sync::PoisonError;

/// Locks, whatever became of the thread that held it last.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
