//! What generated code names. Not part of the API: it changes without notice.

pub use std::borrow::{Borrow, ToOwned};
pub use std::sync::Arc;
pub use std::time::Duration;

use std::fmt;
use std::marker::PhantomData;

pub use crate::args::Args;
pub use crate::context::{CallContext, FromCall};
pub use crate::descriptor::{Execution, MethodDescriptor, ParamDescriptor, ServiceDescriptor};
pub use crate::invocation::Invocation;
pub use crate::local::local;
pub use crate::message::{Name, Response};
pub use crate::rejection::Rejection;
pub use crate::remote::Remote;
pub use crate::reply::{MethodResult, RemoteCause, Reply, reply_result, reply_value};
pub use crate::service::{Call, Dispatch, Interface, Service, Slots};

use crate::kind::Kind;

/// The invocation of a method that returns the `Result` type `R`.
pub type ResultInvocation<R> = Invocation<<R as MethodResult>::Ok, <<R as MethodResult>::Err as RemoteCause>::Received>;

/// The name of a parameter, from an identifier that may be raw.
pub const fn parameter_name(identifier: &str) -> &str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}

/// Stands for the stub where none is wanted.
pub struct NoStub<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

impl<T: ?Sized> fmt::Debug for NoStub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoStub")
    }
}

/// Prints a stub.
pub fn fmt_stub(f: &mut fmt::Formatter<'_>, name: &str, remote: &Remote) -> fmt::Result {
    f.debug_struct(name).field("remote", remote).finish()
}

/// The refusal of a call whose method the service has not. The node looks methods up first, so none gets here.
#[cold]
pub fn no_such_method(call: &Call<'_>) -> Rejection {
    Rejection::new(Kind::NoSuchMethod, format!("there is no method `{}`", call.method()))
}

/// What a method returns, to find out whether it is a `Result` behind another name: `KIND` is [`AResult`] if so, by
/// the inherent constant, and [`NoResult`] for all else, by the trait's.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

/// See [`Returned`].
#[derive(Debug)]
pub struct AResult;

/// See [`Returned`].
#[derive(Debug)]
pub struct NoResult;

impl<T, E> Returned<Result<T, E>> {
    /// See [`Returned`].
    pub const KIND: AResult = AResult;
}

/// See [`Returned`].
pub trait IsNoResult {
    /// See [`Returned`].
    const KIND: NoResult = NoResult;
}

impl<T> IsNoResult for Returned<T> {}

/// What a method that returns an ordinary value is. See [`Returned`].
#[diagnostic::on_unimplemented(
    message = "the type that this method returns is a `Result`, but its name does not end with `Result`",
    label = "this is returned as an ordinary value, errors too",
    note = "mark the method with `#[rmi(fallible)]` if its error is to be raised at the caller",
    note = "mark it with `#[rmi(infallible)]` if the caller is to get the `Result` as a value"
)]
pub trait PlainValue {}

impl PlainValue for NoResult {}

/// Compiles if the argument says that a method returns an ordinary value.
#[inline(always)]
pub fn returns_a_plain_value<T: PlainValue>(_: T) {}
