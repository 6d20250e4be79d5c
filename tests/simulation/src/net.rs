//! The network of a simulated node: turmoil's TCP behind the seam, with readers that can be slow and writes that can be
//! short.
//!
//! Every stream that opens or closes is in the ledger, and every read and write in the hash of its trace.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rmi_net::Address;
use rmi_net::seam::{BoxFuture, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::ledger::{Ledger, Process};

/// The name of a node, which is its host's name too.
pub fn host_name(node: usize) -> String {
    format!("n{node}")
}

/// The number in a host's name.
pub(crate) fn node_number(host: &str) -> Option<usize> {
    host.strip_prefix('n')?.parse().ok()
}

/// How the streams of one node behave.
#[derive(Debug, Default)]
pub struct Conduct {
    /// Milliseconds of the simulation until which nothing is read.
    slow_until: AtomicU64,
    /// The most bytes of one read and of one write; 0 for any number.
    most_at_once: usize,
}

impl Conduct {
    /// Streams that move at most this many bytes at once, if that is not 0.
    pub fn new(most_at_once: usize) -> Self {
        Self { slow_until: AtomicU64::new(0), most_at_once }
    }

    /// Nothing is read until then.
    pub fn slow_until(&self, time: Duration) {
        self.slow_until.store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long a reader has to wait now.
    fn wait(&self) -> Option<Duration> {
        let now = turmoil::sim_elapsed()?;
        let until = Duration::from_millis(self.slow_until.load(Ordering::Relaxed));
        until.checked_sub(now).filter(|wait| !wait.is_zero())
    }
}

/// The sockets of one process.
#[derive(Debug, Clone)]
pub struct SimulatedNet {
    process: Process,
    conduct: Arc<Conduct>,
    ledger: Arc<Ledger>,
}

impl SimulatedNet {
    /// The sockets of this process.
    pub fn new(process: Process, conduct: Arc<Conduct>, ledger: Arc<Ledger>) -> Self {
        Self { process, conduct, ledger }
    }

    fn stream(&self, stream: TcpStream, other: usize, is_dialer: bool) -> io::Result<Stream> {
        let remote = stream.peer_addr()?.to_string();
        let (reader, writer) = stream.into_split();
        self.ledger.opened(self.process, other, is_dialer);
        let end = Arc::new(StreamEnd { net: self.clone(), other, is_dialer });
        let reader = Reader { inner: reader, end: Arc::clone(&end), wait: None };
        Ok(Stream::new(reader, Writer { inner: writer, end }, remote))
    }
}

impl Net for SimulatedNet {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let Address::Tcp { host, port: Some(port) } = address else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let other = node_number(host).ok_or(io::ErrorKind::NotFound)?;
            self.stream(TcpStream::connect((host.as_str(), *port)).await?, other, true)
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>> {
        Box::pin(async move {
            let Address::Tcp { port: Some(port), .. } = address else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            // The only address on which turmoil listens for other hosts.
            let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), *port)).await?;
            let listener: Box<dyn Listener> = Box::new(Accepting { listener, net: self.clone() });
            Ok((listener, address.clone()))
        })
    }
}

struct Accepting {
    listener: TcpListener,
    net: SimulatedNet,
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let (stream, remote) = self.listener.accept().await?;
            let host = turmoil::reverse_lookup(remote.ip());
            let other = host.as_deref().and_then(node_number).ok_or(io::ErrorKind::NotFound)?;
            self.net.stream(stream, other, false)
        })
    }
}

/// One end of a stream; dropped with the later of its halves.
struct StreamEnd {
    net: SimulatedNet,
    other: usize,
    is_dialer: bool,
}

impl StreamEnd {
    fn most(&self, n: usize) -> usize {
        match self.net.conduct.most_at_once {
            0 => n,
            most => n.min(most),
        }
    }

    fn moved(&self, is_read: bool, n: usize) {
        self.net.ledger.absorb((self.net.process, self.other, is_read, n));
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.net.ledger.closed(self.net.process, self.other, self.is_dialer);
    }
}

impl fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with n{}", self.net.process, self.other)
    }
}

struct Reader {
    inner: turmoil::net::tcp::OwnedReadHalf,
    end: Arc<StreamEnd>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(wait) = this.end.net.conduct.wait() {
            let sleep = this.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            ready!(sleep.as_mut().poll(context));
            this.wait = None;
        }
        let most = this.end.most(buffer.remaining());
        let mut part = buffer.take(most);
        let read = ready!(Pin::new(&mut this.inner).poll_read(context, &mut part));
        let n = part.filled().len();
        // What `take` gives is filled, but does not count as filled in the whole.
        let bytes = part.filled().to_vec();
        buffer.put_slice(&bytes);
        this.end.moved(true, n);
        Poll::Ready(read)
    }
}

struct Writer {
    inner: turmoil::net::tcp::OwnedWriteHalf,
    end: Arc<StreamEnd>,
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.end.most(bytes.len());
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..most]));
        self.end.moved(false, written.as_ref().map_or(0, |n| *n));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.moved(false, 0);
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
