//! Calls that do not leave the process: a node's calls of itself, and stubs made by `Stub::local`.
//!
//! The request and the response are written and read as if they travelled, so nothing passes here that would not pass
//! the network. Methods run on the same runtime, pools and budgets, and are cancelled when their caller is gone.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use rmi_core::context::{CallContext, Caller};
use rmi_core::descriptor::Execution;
use rmi_core::exception::{CallError, Exception};
use rmi_core::kind::{Class, Kind};
use rmi_core::local::LOCAL;
use rmi_core::message::{IncomingRequest, Message, Request, Response};
use rmi_core::payload::Payload;
use rmi_core::rejection::Rejection;
use rmi_core::remote::Remote;
use rmi_core::run::{self, Begun};
use rmi_core::scan::ScanError;
use rmi_core::scope::{Cancellation, Scope};
use rmi_core::service::{Call, Service, erase};
use rmi_core::transport::{Started, Transport};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::host::{Admission, BYTES_PER_VALUE, Host};
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
    fn start(&self, request: &mut Request, _: Option<&Waker>) -> Started {
        self.0.start(request.take())
    }

    fn peer_name(&self) -> Arc<str> {
        Arc::clone(self.0.host.node())
    }

    fn may_block(&self) -> bool {
        Handle::try_current().is_err()
    }
}

/// A method that is about to run, with its part of the node's budgets.
struct Running {
    begun: Begun,
    scope: Scope,
    execution: Execution,
    admission: Admission,
}

/// Cancels a plain method whose caller is gone.
struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Cancels an `async` method whose caller is gone.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Here {
    /// Starts a call. On a runtime the method is a task of its own, which is cancelled when the call is dropped.
    pub(crate) fn start(self: &Arc<Self>, request: Request) -> Started {
        let Some((runtime, clock)) = &self.runtime else {
            let this = Arc::clone(self);
            return Started::Later(Box::pin(async move { Started::Ended(Ok(this.answer(request, None).await)) }));
        };
        let now = clock.now();
        let deadline = request.deadline_at(now, self.default_timeout);
        let late = |class| CallError::new(Kind::Timeout, "no answer came in time").with_class(class);
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Started::refused(late(Class::NotExecuted));
        }
        let method = self.host.resolve(&request.target.to_string());
        let no_cancel = request.no_cancel || method.is_ok_and(|method| method.is_no_cancel);
        let one_way = request.one_way;
        let task = runtime.spawn(Arc::clone(self).answer(request, deadline));
        if one_way {
            return Started::Ended(Ok(Response::Value(Payload::copied(&[0xc0]))));
        }
        let _cancel = (!no_cancel).then(|| AbortOnDrop(task.abort_handle()));
        let clock = Arc::clone(clock);
        Started::Later(Box::pin(async move {
            let _cancel = _cancel;
            let over = async {
                match deadline {
                    Some(deadline) => clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            Started::Ended(tokio::select! {
                biased;
                response = task => response.map_err(|_| CallError::new(Kind::Cancelled, "the runtime was shut down")),
                () = over => Err(late(Class::MaybeExecuted)),
            })
        }))
    }

    async fn answer(self: Arc<Self>, request: Request, deadline: Option<std::time::Instant>) -> Response {
        let target = request.target.to_string();
        let response = match self.begin(&request, deadline) {
            Ok(running) => self.finish(running).await,
            Err(rejection) => Response::exception(rejection.into_exception()),
        };
        if let (true, Response::Exception(exception)) = (request.one_way, &response) {
            tracing::warn!(method = target, kind = %exception.kind, "a one-way call failed: {}", exception.message);
        }
        response.placed(self.host.node(), &target).recoded()
    }

    fn begin(&self, request: &Request, deadline: Option<std::time::Instant>) -> Result<Running, Rejection> {
        let unreadable = |error: ScanError| Rejection::new(Kind::BadArguments, error.to_string());
        let (message, has_attachments) = request.to_message(None);
        let message = Message::from_bytes(&message, has_attachments).map_err(unreadable)?;
        let incoming = IncomingRequest::decode(message.body()).map_err(unreadable)?;
        let admission = self.host.admit(message.body().len() + incoming.n_values * BYTES_PER_VALUE)?;
        let method = self.host.resolve(incoming.method().map_err(unreadable)?)?;
        // Roles are for peers: who is in this process needs nobody's leave.
        let trace_parent = request.trace_parent().cloned();
        let scope = Scope::new(deadline).with_trace_parent(trace_parent);
        let scope = scope.with_cancellation(Cancellation::new());
        let context = CallContext::new(self.caller.clone(), scope.clone());
        let args = Call::new(method.descriptor, incoming.args, incoming.kwargs, message.attachments(), &context);
        let begun = run::begin(&*method.service, &args, false)?;
        Ok(Running { begun, scope, execution: method.execution, admission })
    }

    async fn finish(&self, running: Running) -> Response {
        let Running { begun, scope, execution, admission } = running;
        let method = match begun {
            Begun::Done(response) => return response,
            Begun::Task(task) => return task.await,
            Begun::Closure(method) => method,
        };
        let Some((runtime, _)) = &self.runtime else {
            return run::plain(&scope.blocking(None), method);
        };
        let _cancel = scope.cancellation().cloned().map(CancelOnDrop);
        let slot = self.host.slot(execution, runtime).await;
        let scope = scope.blocking(slot);
        let method = runtime.spawn_blocking(move || {
            let response = run::plain(&scope, method);
            drop(admission);
            response
        });
        method.await.unwrap_or_else(|_| {
            // Only a runtime that shuts down throws a method away.
            Response::exception(Exception::new(Kind::Cancelled, "the runtime was shut down"))
        })
    }
}
