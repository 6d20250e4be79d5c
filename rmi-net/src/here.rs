//! Calls that do not leave the process: a node's calls of itself, and stubs made by `Stub::local`.
//!
//! The request and the response are written and read as if they travelled, so nothing passes here that would not pass
//! the network. Methods run on the same pools and within the same budgets; `async` ones inside of the caller's future,
//! which therefore cancels them when it is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rmi_core::context::{CallContext, Caller};
use rmi_core::exception::{CallError, Exception};
use rmi_core::kind::{Class, Kind};
use rmi_core::local::LOCAL;
use rmi_core::message::{IncomingRequest, Message, Request, Response};
use rmi_core::payload::Payload;
use rmi_core::rejection::Rejection;
use rmi_core::remote::Remote;
use rmi_core::run::{self, MethodTask};
use rmi_core::scan::ScanError;
use rmi_core::scope::{Cancellation, Scope};
use rmi_core::service::{Call, Dispatch, Service, erase};
use rmi_core::transport::{Started, Transport};
use tokio::runtime::Handle;

use crate::host::{Host, PoolSlot};
use crate::limits::Limits;
use crate::seam::{Clock, SystemClock};

/// A way to the services of this process.
pub(crate) struct Here {
    pub(crate) host: Arc<Host>,
    pub(crate) caller: Caller,
    pub(crate) default_timeout: Option<Duration>,
    /// Where methods run and time comes from; `None` where there is no runtime: then they run in place.
    pub(crate) runtime: Option<(Handle, Arc<dyn Clock>)>,
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("node", self.host.node()).finish_non_exhaustive()
    }
}

/// A way to a service without a node or a network, for tests. What `Stub::local` is made of.
pub fn local<M: 'static>(service: impl Service<M>) -> Remote {
    let service = erase(Arc::new(service));
    let name = service.descriptor().name();
    let host = Host::new(LOCAL.into(), Limits::default());
    // A host without services takes any.
    let _ = host.serve_any(name, service);
    let runtime = Handle::try_current().ok().map(|runtime| {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(runtime.clone()));
        (runtime, clock)
    });
    let here = Here { host: Arc::new(host), caller: Caller::new(LOCAL), default_timeout: None, runtime };
    Remote::new(Arc::new(LocalTransport(Arc::new(here)))).with_service(name)
}

#[derive(Debug)]
struct LocalTransport(Arc<Here>);

impl Transport for LocalTransport {
    fn start(&self, request: Request) -> Started {
        self.0.start(request)
    }

    fn peer_name(&self) -> Arc<str> {
        Arc::clone(self.0.host.node())
    }

    fn may_block(&self) -> bool {
        Handle::try_current().is_err()
    }
}

/// Cancels a plain method whose caller is gone.
struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Here {
    /// Starts a call.
    pub(crate) fn start(self: &Arc<Self>, request: Request) -> Started {
        let this = Arc::clone(self);
        if let (true, Some((runtime, _))) = (request.one_way, &self.runtime) {
            runtime.spawn(async move {
                if let Err(error) = this.run(request).await {
                    tracing::warn!("a one-way call failed: {error}");
                }
            });
            return Started::Ended(Ok(Response::Value(Payload::copied(&[0xc0]))));
        }
        Started::Later(Box::pin(async move { Started::Ended(this.run(request).await) }))
    }

    async fn run(self: Arc<Self>, request: Request) -> Result<Response, CallError> {
        let Some((_, clock)) = &self.runtime else {
            return Ok(self.answer(request, None).await);
        };
        let now = clock.now();
        let Some(deadline) = request.deadline_at(now, self.default_timeout) else {
            return Ok(self.answer(request, None).await);
        };
        let late = |class| CallError::new(Kind::Timeout, "no answer came in time").with_class(class);
        if deadline <= now {
            return Err(late(Class::NotExecuted));
        }
        let no_cancel = request.no_cancel;
        let answer = Arc::clone(&self).answer(request, Some(deadline));
        let over = clock.sleep_until(deadline);
        if !no_cancel {
            return tokio::select! {
                response = answer => Ok(response),
                () = over => Err(late(Class::MaybeExecuted)),
            };
        }
        let Some((runtime, _)) = &self.runtime else { return Err(late(Class::NotExecuted)) };
        let answer = runtime.spawn(answer);
        tokio::select! {
            response = answer => response.map_err(|_| late(Class::MaybeExecuted)),
            () = over => Err(late(Class::MaybeExecuted)),
        }
    }

    async fn answer(self: Arc<Self>, request: Request, deadline: Option<std::time::Instant>) -> Response {
        let target = request.target.to_string();
        let response = match self.dispatch(&request, deadline) {
            Ok((dispatch, scope, pool)) => self.finish(dispatch, scope, pool).await,
            Err(rejection) => Response::exception(rejection.into_exception()),
        };
        response.placed(self.host.node(), &target).recoded()
    }

    fn dispatch(
        &self,
        request: &Request,
        deadline: Option<std::time::Instant>,
    ) -> Result<(Dispatch, Scope, rmi_core::descriptor::Execution), Rejection> {
        let unreadable = |error: ScanError| Rejection::new(Kind::BadArguments, error.to_string());
        let (message, has_attachments) = request.to_message(None);
        let message = Message::from_bytes(&message, has_attachments).map_err(unreadable)?;
        let incoming = IncomingRequest::decode(message.body()).map_err(unreadable)?;
        let method = self.host.resolve(incoming.method)?;
        if !method.allows(self.caller.roles()) {
            return Err(Rejection::new(Kind::Denied, format!("`{}` may not be called from here", method.full_name)));
        }
        let trace_parent = request.trace_parent().cloned();
        let scope = Scope::new(deadline).with_trace_parent(trace_parent);
        let scope = scope.with_cancellation(Cancellation::new());
        let context = CallContext::new(self.caller.clone(), scope.clone());
        let args = Call::new(method.descriptor, incoming.args, incoming.kwargs, message.attachments(), &context);
        let dispatch = run::dispatch(&*method.service, &args)?;
        Ok((dispatch, scope, method.descriptor.execution()))
    }

    async fn finish(&self, dispatch: Dispatch, scope: Scope, execution: rmi_core::descriptor::Execution) -> Response {
        let method = match dispatch {
            Dispatch::Done(response) => return response,
            Dispatch::Task(future) => return MethodTask::new(scope, future).await,
            Dispatch::Closure(method) => method,
        };
        let Some((runtime, _)) = &self.runtime else {
            return run::closure(&scope.blocking(None), method);
        };
        let _cancel = scope.cancellation().cloned().map(CancelOnDrop);
        let slot = match self.host.pool(execution) {
            Some(pool) => Arc::clone(pool)
                .acquire_owned()
                .await
                .ok()
                .map(|permit| Arc::new(PoolSlot::new(Arc::clone(pool), permit, runtime.clone())) as _),
            None => None,
        };
        let scope = scope.blocking(slot);
        let method = runtime.spawn_blocking(move || run::closure(&scope, method));
        method.await.unwrap_or_else(|_| {
            // Only a runtime that shuts down throws a method away.
            Response::exception(Exception::new(Kind::Cancelled, "the runtime was shut down"))
        })
    }
}
