//! Primitives that loom watches.

use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use tokio::sync::futures::Notified;

use loom::sync::Condvar;
use loom::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

/// Nothing to be seen.
pub(crate) fn prefetch<T>(_: &T) {}

/// A lock that is not only waited for but also tried. Who tries to take one of loom's own waits for it all the same, and is
/// stuck for ever where its holder waits for what the other has.
#[derive(Debug, Default)]
pub(crate) struct TriedMutex<T> {
    is_locked: Mutex<bool>,
    unlocked: Condvar,
    /// Only for who has set `is_locked`.
    value: Mutex<T>,
}

impl<T> TriedMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { is_locked: Mutex::new(false), unlocked: Condvar::new(), value: Mutex::new(value) }
    }

    // Loom's are never poisoned.
    pub(crate) fn lock(&self) -> LockResult<TriedGuard<'_, T>> {
        let mut is_locked = self.is_locked.lock().unwrap();
        while *is_locked {
            is_locked = self.unlocked.wait(is_locked).unwrap();
        }
        *is_locked = true;
        Ok(TriedGuard { mutex: self, value: Some(self.value.lock().unwrap()) })
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<TriedGuard<'_, T>> {
        if std::mem::replace(&mut *self.is_locked.lock().unwrap(), true) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(TriedGuard { mutex: self, value: Some(self.value.lock().unwrap()) })
    }
}

#[derive(Debug)]
pub(crate) struct TriedGuard<'a, T> {
    mutex: &'a TriedMutex<T>,
    /// Given back first.
    value: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for TriedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap()
    }
}

impl<T> DerefMut for TriedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap()
    }
}

impl<T> Drop for TriedGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        *self.mutex.is_locked.lock().unwrap() = false;
        self.mutex.unlocked.notify_one();
    }
}

/// A [`tokio::sync::Notify`] of which loom knows what it orders: what was written before a notification is seen by who
/// has begun to wait after it.
#[derive(Debug)]
pub(crate) struct Notify {
    order: AtomicUsize,
    inner: tokio::sync::Notify,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self { order: AtomicUsize::new(0), inner: tokio::sync::Notify::new() }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        let notified = self.inner.notified();
        self.order.fetch_add(0, Ordering::AcqRel);
        notified
    }

    pub(crate) fn notify_one(&self) {
        self.order.fetch_add(0, Ordering::AcqRel);
        self.inner.notify_one();
    }

    pub(crate) fn notify_waiters(&self) {
        self.order.fetch_add(0, Ordering::AcqRel);
        self.inner.notify_waiters();
    }
}
