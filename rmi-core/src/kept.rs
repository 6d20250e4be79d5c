//! What a thread keeps of things that are done with, for the next ones: buffers, drafts, completions.
//!
//! A thread that is ending neither has nor keeps any.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Those that a thread keeps.
pub type Kept<T> = RefCell<Vec<T>>;

/// The one that was kept last, if there is one.
#[inline]
pub fn take<T>(kept: &'static LocalKey<Kept<T>>) -> Option<T> {
    kept.try_with(|kept| kept.borrow_mut().pop()).ok().flatten()
}

/// Keeps one more, if fewer than `most` are kept.
#[inline]
pub fn keep<T>(kept: &'static LocalKey<Kept<T>>, most: usize, value: T) {
    // What is not kept is dropped by this closure, after its borrow.
    let _ = kept.try_with(move |kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < most {
            kept.push(value);
        }
    });
}
