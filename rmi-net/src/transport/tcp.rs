//! TCP, without Nagle's delay on either end.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use crate::address::{Address, DEFAULT_PORT};
use crate::seam::{BoxFuture, Listener, Stream};

/// How many ports after the default one are tried.
const NEXT_PORTS: u16 = 1000;

pub(super) async fn dial(host: &str, port: Option<u16>) -> io::Result<Stream> {
    stream(TcpStream::connect((host, port.unwrap_or(DEFAULT_PORT))).await?)
}

pub(super) async fn listen(host: &str, port: Option<u16>) -> io::Result<(Box<dyn Listener>, Address)> {
    let listener = match port {
        Some(port) => TcpListener::bind((host, port)).await?,
        None => listen_from_default(host).await?,
    };
    let port = Some(listener.local_addr()?.port());
    Ok((Box::new(Tcp(listener)), Address::Tcp { host: host.to_owned(), port }))
}

async fn listen_from_default(host: &str) -> io::Result<TcpListener> {
    let mut port = DEFAULT_PORT;
    loop {
        match TcpListener::bind((host, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < DEFAULT_PORT + NEXT_PORTS => port += 1,
            bound => return bound,
        }
    }
}

struct Tcp(TcpListener);

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { stream(self.0.accept().await?.0) })
    }
}

fn stream(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let remote = stream.peer_addr()?.to_string();
    let (reader, writer) = stream.into_split();
    Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), remote })
}
