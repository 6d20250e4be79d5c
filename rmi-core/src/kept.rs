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

/// Keeps what `make` gives, which is told how many are kept, if those are fewer than `most`.
#[inline]
pub fn keep<T>(kept: &'static LocalKey<Kept<T>>, most: usize, make: impl FnOnce(usize) -> T) {
    let _ = kept.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let n_kept = kept.len();
        if n_kept < most {
            kept.push(make(n_kept));
        }
    });
}
