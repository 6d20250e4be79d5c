//! The connection of a peer's last call, for the next one.
//!
//! Calls of all threads look it up. So that they do not meet at its lock, each thread keeps the one that it has used twice in
//! a row, as long as it is still the right one: each change has a version of its own, which no other has in the process.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::connection::Connection;
use crate::sync::{Mutex, lock};

/// The version of what nobody has asked for twice in a row.
const NONE: u64 = 0;
static NEXT: AtomicU64 = AtomicU64::new(NONE + 1);

thread_local! {
    static KEPT: RefCell<(u64, Weak<Connection>)> = const { RefCell::new((NONE, Weak::new())) };
    /// Whose was asked for last, by its address: only a hint.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cached {
    link: Mutex<Weak<Connection>>,
    /// Changed under the lock.
    version: AtomicU64,
}

impl Cached {
    pub(crate) fn new(link: Weak<Connection>) -> Self {
        Self { link: Mutex::new(link), version: AtomicU64::new(NONE) }
    }

    /// The connection, if it is still there.
    pub(crate) fn get(&self) -> Option<Arc<Connection>> {
        let version = self.version.load(Ordering::Acquire);
        if version != NONE {
            let kept = KEPT.try_with(|kept| {
                let kept = kept.borrow();
                (kept.0 == version).then(|| kept.1.upgrade())
            });
            // A thread that is ending keeps none.
            if let Ok(Some(link)) = kept {
                return link;
            }
        }
        self.look_up()
    }

    pub(crate) fn set(&self, link: Weak<Connection>) {
        let mut kept = lock(&self.link);
        self.version.store(NONE, Ordering::Release);
        *kept = link;
    }

    fn look_up(&self) -> Option<Arc<Connection>> {
        let link = lock(&self.link);
        let address = std::ptr::from_ref(self).addr();
        if LAST.replace(address) == address {
            if self.version.load(Ordering::Relaxed) == NONE {
                self.version.store(NEXT.fetch_add(1, Ordering::Relaxed), Ordering::Release);
            }
            let kept = (self.version.load(Ordering::Relaxed), Weak::clone(&link));
            let _before = KEPT.try_with(|place| place.replace(kept));
        }
        link.upgrade()
    }
}
