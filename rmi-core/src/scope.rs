//! What the calls that a method makes inherit from it.
//!
//! A [`Scope`] holds what flows down a tree of calls by itself: the deadline, the cancellation, the trace context. It
//! is set on the thread while a method is polled or run, so calls made inside find it without being told.
//! [`inherit`] carries it into a task that the method spawns.

use std::cell::RefCell;
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
        Self { cancellation: Some(cancellation), ..self }
    }

    /// Adds the W3C trace context of the call.
    #[must_use]
    pub fn with_trace_parent(self, trace_parent: Option<Arc<str>>) -> Self {
        Self { trace_parent, ..self }
    }

    /// The method runs on a thread of its own, where `wait()` does no harm. It holds `slot` of a pool.
    #[must_use]
    pub fn blocking(self, slot: Option<Arc<dyn Slot>>) -> Self {
        Self { may_block: true, slot, ..self }
    }

    /// Gives the pool's slot back while the thread waits, if there is one.
    ///
    /// # Errors
    /// If the thread must not wait.
    pub(crate) fn lend_slot(&self) -> Result<Option<LentSlot<'_>>, TooManyWait> {
        match self.slot.as_deref() {
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
        self.cancellation.as_ref()
    }

    /// The W3C trace context of the call.
    pub fn trace_parent(&self) -> Option<&Arc<str>> {
        self.trace_parent.as_ref()
    }

    /// Whether `wait()` is allowed here.
    pub fn may_block(&self) -> bool {
        self.may_block
    }

    /// What calls and tasks inherit: the deadline and the trace context. The place in a pool and the leave to block
    /// belong to the method's own thread.
    #[must_use]
    pub fn handed_on(self) -> Self {
        Self { deadline: self.deadline, trace_parent: self.trace_parent, ..Self::default() }
    }

    /// The scope of the method that runs on this thread, if one does.
    pub fn current() -> Option<Scope> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `f` in this scope.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _restore = Entered(CURRENT.replace(Some(self.clone())));
        f()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Puts the outer scope back, also when user code panics.
struct Entered(Option<Scope>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
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
