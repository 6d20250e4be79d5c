//! What a service offers, as constant data: methods, parameters, types as written, defaults, docs.
//!
//! `#[rmi_node]` writes one [`ServiceDescriptor`] per interface. The binder reads it to match arguments to
//! parameters, the node reads it to decide where a method runs, and `peer.describe()` sends it to whoever asks.
//! Nothing here is generic and nothing allocates.

use std::time::Duration;

/// One interface: its name, its docs and its methods, in the order in which they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceDescriptor {
    name: &'static str,
    doc: &'static str,
    methods: &'static [MethodDescriptor],
    serial: bool,
    allow: Option<&'static str>,
}

impl ServiceDescriptor {
    /// Describes a service. Written by `#[rmi_node]`.
    pub const fn new(name: &'static str, doc: &'static str, methods: &'static [MethodDescriptor]) -> Self {
        Self { name, doc, methods, serial: false, allow: None }
    }

    /// Calls of one peer run one at a time, in the order in which they were begun.
    #[must_use]
    pub const fn serial(mut self) -> Self {
        self.serial = true;
        self
    }

    /// Only callers with this role may call.
    #[must_use]
    pub const fn allow(mut self, role: &'static str) -> Self {
        self.allow = Some(role);
        self
    }

    /// The name under which the service is offered unless `serve_as` says otherwise.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The doc comment of the block; empty where there is none.
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The remote methods, in the order in which they were written.
    pub const fn methods(&self) -> &'static [MethodDescriptor] {
        self.methods
    }

    /// The method with this name, if there is one.
    pub fn method(&self, name: &str) -> Option<&'static MethodDescriptor> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Whether calls of one peer run one at a time.
    pub const fn is_serial(&self) -> bool {
        self.serial
    }

    /// The role that callers need, if one is demanded.
    pub const fn allowed_role(&self) -> Option<&'static str> {
        self.allow
    }
}

/// Where a method runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Execution {
    /// `async fn`: on the node's runtime; where its requests are read while it is quick, on the compute pool while its polls
    /// take long.
    Async,
    /// `async fn` with `#[rmi(spawn)]`: on the node's runtime, always as a task of its own.
    Spawned,
    /// Plain `fn`: on the node's blocking pool.
    Blocking,
    /// Plain `fn` with `#[rmi(cpu)]`: on the node's compute pool, as many at once as there are cores.
    Compute,
    /// Plain `fn` with `#[rmi(direct)]`: at once, on the connection's own task. It must not block.
    Direct,
}

/// One remote method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodDescriptor {
    name: &'static str,
    doc: &'static str,
    params: &'static [ParamDescriptor],
    returns: &'static str,
    raises: Option<&'static str>,
    execution: Execution,
    one_way: bool,
    idempotent: bool,
    no_cancel: bool,
    timeout: Option<Duration>,
    allow: Option<&'static str>,
    /// The fewest and the most positional arguments that do without keywords; the fewest are more than the most if a
    /// parameter can be given by keyword only.
    by_position: (usize, usize),
}

impl MethodDescriptor {
    /// Describes a method. Written by `#[rmi_node]`.
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        params: &'static [ParamDescriptor],
        returns: &'static str,
        execution: Execution,
    ) -> Self {
        Self {
            name,
            doc,
            params,
            returns,
            raises: None,
            execution,
            one_way: false,
            idempotent: false,
            no_cancel: false,
            timeout: None,
            allow: None,
            by_position: by_position(params),
        }
    }

    /// The error type that the method raises, as written.
    #[must_use]
    pub const fn raises(mut self, type_name: &'static str) -> Self {
        self.raises = Some(type_name);
        self
    }

    /// No answer is sent.
    #[must_use]
    pub const fn one_way(mut self) -> Self {
        self.one_way = true;
        self
    }

    /// Running it twice does no harm.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The method runs to its end even if its caller is gone.
    #[must_use]
    pub const fn no_cancel(mut self) -> Self {
        self.no_cancel = true;
        self
    }

    /// The timeout of calls that set none.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Only callers with this role may call.
    #[must_use]
    pub const fn allow(mut self, role: &'static str) -> Self {
        self.allow = Some(role);
        self
    }

    /// The name on the wire.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The doc comment; empty where there is none.
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The parameters that callers give; injected ones are not among them.
    pub const fn params(&self) -> &'static [ParamDescriptor] {
        self.params
    }

    /// Whether so many positional arguments, and no keywords, fit: each is the next parameter's, and the others have
    /// defaults. `false` may also mean that it takes a closer look.
    pub const fn fits_by_position(&self, n_args: usize) -> bool {
        self.by_position.0 <= n_args && n_args <= self.by_position.1
    }

    /// The type of the result, as written (for a `Result`, all of it).
    pub const fn returns(&self) -> &'static str {
        self.returns
    }

    /// The type of the error, as written, for a method that can raise.
    pub const fn raised_type(&self) -> Option<&'static str> {
        self.raises
    }

    /// Where the method runs.
    pub const fn execution(&self) -> Execution {
        self.execution
    }

    /// Whether no answer is sent.
    pub const fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// Whether running it twice does no harm.
    pub const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether the method runs to its end even if its caller is gone.
    pub const fn is_no_cancel(&self) -> bool {
        self.no_cancel
    }

    /// The timeout of calls that set none.
    pub const fn default_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The role that callers need, if one is demanded.
    pub const fn allowed_role(&self) -> Option<&'static str> {
        self.allow
    }
}

const fn by_position(params: &[ParamDescriptor]) -> (usize, usize) {
    let mut least = 0;
    let mut param_idx = 0;
    while param_idx < params.len() {
        if matches!(params[param_idx].kind, ParamKind::KeywordOnly) {
            return (usize::MAX, 0);
        }
        param_idx += 1;
        if params[param_idx - 1].default.is_none() {
            least = param_idx;
        }
    }
    (least, params.len())
}

/// How a parameter may be given. The names are Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParamKind {
    /// By position only: before a `/` in Python.
    PositionalOnly,
    /// By position or by name: the ordinary case.
    PositionalOrKeyword,
    /// By name only: after a `*` in Python.
    KeywordOnly,
}

/// One parameter of a remote method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParamDescriptor {
    name: &'static str,
    type_name: &'static str,
    kind: ParamKind,
    default: Option<&'static str>,
}

impl ParamDescriptor {
    /// A parameter that must be given. Written by `#[rmi_node]`.
    pub const fn required(name: &'static str, type_name: &'static str) -> Self {
        Self { name, type_name, kind: ParamKind::PositionalOrKeyword, default: None }
    }

    /// A parameter that may be left out; `default` is the expression as written, for people.
    pub const fn defaulted(name: &'static str, type_name: &'static str, default: &'static str) -> Self {
        Self { name, type_name, kind: ParamKind::PositionalOrKeyword, default: Some(default) }
    }

    /// It can be given by position only.
    #[must_use]
    pub const fn positional_only(mut self) -> Self {
        self.kind = ParamKind::PositionalOnly;
        self
    }

    /// It can be given by name only.
    #[must_use]
    pub const fn keyword_only(mut self) -> Self {
        self.kind = ParamKind::KeywordOnly;
        self
    }

    /// The name by which it can be given.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The type, as written.
    pub const fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// How it may be given.
    pub const fn kind(&self) -> ParamKind {
        self.kind
    }

    /// Whether it may be left out.
    pub const fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The default as written, if it may be left out.
    pub const fn default_text(&self) -> Option<&'static str> {
        self.default
    }
}
