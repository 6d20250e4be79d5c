//! Remote method invocation between Rust processes.

pub use rmi_core::{
    Args, Blob, CallContext, CallError, Class, Failure, FromCall, Invocation, InvocationException, InvocationFuture,
    Kind, Remote, RemoteCause, RemoteError, Reply, Result, Service, args, inherit, root_exc,
};
pub use rmi_macros::rmi_node;

#[doc(hidden)]
pub mod __private {
    pub use rmi_core::__private::*;
}
