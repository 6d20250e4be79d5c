//! Running methods so that a panic stays what it is: the end of one call.
//!
//! User code runs in four places: while arguments are decoded, while the method runs, while its result is encoded, and
//! while what is left of it is dropped. All four are inside of these functions. The text of a panic stays on its node
//! (the panic hook has printed it); the caller learns that there was one.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::exception::Exception;
use crate::kind::Kind;
use crate::message::Response;
use crate::rejection::Rejection;
use crate::scope::Scope;
use crate::service::{AnyService, Call, Dispatch, MethodFuture};

/// The response of a method that panicked.
fn panicked() -> Response {
    Response::exception(Exception::new(Kind::Panicked, "the panic's message is in the log of its node"))
}

/// What became of a call that was begun.
#[derive(Debug)]
pub enum Begun {
    /// It has ended.
    Done(Response),
    /// An `async` method that waits for something, or was not polled yet. Whoever gets it polls it anew.
    Task(MethodTask),
    /// A plain method.
    Closure(PlainMethod),
}

/// A plain method, ready to run.
pub struct PlainMethod(Box<dyn FnOnce() -> Response + Send>);

impl std::fmt::Debug for PlainMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainMethod")
    }
}

/// Binds and decodes; with `polls`, an `async` method is polled once as well, with a waker that wakes nobody.
///
/// All of it in one scope and under one guard: that is what makes a method cheap that ends at once.
///
/// # Errors
/// The refusal. A panic while decoding is one too.
pub fn begin(service: &dyn AnyService, call: &Call<'_>, polls: bool) -> Result<Begun, Rejection> {
    let scope = call.context().scope();
    // Outside of the guard: neither a future that has panicked nor an answer must be dropped while a panic unwinds.
    let (mut future, mut closure, mut response) = (None, None, None);
    let mut is_decoded = call.is_direct();
    let went_well = catch_unwind(AssertUnwindSafe(|| {
        scope.enter(|| {
            let dispatched = service.dispatch(call)?;
            is_decoded = true;
            match dispatched {
                Dispatch::Done(answer) => response = Some(answer),
                Dispatch::Closure(method) => closure = Some(PlainMethod(method)),
                Dispatch::Task(task) => {
                    let task = future.insert(task);
                    if polls {
                        task.poll(&mut Context::from_waker(Waker::noop()), &mut response);
                    }
                }
            }
            Ok(())
        })
    }));
    match went_well {
        Ok(Ok(())) => {}
        Ok(Err(rejection)) => return Err(rejection),
        Err(_) if is_decoded => {
            drop(MethodTask { scope: scope.clone(), future });
            drop_guarded(response);
            return Ok(Begun::Done(panicked()));
        }
        Err(_) => return Err(Rejection::new(Kind::BadArguments, "decoding the arguments panicked")),
    }
    match (response, closure) {
        (Some(response), _) => {
            if let Some(future) = future {
                future.keep();
            }
            Ok(Begun::Done(response))
        }
        (None, Some(method)) => Ok(Begun::Closure(method)),
        (None, None) => Ok(Begun::Task(MethodTask { scope: scope.clone(), future })),
    }
}

/// Drops what has user code in it, which may panic.
#[cold]
fn drop_guarded<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Runs a plain method.
pub fn plain(scope: &Scope, method: PlainMethod) -> Response {
    catch_unwind(AssertUnwindSafe(|| scope.enter(method.0))).unwrap_or_else(|_| panicked())
}

/// An `async` method, run in its scope. Dropping it cancels the method.
pub struct MethodTask {
    scope: Scope,
    /// `None` once it has ended, so that its own drop cannot panic outside of the guard.
    future: Option<MethodFuture>,
}

impl MethodTask {
    /// Drops the future inside of the guard. Whether that went well.
    fn end(&mut self) -> bool {
        let Some(mut future) = self.future.take() else { return true };
        let is_well = catch_unwind(AssertUnwindSafe(|| self.scope.enter(|| future.clear()))).is_ok();
        // Where that panicked the method may not even have been dropped.
        if is_well {
            future.keep();
        } else {
            drop_guarded(future);
        }
        is_well
    }
}

impl Future for MethodTask {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let this = &mut *self;
        let Some(future) = &mut this.future else { return Poll::Pending };
        // Outside of the guard, see `begin`.
        let mut response = None;
        let polled = catch_unwind(AssertUnwindSafe(|| this.scope.enter(|| future.poll(context, &mut response))));
        if polled.is_ok() && response.is_none() {
            return Poll::Pending;
        }
        let ended_well = this.end() && polled.is_ok();
        match response {
            Some(response) if ended_well => Poll::Ready(response),
            response => {
                drop_guarded(response);
                Poll::Ready(panicked())
            }
        }
    }
}

impl Drop for MethodTask {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end();
        }
    }
}

impl std::fmt::Debug for MethodTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MethodTask").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::context::{CallContext, Caller};
    use crate::descriptor::{Execution, MethodDescriptor, ServiceDescriptor};
    use crate::payload::Payload;
    use crate::positional::Positional;
    use crate::reply::reply_value;

    static METHODS: [MethodDescriptor; 1] = [MethodDescriptor::new("run", "", &[], "()", Execution::Async)];
    static DESCRIPTOR: ServiceDescriptor = ServiceDescriptor::new("Service", "", &METHODS);

    /// A service whose one method is what this makes.
    struct Makes<F>(F);

    impl<F: Fn() -> Dispatch + Send + Sync + 'static> AnyService for Makes<F> {
        fn descriptor(&self) -> &'static ServiceDescriptor {
            &DESCRIPTOR
        }

        fn dispatch(&self, _: &Call<'_>) -> Result<Dispatch, Rejection> {
            Ok((self.0)())
        }
    }

    fn begun(make: impl Fn() -> Dispatch + Send + Sync + 'static, scope: Scope, polls: bool) -> Begun {
        let context = CallContext::new(Caller::new("caller"), scope);
        begin(&Makes(make), &Call::new(&METHODS[0], Positional::NONE, None, &[], &context), polls).unwrap()
    }

    /// Panics when it is dropped.
    struct Panics;

    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            &[1]
        }
    }

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("as told");
        }
    }

    /// Ends with an answer that panics when it is dropped, and then panics when it is dropped itself.
    struct Ends(#[allow(dead_code)] Panics);

    impl Future for Ends {
        type Output = Response;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Response> {
            let blob = Bytes::from_owner(Panics);
            Poll::Ready(Response::Value(Payload::shared(Bytes::from_static(&[1]), vec![blob])))
        }
    }

    #[test]
    fn a_method_and_its_answer_that_panic_when_they_are_dropped_end_one_call() {
        let make = || Dispatch::task(Ends(Panics));
        let is_panicked = |response: Response| {
            let Response::Exception(exception) = response else { return false };
            exception.kind == Kind::Panicked
        };
        let Begun::Done(response) = begun(make, Scope::default(), true) else { panic!("it has ended") };
        assert!(is_panicked(response));
        let Begun::Task(mut task) = begun(make, Scope::default(), false) else { panic!("it was not polled") };
        let Poll::Ready(response) = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it has ended")
        };
        assert!(is_panicked(response));
    }

    /// A method that is dropped when its thread ends; and how often what it holds is held then.
    struct Last {
        task: MethodTask,
        held: Arc<()>,
        sender: std::sync::mpsc::Sender<usize>,
    }

    struct AtEnd(RefCell<Option<Last>>);

    impl Drop for AtEnd {
        fn drop(&mut self) {
            let Some(Last { task, held, sender }) = self.0.take() else { return };
            drop(task);
            sender.send(Arc::strong_count(&held)).unwrap();
        }
    }

    thread_local! {
        static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
    }

    #[test]
    fn a_method_that_ends_with_its_thread_is_dropped_then() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // What a thread has ends in the order opposite to that of its first use: first what is rare of scopes, then
            // the method, and last the boxes for methods.
            drop(begun(|| Dispatch::task(async { reply_value(1) }), Scope::default(), true));
            AT_END.with(|_| ());
            let scope = Scope::default().with_trace_parent(Some("trace".into()));
            scope.enter(|| ());
            let held = Arc::new(());
            let holds = Arc::clone(&held);
            let make = move || {
                let holds = Arc::clone(&holds);
                Dispatch::task(async move {
                    let _holds = holds;
                    std::future::pending().await
                })
            };
            let Begun::Task(task) = begun(make, scope, false) else { panic!("it does not end") };
            AT_END.with(|at_end| at_end.0.replace(Some(Last { task, held, sender })));
        });
        thread.join().unwrap();
        assert_eq!(receiver.recv(), Ok(1), "the method has not been dropped");
    }
}
