//! Nodes, peers and connections of RMI. Programs use this crate through `rmi`.
//!
//! In reading order: [`Node`] and [`NodeBuilder`] (this process's endpoint), [`Peer`] and [`Peers`] (the others), then,
//! inside, `peers::table` (who is there and whom to dial), `connection` (one full-duplex link), `host` (what is offered
//! and where methods run), [`transport`] and [`seam`] (what is below).

mod address;
mod budget;
mod cached;
mod connect;
mod connection;
mod describe;
mod halves;
mod here;
mod host;
mod limits;
mod mutant;
mod node;
mod pace;
mod peer;
mod peers;
mod report;
#[doc(hidden)]
pub mod seam;
mod snapshot;
mod spare;
mod sync;
mod tasks;
#[doc(hidden)]
pub mod transport;

pub use address::{Address, AddressError, DEFAULT_PORT, IntoAddress};
pub use connect::{Connect, ConnectError, connect};
pub use connection::HandshakeError;
pub use describe::{MethodDescription, NodeDescription, ParamDescription, ParamKind, ServiceDescription};
#[doc(hidden)]
pub use here::local;
pub use host::ServeError;
pub use limits::Limits;
pub use node::{
    LookupError, Node, NodeBuilder, PeerEvents, PeerLookup, Peers, Shutdown, Start, StartError, WaitError, WaitFor,
};
pub use peer::Peer;
pub use peers::{PeerEvent, PeerInfo, PeerState};
pub use rmi_core::hello::{InstanceId, Role};
pub use snapshot::{ConnectionSnapshot, MethodSnapshot, Snapshot};
// Its `Handle` stands in a public signature.
#[doc(no_inline)]
pub use tokio;
