//! Where the outcome of a call is handed to its caller.
//!
//! Each call that is under way has a [`Completion`], which its ticket and the table of pending calls share; the table's
//! part is the [`Waiter`]. Whoever takes the call out of the table completes it, once, when the connection's lock is given
//! back. So the callers of a connection meet at its lock when they send, and neither when they wait nor when they take what
//! has come.
//!
//! Who starts a call is known to the table. Only who polls the call later leaves a waker at the completion, and is the one
//! to be woken then.
//!
//! One whose outcome was taken is used again: each thread keeps some, so a call allocates nothing. One that was abandoned
//! is not, for its outcome may be on its way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rmi_core::kept::{self, Kept};
use rmi_core::transport::{Handover, Outcome};

use crate::sync::{BriefMutex, lock_brief};

/// How many a thread keeps. Under loom nothing may outlive a run.
const MOST_KEPT: usize = if cfg!(all(test, rmi_loom)) { 0 } else { 256 };

thread_local! {
    static KEPT: Kept<Arc<Completion>> = const { Kept::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct Completion(BriefMutex<State>);

#[derive(Debug)]
enum State {
    /// For the call's end; with the waker of who has polled it last.
    Waiting(Option<Waker>),
    Ended(Outcome),
}

/// Who waits for the end of a call.
#[derive(Debug)]
pub(super) struct Waiter {
    completion: Arc<Completion>,
    /// The waker of who has started the call and is waiting for it already.
    waker: Option<Waker>,
}

impl Waiter {
    /// Of the call that has this completion.
    pub(super) fn new(completion: Arc<Completion>, waker: Option<Waker>) -> Self {
        Self { completion, waker }
    }

    /// The call has ended. Wakes who waits. A waker that panics harms nobody but its own task: others may be told next.
    pub(super) fn complete(self, outcome: Outcome) {
        let before = std::mem::replace(&mut *lock_brief(&self.completion.0), State::Ended(outcome));
        let polled_last = match before {
            State::Waiting(polled_last) => polled_last,
            State::Ended(_) => None,
        };
        // Also the one that is only dropped is others' code.
        let wake = move || polled_last.or(self.waker).map_or((), Waker::wake);
        if catch_unwind(AssertUnwindSafe(wake)).is_err() {
            tracing::error!("the waker of a caller panicked");
        }
    }
}

impl Completion {
    /// One for a new call.
    pub(super) fn new() -> Arc<Self> {
        kept::take(&KEPT).unwrap_or_else(|| Arc::new(Self(BriefMutex::new(State::Waiting(None)))))
    }
}

impl Handover for Completion {
    fn poll_outcome(&self, context: &mut Context<'_>) -> Poll<Outcome> {
        // Wakers are others' code: cloned without the lock, and dropped when it is given back, like all that is declared first.
        let mut waker;
        let mut state = lock_brief(&self.0);
        if let State::Waiting(kept) = &mut *state {
            if kept.as_ref().is_some_and(|kept| kept.will_wake(context.waker())) {
                return Poll::Pending;
            }
            drop(state);
            waker = Some(context.waker().clone());
            state = lock_brief(&self.0);
            if let State::Waiting(kept) = &mut *state {
                std::mem::swap(kept, &mut waker);
                return Poll::Pending;
            }
        }
        match std::mem::replace(&mut *state, State::Waiting(None)) {
            State::Ended(outcome) => Poll::Ready(outcome),
            State::Waiting(_) => Poll::Pending,
        }
    }

    fn release(self: Arc<Self>) {
        kept::keep(&KEPT, MOST_KEPT, |_| self);
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
        for polls_again in [false, true] {
            let completion = Completion::new();
            let waiter = Waiter::new(completion.clone(), Some(first.clone().into()));
            if polls_again {
                assert!(poll(&completion, &last.clone().into()).is_pending());
            }
            waiter.complete(outcome());
            assert_eq!((first.get(), last.get()), (1, usize::from(polls_again)));
            assert!(poll(&completion, Waker::noop()).is_ready());
            assert!(poll(&completion, Waker::noop()).is_pending());
        }
    }

    #[test]
    fn one_that_is_used_again_knows_nothing_of_the_call_before() {
        let used = Completion::new();
        let waker = Arc::new(WakeCount::default());
        Waiter::new(used.clone(), Some(waker.clone().into())).complete(outcome());
        assert!(poll(&used, Waker::noop()).is_ready());
        let place = Arc::as_ptr(&used);
        used.release();
        let again = Completion::new();
        assert_eq!(Arc::as_ptr(&again), place);
        assert!(poll(&again, Waker::noop()).is_pending());
        Waiter::new(again.clone(), None).complete(outcome());
        assert_eq!(waker.get(), 1);
    }

    #[test]
    fn a_waker_that_panics_takes_no_outcome_with_it() {
        let completion = Completion::new();
        Waiter::new(completion.clone(), Some(Arc::new(Panics).into())).complete(outcome());
        assert!(poll(&completion, Waker::noop()).is_ready());
    }
}
