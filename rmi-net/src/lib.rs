//! Nodes, peers and connections of RMI.
mod address;
mod connection;
mod host;
mod limits;
pub mod seam;
mod sync;
pub mod transport;
pub use address::*;
pub use connection::HandshakeError;
pub use host::ServeError;
pub use limits::Limits;
