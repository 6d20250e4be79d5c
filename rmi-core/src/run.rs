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
    // Outside of the guard: a future that has panicked must not be dropped while its panic unwinds.
    let mut future = None;
    let mut begun = None;
    let mut is_decoded = call.is_direct();
    let went_well = catch_unwind(AssertUnwindSafe(|| {
        scope.enter(|| {
            let dispatched = service.dispatch(call)?;
            is_decoded = true;
            match dispatched {
                Dispatch::Done(response) => begun = Some(Begun::Done(response)),
                Dispatch::Closure(method) => begun = Some(Begun::Closure(PlainMethod(method))),
                Dispatch::Task(task) => {
                    let task = future.insert(task);
                    if polls && let Poll::Ready(response) = task.poll(&mut Context::from_waker(Waker::noop())) {
                        begun = Some(Begun::Done(response));
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
            return Ok(Begun::Done(panicked()));
        }
        Err(_) => return Err(Rejection::new(Kind::BadArguments, "decoding the arguments panicked")),
    }
    match begun {
        Some(begun) => {
            if let Some(future) = future {
                future.keep();
            }
            Ok(begun)
        }
        None => Ok(Begun::Task(MethodTask { scope: scope.clone(), future })),
    }
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
        future.keep();
        is_well
    }
}

impl Future for MethodTask {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let this = &mut *self;
        let Some(future) = &mut this.future else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| this.scope.enter(|| future.poll(context))));
        let response = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => response,
            Err(_) => panicked(),
        };
        if this.end() { Poll::Ready(response) } else { Poll::Ready(panicked()) }
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
