//! Remote method invocation between the Rust processes of a cluster.
//!
//! Annotate an `impl` block, and every process of the cluster can call it: typed, through the stub that the attribute
//! writes, or by name, with positional and keyword arguments. There are no clients and no servers: each process is a
//! [`Node`], finds the others by itself, and calls and is called on one connection.
//!
//! # A first program
//!
//! Two nodes in one process, to have it in one place; in two processes nothing changes but the addresses.
//!
//! ```
//! use rmi::rmi_node;
//! # #[cfg(feature = "net")]
//! use rmi::{Node, Peer, args};
//!
//! struct Calculator;
//!
//! #[rmi_node]
//! impl Calculator {
//!     /// Adds two integers.
//!     async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
//!         a + b
//!     }
//! }
//!
//! # #[cfg(feature = "net")]
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Calculator).start().await?;
//!     let client = Node::builder().name("client").seeds(server.addresses()).start().await?;
//!
//!     let peer: Peer = client.peer("server").await?; // waits until it is found
//!     let calculator = CalculatorStub::new(&peer);
//!     assert_eq!(calculator.add(1, Some(2)).await?, 3);
//!
//!     let sum: i64 = peer.invoke("Calculator.add", args![1, b = 2]).await?;
//!     assert_eq!(sum, 3);
//!     Ok(())
//! }
//! # #[cfg(not(feature = "net"))]
//! # fn main() {}
//! ```
//!
//! A program that only calls needs no node of its own: [`connect`]`("tcp://..").await?` gives the peer. The directory
//! `examples/` has a program for each question: by name, errors, callbacks, no `async`, a shared interface.
//!
//! # Services
//!
//! A service is a value whose `impl` block has the attribute [`rmi_node`]; that page has all options. Each method with
//! `&self` can be called by other nodes. `async` methods run on the node's runtime, plain ones on threads of their own,
//! where they may block. What a method takes as [`Peer`], [`CallContext`] or [`Node`] is given by the node: the caller
//! neither sees nor sends it. A node offers services with `.serve(..)` before it starts, or [`Node::serve`] later.
//!
//! Put the attribute on a trait to share an interface without its implementation; such a crate needs only `rmi` without
//! its default features. There, a method that wants its caller takes `context: &CallContext`, and its implementation gets
//! the peer by `Peer::of_call(context)`: `Peer` and `Node` belong to the feature `net`. (In a workspace features are unified,
//! so check such a crate alone: `cargo check -p interface`.)
//!
//! A service is tested without a network, through `Stub::local`; in a `#[tokio::test]`, if its methods use timers or I/O:
//!
//! ```
//! # use rmi::rmi_node;
//! # struct Calculator;
//! # #[rmi_node]
//! # impl Calculator {
//! #     async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 { a + b }
//! # }
//! let calculator = CalculatorStub::local(Calculator);
//! assert_eq!(calculator.add(1, None).wait()?, 2);
//! # Ok::<(), rmi::InvocationException>(())
//! ```
//!
//! # Calls
//!
//! A method of a stub, and [`Peer::invoke`], give an [`Invocation`]. Nothing is sent before it is awaited; until then it
//! takes options:
//!
//! ```
//! # #[cfg(feature = "net")]
//! # async fn calls(peer: rmi::Peer) -> Result<(), Box<dyn std::error::Error>> {
//! use rmi::{Value, args};
//! use std::time::Duration;
//!
//! let sum: i64 = peer.invoke("Calculator.add", args![1, 2]).with_timeout(Duration::from_secs(1)).await?;
//! let any: Value = peer.invoke("add", args![1]).await?; // the bare name, where one service has it
//!
//! // Two at once: `send()` starts a call, and gives the future of its answer.
//! let first = peer.invoke::<i64>("Calculator.add", args![1, 2]).send();
//! let second = peer.invoke::<i64>("Calculator.add", args![3, 4]).send();
//! println!("{}", first.await? + second.await?);
//! # Ok(()) }
//! ```
//!
//! - Without a timeout a call waits for as long as its peer lives; that a peer is gone is noticed by itself.
//! - A deadline travels with the call, and the calls that a method makes inherit what is left of it. So does
//!   cancellation: when a caller is gone, the method is dropped at its next await. [`inherit`] carries both the deadline
//!   and the trace context into a spawned task.
//! - A call is made at most once. Nothing is repeated behind the caller's back.
//! - Without `async`, write [`.wait()`](Invocation::wait) for `.await`, also on the things that start nodes and find peers.
//!
//! # Errors
//!
//! The error of a call is an [`InvocationException`]. [`cause`](InvocationException::cause) is the error of the method,
//! as its own type; [`kind`](InvocationException::kind) says what happened, and [`class`](InvocationException::class)
//! whether the method can have run. [`root_exc`] strips the envelopes, over several nodes too.
//!
//! ```
//! # use rmi::{Class, InvocationException, Kind, rmi_node, root_exc};
//! #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
//! #[error("no page {0}")]
//! struct NoPage(u32);
//!
//! struct Store;
//!
//! #[rmi_node]
//! impl Store {
//!     async fn read(&self, page: u32) -> Result<String, NoPage> {
//!         Err(NoPage(page))
//!     }
//!
//!     /// Takes every error by `?`; the caller gets its type's name, its words and its sources.
//!     async fn count(&self, text: &str) -> rmi::Result<u32> {
//!         Ok(text.parse::<u32>()?)
//!     }
//! }
//!
//! let store = StoreStub::local(Store);
//! let error: InvocationException<NoPage> = store.read(7).wait().unwrap_err();
//! assert_eq!((error.kind(), error.class()), (Kind::Raised, Class::Executed));
//! assert!(matches!(error.cause(), Some(NoPage(7))));
//!
//! let error: InvocationException = store.count("x").wait().unwrap_err();
//! assert_eq!(root_exc(&error).to_string(), "invalid digit found in string");
//! ```
//!
//! `Display` states the outermost level, `Debug` the whole chain, a line each. Each thing that can go wrong has a
//! [`Kind`] of its own, ends that one call, and leaves the connection as it was.
//!
//! # Nodes and peers
//!
//! A node has a name, by which others find it, and addresses on which it listens. Its seeds are where it begins to look;
//! the nodes that it meets tell it of the others. [`Node::peer`] waits for a peer, [`Node::peers`] is the table as of
//! now, [`Node::watch`] the events. A [`Peer`] from [`Node::peer`] follows its name: after a restart of that node, it
//! leads to the new process. [`Peer::pinned`], and the peer that a method gets as its caller, are bound to one process.
//!
//! Unless [`NodeBuilder::danger_plaintext`] is called, a node only listens on, and only connects to, this machine:
//! loopback addresses and Unix sockets. On loopback every local user can call it; the socket file of `unix:///path` is
//! for its owner only. What a node takes in is bounded by its [`Limits`].
//!
//! # What drop does
//!
//! | dropped | what happens |
//! | --- | --- |
//! | [`Invocation`] | nothing: it was not sent |
//! | [`InvocationFuture`] | the method is cancelled at its next await, and so is what it called; not after [`no_cancel`](Invocation::no_cancel) |
//! | stub, [`Peer`] | nothing; but the last one that came of [`connect`] says goodbye |
//! | [`PeerEvents`] | the watch ends |
//! | the last [`Node`] | it says goodbye as best it can and stops; methods that run are cancelled. [`Node::shutdown`] lets them end first |
//! | the runtime | connections end without a goodbye |
//!
//! # Features
//!
//! `net` (default): nodes, peers, connections. Without it there are interfaces, stubs, errors and `Stub::local`, and no
//! dependency on a runtime.
// Written for both: without `net` there is nothing that these links could lead to.
#![cfg_attr(not(feature = "net"), allow(rustdoc::broken_intra_doc_links))]

#[doc(no_inline)]
pub use rmi_core::bytes;
pub use rmi_core::descriptor;
pub use rmi_core::exception::{Exception, Place};
pub use rmi_core::payload::{DecodeError, EncodeError};
pub use rmi_core::rejection::Rejection;
pub use rmi_core::value::ValueError;
pub use rmi_core::{
    Args, Blob, CallContext, CallError, Class, Failure, FromCall, Invocation, InvocationException, InvocationFuture,
    Kind, Remote, RemoteCause, RemoteError, Reply, Result, Service, Value, args, inherit, root_exc,
};
/// Makes methods callable from other nodes.
///
/// On an `impl` block it makes the type a [`Service`] and writes a stub for its callers:
///
/// ```
/// use rmi::{InvocationException, root_exc, rmi_node};
///
/// struct Calculator;
///
/// #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
/// enum MathError {
///     #[error("division by zero")]
///     DivisionByZero,
/// }
///
/// #[rmi_node]
/// impl Calculator {
///     /// Adds two integers.
///     async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
///         a + b
///     }
///
///     /// Divides, or raises.
///     async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
///         a.checked_div(b).ok_or(MathError::DivisionByZero)
///     }
/// }
///
/// // `CalculatorStub::new(&peer)` calls another node; `local` calls in this process, as a test would.
/// let calculator = CalculatorStub::local(Calculator);
/// assert_eq!(calculator.add(1, Some(2)).wait()?, 3);
/// assert_eq!(calculator.add(1, None).wait()?, 2);
/// let error: InvocationException<MathError> = calculator.div(1, 0).wait().unwrap_err();
/// assert!(matches!(error.cause(), Some(MathError::DivisionByZero)));
/// assert_eq!(root_exc(&error).to_string(), "division by zero");
/// # Ok::<(), InvocationException>(())
/// ```
///
/// (`wait()` blocks; in `async` code an invocation is awaited.)
///
/// # Where it may stand
///
/// | item | what it gives |
/// | --- | --- |
/// | `impl Type { .. }` | `impl Service<TypeStub> for Type`, and `TypeStub` |
/// | `impl<T: ..> Type<T> { .. }` | the same with the same parameters; the type has to be `Send + Sync + 'static` |
/// | `trait Trait { .. }` | an interface, which can be in a crate of its own, and `TraitStub` |
/// | `impl Trait for Type { .. }` | `impl Service<TraitStub> for Type`; the trait has the attribute too |
///
/// Every method that takes `&self` is remote, also private ones. Constants, types and functions without `self` are left as
/// they are. State that changes is kept behind a lock, or in an atomic.
///
/// In a trait, `async fn` becomes a function that returns `impl Future + Send`; implementations write `async fn` as always.
/// The methods are bound to `Self: Sized`, all but skipped plain ones; the trait has to allow `dyn Trait`, by whose name its
/// stub is found. A type can have several interfaces:
///
/// ```
/// use rmi::rmi_node;
///
/// /// What both sides know.
/// mod greeting {
///     #[rmi::rmi_node]
///     pub trait Greeter {
///         async fn hello(&self, name: &str) -> String;
///
///         async fn twice(&self, name: &str) -> String {
///             let once = self.hello(name).await;
///             format!("{once}, {once}")
///         }
///     }
/// }
///
/// #[rmi_node]
/// trait Clock {
///     /// Plain methods may block: they run on threads of their own.
///     fn hour(&self) -> u8;
/// }
///
/// struct English;
///
/// #[rmi_node]
/// impl greeting::Greeter for English {
///     async fn hello(&self, name: &str) -> String {
///         format!("hello {name}")
///     }
/// }
///
/// #[rmi_node]
/// impl Clock for English {
///     fn hour(&self) -> u8 {
///         17
///     }
/// }
///
/// assert_eq!(greeting::GreeterStub::local(English).twice("you").wait()?, "hello you, hello you");
/// assert_eq!(ClockStub::local(English).hour().wait()?, 17);
/// # Ok::<(), rmi::InvocationException>(())
/// ```
///
/// # Methods
///
/// | | runs |
/// | --- | --- |
/// | `async fn m(&self, ..)` | on the node's runtime; dropped at an await when its caller is gone |
/// | `fn m(&self, ..)` | on the blocking pool |
/// | `#[rmi(cpu)] fn m(&self, ..)` | on the compute pool, as many at once as there are cores |
/// | `#[rmi(direct)] fn m(&self, ..)` | at once on the connection's own task: for a few instructions, never to wait |
///
/// | parameter | in the stub | the method gets |
/// | --- | --- | --- |
/// | `a: T` | `a: T` | the decoded value |
/// | `a: &T`, `&str`, `&[T]` | the same | a borrow of the decoded value (`<T as ToOwned>::Owned`) |
/// | with `#[rmi(default)]` or `#[rmi(default = expr)]` | `Option` of that | the value, or the default if it is left out (`None`) |
/// | `caller: &Peer`, `&CallContext`, `&Node`, or by value | nothing | what the node knows of the call |
///
/// | result | the stub gives |
/// | --- | --- |
/// | nothing, `T` | `Invocation<T>` |
/// | `Result<T, E>` | `Invocation<T, E>`: `E` comes back as what it is; it is an error that is also `Serialize` and `Deserialize` |
/// | [`rmi::Result<T>`](Result) | `Invocation<T>`: takes every error by `?`, and a text by [`Failure::msg`], and its caller gets a [`RemoteError`] |
///
/// A type whose name ends with `Result` is taken for one, so aliases work.
/// Values are `serde::Serialize + serde::Deserialize + Send + 'static`. Methods are not generic (the block may be), and
/// arguments borrow only as a whole: `Option<String>`, not `Option<&str>`.
///
/// # Options
///
/// On the block, `#[rmi_node(..)]`:
///
/// | option | |
/// | --- | --- |
/// | `name = "calc"` | the service's name, instead of the type's or the trait's |
/// | `stub = Calc` | the stub's name, instead of `TypeStub` |
/// | `stub = false` | no stub |
/// | `serial` | calls of one peer run one at a time, in their order |
/// | `allow = "role"` | only for callers with this role |
/// | `crate = path` | where the crate is, if it was renamed or re-exported |
///
/// On a method, `#[rmi(..)]`:
///
/// | option | |
/// | --- | --- |
/// | `name = "x"` | the name for callers by name |
/// | `skip` | not remote |
/// | `direct`, `cpu` | where a plain method runs, see above |
/// | `spawn` | an `async` method always runs as a task of its own: for one that may block its thread |
/// | `oneway` | no answer: the call ends when it is sent, and the method returns nothing |
/// | `idempotent` | running it twice does no harm |
/// | `no_cancel` | it runs to its end even if its caller is gone |
/// | `timeout = "5s"` | for calls that set none; `ms`, `s`, `min`, `h` |
/// | `allow = "role"` | only for callers with this role |
/// | `fallible`, `infallible` | what it returns is a `Result`, or is not, whatever its name |
///
/// On a parameter, `#[rmi(..)]`:
///
/// | option | |
/// | --- | --- |
/// | `name = "x"` | the name for callers by keyword |
/// | `default` | may be left out: `Default::default()` |
/// | `default = expr` | may be left out: this is evaluated on the callee, at each call; of the parameter's type, so `"x"` for `&str` |
/// | `keyword` | given by name only |
/// | `positional` | given by position only |
/// | `context` | taken from the call, whatever its type is called ([`FromCall`]) |
/// | `arg` | sent, whatever its type is called |
///
/// ```
/// use rmi::{CallContext, rmi_node};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// pub struct Journal {
///     n_lines: AtomicU64,
/// }
///
/// #[rmi_node(name = "journal", serial)]
/// impl Journal {
///     pub async fn write(
///         &self,
///         context: &CallContext,
///         line: &str,
///         #[rmi(default = "info")] level: &str,
///         #[rmi(keyword, default)] tags: Vec<String>,
///     ) -> u64 {
///         println!("{level} {} {line} {tags:?}", context.caller_name());
///         self.n_lines.fetch_add(1, Ordering::Relaxed) + 1
///     }
///
///     #[rmi(oneway, timeout = "250ms")]
///     pub async fn flush(&self) {}
///
///     #[rmi(direct, idempotent)]
///     pub fn len(&self) -> u64 {
///         self.n_lines.load(Ordering::Relaxed)
///     }
///
///     #[rmi(skip)]
///     pub fn is_empty(&self) -> bool {
///         self.len() == 0
///     }
/// }
///
/// let journal = JournalStub::local(Journal::default());
/// assert_eq!(journal.write("it began", None, Some(vec!["start".into()])).wait()?, 1);
/// assert_eq!(journal.len().wait()?, 1);
/// # Ok::<(), rmi::InvocationException>(())
/// ```
///
/// # The stub
///
/// `TypeStub` is `Clone`, `Send` and `Sync`, and has
///
/// - `new(peer)`: the service under its own name on `peer`,
/// - `named(peer, "name")`: the service that `peer` serves under another name,
/// - `local(service)`: a service in this process, for tests; arguments and results are encoded all the same,
/// - a method for each remote method, with its docs, which gives back an [`Invocation`]: nothing is sent before that is
///   awaited.
///
/// The methods are as visible as those of the block, and the stub as the most visible of them.
pub use rmi_macros::rmi_node;
#[cfg(feature = "net")]
#[doc(no_inline)]
pub use rmi_net::tokio;
#[cfg(feature = "net")]
pub use rmi_net::{
    Address, AddressError, Connect, ConnectError, ConnectionSnapshot, DEFAULT_PORT, HandshakeError, InstanceId,
    IntoAddress, Limits, LookupError, MethodDescription, MethodSnapshot, Node, NodeBuilder, NodeDescription,
    ParamDescription, ParamKind, Peer, PeerEvent, PeerEvents, PeerInfo, PeerLookup, PeerState, Peers, Role, ServeError,
    ServiceDescription, Shutdown, Snapshot, Start, StartError, WaitError, WaitFor, connect,
};

/// What generated code names. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use rmi_core::__private::*;
    // Shadows the one without a clock.
    #[cfg(feature = "net")]
    pub use rmi_net::local;
}
