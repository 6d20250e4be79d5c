//! Remote method invocation between Rust processes.

pub use rmi_core::{
    Args, Blob, CallContext, CallError, Class, Failure, FromCall, Invocation, InvocationException, InvocationFuture,
    Kind, Remote, RemoteCause, RemoteError, Reply, Result, Service, Value, args, inherit, root_exc,
};
pub use rmi_macros::rmi_node;
#[cfg(feature = "net")]
pub use rmi_net::{
    Address, AddressError, Connect, ConnectError, ConnectionSnapshot, DEFAULT_PORT, HandshakeError, InstanceId,
    IntoAddress, Limits, LookupError, MethodDescription, Node, NodeBuilder, NodeDescription, ParamDescription,
    ParamKind, Peer, PeerEvent, PeerEvents, PeerInfo, PeerLookup, PeerState, Peers, Role, ServeError,
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
