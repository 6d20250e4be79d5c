//! The heart of RMI, without sockets: what a call is, how its arguments find their parameters, and what its errors say.
//!
//! This crate has no sockets, no clock, and spawns nothing. Programs use it through the crate `rmi`; a crate that only
//! shares an interface uses `rmi` without its default features, which is this crate and the macro.
//!
//! In reading order: [`descriptor`] and [`service`] (what a node offers), [`args`](mod@args) and [`bind`] (how arguments
//! get there), [`message`] (what travels), [`draft`] and [`invocation`] (a call by its caller), [`exception`] and [`kind`] (how it can
//! fail), [`transport`] (the seam that `rmi-net` fills).

pub mod args;
pub mod bind;
pub mod blob;
pub mod context;
pub mod descriptor;
pub mod draft;
pub mod exception;
pub mod frame;
#[doc(hidden)]
pub mod head;
pub mod hello;
pub mod invocation;
#[doc(hidden)]
pub mod kept;
pub mod kind;
pub mod local;
pub mod message;
pub mod pack;
pub mod payload;
pub mod positional;
pub mod rejection;
pub mod remote;
pub mod reply;
pub mod run;
mod scalar;
pub mod scan;
pub mod scope;
mod seat;
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
/// Makes methods callable from other nodes: `rmi::rmi_node` for crates that use this one without `rmi`.
///
/// The two differ in the crate that the generated code names. All that there is to know stands at `rmi::rmi_node`.
///
/// ```
/// use rmi_core::rmi_node;
///
/// struct Calculator;
///
/// #[rmi_node]
/// impl Calculator {
///     async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
///         a + b
///     }
/// }
///
/// assert_eq!(CalculatorStub::local(Calculator).add(1, None).wait()?, 2);
/// # Ok::<(), rmi_core::InvocationException>(())
/// ```
pub use rmi_macros::rmi_node_core as rmi_node;
pub use scope::inherit;
pub use service::Service;

pub use value::Value;
// Its `Bytes` stands in public signatures. (`serde` is not here: with it, the compiler says `StdError` in its messages.)
#[doc(no_inline)]
pub use bytes;
