//! The heart of RMI, without sockets: what a call is, how its arguments find their parameters, and what its errors say.
//!
//! This crate has no sockets, no clock, and spawns nothing. Programs use it through the crate `rmi`; a crate that only
//! shares an interface uses `rmi` without its default features, which is this crate and the macro.
//!
//! In reading order: [`descriptor`] and [`service`] (what a node offers), [`args`](mod@args) and [`bind`] (how arguments
//! get there), [`message`] (what travels), [`invocation`] (a call by its caller), [`exception`] and [`kind`] (how it can
//! fail), [`transport`] (the seam that `rmi-net` fills).

pub mod args;
pub mod bind;
pub mod blob;
pub mod context;
pub mod descriptor;
pub mod exception;
pub mod frame;
pub mod hello;
pub mod invocation;
pub mod kind;
pub mod local;
pub mod message;
pub mod pack;
pub mod payload;
pub mod rejection;
pub mod remote;
pub mod reply;
pub mod run;
pub mod scan;
pub mod scope;
pub mod service;
pub mod suggest;
pub mod transport;
pub mod value;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use args::Args;
pub use blob::Blob;
pub use context::{CallContext, FromCall};
pub use exception::{CallError, InvocationException, RemoteError, root_exc};
pub use invocation::{Invocation, InvocationFuture};
pub use kind::{Class, Kind};
pub use remote::Remote;
pub use reply::{Failure, RemoteCause, Reply, Result};
/// Makes methods callable from other nodes.
///
/// On an `impl` block it makes the type a [`Service`] and writes a stub for its callers:
///
/// ```
/// use rmi_core::{InvocationException, root_exc, rmi_node};
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
/// use rmi_core::rmi_node;
///
/// /// What both sides know.
/// mod greeting {
///     #[rmi_core::rmi_node]
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
/// # Ok::<(), rmi_core::InvocationException>(())
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
/// | [`rmi::Result<T>`](Result) | `Invocation<T>`: takes every error by `?`, and its caller gets a [`RemoteError`] |
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
/// | `spawn` | an `async` method always runs as a task of its own |
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
/// use rmi_core::{CallContext, rmi_node};
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
/// # Ok::<(), rmi_core::InvocationException>(())
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
pub use rmi_macros::rmi_node_core as rmi_node;
pub use scope::inherit;
pub use service::Service;

pub use value::Value;
