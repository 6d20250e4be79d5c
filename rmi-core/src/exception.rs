//! The errors of calls: what was raised, where, and whether the method can have run.
//!
//! ```text
//! InvocationException<E>   invocation of `Calculator.div` failed
//!   Origin                 raised on node `b`
//!     E                    division by zero
//! ```
//!
//! [`InvocationException`] is what a caller gets. Below it stands one `Origin`, which is not generic: that is how
//! [`root_exc`] recognises an exception whose `E` it does not know. Below that stands the cause: `E` if the method
//! raised one, a [`RemoteError`] if the error arrived as text or the peer refused the call, a [`CallError`] if this
//! side gave up. Where an error passed through several nodes, an `Origin` for each hop stands in between.
//!
//! An [`Exception`] is the same thing as data: what travels in a response.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::kind::{Class, Kind};
use crate::payload::{DecodeError, Payload};

/// An error as it travels in a response: data, with every text that belongs to it.
#[derive(Debug, Clone)]
pub struct Exception {
    /// What happened.
    pub kind: Kind,
    /// Whether the method can have run.
    pub class: Class,
    /// The Rust type of the error, as its own node writes it; empty where there is none.
    pub type_name: Cow<'static, str>,
    /// The error's own words.
    pub message: String,
    /// The words of its sources, outermost first.
    pub chain: Vec<String>,
    /// The error itself, encoded, where its type can travel.
    pub payload: Option<Payload>,
    /// The node that was called; filled in by that node.
    pub node: String,
    /// The method that was called; filled in by that node.
    pub method: String,
    /// The calls below this one through which the error came, outermost first. The words above are the innermost's.
    pub via: Vec<Place>,
    /// When it is worth to try again.
    pub retry_after: Option<Duration>,
}

impl Exception {
    /// An exception of this kind that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            class: kind.class(),
            type_name: Cow::Borrowed(""),
            message: message.into(),
            chain: Vec::new(),
            payload: None,
            node: String::new(),
            method: String::new(),
            via: Vec::new(),
            retry_after: None,
        }
    }

    /// An exception that carries an error's type, words and sources.
    pub fn raised(error: &(dyn Error + 'static), type_name: &'static str) -> Self {
        let chain = chain(error).skip(1).map(ToString::to_string).collect();
        Self { type_name: Cow::Borrowed(type_name), chain, ..Self::new(Kind::Raised, error.to_string()) }
    }

    /// The same with another class.
    #[must_use]
    pub fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// One call on the way of an error: where it went, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node that was called.
    pub node: String,
    /// The method, as `"Service.method"`.
    pub method: String,
    /// What happened to the call.
    pub kind: Kind,
    /// Whether the method can have run.
    pub class: Class,
}

/// An error that happened on another node, as far as its type is not known here.
///
/// It says everything that the other node said: type name, words, the words of every source, node and method. Where
/// the error itself travelled along, [`decode`](RemoteError::decode) gives it back as its type.
#[derive(Debug, Clone)]
pub struct RemoteError {
    exception: Arc<Exception>,
    source: Option<Box<RemoteSource>>,
}

impl RemoteError {
    fn new(exception: Exception) -> Self {
        let source = exception
            .chain
            .iter()
            .rev()
            .fold(None, |source, message| Some(Box::new(RemoteSource { message: message.clone(), source })));
        Self { exception: Arc::new(exception), source }
    }

    /// The Rust type of the error on its own node, such as `"app::MathError"`; empty where there is none.
    pub fn type_name(&self) -> &str {
        &self.exception.type_name
    }

    /// The error's own words.
    pub fn message(&self) -> &str {
        &self.exception.message
    }

    /// The words of its sources, outermost first.
    pub fn chain(&self) -> &[String] {
        &self.exception.chain
    }

    /// The name of the node on which it happened.
    pub fn node(&self) -> &str {
        self.exception.via.last().map_or(&self.exception.node, |place| &place.node)
    }

    /// The method in which it happened, as `"Service.method"`.
    pub fn method(&self) -> &str {
        self.exception.via.last().map_or(&self.exception.method, |place| &place.method)
    }

    /// The error as a value of its type.
    ///
    /// # Errors
    /// If the error did not travel along (it came by [`Failure`](crate::Failure), or the peer refused the call), or is
    /// of another type.
    pub fn decode<E: DeserializeOwned>(&self) -> Result<E, DecodeError> {
        match &self.exception.payload {
            Some(payload) => payload.decode(),
            None => Err(DecodeError::new("the error travelled as text only")),
        }
    }

    /// The error as data.
    pub fn exception(&self) -> &Exception {
        &self.exception
    }

    /// The error as it leaves a method that has only passed it on: that method ran, whatever became of the call below.
    pub(crate) fn handed_on(&self) -> Exception {
        let Exception { node, method, kind, class, .. } = &*self.exception;
        let place = Place { node: node.clone(), method: method.clone(), kind: *kind, class: *class };
        let via = std::iter::once(place).chain(self.exception.via.iter().cloned()).collect();
        Exception { kind: Kind::Raised, class: Class::Executed, via, ..(*self.exception).clone() }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A source of a [`RemoteError`], of which only the words travelled.
#[derive(Debug, Clone)]
struct RemoteSource {
    message: String,
    source: Option<Box<RemoteSource>>,
}

impl fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RemoteSource {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Why this side gave a call up. The cause of exceptions such as `Timeout` and `ConnectionLost`.
#[derive(Clone)]
pub struct CallError(Box<Reason>);

/// What stands in a [`CallError`], which is one pointer wide: the outcome of a call is moved more often than it is one.
#[derive(Clone)]
struct Reason {
    kind: Kind,
    class: Class,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
    retry_after: Option<Duration>,
}

impl CallError {
    /// An error of this kind that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let class = kind.class();
        Self(Box::new(Reason { kind, class, message: message.into(), source: None, retry_after: None }))
    }

    /// The same with another class than the kind's careful one.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.0.class = class;
        self
    }

    /// The same with the error below it.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Error + Send + Sync>) -> Self {
        self.0.source = Some(source);
        self
    }

    /// The same with a time after which it is worth to try again.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether the method can have run.
    pub fn class(&self) -> Class {
        self.0.class
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { kind, class, message, source, retry_after } = &*self.0;
        f.debug_struct("CallError")
            .field("kind", kind)
            .field("class", class)
            .field("message", message)
            .field("source", source)
            .field("retry_after", retry_after)
            .finish()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The error of a call, whether the method raised it, the peer refused, or this side gave up.
///
/// [`cause`](Self::cause) is the typed error, [`kind`](Self::kind) says what happened, [`class`](Self::class) whether
/// the method can have run. `Display` names the method; the whole story is the chain of sources, and `Debug` prints it.
pub struct InvocationException<E = RemoteError> {
    inner: Box<Inner>,
    cause: PhantomData<fn() -> E>,
}

struct Inner {
    retry_after: Option<Duration>,
    origin: Origin,
}

/// Where an error came from: the link between an exception and its cause.
struct Origin {
    place: Place,
    below: Below,
}

enum Below {
    /// The error passed through another call.
    Hop(Box<Hop>),
    Cause {
        error: Box<dyn Error + Send + Sync>,
        /// What arrived, if it came from another node: to be handed on whole, also where the error became typed.
        arrived: Option<Arc<Exception>>,
    },
}

/// A call in between, on the way of an error through several nodes.
struct Hop(Origin);

impl Origin {
    fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        match &self.below {
            Below::Hop(hop) => hop.0.cause(),
            Below::Cause { error, .. } => &**error,
        }
    }

    fn into_cause(self) -> Box<dyn Error + Send + Sync> {
        match self.below {
            Below::Hop(hop) => hop.0.into_cause(),
            Below::Cause { error, .. } => error,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tell(&self.place))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Origin {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.below {
            Below::Hop(hop) => Some(hop.as_ref()),
            Below::Cause { error, .. } => Some(&**error),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_failed(f, &self.0.place.method)
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Hop {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn write_failed(f: &mut fmt::Formatter<'_>, method: &str) -> fmt::Result {
    write!(f, "invocation of `{method}` failed")
}

/// The words of an [`Origin`]: what happened where, and what it means for the method.
fn tell(Place { kind, class, node, .. }: &Place) -> String {
    let happened = match *kind {
        Kind::Raised => return format!("raised on node `{node}`"),
        Kind::Panicked => format!("the method panicked on node `{node}`"),
        Kind::ResponseTooLarge => format!("the result was too large to leave node `{node}`"),
        Kind::ResponseEncode => format!("the result could not be encoded on node `{node}`"),
        Kind::ResponseDecode => format!("the answer of node `{node}` could not be decoded"),
        Kind::NotConnected => format!("not connected to node `{node}`"),
        Kind::ConnectFailed => format!("node `{node}` could not be reached"),
        Kind::Overloaded => format!("too many calls to node `{node}` are waiting"),
        Kind::RequestTooLarge => format!("the arguments are too large for node `{node}`"),
        Kind::RequestEncode => "the arguments could not be encoded".to_owned(),
        Kind::LocalShutdown => "this node is shutting down".to_owned(),
        Kind::WouldBlock => "`wait()` would block the async runtime".to_owned(),
        Kind::Timeout => format!("node `{node}` did not answer in time"),
        Kind::Cancelled => format!("the call to node `{node}` was cancelled"),
        Kind::ConnectionLost => format!("the connection to node `{node}` was lost"),
        Kind::PeerRestarted => format!("node `{node}` was restarted"),
        Kind::GoingAway => format!("node `{node}` is shutting down"),
        Kind::Busy => format!("refused by node `{node}`: it is busy"),
        Kind::Denied => format!("refused by node `{node}`: not allowed"),
        Kind::ExpiredOnArrival => format!("refused by node `{node}`: too late"),
        Kind::NoSuchMethod | Kind::BadArguments => format!("refused by node `{node}`"),
        Kind::Other(code) => format!("failed on node `{node}` for a reason with the unknown code {code}"),
    };
    format!("{happened} ({class})")
}

// Not in the exception's own methods: compiled once, not for each type of cause.
impl Inner {
    fn of_exception(
        exception: Exception,
        peer: &str,
        method: &str,
        receive: fn(RemoteError) -> Box<dyn Error + Send + Sync>,
    ) -> Box<Self> {
        let Exception { kind, class, retry_after, .. } = exception;
        let node = if exception.node.is_empty() { peer } else { exception.node.as_str() }.to_owned();
        let mut place = Place { node, method: method.to_owned(), kind, class };
        let mut outer = Vec::new();
        for inner in &exception.via {
            outer.push(std::mem::replace(&mut place, inner.clone()));
        }
        let remote = RemoteError::new(exception);
        let arrived = Some(Arc::clone(&remote.exception));
        let error: Box<dyn Error + Send + Sync> = match kind {
            Kind::Raised => receive(remote),
            _ => Box::new(remote),
        };
        let innermost = Origin { place, below: Below::Cause { error, arrived } };
        let origin = outer
            .into_iter()
            .rev()
            .fold(innermost, |origin, place| Origin { place, below: Below::Hop(Box::new(Hop(origin))) });
        Box::new(Self { retry_after, origin })
    }

    fn of_call_error(error: CallError, peer: &str, method: &str) -> Box<Self> {
        let Reason { kind, class, retry_after, .. } = *error.0;
        let place = Place { node: peer.to_owned(), method: method.to_owned(), kind, class };
        let origin = Origin { place, below: Below::Cause { error: Box::new(error), arrived: None } };
        Box::new(Self { retry_after, origin })
    }
}

impl<E> InvocationException<E> {
    /// The exception that arrived in a response.
    ///
    /// `receive` makes the cause of what the method raised: typed, if it can.
    pub(crate) fn from_exception(
        exception: Exception,
        peer: &str,
        method: &str,
        receive: fn(RemoteError) -> Box<dyn Error + Send + Sync>,
    ) -> Self {
        Self { inner: Inner::of_exception(exception, peer, method, receive), cause: PhantomData }
    }

    /// The exception of a call that this side gave up.
    pub(crate) fn from_call_error(error: CallError, peer: &str, method: &str) -> Self {
        Self { inner: Inner::of_call_error(error, peer, method), cause: PhantomData }
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.inner.origin.place.kind
    }

    /// Whether the method can have run.
    pub fn class(&self) -> Class {
        self.inner.origin.place.class
    }

    /// Whether the same call may be made again without the risk that the method runs twice.
    pub fn is_safe_to_retry(&self) -> bool {
        self.inner.origin.place.class == Class::NotExecuted
    }

    /// The name of the peer that was called.
    pub fn peer(&self) -> &str {
        &self.inner.origin.place.node
    }

    /// What was called, as `"Service.method"`.
    pub fn method(&self) -> &str {
        &self.inner.origin.place.method
    }

    /// After which time the peer thinks that it is worth to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The error that the method raised, if it raised one of type `E`.
    pub fn cause(&self) -> Option<&E>
    where
        E: Error + 'static,
    {
        self.inner.origin.cause().downcast_ref()
    }

    /// The error that the method raised, by value.
    ///
    /// # Errors
    /// Gives the exception back if its cause is not of type `E`.
    pub fn into_cause(self) -> Result<E, Self>
    where
        E: Error + 'static,
    {
        if self.cause().is_none() {
            return Err(self);
        }
        match self.inner.origin.into_cause().downcast::<E>() {
            Ok(cause) => Ok(*cause),
            // The cause was just seen to be an `E`.
            Err(_) => unreachable!("the cause changed its type"),
        }
    }

    /// The error of the other node as text, where it did not come back typed.
    pub fn remote(&self) -> Option<&RemoteError> {
        self.inner.origin.cause().downcast_ref()
    }

    /// Why this side gave the call up, if it did.
    pub fn call_error(&self) -> Option<&CallError> {
        self.inner.origin.cause().downcast_ref()
    }

    /// The same exception without the type of its cause, for code that handles all alike.
    pub fn erase(self) -> InvocationException {
        InvocationException { inner: self.inner, cause: PhantomData }
    }
}

impl<E> fmt::Display for InvocationException<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_failed(f, &self.inner.origin.place.method)
    }
}

impl<E> fmt::Debug for InvocationException<E> {
    /// The whole chain, a line each: this is what `fn main() -> Result<..>` and `unwrap` print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}\n  caused by: ")?;
        write_chain(&self.inner.origin, f)
    }
}

impl<E> Error for InvocationException<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.inner.origin)
    }
}

/// The cause of an [`InvocationException`] of any `E`, else the error itself: local and remote errors alike.
///
/// Over several hops it is the innermost cause, never an exception. Only these envelopes are stripped: a local error
/// that merely has an exception among its sources is returned as it is, unless it shows it through (as
/// `#[error(transparent)]` does). For a boxed error write `root_exc(&*boxed)`.
///
/// ```
/// # use rmi_core::root_exc;
/// let error = std::io::Error::other("disk full");
/// assert_eq!(root_exc(&error).to_string(), "disk full");
/// ```
pub fn root_exc<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match origin_of(error) {
        Some(origin) => origin.cause(),
        None => error,
    }
}

/// Writes an error and its sources, a line each: the `Debug` of errors that people see first.
///
/// # Errors
/// If `f` cannot be written to.
pub fn write_chain(error: &(dyn Error + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    chain(error).skip(1).try_for_each(|source| write!(f, "\n  caused by: {source}"))
}

/// An error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The origin below an exception, or the origin itself.
fn origin_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Origin> {
    error.downcast_ref::<Origin>().or_else(|| error.source()?.downcast_ref::<Origin>())
}

/// An error as it leaves this node: one that came from another node is handed on whole, with the calls on its way.
pub(crate) fn exception_of(error: &(dyn Error + 'static), type_name: &'static str) -> Exception {
    let Some(mut origin) = origin_of(error) else {
        return match error.downcast_ref::<RemoteError>() {
            Some(remote) => remote.handed_on(),
            None => Exception::raised(error, type_name),
        };
    };
    let mut via = vec![origin.place.clone()];
    loop {
        match &origin.below {
            Below::Hop(hop) => {
                origin = &hop.0;
                via.push(origin.place.clone());
            }
            Below::Cause { arrived: Some(arrived), .. } => {
                return Exception { kind: Kind::Raised, class: Class::Executed, via, ..(**arrived).clone() };
            }
            // This side gave the call up.
            Below::Cause { error, arrived: None } => {
                return Exception { via, ..Exception::raised(&**error, std::any::type_name::<CallError>()) };
            }
        }
    }
}
