//! What generated code names. Not part of the API: it changes without notice.

pub use std::sync::Arc;
pub use std::time::Duration;

pub use crate::args::Args;
pub use crate::context::{CallContext, FromCall};
pub use crate::descriptor::{Execution, MethodDescriptor, ParamDescriptor, ServiceDescriptor};
pub use crate::invocation::Invocation;
pub use crate::local::local;
pub use crate::message::{Name, Response};
pub use crate::reply::{MethodResult, RemoteCause, Reply, reply_result, reply_value};
pub use crate::service::{Call, Dispatch, Interface, Rejection, Service, Slots};
pub use crate::transport::Remote;

/// The invocation of a method that returns the `Result` type `R`.
pub type ResultInvocation<R> = Invocation<<R as MethodResult>::Ok, <<R as MethodResult>::Err as RemoteCause>::Received>;

/// The name of a parameter, from an identifier that may be raw.
pub const fn parameter_name(identifier: &str) -> &str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}
