//! Calls without a network: what `Stub::local` is made of.
//!
//! Arguments and results are encoded and decoded as between two nodes, so a test with a local stub sees what a remote
//! caller would. The method runs inside of the future that is awaited, plain methods too; dropping it cancels.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::context::{CallContext, Caller};
use crate::kind::Kind;
use crate::message::{IncomingRequest, Message, Request, Response};
use crate::rejection::Rejection;
use crate::remote::Remote;
use crate::run::{self, Begun};
use crate::scan::ScanError;
use crate::scope::Scope;
use crate::service::{AnyService, Call, Service, erase};
use crate::transport::{Started, Transport};

/// The name of the node that a local stub calls, and of its caller.
pub const LOCAL: &str = "local";

/// A way to a service in this process. Timeouts need a clock, which this crate has none of: the stub of the crate
/// `rmi` with its feature `net` keeps them.
pub fn local<M: 'static>(service: impl Service<M>) -> Remote {
    let service = erase(Arc::new(service));
    let name = service.descriptor().name();
    Remote::new(Arc::new(Local { service })).with_service(name)
}

struct Local {
    service: Arc<dyn AnyService>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("service", &self.service.descriptor().name()).finish()
    }
}

impl Transport for Local {
    fn start(&self, request: &mut Request, _: Option<&Waker>) -> Started {
        let (service, request) = (Arc::clone(&self.service), request.take());
        Started::Later(Box::pin(async move {
            let scope = request.scope.clone().unwrap_or_default();
            Started::Ended(Ok(call_local(&*service, &request, Caller::new(LOCAL), scope).await))
        }))
    }

    fn peer_name(&self) -> Arc<str> {
        LOCAL.into()
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// Runs a call of `service` in place, as if it had travelled.
async fn call_local(service: &dyn AnyService, request: &Request, caller: Caller, scope: Scope) -> Response {
    let target = request.target.to_string();
    match start_local(service, request, caller, scope.clone()) {
        Ok(Begun::Task(task)) => task.await,
        Ok(Begun::Closure(method)) => run::plain(&scope.blocking(None), method),
        Ok(Begun::Done(response)) => response,
        Err(rejection) => Response::exception(rejection.into_exception()),
    }
    .placed(LOCAL, &target)
    .recoded()
}

fn start_local(service: &dyn AnyService, request: &Request, caller: Caller, scope: Scope) -> Result<Begun, Rejection> {
    let undecodable = |error: ScanError| Rejection::new(Kind::BadArguments, error.to_string());
    let (message, has_attachments) = request.to_message(None);
    let message = Message::from_bytes(&message, has_attachments).map_err(undecodable)?;
    let incoming = IncomingRequest::decode(message.body()).map_err(undecodable)?;
    let name = incoming.method().map_err(undecodable)?.rsplit('.').next().unwrap_or_default();
    let Some(method) = service.descriptor().method(name) else {
        return Err(Rejection::new(Kind::NoSuchMethod, format!("there is no method `{name}`")));
    };
    let context = CallContext::new(caller, scope);
    let call = Call::new(method, incoming.args, incoming.kwargs, message.attachments(), &context);
    run::begin(service, &call, false)
}
