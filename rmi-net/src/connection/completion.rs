//! Where the outcome of a call is handed to its caller.
//!
//! Each call that is under way has a [`Completion`], which its ticket and the table of pending calls share. Whoever takes
//! the call out of the table completes it, once, when the connection's lock is given back. So the callers of a
//! connection meet at its lock when they send, and neither when they wait nor when they take what has come.
//!
//! One whose outcome was taken is used again: each thread keeps some, so a call allocates nothing. One that was abandoned
//! is not, for its outcome may be on its way.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rmi_core::transport::{Handover, Outcome};

use crate::sync::{Mutex, lock};

/// How many a thread keeps. Under loom nothing may outlive a run.
const MOST_KEPT: usize = if cfg!(all(test, rmi_loom)) { 0 } else { 256 };

thread_local! {
    static KEPT: RefCell<Vec<Arc<Completion>>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct Completion(Mutex<State>);

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Ended(Outcome),
    /// The outcome was taken.
    Done,
}

impl Completion {
    /// One for a new call, and whom to wake when it has ended.
    pub(super) fn new(waker: Option<Waker>) -> Arc<Self> {
        // A thread that is ending keeps none.
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        let Some(kept) = kept else { return Arc::new(Self(Mutex::new(State::Waiting(waker)))) };
        *lock(&kept.0) = State::Waiting(waker);
        kept
    }

    /// The call has ended. Wakes its caller. A waker that panics harms nobody but its own task: others may be told next.
    pub(super) fn complete(&self, outcome: Outcome) {
        let before = std::mem::replace(&mut *lock(&self.0), State::Ended(outcome));
        if let State::Waiting(Some(waker)) = before
            && catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err()
        {
            tracing::error!("the waker of a caller panicked");
        }
    }
}

impl Handover for Completion {
    fn poll_outcome(&self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = lock(&self.0);
        if let State::Waiting(kept) = &mut *state {
            if kept.as_ref().is_some_and(|kept| kept.will_wake(context.waker())) {
                return Poll::Pending;
            }
            drop(state);
            // Wakers are others' code: cloned and dropped without the lock.
            let waker = context.waker().clone();
            state = lock(&self.0);
            if let State::Waiting(kept) = &mut *state {
                let before = kept.replace(waker);
                drop(state);
                drop(before);
                return Poll::Pending;
            }
        }
        match std::mem::replace(&mut *state, State::Done) {
            State::Ended(outcome) => Poll::Ready(outcome),
            State::Waiting(_) | State::Done => Poll::Pending,
        }
    }

    fn release(self: Arc<Self>) {
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MOST_KEPT {
                kept.push(self);
            }
        });
    }
}

#[cfg(all(test, not(rmi_loom)))]
mod tests {
    use std::task::Wake;

    use rmi_core::exception::CallError;
    use rmi_core::kind::Kind;

    use super::super::wake_count::WakeCount;
    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as told");
        }
    }

    fn outcome() -> Outcome {
        Err(CallError::new(Kind::Timeout, "late"))
    }

    fn poll(completion: &Completion, waker: &Waker) -> Poll<Outcome> {
        completion.poll_outcome(&mut Context::from_waker(waker))
    }

    #[test]
    fn an_outcome_is_given_out_once_and_wakes_who_polled_last() {
        let (first, last) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
        let completion = Completion::new(Some(first.clone().into()));
        assert!(poll(&completion, &last.clone().into()).is_pending());
        completion.complete(outcome());
        assert_eq!((first.get(), last.get()), (0, 1));
        assert!(poll(&completion, Waker::noop()).is_ready());
        assert!(poll(&completion, Waker::noop()).is_pending());
    }

    #[test]
    fn one_that_is_used_again_knows_nothing_of_the_call_before() {
        let used = Completion::new(None);
        used.complete(outcome());
        assert!(poll(&used, Waker::noop()).is_ready());
        let place = Arc::as_ptr(&used);
        used.release();
        let again = Completion::new(None);
        assert_eq!(Arc::as_ptr(&again), place);
        assert!(poll(&again, Waker::noop()).is_pending());
    }

    #[test]
    fn a_waker_that_panics_takes_no_outcome_with_it() {
        let completion = Completion::new(Some(Arc::new(Panics).into()));
        completion.complete(outcome());
        assert!(poll(&completion, Waker::noop()).is_ready());
    }
}
