//! The three kinds of network below: TCP, Unix sockets, and memory within a process.

mod mem;
mod tcp;
#[cfg(unix)]
mod unix;

use std::io;

use crate::address::Address;
use crate::seam::{BoxFuture, Listener, Net, Stream};

/// The sockets of the system.
#[derive(Debug, Default)]
pub struct SystemNet;

impl Net for SystemNet {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            match address {
                Address::Tcp { host, port } => tcp::dial(host, *port).await,
                #[cfg(unix)]
                Address::Unix(path) => unix::dial(path).await,
                #[cfg(not(unix))]
                Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
                Address::Mem(name) => mem::dial(name),
            }
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>> {
        Box::pin(async move {
            match address {
                Address::Tcp { host, port } => tcp::listen(host, *port).await,
                #[cfg(unix)]
                Address::Unix(path) => unix::listen(path).await,
                #[cfg(not(unix))]
                Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
                Address::Mem(name) => mem::listen(name),
            }
        })
    }
}
