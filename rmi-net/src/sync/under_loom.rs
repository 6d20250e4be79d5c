//! Primitives that loom watches.

use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use tokio::sync::futures::Notified;

pub(crate) use loom::sync::atomic;
use loom::sync::atomic::{AtomicUsize, Ordering};

/// A lock. Loom's own does not let others run before it is given back, for those who wait for it could not tell. Who
/// only tries to take it can.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized> {
    /// Touched by who gives the lock back, and by who tries.
    is_tried: AtomicUsize,
    inner: loom::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { is_tried: AtomicUsize::new(0), inner: loom::sync::Mutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // Loom's are never poisoned.
        Ok(MutexGuard { is_tried: &self.is_tried, inner: self.inner.lock().unwrap() })
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        self.is_tried.fetch_add(1, Ordering::AcqRel);
        match self.inner.try_lock() {
            Ok(inner) => Ok(MutexGuard { is_tried: &self.is_tried, inner }),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T: ?Sized> {
    is_tried: &'a AtomicUsize,
    inner: loom::sync::MutexGuard<'a, T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.is_tried.load(Ordering::Acquire);
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
