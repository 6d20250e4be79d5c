//! TCP, without Nagle's delay on either end.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::address::{Address, DEFAULT_PORT};
use crate::seam::{BoxFuture, Listener, ReadHalf, Stream, WriteHalf};

/// How many ports after the default one are tried.
const NEXT_PORTS: u16 = 1000;

pub(super) async fn dial(host: &str, port: Option<u16>) -> io::Result<Stream> {
    let stream = TcpStream::connect((host, port.unwrap_or(DEFAULT_PORT))).await?;
    let remote = stream.peer_addr()?;
    ready(stream, remote)
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
        Box::pin(async {
            loop {
                // A stream that was reset already is no failure of the listener: the next one is taken.
                match self.0.accept().await {
                    Ok((stream, remote)) => match ready(stream, remote) {
                        Ok(stream) => return Ok(stream),
                        Err(error) => tracing::debug!(%remote, "a connection ended before it began: {error}"),
                    },
                    Err(error) if is_of_stream(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }
}

/// Whether `accept` has failed because of the one stream that it was about to give.
fn is_of_stream(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn ready(stream: TcpStream, remote: SocketAddr) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Stream { reader: ReadHalf::Tcp(reader), writer: WriteHalf::Tcp(writer), remote: remote.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_was_reset_before_it_was_accepted_is_no_failure() {
        let (mut listener, address) = listen("127.0.0.1", Some(0)).await.unwrap();
        let Address::Tcp { host, port: Some(port) } = address else { panic!("{address}") };
        for _ in 0..10 {
            let stranger = TcpStream::connect((host.as_str(), port)).await.unwrap();
            // Resets the connection when it is dropped.
            #[allow(deprecated, reason = "what replaces it is newer than the oldest tokio that is allowed")]
            stranger.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        let peer = TcpStream::connect((host.as_str(), port)).await.unwrap();
        let ours = peer.local_addr().unwrap().to_string();
        while listener.accept().await.unwrap().remote != ours {}
    }
}
