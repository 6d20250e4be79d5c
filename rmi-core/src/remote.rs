//! A peer and a service on it: what stubs are made of, and where invocations begin.

use std::fmt;
use std::sync::Arc;

use crate::args::Args;
use crate::invocation::Invocation;
use crate::message::{Name, Request, Target};
use crate::transport::Transport;

/// A peer and the name of a service on it: what a stub is made of. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    transport: Arc<dyn Transport>,
    service: Option<Name>,
}

impl Remote {
    /// The peer behind `transport`.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, service: None }
    }

    /// The same peer, with the service of a stub.
    #[must_use]
    pub fn with_service(self, service: impl Into<Name>) -> Self {
        Self { service: Some(service.into()), ..self }
    }

    /// The peer's name.
    pub fn peer_name(&self) -> Arc<str> {
        self.transport.peer_name()
    }

    /// A call of a method of the stub's service.
    #[doc(hidden)]
    pub fn call<T, E>(&self, method: &'static str, args: Args) -> Invocation<T, E> {
        let target = Target::of(self.service.clone(), method);
        Invocation::new(Arc::clone(&self.transport), Request::new(target, args))
    }

    /// A call by name.
    pub fn invoke<T>(&self, method: &str, args: Args) -> Invocation<T> {
        Invocation::new(Arc::clone(&self.transport), Request::new(Target::by_name(method), args))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("peer", &self.peer_name())
            .field("service", &self.service.as_ref().map(Name::as_str))
            .finish()
    }
}
