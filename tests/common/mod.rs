//! What the tests of whole nodes share: bounded time, conditions instead of sleeps, and an end of a connection that is
//! no node.

// Each test binary uses its own part of it.
#![allow(dead_code)]

pub(crate) mod proxy;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rmi::{Address, InstanceId, Node, Role};
use rmi_core::frame::{FrameHeader, GoAway, HEADER_LEN, PREAMBLE, frame_type, put_frame};
use rmi_core::hello::{Hello, NodeRecord, PeerLimits};
use rmi_net::seam::{Net, ReadHalf, Stream, WriteHalf};
use rmi_net::transport::SystemNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Join};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The only clock of a test.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// How often a test repeats itself: `few` times as a rule, `many` times where `RMI_FULL` is set.
pub(crate) fn rounds(few: usize, many: usize) -> usize {
    if std::env::var_os("RMI_FULL").is_some() { many } else { few }
}

/// Runs a test, for 30 s at most.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST, test).await.expect("the test took longer than 30 s")
}

/// Runs a test in virtual time, for an hour of it at most, with transports of this process only.
pub(crate) fn virtually<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let hour = Duration::from_secs(3600);
    let run = async { tokio::time::timeout(hour, test).await.expect("the test took longer than an hour, in its time") };
    runtime.expect("no runtime").block_on(run)
}

/// Waits until something is so that nobody announces.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let over = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < over, "not so within 20 s: {what}");
        look.tick().await;
    }
}

/// Waits until no call is under way on any connection of these nodes, in either direction.
pub(crate) async fn until_quiet(nodes: &[&Node]) {
    for node in nodes {
        let is_quiet = || {
            node.snapshot().connections.iter().all(|c| (c.pending_calls, c.running_calls, c.queued_bytes) == (0, 0, 0))
        };
        let mut look = tokio::time::interval(Duration::from_millis(2));
        let over = tokio::time::Instant::now() + Duration::from_secs(20);
        while !is_quiet() {
            assert!(tokio::time::Instant::now() < over, "calls are left on `{}`: {:?}", node.name(), node.snapshot());
            look.tick().await;
        }
    }
}

/// The one connection of a node that takes calls: (instance of the peer, who dialled).
pub(crate) fn only_link(node: &Node) -> (InstanceId, bool) {
    let snapshot = node.snapshot();
    let links: Vec<_> = snapshot.connections.iter().filter(|link| link.takes_calls).collect();
    assert_eq!(links.len(), 1, "{snapshot:?}");
    (links[0].instance, links[0].is_dialer)
}

/// Counts, and can be waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<(AtomicUsize, Notify)>);

impl Counter {
    pub(crate) fn add(&self) -> usize {
        let n = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.notify_waiters();
        n
    }

    pub(crate) fn get(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Waits until it is at least `n`.
    pub(crate) async fn reaches(&self, n: usize) {
        loop {
            let changed = self.0.1.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.get() >= n {
                return;
            }
            changed.await;
        }
    }

    /// Counts when it is dropped.
    pub(crate) fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

#[derive(Debug)]
pub(crate) struct OnDrop(Counter);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// `host:port` of a node's first address.
pub(crate) fn host_port(node: &Node) -> String {
    host_port_of(&node.addresses()[0])
}

pub(crate) fn host_port_of(address: &Address) -> String {
    address.to_string().strip_prefix("tcp://").expect("not TCP").to_owned()
}

/// One end of a connection, frame by frame: a peer that does what it likes.
#[derive(Debug)]
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
    buffer: BytesMut,
}

/// One end of a connection within the process, where time can be virtual.
pub(crate) type MemStream = Join<ReadHalf, WriteHalf>;

impl Raw<MemStream> {
    /// Connects to `mem://name`, and says nothing yet.
    pub(crate) async fn dial_mem(name: &str) -> Self {
        let address = format!("mem://{name}").parse().expect("no address");
        let Stream { reader, writer, .. } = SystemNet.dial(&address).await.expect("cannot connect");
        Self { stream: tokio::io::join(reader, writer), buffer: BytesMut::new() }
    }

    /// Connects to `mem://name` with this Hello, and waits for the node's.
    pub(crate) async fn connect_mem(name: &str, hello: &Hello) -> Self {
        let mut raw = Self::dial_mem(name).await;
        raw.say_hello(hello).await;
        raw.read_preamble().await;
        raw.frame_of(frame_type::HELLO).await;
        raw
    }
}

impl Raw {
    /// Connects, and says nothing yet.
    pub(crate) async fn dial(host_port: &str) -> Self {
        Self { stream: TcpStream::connect(host_port).await.expect("cannot connect"), buffer: BytesMut::new() }
    }

    /// Connects as a client, and exchanges Hellos.
    pub(crate) async fn connect(host_port: &str, name: &str, limits: PeerLimits) -> Self {
        let mut raw = Self::dial(host_port).await;
        raw.say_hello(&hello("default", name, Role::Client, limits)).await;
        raw.read_preamble().await;
        let (header, _) = raw.frame().await.expect("the node closed the connection");
        assert_eq!(header.frame_type, frame_type::HELLO);
        raw
    }

    /// Accepts a connection of a node, and exchanges Hellos.
    pub(crate) async fn accept(listener: &TcpListener, hello: &Hello) -> Self {
        let (stream, _) = listener.accept().await.expect("cannot accept");
        let mut raw = Self { stream, buffer: BytesMut::new() };
        raw.read_preamble().await;
        let (header, _) = raw.frame().await.expect("the node closed the connection");
        assert_eq!(header.frame_type, frame_type::HELLO);
        raw.say_hello(hello).await;
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn say_hello(&mut self, hello: &Hello) {
        let mut out = BytesMut::from(&PREAMBLE[..]);
        put_frame(&mut out, frame_type::HELLO, 0, 0, |out| hello.encode(out));
        self.write(&out).await;
    }

    pub(crate) async fn read_preamble(&mut self) {
        while self.buffer.len() < PREAMBLE.len() {
            let n = self.stream.read_buf(&mut self.buffer).await.expect("cannot read the preamble");
            assert!(n > 0, "the node closed the connection");
        }
        assert_eq!(self.buffer.split_to(PREAMBLE.len()), PREAMBLE[..]);
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("cannot write");
    }

    pub(crate) async fn send(&mut self, frame_type: u8, flags: u8, id: u64, payload: &[u8]) {
        let header = FrameHeader::new(frame_type, id, payload.len()).with_flags(flags);
        self.write(&[&header.encode()[..], payload].concat()).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            if let Some(header) = FrameHeader::decode(&self.buffer).expect("the node sent a bad frame")
                && self.buffer.len() >= HEADER_LEN + header.payload_len
            {
                self.buffer.advance(HEADER_LEN);
                return Some((header, self.buffer.split_to(header.payload_len).to_vec()));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    /// The next frame of this type. Pings are answered meanwhile, others are skipped.
    pub(crate) async fn frame_of(&mut self, frame_type: u8) -> (FrameHeader, Vec<u8>) {
        loop {
            let (header, payload) = self.frame().await.expect("the connection ended");
            if header.frame_type == frame_type {
                return (header, payload);
            }
            if header.frame_type == frame_type::PING {
                self.send(frame_type::PONG, 0, header.id, &[]).await;
            }
        }
    }

    /// The next ping, without an answer.
    pub(crate) async fn frame_of_ping(&mut self) -> (FrameHeader, Vec<u8>) {
        loop {
            let (header, payload) = self.frame().await.expect("the connection ended");
            if header.frame_type == frame_type::PING {
                return (header, payload);
            }
        }
    }

    /// The stream, and what was read of it but not looked at.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Reads until the other end closes, and gives back its last GOAWAY.
    pub(crate) async fn goaway(&mut self) -> Option<GoAway> {
        let mut goaway = None;
        while let Some((header, payload)) = self.frame().await {
            if header.frame_type == frame_type::GOAWAY {
                goaway = Some(GoAway::decode(&payload).expect("a malformed GOAWAY"));
            }
        }
        goaway
    }

    /// Waits for the other end to close, and gives back all that it has sent.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer).to_vec();
        match self.stream.read_to_end(&mut rest).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        rest
    }
}

/// What a peer could say of itself.
pub(crate) fn hello(cluster: &str, name: &str, role: Role, limits: PeerLimits) -> Hello {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let instance = InstanceId(NEXT.fetch_add(1, Ordering::Relaxed) as u64);
    let mut record = NodeRecord::new(instance, name);
    record.role = role;
    Hello::new(cluster, record, limits)
}
