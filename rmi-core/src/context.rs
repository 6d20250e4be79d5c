//! What a running method can know about its call.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rejection::Rejection;
use crate::scope::{Cancellation, Scope};

/// What a method can know about its call: who calls, by when, whether it is still wanted.
///
/// Take it as a parameter, `ctx: &CallContext`, anywhere in the list; callers neither see nor send it.
#[derive(Clone)]
pub struct CallContext {
    caller: Caller,
    scope: Scope,
}

/// The calling side as the node knows it. Cheap to clone: each call has one.
#[derive(Clone)]
pub struct Caller(Arc<CallerInner>);

#[derive(Clone)]
struct CallerInner {
    name: Arc<str>,
    roles: Arc<[String]>,
    /// What the network layer knows of the caller: injected parameters are made from it.
    link: Option<Arc<dyn Any + Send + Sync>>,
}

impl Caller {
    /// A caller with this verified name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(CallerInner { name: name.into(), roles: Arc::new([]), link: None }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its roles.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// Adds the roles of its certificate.
    #[must_use]
    pub fn with_roles(self, roles: impl Into<Arc<[String]>>) -> Self {
        Self(Arc::new(CallerInner { roles: roles.into(), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Adds what the network layer knows.
    #[must_use]
    pub fn with_link(self, link: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Arc::new(CallerInner { link: Some(link), ..Arc::unwrap_or_clone(self.0) }))
    }
}

impl CallContext {
    /// The context of a call by `caller`, in `scope`.
    pub fn new(caller: Caller, scope: Scope) -> Self {
        Self { caller, scope }
    }

    /// The name of the calling node.
    pub fn caller_name(&self) -> &str {
        &self.caller.0.name
    }

    /// The roles of the caller, from its certificate; none without one.
    pub fn roles(&self) -> &[String] {
        &self.caller.0.roles
    }

    /// By when the caller wants the answer, on the clock of this node; `None` if there is no limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.scope.deadline()
    }

    /// How much time is left, `None` if there is no limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.scope.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The W3C trace context (a `traceparent`) that came with the call. Nested calls hand it on by themselves.
    pub fn trace_parent(&self) -> Option<&str> {
        self.scope.trace_parent().map(|text| &**text)
    }

    /// Whether the call was cancelled. Of use to plain methods: the future of an `async` one is dropped instead.
    pub fn is_cancelled(&self) -> bool {
        self.scope.cancellation().is_some_and(Cancellation::is_cancelled)
    }

    /// What nested calls inherit.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What the network layer knows of the caller, if it is of type `L`.
    #[doc(hidden)]
    pub fn link<L: Any + Send + Sync>(&self) -> Option<Arc<L>> {
        self.caller.0.link.clone()?.downcast().ok()
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("caller", &self.caller.0.name)
            .field("roles", &self.caller.0.roles)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.0.name).field("roles", &self.0.roles).finish_non_exhaustive()
    }
}

/// A type that a method can take from its call instead of from its caller.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from the call",
    label = "not a type that the node can give",
    note = "parameters named `Peer`, `CallContext` or `Node` are given by the node, never sent",
    note = "mark the parameter with `#[rmi(arg)]` if it is an ordinary argument"
)]
pub trait FromCall: Sized + Send + 'static {
    /// Takes it from the call.
    ///
    /// # Errors
    /// A [`Rejection`] where the call has none, for example a `Node` in a call through `Stub::local`.
    fn from_call(context: &CallContext) -> Result<Self, Rejection>;
}

// Not listed by the compiler: which types there are depends on the features.
#[diagnostic::do_not_recommend]
impl FromCall for CallContext {
    fn from_call(context: &CallContext) -> Result<Self, Rejection> {
        Ok(context.clone())
    }
}
