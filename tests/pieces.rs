//! Where the stream is cut means nothing: however the bytes come in and go out, frames and calls are the same.

mod common;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use common::{hello, rounds, until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rmi::{Address, Blob, Node, Role, Value, args, rmi_node};
use rmi_core::frame::{FrameHeader, HEADER_LEN, MIN_PART, PREAMBLE, frame_flag, frame_type, put_frame};
use rmi_core::hello::PeerLimits;
use rmi_net::seam::{BoxFuture, Listener, Net, Seams, Stream, SystemClock, SystemRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

/// What was called, in the order in which the calls came.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Vec<u8>>>>);

#[rmi_node(serial)]
impl Log {
    async fn note(&self, blob: Blob) -> Blob {
        self.0.lock().unwrap().push(blob.to_vec());
        Blob::from(blob.iter().rev().copied().collect::<Vec<u8>>())
    }
}

#[derive(Clone, Default)]
struct Held;

#[rmi_node]
impl Held {
    async fn hold(&self) {
        std::future::pending().await
    }
}

/// How long the pieces are, again and again.
#[derive(Debug, Clone)]
struct Sizes {
    sizes: Vec<usize>,
    n_taken: usize,
}

impl Sizes {
    fn next(&mut self) -> usize {
        self.n_taken += 1;
        self.sizes[self.n_taken % self.sizes.len()]
    }
}

/// The stream of a node's connection: what it is to read, and what it has written.
struct Wire {
    incoming: BytesMut,
    is_at_end: bool,
    reader: Option<Waker>,
    written: Vec<u8>,
    /// Of what is read, and of what is written.
    sizes: [Sizes; 2],
    /// The next piece comes only when others had their turn.
    has_paused: [bool; 2],
}

/// One end of it.
#[derive(Clone)]
struct End(Arc<Mutex<Wire>>);

impl End {
    fn new(sizes: &[usize]) -> Self {
        let sizes = Sizes { sizes: sizes.to_vec(), n_taken: 0 };
        Self(Arc::new(Mutex::new(Wire {
            incoming: BytesMut::new(),
            is_at_end: false,
            reader: None,
            written: Vec::new(),
            sizes: [sizes.clone(), sizes],
            has_paused: [false; 2],
        })))
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }

    fn send(&self, bytes: &[u8]) {
        let mut wire = self.wire();
        wire.incoming.extend_from_slice(bytes);
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut wire = self.wire();
        wire.is_at_end = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The frames that the node has written.
    fn frames(&self) -> Vec<(FrameHeader, Vec<u8>)> {
        let wire = self.wire();
        let mut bytes = wire.written.get(PREAMBLE.len()..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some(header) = FrameHeader::decode(bytes).unwrap() {
            let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN + header.payload_len) else { break };
            frames.push((header, payload.to_vec()));
            bytes = &bytes[HEADER_LEN + header.payload_len..];
        }
        frames
    }

    fn n_frames(&self, wanted: u8) -> usize {
        self.frames().iter().filter(|(header, _)| header.frame_type == wanted).count()
    }
}

impl Wire {
    /// The size of the next piece in this direction, unless it has to wait.
    fn next_piece(&mut self, direction: usize, context: &Context<'_>) -> Option<usize> {
        self.has_paused[direction] ^= true;
        if self.has_paused[direction] {
            context.waker().wake_by_ref();
            return None;
        }
        Some(self.sizes[direction].next())
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire();
        if wire.incoming.is_empty() {
            wire.reader = Some(context.waker().clone());
            return if wire.is_at_end { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let Some(size) = wire.next_piece(0, context) else { return Poll::Pending };
        let n = size.min(wire.incoming.len()).min(out.remaining());
        out.put_slice(&wire.incoming[..n]);
        wire.incoming.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let Some(size) = wire.next_piece(1, context) else { return Poll::Pending };
        let n = size.min(bytes.len());
        wire.written.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A network whose one node accepts what it is given.
#[derive(Debug)]
struct Given(Mutex<Option<mpsc::Receiver<Stream>>>);

impl Net for Given {
    fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>> {
        Box::pin(async move {
            let given = self.0.lock().unwrap().take().ok_or(io::ErrorKind::AddrInUse)?;
            let accepting: Box<dyn Listener> = Box::new(Accepting(given));
            Ok((accepting, address.clone()))
        })
    }
}

struct Accepting(mpsc::Receiver<Stream>);

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { self.0.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }
}

/// `Log.note` of some bytes, which are its attachment.
fn note(bytes: &[u8]) -> Vec<u8> {
    let lengths = [&[0x91, 0xcd][..], &(bytes.len() as u16).to_be_bytes()].concat();
    [&lengths, &[0x92, 0xa8][..], b"Log.note", &[0x91, 0xd6, 0x42, 0, 0, 0, 0], bytes].concat()
}

/// A result that is one blob.
fn blob(bytes: &[u8]) -> Vec<u8> {
    let lengths = [&[0x91, 0xcd][..], &(bytes.len() as u16).to_be_bytes()].concat();
    [&lengths, &[0xd6, 0x42, 0, 0, 0, 0][..], bytes].concat()
}

fn frame(frame_type: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_frame(&mut out, frame_type, flags, id, |out| out.extend_from_slice(payload));
    out.to_vec()
}

/// The frames of a message that is sent in parts, though it is small.
fn in_parts(frame_type: u8, flags: u8, id: u64, message: &[u8], n_first: usize) -> Vec<Vec<u8>> {
    let (first, rest) = message.split_at(n_first);
    let opening = [&(message.len() as u64).to_le_bytes()[..], first].concat();
    let mut frames = vec![frame(frame_type, flags | frame_flag::MORE, id, &opening)];
    let direction = if frame_type == frame_type::RESPONSE { frame_flag::RESPONSE } else { 0 };
    let parts: Vec<_> = rest.chunks(MIN_PART).collect();
    for (nth, part) in parts.iter().enumerate() {
        let more = if nth + 1 < parts.len() { frame_flag::MORE } else { 0 };
        frames.push(frame(frame_type::PART, direction | more, id, part));
    }
    frames
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|n| (n * n / 7) as u8).collect()
}

/// Calls of the other end and answers to three of the node, of every shape, one between the other.
fn script() -> Vec<u8> {
    let mut request = in_parts(frame_type::REQUEST, frame_flag::ATTACHMENTS, 3, &note(&bytes(13_000)), 1).into_iter();
    let response = in_parts(frame_type::RESPONSE, frame_flag::ATTACHMENTS, 2, &blob(&bytes(9_000)), 4096);
    let mut response = response.into_iter();
    let hold = [&[0x91, 0xa9][..], b"Held.hold"].concat();
    let mut script = vec![
        frame(frame_type::REQUEST, frame_flag::ATTACHMENTS, 1, &note(&bytes(100))),
        frame(0x05, 0, 0, &bytes(300)),
        frame(frame_type::REQUEST, 0, 2, &hold),
    ];
    script.extend(request.next());
    script.extend(response.next());
    script.push(frame(frame_type::PING, 0, 7, &[]));
    script.extend(request.next());
    script.push(frame(frame_type::CANCEL, 0, 2, &[]));
    script.extend(response.next());
    script.push(frame(frame_type::RESPONSE, 0, 1, &[0x2a]));
    script.push(frame(frame_type::REQUEST, 0, 4, &[0xc1]));
    script.extend(request);
    script.push(frame(frame_type::RESPONSE, frame_flag::EXCEPTION, 3, &[0x82, 0, 1, 3, 0xa3, b'w', b'h', b'y']));
    script.push(frame(frame_type::REQUEST, frame_flag::ATTACHMENTS, 5, &note(&[])));
    script.extend(response);
    script.concat()
}

/// What came of a connection.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    calls: Vec<Vec<u8>>,
    /// Bytes of its large request.
    parts: Vec<u8>,
    /// Id, flags and payload.
    answers: Vec<(u64, u8, Vec<u8>)>,
    results: (u8, Bytes, String),
    n_pongs: usize,
}

struct Subject {
    runtime: Runtime,
    node: Node,
    log: Log,
    given: mpsc::Sender<Stream>,
}

impl Subject {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let log = Log::default();
        let (given, accepting) = mpsc::channel(1);
        let node = runtime.block_on(async {
            let seams = Seams {
                net: Arc::new(Given(Mutex::new(Some(accepting)))),
                clock: Arc::new(SystemClock::new(Handle::current())),
                rng: Arc::new(SystemRng::seeded(1)),
            };
            let node = Node::builder().name("node").listen("mem://pieces").seams(seams);
            node.serve(log.clone()).serve(Held).start().await.unwrap()
        });
        Self { runtime, node, log, given }
    }

    /// A whole connection, of which the bytes come and go in pieces of these sizes.
    fn talk(&self, sizes: &[usize]) -> Seen {
        self.runtime.block_on(async {
            let end = End::new(sizes);
            let stream = Stream::new(end.clone(), end.clone(), "elsewhere".to_owned());
            self.given.send(stream).await.expect("the node has ended");
            let mut greeting = BytesMut::from(&PREAMBLE[..]);
            let hello = hello("default", "end", Role::Client, PeerLimits::default());
            put_frame(&mut greeting, frame_type::HELLO, 0, 0, |out| hello.encode(out));
            end.send(&greeting);
            let peer = self.node.peer("end").await.unwrap();
            let number = peer.invoke::<u8>("End.number", args![1]).send();
            let large = peer.invoke::<Blob>("End.large", args![Blob::from(bytes(70_000))]).send();
            let error = peer.invoke::<Value>("End.error", args![]).send();
            let has_called = || end.n_frames(frame_type::REQUEST) == 3 && end.n_frames(frame_type::PART) == 2;
            until("the node has called", has_called).await;
            end.send(&script());
            let results = (number.await.unwrap(), large.await.unwrap().into(), error.await.unwrap_err().to_string());
            until("the node has answered", || end.n_frames(frame_type::RESPONSE) == 4).await;
            let is_quiet = || self.node.snapshot().connections.iter().all(|link| link.running_calls == 0);
            until("the call that was cancelled is gone", is_quiet).await;
            assert_eq!(end.n_frames(frame_type::GOAWAY), 0);
            let frames = end.frames();
            let parts = frames.iter().filter(|(header, _)| header.frame_type == frame_type::PART);
            let parts = parts.flat_map(|(_, payload)| payload).copied().collect();
            let answers = frames.into_iter().filter(|(header, _)| header.frame_type == frame_type::RESPONSE);
            let mut answers: Vec<_> = answers.map(|(header, payload)| (header.id, header.flags, payload)).collect();
            answers.sort();
            let n_pongs = end.n_frames(frame_type::PONG);
            end.close();
            until("the connection has ended", || self.node.snapshot().connections.is_empty()).await;
            Seen { calls: std::mem::take(&mut *self.log.0.lock().unwrap()), parts, answers, results, n_pongs }
        })
    }
}

#[test]
fn however_the_stream_is_cut_the_frames_and_calls_are_the_same() {
    let subject = Subject::start();
    let whole = subject.talk(&[usize::MAX]);
    assert_eq!(whole.calls, [bytes(100), bytes(13_000), Vec::new()]);
    assert!(bytes(70_000).ends_with(&whole.parts) && whole.parts.len() > 60_000, "{} bytes", whole.parts.len());
    assert_eq!(whole.answers.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert_eq!((whole.results.0, &whole.results.1[..], whole.n_pongs), (42, &bytes(9_000)[..], 1));
    for size in 1..=8 {
        assert_eq!(subject.talk(&[size]), whole, "in pieces of {size}");
    }
    let size = prop_oneof![4 => 1usize..20, 3 => 1usize..300, 2 => 1usize..6_000, 1 => Just(usize::MAX)];
    let config = Config { failure_persistence: None, ..Config::with_cases(rounds(300, 10_000) as u32) };
    let cases = proptest::collection::vec(size, 1..40);
    TestRunner::new(config)
        .run(&cases, |sizes| {
            prop_assert_eq!(&subject.talk(&sizes), &whole);
            Ok(())
        })
        .unwrap();
}
