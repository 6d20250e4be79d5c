//! Connections within a process. Names are the process's own; a name is free again when its listener is dropped.

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;

use tokio::sync::mpsc;

use crate::address::Address;
use crate::seam::{BoxFuture, Listener, Stream};
use crate::sync::{Mutex, lock};

/// Bytes under way in each direction.
const BUFFER: usize = 256 << 10;

/// Connections that wait to be accepted, for each name.
const BACKLOG: usize = 128;

/// The listeners of this process.
static LISTENERS: LazyLock<Mutex<HashMap<String, mpsc::Sender<Stream>>>> = LazyLock::new(Default::default);

pub(super) fn dial(name: &str) -> io::Result<Stream> {
    let (near, far) = tokio::io::duplex(BUFFER);
    let listener = lock(&LISTENERS).get(name).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
    listener.try_send(stream(far, name)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
    Ok(stream(near, name))
}

pub(super) fn listen(name: &str) -> io::Result<(Box<dyn Listener>, Address)> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let mut listeners = lock(&LISTENERS);
    if listeners.contains_key(name) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    listeners.insert(name.to_owned(), sender);
    Ok((Box::new(Mem { name: name.to_owned(), receiver }), Address::Mem(name.to_owned())))
}

struct Mem {
    name: String,
    receiver: mpsc::Receiver<Stream>,
}

impl Listener for Mem {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        // The sender stands in the table as long as this listener lives.
        Box::pin(async { self.receiver.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        lock(&LISTENERS).remove(&self.name);
    }
}

fn stream(stream: tokio::io::DuplexStream, name: &str) -> Stream {
    let (reader, writer) = tokio::io::split(stream);
    Stream::new(reader, writer, name.to_owned())
}
