//! Every order in which a few threads can touch a connection, tried by loom: see CONTRIBUTING.md for how to run them.
//!
//! The connections are real, with real locks and atomics of loom's; their tasks are not started. What the tasks would
//! do the threads of a test do, through the same functions, and what a test calls the wire is memory. No test has more
//! than three threads, and orders in which a thread is interrupted more than twice are left out
//! (`LOOM_MAX_PREEMPTIONS`).

mod calls;
mod canonical;
mod ending;
mod inline;
mod permits;
mod writing;

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Wake};

use bytes::Buf;
use rmi_core::args::Args;
use rmi_core::frame::{FrameHeader, HEADER_LEN};
use rmi_core::hello::{NodeRecord, PeerLimits};
use rmi_core::message::{Request, Response, Target};
use rmi_core::transport::{Started, Ticket};
use tokio::io::AsyncWrite;
use tokio::runtime::Runtime;

use super::batch::{Batch, Settling};
use super::*;
use crate::seam::BoxFuture;

impl Connection {
    /// An answer has come, and nothing with it.
    fn answered(&self, id: u64, response: Response) -> bool {
        let mut batch = Batch::default();
        batch.answered(id, response);
        self.settle(&mut batch, Settling::End)
    }
}

/// Tries every order of the threads that `test` starts.
fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(2);
    model.max_branches = model.max_branches.max(10_000);
    model.check(test);
}

/// Runs a future on this thread. Loom notices if nobody will ever wake it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parked = Arc::new(Parked(loom::sync::Notify::new()));
    let waker = Waker::from(Arc::clone(&parked));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => parked.0.wait(),
        }
    }
}

struct Parked(loom::sync::Notify);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// A task that somebody else runs: whether it was woken since it last ran.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// The writer task of a connection, which has started, and runs when a test lets it.
struct WriterTask {
    future: BoxFuture<'static, ()>,
    woken: Arc<Woken>,
}

impl WriterTask {
    fn start(connection: &Arc<Connection>) -> Self {
        let mut this = Self { future: Box::pin(writer::run(Arc::clone(connection))), woken: Arc::default() };
        this.poll();
        this.run();
        this
    }

    /// Runs for as long as it is woken.
    fn run(&mut self) {
        while self.woken.0.swap(false, std::sync::atomic::Ordering::SeqCst) {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let _ = self.future.as_mut().poll(&mut Context::from_waker(&waker));
    }
}

/// What the system has taken of a connection, and how much more it takes.
#[derive(Clone)]
struct Wire(Arc<std::sync::Mutex<Written>>);

struct Written {
    bytes: BytesMut,
    room: usize,
    waker: Option<Waker>,
    is_shut_down: bool,
}

impl Wire {
    fn new(room: usize) -> Self {
        let written = Written { bytes: BytesMut::new(), room, waker: None, is_shut_down: false };
        Self(Arc::new(std::sync::Mutex::new(written)))
    }

    /// Takes that many bytes more.
    fn make_room(&self, n: usize) {
        let waker = {
            let mut written = self.0.lock().unwrap();
            written.room += n;
            written.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The whole frames that were written.
    fn frames(&self) -> Vec<FrameHeader> {
        let mut bytes = self.0.lock().unwrap().bytes.clone();
        let mut frames = Vec::new();
        while let Some(header) =
            FrameHeader::decode(&bytes).unwrap().filter(|h| bytes.len() >= HEADER_LEN + h.payload_len)
        {
            bytes.advance(HEADER_LEN + header.payload_len);
            frames.push(header);
        }
        frames
    }

    /// The ids of the whole frames of this type that were written.
    fn ids(&self, frame_type: u8) -> Vec<u64> {
        self.frames().iter().filter(|header| header.frame_type == frame_type).map(|header| header.id).collect()
    }

    fn is_shut_down(&self) -> bool {
        self.0.lock().unwrap().is_shut_down
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = self.0.lock().unwrap();
        assert!(!written.is_shut_down, "something was written after the end");
        let n = bytes.len().min(written.room);
        if n == 0 {
            written.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        written.room -= n;
        written.bytes.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

/// Time that stands still.
#[derive(Debug)]
struct Stopped(Instant);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        self.0
    }

    fn sleep_until(&self, _: Instant) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct NoWatcher;

impl Watcher for NoWatcher {
    fn on_peers(&self, _: &Arc<Connection>, _: Vec<NodeRecord>) {}
    fn on_goaway(self: Arc<Self>, _: &Arc<Connection>, _: GoAwayReason) {}
    fn on_closed(&self, _: &Connection) {}

    fn connections(&self) -> Vec<Arc<Connection>> {
        Vec::new()
    }
}

/// One end of a connection to the node `peer`, and the wire that it writes to.
fn end_of(peer: InstanceId, is_dialer: bool, limits: Limits, host: &Arc<Host>, room: usize) -> (Arc<Connection>, Wire) {
    /// Nothing runs on it. Its locks are not loom's.
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
    let wire = Wire::new(room);
    let mut record = NodeRecord::new(peer, "peer");
    record.role = rmi_core::hello::Role::Member;
    let hello = Hello::new("cluster", record, PeerLimits { in_flight: 2, ..limits.for_peers() });
    let stream = Stream::new(tokio::io::empty(), wire.clone(), "memory".to_owned());
    let watcher: Weak<NoWatcher> = Weak::new();
    let (connection, _) = Connection::new(Parts {
        greeting: Greeting { hello, stream, buffer: BytesMut::new() },
        is_dialer,
        host: Arc::clone(host),
        limits: limits.into(),
        default_timeout: None,
        clock: Arc::new(Stopped(Instant::now())),
        runtime: runtime.handle().clone(),
        watcher,
        caller: Box::new(|_, name| Caller::new(Arc::clone(name))),
    });
    (connection, wire)
}

fn host(limits: &Limits) -> Arc<Host> {
    Arc::new(Host::new("node".into(), limits.clone()))
}

/// A connection whose writer task has started, to a system that takes `room` bytes.
fn connection(limits: Limits, room: usize) -> (Arc<Connection>, Wire, WriterTask) {
    let (connection, wire) = end_of(InstanceId(1), true, limits.clone(), &host(&limits), room);
    let writer = WriterTask::start(&connection);
    (connection, wire, writer)
}

fn request() -> Request {
    Request::new(Target::by_name("method"), Args::new())
}

/// One that is a little larger than this.
fn request_of(len: usize) -> Request {
    let mut args = Args::new();
    args.push(&vec![7u8; len]);
    Request::new(Target::by_name("method"), args)
}

fn answer() -> Response {
    Response::Value(nil())
}

/// There is no other connection.
struct Nowhere;

impl Detour for Nowhere {
    fn start_anew(&self, _: &mut Request) -> Started {
        Started::refused(CallError::new(Kind::NotConnected, "there is no other connection"))
    }
}

/// Starts a call, which has no other connection to take.
fn start(connection: &Arc<Connection>, mut request: Request) -> Option<Started> {
    Arc::clone(connection).start(&mut request, None, &Weak::<Nowhere>::new())
}

/// Starts a call that goes out at once.
fn call(connection: &Arc<Connection>, request: Request) -> Ticket {
    match start(connection, request) {
        Some(Started::Sent(ticket)) => ticket,
        other => panic!("the call was not sent: {other:?}"),
    }
}

/// Nothing is left of any call, and the ids of requests were used once.
fn assert_quiet(connection: &Connection, wire: &Wire) {
    assert_eq!(connection.load(), (0, 0, 0), "pending calls, running calls, bytes that wait");
    let requests = wire.ids(frame_type::REQUEST);
    assert_eq!(requests.iter().collect::<HashSet<_>>().len(), requests.len(), "{requests:?}");
}
