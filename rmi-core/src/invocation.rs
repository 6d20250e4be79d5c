//! One call by the caller, from the arguments to the answer.
//!
//! An [`Invocation`] is built with its arguments already encoded, takes options, and is awaited. Nothing is sent before
//! it is first polled; [`Invocation::send`] starts it at once. Dropping it before the answer cancels the method at its
//! next await, and what that method has called in turn.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::Thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::exception::{CallError, Exception, InvocationException, RemoteError};
use crate::kind::{Class, Kind};
use crate::message::{Request, Response, Target};
use crate::reply::RemoteCause;
use crate::scope::{Scope, TooManyWait};
use crate::transport::{Outcome, Started, Transport};

/// A call that is ready to go: await it, or give it a timeout first.
///
/// It is owned and `Send` whatever `T` and `E` are, so it can be spawned:
/// `tokio::spawn(stub.add(1, 2).into_future())`. Where the compiler finds an `Invocation` instead of a value, an `.await`
/// is missing.
///
/// # Cancel safety
/// Dropping the future cancels the call. At most once: the method has run to some await, or not at all.
#[must_use = "an invocation does nothing until it is awaited"]
pub struct Invocation<T, E = RemoteError> {
    transport: Arc<dyn Transport>,
    request: Request,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> Invocation<T, E> {
    pub(crate) fn new(transport: Arc<dyn Transport>, request: Request) -> Self {
        Self { transport, request, types: PhantomData }
    }

    /// Gives up after this time, counted from when the call is first polled or sent.
    ///
    /// The method is cancelled, and so are the calls that it makes. Zero gives up at once; more than 24 hours count as
    /// 24 hours. Of several timeouts and deadlines the earliest counts.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(self.request.timeout.map_or(timeout, |earlier| earlier.min(timeout)));
        self
    }

    /// Gives up at this time. See [`with_timeout`](Self::with_timeout).
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.request.deadline = Some(self.request.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Lets the method run to its end even if this future is dropped or times out.
    pub fn no_cancel(mut self) -> Self {
        self.request.no_cancel = true;
        self
    }

    /// Sends this W3C trace context (a `traceparent`) along. Without it the calling method's own is handed on.
    pub fn with_trace_parent(mut self, trace_parent: impl Into<Arc<str>>) -> Self {
        self.request.trace_parent = Some(trace_parent.into());
        self
    }

    /// The timeout that the method's attribute sets, unless the caller sets one.
    #[doc(hidden)]
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout.get_or_insert(timeout);
        self
    }

    /// Wants no answer: the call ends when its last byte is written.
    #[doc(hidden)]
    pub fn one_way(mut self) -> Self {
        self.request.one_way = true;
        self
    }

    /// Sets the type of the result of a call by name.
    pub fn returning<U>(self) -> Invocation<U, E> {
        Invocation::new(self.transport, self.request)
    }

    /// Sets the type of the error of a call by name: if the method raises one of this type, it comes back as such.
    pub fn raising<F: RemoteCause>(self) -> Invocation<T, F> {
        Invocation::new(self.transport, self.request)
    }

    /// Sends the request now, and gives back the future of the answer.
    ///
    /// So several calls can be under way before the first is awaited. Dropping the future cancels the call. A call that
    /// cannot leave at once, for there is no connection or no room on it, leaves when the future is awaited.
    pub fn send(self) -> InvocationFuture<T, E> {
        let mut future = self.into_unsent();
        future.call.start(None);
        future
    }

    /// Blocks this thread until the answer is here: for programs, and methods, that are not async.
    ///
    /// # Errors
    /// Those of the call, and [`Kind::WouldBlock`] on a thread of an async runtime, where it would stop other tasks:
    /// await the invocation there instead. A thread of `tokio::task::spawn_blocking` belongs to the runtime too, and
    /// cannot be told from the others: there `Handle::current().block_on(invocation.into_future())` does the same.
    pub fn wait(self) -> Result<T, InvocationException<E>>
    where
        T: DeserializeOwned,
        E: RemoteCause,
    {
        self.into_unsent().wait()
    }

    fn into_unsent(mut self) -> InvocationFuture<T, E> {
        if Scope::is_entered() {
            self.request.scope = Scope::current().map(Scope::handed_on);
        }
        let call = Underway { transport: self.transport, state: State::Unsent, called: Called::InDraft(self.request) };
        InvocationFuture { call, types: PhantomData }
    }
}

impl<T: DeserializeOwned, E: RemoteCause> IntoFuture for Invocation<T, E> {
    type Output = Result<T, InvocationException<E>>;
    type IntoFuture = InvocationFuture<T, E>;

    fn into_future(self) -> InvocationFuture<T, E> {
        self.into_unsent()
    }
}

impl<T, E> fmt::Debug for Invocation<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("peer", &self.transport.peer_name())
            .field("method", &format_args!("{}", self.request.target))
            .finish_non_exhaustive()
    }
}

/// The answer of an [`Invocation`] that was sent or is being awaited. Dropping it cancels the call.
#[must_use = "dropping the answer of a call cancels the call: await it"]
pub struct InvocationFuture<T, E = RemoteError> {
    call: Underway,
    types: PhantomData<fn() -> (T, E)>,
}

/// A call under way, whatever it returns or raises: compiled once, not for each type.
struct Underway {
    transport: Arc<dyn Transport>,
    state: State,
    called: Called,
}

/// What is called.
enum Called {
    /// Until the start has ended: with all that it is called with.
    InDraft(Request),
    /// From then on, for those who ask what has failed.
    ByName(Target),
}

enum State {
    Unsent,
    Started(Started),
    Done,
}

impl Underway {
    #[inline]
    fn start(&mut self, waker: Option<&Waker>) {
        let (State::Unsent, Called::InDraft(request)) = (&self.state, &mut self.called) else { return };
        // Never twice, also if it panics: its request may have been taken out.
        self.state = State::Done;
        let started = match request.args.error() {
            Some(error) => Started::refused(CallError::new(Kind::RequestEncode, error.to_string())),
            None => self.transport.start(request, waker),
        };
        self.state = State::Started(started);
        if let Called::InDraft(request) = std::mem::replace(&mut self.called, Called::ByName(Target::default())) {
            self.called = Called::ByName(request.keep());
        }
    }

    /// The name of what is called.
    fn method(&self) -> String {
        match &self.called {
            Called::InDraft(request) => request.target.to_string(),
            Called::ByName(target) => target.to_string(),
        }
    }

    /// In the future of each type, for it is short: what most polls find is an answer. A ticket that has given it stays
    /// where it is, and holds its connection until the future is dropped.
    #[inline]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.state {
            State::Started(Started::Sent(ticket)) => Pin::new(ticket).poll(context),
            _ => self.poll_unsent(context),
        }
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        self.start(Some(context.waker()));
        loop {
            match &mut self.state {
                State::Started(Started::Sent(ticket)) => {
                    if ticket.take_watched() {
                        return Poll::Pending;
                    }
                    return Pin::new(ticket).poll(context);
                }
                State::Started(Started::Later(future)) => {
                    let started = ready!(future.as_mut().poll(context));
                    self.state = State::Started(started);
                }
                State::Started(Started::Ended(_)) => {
                    let ended = std::mem::replace(&mut self.state, State::Done);
                    let State::Started(Started::Ended(outcome)) = ended else { continue };
                    return Poll::Ready(outcome);
                }
                // Polled again after it was ready, which nobody may do.
                State::Done | State::Unsent => return Poll::Pending,
            }
        }
    }

    /// Whether this thread may be blocked until the call has ended; if not, why.
    fn check_wait(&self, scope: Option<&Scope>) -> Result<(), CallError> {
        if scope.is_some_and(Scope::may_block) || self.transport.may_block() {
            return Ok(());
        }
        let message = "this thread belongs to an async runtime: write `.await` instead of `.wait()`, or, where \
                       the thread may block, `Handle::current().block_on(invocation.into_future())` (an `async` method \
                       that does so needs `#[rmi(spawn)]`)";
        Err(self.not_waited_for(Kind::WouldBlock, message))
    }

    /// The thread cannot wait for the call.
    #[cold]
    fn not_waited_for(&self, kind: Kind, message: &str) -> CallError {
        let class = if matches!(self.state, State::Unsent) { Class::NotExecuted } else { Class::MaybeExecuted };
        CallError::new(kind, message).with_class(class)
    }

    /// Blocks this thread until the call has ended, or the method that waits for it is cancelled.
    fn block_on(&mut self, scope: Option<&Scope>) -> Outcome {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let cancellation = scope.and_then(Scope::cancellation);
        // Before the call is sent: there may be no thread left on which what it needs of this node could run.
        let _slot = match scope.map(Scope::lend_slot).transpose() {
            Ok(slot) => slot.flatten(),
            Err(TooManyWait) => {
                let message = "as many plain methods of this node wait for calls as may: call less at once, or raise \
                               `Limits::with_waiting_threads` on this node";
                return Err(self.not_waited_for(Kind::Overloaded, message));
            }
        };
        loop {
            if let Poll::Ready(outcome) = self.poll(&mut context) {
                if let Some(cancellation) = cancellation {
                    cancellation.forget(&waker);
                }
                return outcome;
            }
            if cancellation.is_some_and(|cancellation| cancellation.poll_cancelled(&mut context).is_ready()) {
                let message = "the method that waits for it was cancelled";
                return Err(CallError::new(Kind::Cancelled, message));
            }
            std::thread::park();
        }
    }
}

impl<T, E> InvocationFuture<T, E> {
    /// Blocks this thread until the answer is here. See [`Invocation::wait`].
    ///
    /// # Errors
    /// As there. A call that was sent, and is then waited for where that is an error, is cancelled.
    pub fn wait(mut self) -> Result<T, InvocationException<E>>
    where
        T: DeserializeOwned,
        E: RemoteCause,
    {
        let scope = Scope::current();
        let outcome = match self.call.check_wait(scope.as_ref()) {
            Ok(()) => self.call.block_on(scope.as_ref()),
            Err(error) => Err(error),
        };
        self.finish(outcome)
    }
}

impl<T: DeserializeOwned, E: RemoteCause> InvocationFuture<T, E> {
    #[inline]
    fn finish(&self, outcome: Outcome) -> Result<T, InvocationException<E>> {
        match outcome {
            Ok(Response::Value(payload)) => payload.decode().map_err(|error| {
                let exception = Exception::new(Kind::ResponseDecode, error.to_string());
                self.failed(Ok(Box::new(exception)))
            }),
            Ok(Response::Exception(exception)) => Err(self.failed(Ok(exception))),
            Err(error) => Err(self.failed(Err(error))),
        }
    }

    /// What the caller gets who gets no value.
    #[cold]
    fn failed(&self, reason: Result<Box<Exception>, CallError>) -> InvocationException<E> {
        let (peer, method) = (self.call.transport.peer_name(), self.call.method());
        match reason {
            Ok(exception) => InvocationException::from_exception(*exception, &peer, &method, E::receive),
            Err(error) => InvocationException::from_call_error(error, &peer, &method),
        }
    }
}

impl<T: DeserializeOwned, E: RemoteCause> Future for InvocationFuture<T, E> {
    type Output = Result<T, InvocationException<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.call.poll(context) {
            Poll::Ready(outcome) => Poll::Ready(this.finish(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T, E> fmt::Debug for InvocationFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvocationFuture")
            .field("peer", &self.call.transport.peer_name())
            .field("method", &format_args!("{}", self.call.method()))
            .finish_non_exhaustive()
    }
}

/// Wakes a thread that is parked in [`Underway::block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;
    use crate::draft;
    use crate::payload::Payload;
    use crate::transport::{Handover, Link, Ticket};
    use crate::{Args, Blob, args};

    /// Answers every call in this way, at once.
    #[derive(Debug)]
    struct Answers(fn() -> Outcome);

    impl Transport for Answers {
        fn start(&self, request: &mut Request, _: Option<&Waker>) -> Started {
            assert_eq!(request.target.to_string(), "Service.method");
            Started::Ended(self.0())
        }

        fn peer_name(&self) -> Arc<str> {
            "peer".into()
        }

        fn may_block(&self) -> bool {
            true
        }
    }

    fn call(answer: fn() -> Outcome, args: Args) -> Invocation<u8> {
        Invocation::new(Arc::new(Answers(answer)), Request::new(Target::new("Service".into(), "method"), args))
    }

    #[test]
    fn what_is_moved_for_each_call_is_small() {
        assert_eq!(size_of::<Invocation<String>>(), 24);
        assert!(size_of::<InvocationFuture<String>>() <= 128);
    }

    #[test]
    fn the_draft_of_a_call_that_was_sent_is_for_the_next_one() {
        let seven = || Ok(Response::Value(Payload::copied(&[7])));
        let futures = [(); 3].map(|()| {
            let future = call(seven, args![1]).send();
            assert_eq!(draft::n_kept(), 1);
            future
        });
        for future in futures {
            assert!(format!("{future:?}").contains("Service.method"));
            assert_eq!(future.wait().unwrap(), 7);
        }
        drop(call(seven, args![1]));
        assert_eq!(draft::n_kept(), 0);
    }

    #[test]
    fn a_call_whose_start_panics_is_not_started_again() {
        let mut future = call(|| panic!("as told"), args![1]).into_future();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(&mut context)));
        assert!(poll().is_err());
        assert!(poll().is_ok_and(|polled| polled.is_pending()));
    }

    #[test]
    fn a_ticket_whose_outcome_was_taken_is_neither_asked_again_nor_abandoned() {
        /// Has one outcome, and no patience.
        #[derive(Debug, Default)]
        struct Once(std::sync::atomic::AtomicBool);

        impl Handover for Once {
            fn poll_outcome(&self, _: &mut Context<'_>) -> Poll<Outcome> {
                assert!(!self.0.swap(true, std::sync::atomic::Ordering::Relaxed));
                Poll::Ready(Ok(Response::Value(Payload::copied(&[7]))))
            }

            fn release(self: Arc<Self>) {}
        }

        impl Link for Once {
            fn abandon(&self, _: u64) {
                panic!("it has ended");
            }
        }

        impl Transport for Once {
            fn start(&self, _: &mut Request, _: Option<&Waker>) -> Started {
                Started::Sent(Ticket::new(Arc::new(Once::default()), 1, Arc::new(Once::default()), false))
            }

            fn peer_name(&self) -> Arc<str> {
                "peer".into()
            }

            fn may_block(&self) -> bool {
                true
            }
        }

        fn ends<T: DeserializeOwned>(is_ok: bool) {
            let request = Request::new(Target::by_name("method"), args![]);
            let mut future = Invocation::<T>::new(Arc::new(Once::default()), request).into_future();
            let mut context = Context::from_waker(Waker::noop());
            let polled = Pin::new(&mut future).poll(&mut context);
            assert!(matches!(polled, Poll::Ready(outcome) if outcome.is_ok() == is_ok));
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        }
        ends::<u8>(true);
        ends::<String>(false);
    }

    #[test]
    fn a_call_that_does_not_go_well_has_its_name() {
        let lost = || Err(CallError::new(Kind::ConnectionLost, "lost"));
        let text = || Ok(Response::Value(Payload::copied(&[0xa1, b'x'])));
        let raised = || Ok(Response::exception(Exception::new(Kind::Raised, "raised")));
        for (answer, kind) in
            [(lost as fn() -> Outcome, Kind::ConnectionLost), (text, Kind::ResponseDecode), (raised, Kind::Raised)]
        {
            let error = call(answer, args![]).wait().unwrap_err();
            assert_eq!((error.kind(), error.method(), error.peer()), (kind, "Service.method", "peer"));
        }
    }

    #[test]
    fn what_has_been_sent_is_let_go_of_before_the_answer() {
        let bytes = bytes::Bytes::from(vec![1; 100]);
        let future = call(|| Ok(Response::Value(Payload::copied(&[7]))), args![Blob::from(bytes.clone())]).send();
        assert!(bytes.is_unique());
        assert!(format!("{future:?}").contains("Service.method"));
        assert_eq!(future.wait().unwrap(), 7);
    }
}
