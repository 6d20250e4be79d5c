//! What the calls that a method makes inherit from it.
//!
//! A [`Scope`] holds what flows down a tree of calls by itself: the deadline, the cancellation, the trace context. It
//! is set on the thread while a method is polled or run, so calls made inside find it without being told.
//! [`inherit`] carries it into a task that the method spawns.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Whether a call was cancelled: its caller is gone or its deadline has passed. Clones share one state.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<CancellationState>);

#[derive(Default)]
struct CancellationState {
    is_cancelled: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Cancellation {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, once and for all, and wakes whoever waits for it.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut *self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    /// Ready when it is cancelled.
    pub fn poll_cancelled(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: `cancel` sets the flag before it takes the wakers.
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Forgets a waker that does not wait any more.
    pub(crate) fn forget(&self, waker: &Waker) {
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|kept| !kept.will_wake(waker));
    }

    /// Waits until it is cancelled.
    pub async fn cancelled(&self) {
        std::future::poll_fn(|context| self.poll_cancelled(context)).await;
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

/// What nested calls inherit from the method that makes them.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    deadline: Option<Instant>,
    rare: Option<Arc<Rare>>,
}

/// What most calls have nothing of, behind a pointer: each call moves and enters its scope.
#[derive(Debug, Clone, Default)]
struct Rare {
    cancellation: Option<Cancellation>,
    trace_parent: Option<Arc<str>>,
    may_block: bool,
    slot: Option<Arc<dyn Slot>>,
}

/// A place in a pool of threads, which a method gives back while it waits for a nested call.
pub trait Slot: fmt::Debug + Send + Sync {
    /// Lets somebody else run. `false` if so many threads wait already that no further one may: nothing is given back.
    fn give_back(&self) -> bool;
    /// Blocks until there is room again.
    fn take_again(&self);
}

/// As many threads of the pools wait for calls as may.
#[derive(Debug)]
pub(crate) struct TooManyWait;

/// A slot that was given back; taken again on drop.
pub(crate) struct LentSlot<'a>(&'a dyn Slot);

impl Drop for LentSlot<'_> {
    fn drop(&mut self) {
        self.0.take_again();
    }
}

impl Scope {
    /// The scope of a call that has to be answered by `deadline`, on the clock of its node.
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// Adds the cancellation of a method that cannot be dropped.
    #[must_use]
    pub fn with_cancellation(self, cancellation: Cancellation) -> Self {
        self.with(|rare| rare.cancellation = Some(cancellation))
    }

    /// Adds the W3C trace context of the call.
    #[must_use]
    pub fn with_trace_parent(self, trace_parent: Option<Arc<str>>) -> Self {
        match trace_parent {
            None if self.trace_parent().is_none() => self,
            trace_parent => self.with(|rare| rare.trace_parent = trace_parent),
        }
    }

    /// The method runs on a thread of its own, where `wait()` does no harm. It holds `slot` of a pool.
    #[must_use]
    pub fn blocking(self, slot: Option<Arc<dyn Slot>>) -> Self {
        self.with(|rare| (rare.may_block, rare.slot) = (true, slot))
    }

    fn with(mut self, change: impl FnOnce(&mut Rare)) -> Self {
        change(Arc::make_mut(self.rare.get_or_insert_default()));
        self
    }

    /// Gives the pool's slot back while the thread waits, if there is one.
    ///
    /// # Errors
    /// If the thread must not wait.
    pub(crate) fn lend_slot(&self) -> Result<Option<LentSlot<'_>>, TooManyWait> {
        match self.rare.as_ref().and_then(|rare| rare.slot.as_deref()) {
            Some(slot) if slot.give_back() => Ok(Some(LentSlot(slot))),
            Some(_) => Err(TooManyWait),
            None => Ok(None),
        }
    }

    /// By when the method has to be done.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The cancellation of the method, if it has one of its own.
    pub fn cancellation(&self) -> Option<&Cancellation> {
        self.rare.as_ref()?.cancellation.as_ref()
    }

    /// The W3C trace context of the call.
    pub fn trace_parent(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.trace_parent.as_ref()
    }

    /// Whether `wait()` is allowed here.
    pub fn may_block(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.may_block)
    }

    /// What calls and tasks inherit: the deadline and the trace context. The place in a pool and the leave to block
    /// belong to the method's own thread.
    #[must_use]
    pub fn handed_on(self) -> Self {
        Self::new(self.deadline).with_trace_parent(self.trace_parent().cloned())
    }

    /// Whether a method runs on this thread.
    #[inline]
    pub(crate) fn is_entered() -> bool {
        CURRENT.get().is_some()
    }

    /// The scope of the method that runs on this thread, if one does.
    pub fn current() -> Option<Scope> {
        let Current { deadline, has_rare } = CURRENT.get()?;
        Some(Scope { deadline, rare: if has_rare { RARE.with_borrow(Clone::clone) } else { None } })
    }

    /// Runs `f` in this scope.
    #[inline]
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let has_rare = self.rare.is_some();
        let _restore = Entered {
            // First: it panics where the thread is ending.
            outer_rare: if has_rare { Some(self.enter_rare()) } else { None },
            outer: CURRENT.replace(Some(Current { deadline: self.deadline, has_rare })),
        };
        f()
    }

    /// Apart, so that entering and leaving a scope without it is a few moves.
    #[inline(never)]
    fn enter_rare(&self) -> Option<Arc<Rare>> {
        RARE.replace(self.rare.clone())
    }
}

/// The scope of the method that runs on a thread, without what is rare.
#[derive(Clone, Copy)]
struct Current {
    deadline: Option<Instant>,
    has_rare: bool,
}

// All that most calls touch is a cell that needs no drop, and so costs next to nothing.
thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
    /// What is rare of the innermost scope that has such; it is the current one's if that says so.
    static RARE: RefCell<Option<Arc<Rare>>> = const { RefCell::new(None) };
}

/// Puts the outer scope back, also when user code panics.
struct Entered {
    outer: Option<Current>,
    /// What was replaced, if something was.
    outer_rare: Option<Option<Arc<Rare>>>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        if let Some(rare) = self.outer_rare.take() {
            put_back_rare(rare);
        }
    }
}

#[inline(never)]
fn put_back_rare(rare: Option<Arc<Rare>>) {
    RARE.replace(rare);
}

/// A future that runs in the scope of a call. See [`inherit`].
#[derive(Debug)]
#[must_use = "futures do nothing until they are awaited"]
pub struct Inherit<F> {
    scope: Option<Scope>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Inherit<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        match &this.scope {
            Some(scope) => scope.enter(|| this.future.as_mut().poll(context)),
            None => this.future.as_mut().poll(context),
        }
    }
}

/// Carries the deadline and the trace context of the running method into `future`, which may then be spawned.
///
/// Without it a spawned task is on its own: its calls have no deadline unless they set one. Outside of a method it
/// changes nothing. The spawned task is not cancelled with the method.
pub fn inherit<F: Future>(future: F) -> Inherit<F> {
    Inherit { scope: Scope::current().map(Scope::handed_on), future: Box::pin(future) }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::time::Duration;

    use super::*;

    /// What tells scopes apart here.
    fn current() -> Option<(Option<Instant>, Option<String>, bool)> {
        Scope::current()
            .map(|scope| (scope.deadline(), scope.trace_parent().map(|text| text.to_string()), scope.may_block()))
    }

    #[test]
    fn scopes_with_and_without_what_is_rare_nest_in_any_order() {
        let deadline = Some(Instant::now() + Duration::from_secs(1));
        let plain = Scope::new(deadline);
        let traced = Scope::new(None).with_trace_parent(Some("a".into()));
        let blocking = traced.clone().with_trace_parent(Some("b".into())).blocking(None);
        let seen = |scope: &Scope| {
            Some((scope.deadline(), scope.trace_parent().map(|text| text.to_string()), scope.may_block()))
        };
        let scopes = [&plain, &traced, &blocking];
        for (outer, middle, inner) in (0..27).map(|n| (scopes[n / 9], scopes[n / 3 % 3], scopes[n % 3])) {
            assert_eq!(current(), None);
            outer.enter(|| {
                middle.enter(|| {
                    assert_eq!(current(), seen(middle));
                    inner.enter(|| assert_eq!(current(), seen(inner)));
                    assert_eq!(current(), seen(middle));
                });
                assert_eq!(current(), seen(outer));
                let panicked = catch_unwind(AssertUnwindSafe(|| inner.enter(|| resume_unwind(Box::new(())))));
                assert!(panicked.is_err());
                assert_eq!(current(), seen(outer));
            });
        }
        assert_eq!(current(), None);
    }

    #[test]
    fn deadline_and_trace_are_handed_on_and_nothing_else() {
        let deadline = Some(Instant::now());
        let scope = Scope::new(deadline).with_trace_parent(Some("a".into())).blocking(None);
        let handed_on = scope.with_cancellation(Cancellation::new()).handed_on();
        assert_eq!((handed_on.deadline(), handed_on.trace_parent().map(|text| &**text)), (deadline, Some("a")));
        assert!(handed_on.cancellation().is_none() && !handed_on.may_block());
        assert!(Scope::new(deadline).with_trace_parent(None).handed_on().rare.is_none());
    }
}
