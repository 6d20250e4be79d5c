//! Locks that a panic cannot poison, and what else the threads of a node share.
//!
//! No user code runs under a lock of this crate, so what a panic leaves behind is consistent. Tests under loom have
//! primitives of which every order of events is tried.

#[cfg(all(test, rmi_loom))]
mod under_loom;

#[cfg(all(test, rmi_loom))]
pub(crate) use self::under_loom::{
    Mutex, Mutex as BriefMutex, MutexGuard, Notify, TriedGuard, TriedMutex, atomic, prefetch,
};
#[cfg(not(all(test, rmi_loom)))]
pub(crate) use std::sync::{Mutex, Mutex as TriedMutex, MutexGuard, MutexGuard as TriedGuard, atomic};
#[cfg(not(all(test, rmi_loom)))]
pub(crate) use tokio::sync::Notify;

use std::sync::PoisonError;

use tokio::sync::futures::Notified;

use self::atomic::{AtomicUsize, Ordering};

/// Locks, whatever became of the thread that held it last.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a lock that others only try to take.
pub(crate) fn lock_tried<T>(mutex: &TriedMutex<T>) -> TriedGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the processor fetch the lock itself, without taking it.
#[cfg(not(all(test, rmi_loom)))]
#[inline(always)]
pub(crate) fn prefetch<T>(mutex: &Mutex<T>) {
    std::hint::black_box(mutex.is_poisoned());
}

/// A lock for a few moves between two threads that seldom meet there: it is given back by a plain store, which is half of
/// what a lock costs that nobody waits for. Who finds it taken lets other threads run until it is free: not for threads that
/// are scheduled in real time, which others of the same core would wait for.
#[cfg(not(all(test, rmi_loom)))]
pub(crate) type BriefMutex<T> = spin::mutex::SpinMutex<T, spin::relax::Yield>;

/// Locks for a few moves.
#[cfg(not(all(test, rmi_loom)))]
pub(crate) fn lock_brief<T>(mutex: &BriefMutex<T>) -> spin::mutex::SpinMutexGuard<'_, T, spin::relax::Yield> {
    mutex.lock()
}

#[cfg(all(test, rmi_loom))]
pub(crate) use self::lock as lock_brief;

/// Tells those who wait for a change that there may be one. Costs next to nothing while nobody waits.
///
/// Who waits [listens](Self::listen), then looks, then waits; who changes something rings after it.
#[derive(Debug)]
pub(crate) struct Bell {
    notify: Notify,
    n_listeners: AtomicUsize,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { notify: Notify::new(), n_listeners: AtomicUsize::new(0) }
    }

    /// From now on every change is heard.
    pub(crate) fn listen(&self) -> Listener<'_> {
        let notified = self.notify.notified();
        self.n_listeners.fetch_add(1, Ordering::AcqRel);
        Listener { notified, place: Place(self) }
    }

    /// Something has changed.
    pub(crate) fn ring(&self) {
        // Read and written in one step: either this sees who listens, or they see what was changed before.
        if self.n_listeners.fetch_add(0, Ordering::AcqRel) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// The same where what has changed was changed under a lock, and who listens looks under it as well: cheaper.
    pub(crate) fn ring_locked(&self) {
        if self.is_heard() {
            self.notify.notify_waiters();
        }
    }

    /// Whether somebody listens, as far as the lock tells under which they look: who has looked before has listened before
    /// that.
    pub(crate) fn is_heard(&self) -> bool {
        self.n_listeners.load(Ordering::Relaxed) > 0
    }
}

/// Somebody who waits for a [`Bell`].
pub(crate) struct Listener<'a> {
    notified: Notified<'a>,
    place: Place<'a>,
}

impl Listener<'_> {
    /// Waits until the bell rings, or has rung since it was listened to.
    pub(crate) async fn rung(self) {
        let Self { notified, place } = self;
        notified.await;
        drop(place);
    }
}

/// That somebody listens.
struct Place<'a>(&'a Bell);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.n_listeners.fetch_sub(1, Ordering::AcqRel);
    }
}
