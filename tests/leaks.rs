//! Whatever becomes of a call, nothing of it is left behind: no memory, no task, no permit, no descriptor.
//!
//! The tests of this file take turns, because they look at the accounts of the whole process. A timer of tokio's is a
//! part of the future that waits for it, so one that is left over shows in the memory.

mod common;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use common::{Counter, Raw, host_port, rounds, until, until_quiet};
use peak_alloc::PeakAlloc;
use rmi::{Blob, Invocation, Kind, Limits, Node, Peer, args, rmi_node};
use rmi_core::frame::{FrameHeader, HEADER_LEN, frame_flag, frame_type, put_frame};
use rmi_core::hello::PeerLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What may be on the heap at the end beyond what was there at the beginning: rows and tables that have once grown.
const KEPT: usize = 64 << 10;

/// The same while a connection is there, whose two ends keep three buffers of 64 KiB each.
const KEPT_BY_LINK: usize = KEPT + 2 * 3 * (64 << 10);

/// A limit of calls that is reached.
const FEW: usize = 8;

/// Runs a test on a runtime of its own, while no other test of this file runs.
fn alone(test: impl Future<Output = ()>) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let longest = Duration::from_secs(rounds(60, 600) as u64);
        tokio::time::timeout(longest, test).await.expect("the test took too long");
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// What the process has in use.
#[derive(Debug, Clone, Copy)]
struct Accounts {
    heap: usize,
    n_tasks: usize,
    n_descriptors: usize,
}

impl Accounts {
    fn now() -> Self {
        let n_descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self { heap: HEAP.current_usage(), n_tasks: Handle::current().metrics().num_alive_tasks(), n_descriptors }
    }

    /// Waits until no more is in use than there was, but for so much on the heap.
    async fn are_back(self, kept: usize) {
        let is_back = || {
            let now = Self::now();
            now.heap <= self.heap + kept && now.n_tasks <= self.n_tasks && now.n_descriptors <= self.n_descriptors
        };
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let over = tokio::time::Instant::now() + Duration::from_secs(20);
        while !is_back() {
            assert!(tokio::time::Instant::now() < over, "it was {self:?}, and is {:?}", Self::now());
            look.tick().await;
        }
    }
}

#[derive(Clone, Default)]
struct Store {
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
    n_begun: Arc<AtomicUsize>,
    go_on: Arc<Notify>,
    is_open: Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
    ended: Counter,
}

/// A method that runs.
struct Runs(Arc<AtomicUsize>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[rmi_node]
impl Store {
    async fn one(&self) -> u32 {
        1
    }

    async fn size(&self, blob: Blob) -> usize {
        blob.len()
    }

    async fn large(&self, n_bytes: usize) -> Blob {
        Blob::from(vec![1; n_bytes])
    }

    /// Ends when it is told to.
    async fn wait(&self) {
        let go_on = self.go_on.notified();
        tokio::pin!(go_on);
        go_on.as_mut().enable();
        let _runs = self.runs();
        go_on.await;
    }

    /// Does not end before it is told to, cancelled or not.
    fn stuck(&self) {
        let _runs = self.runs();
        let (is_open, opened) = &*self.is_open;
        let is_open = is_open.lock().unwrap();
        drop(opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }

    /// Has its caller wait.
    async fn nested(&self, caller: &Peer) -> rmi::Result<()> {
        let _runs = self.runs();
        Ok(StoreStub::new(caller).wait().await?)
    }

    #[rmi(oneway)]
    async fn note(&self, bytes: Vec<u8>) {
        std::hint::black_box(bytes);
        self.ended.add();
    }

    #[rmi(skip)]
    fn runs(&self) -> Runs {
        self.n_begun.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        Runs(Arc::clone(&self.running))
    }

    #[rmi(skip)]
    fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

struct Two {
    nodes: [Node; 2],
    stores: [Store; 2],
    /// The second as seen from the first.
    stub: StoreStub,
    peer: Peer,
}

impl Two {
    async fn start(limits: &Limits) -> Self {
        let stores = [Store::default(), Store::default()];
        let builder = |name: &str, store: &Store| {
            Node::builder().name(name).listen("tcp://127.0.0.1:0").limits(limits.clone()).serve(store.clone())
        };
        let a = builder("a", &stores[0]).start().await.unwrap();
        let b = builder("b", &stores[1]).seeds(a.addresses()).start().await.unwrap();
        let peer = a.peer("b").await.unwrap();
        b.peer("a").await.unwrap();
        Self { nodes: [a, b], stores, stub: StoreStub::new(&peer), peer }
    }

    async fn quiet(&self) {
        until_quiet(&[&self.nodes[0], &self.nodes[1]]).await;
        for store in &self.stores {
            until("every method has ended", || store.running.load(Ordering::SeqCst) == 0).await;
        }
    }
}

/// Polls a future so many times, with a wake-up or a few turns of others in between, and drops it.
async fn poll_and_drop<F: Future + Unpin>(mut future: F, n_polls: usize, n_turns: usize) {
    for _ in 0..n_polls {
        let ended = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context).is_ready())).await;
        if ended {
            return;
        }
        for _ in 0..n_turns {
            tokio::task::yield_now().await;
        }
    }
}

type Call = Box<dyn Future<Output = ()> + Send + Unpin>;

fn call<T: serde::de::DeserializeOwned + 'static>(invocation: Invocation<T>) -> Call {
    let mut future = invocation.into_future();
    Box::new(poll_fn(move |context| Pin::new(&mut future).poll(context).map(drop)))
}

/// Calls of every kind: each waits at other places.
fn kinds(peer: &Peer) -> Vec<(&'static str, Call)> {
    let stub = StoreStub::new(peer);
    let hour = Duration::from_secs(3600);
    vec![
        ("small", call(stub.one())),
        ("small, with a deadline", call(stub.one().with_timeout(hour))),
        ("that waits", call(stub.wait())),
        ("that waits, with a deadline", call(stub.wait().with_timeout(hour))),
        ("that waits, with a deadline that passes", call(stub.wait().with_timeout(Duration::from_millis(1)))),
        ("in parts", call(stub.size(Blob::from(vec![1; 300 << 10])))),
        ("in parts, with a deadline", call(stub.size(Blob::from(vec![1; 100 << 10])).with_timeout(hour))),
        ("answered in parts", call(stub.large(300 << 10))),
        ("answered in parts, with a deadline", call(stub.large(100 << 10).with_timeout(hour))),
        ("nested", call(stub.nested())),
        ("nested, with a deadline", call(stub.nested().with_timeout(hour))),
        ("that does not exist", call(peer.invoke::<u32>("Store.nothing", args![]))),
        ("one way", call(stub.note(vec![1; 10]))),
        ("one way, in parts", call(stub.note(vec![1; 100 << 10]))),
    ]
}

async fn drop_at_every_point(two: &Two, n: usize) {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let peer = two.peer.clone();
        tasks.spawn(async move {
            let mut random = task as u64 + 1;
            let mut made = 0;
            while made < n / 8 {
                for (_, call) in kinds(&peer) {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    poll_and_drop(call, (random >> 60) as usize % 5, (random >> 40) as usize % 4).await;
                    made += 1;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    two.quiet().await;
}

/// Calls again while the peer is busy: it may still be about to read what was sent without an answer, or cancelled.
async fn wait_for_a_place(stub: StoreStub) {
    while let Err(error) = stub.wait().await {
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    }
}

#[test]
fn a_call_that_is_dropped_at_any_point_leaves_nothing_behind() {
    alone(async {
        let start_and_drop = async |limits: &Limits, n: usize| {
            let two = Two::start(limits).await;
            drop_at_every_point(&two, 500).await;
            let before = Accounts::now();
            drop_at_every_point(&two, n).await;
            before.are_back(KEPT_BY_LINK).await;
            println!("before: {before:?}, after: {:?}", Accounts::now());
            // All places are free.
            let calls: Vec<_> = (0..FEW).map(|_| tokio::spawn(wait_for_a_place(two.stub.clone()))).collect();
            until("all of them run", || two.stores[1].running.load(Ordering::SeqCst) == FEW).await;
            two.stores[1].go_on.notify_waiters();
            for call in calls {
                call.await.unwrap();
            }
            for node in two.nodes {
                node.shutdown(Duration::from_secs(1)).await;
            }
        };
        // Few places and little room: some of the calls wait for them.
        for limits in [Limits::default(), Limits::default().with_calls_per_peer(FEW).with_queue_bytes(128 << 10)] {
            start_and_drop(&limits, 500).await;
            let before = Accounts::now();
            start_and_drop(&limits, rounds(1_200, 10_000)).await;
            // Without the nodes all is gone.
            before.are_back(KEPT).await;
        }
    });
}

/// What a peer has seen of calls.
#[derive(Default)]
struct Seen {
    /// By id: requests that came as a whole or in part, and how often each was cancelled.
    requests: HashMap<u64, usize>,
    n_cancels: usize,
}

/// A peer that answers every other call, and counts what comes.
async fn count(mut raw: Raw, is_over: Arc<Notify>) -> Seen {
    let mut seen = Seen::default();
    let over = is_over.notified();
    tokio::pin!(over);
    let mut is_ending = false;
    loop {
        let frame = tokio::select! {
            frame = raw.frame() => frame,
            () = &mut over, if !is_ending => {
                // Whatever was sent before is here when the node has answered.
                raw.send(frame_type::PING, 0, 1, &[]).await;
                is_ending = true;
                continue;
            }
        };
        let (header, payload) = frame.expect("the node closed the connection");
        match header.frame_type {
            frame_type::REQUEST => {
                assert!(seen.requests.insert(header.id, 0).is_none(), "request {} came twice", header.id);
                if header.id % 2 == 0 && !header.has(frame_flag::MORE) {
                    raw.send(frame_type::RESPONSE, 0, header.id, &[1]).await;
                }
            }
            frame_type::CANCEL => {
                let n = seen.requests.get_mut(&header.id).expect("a cancel of a request that never came");
                *n += 1;
                seen.n_cancels += 1;
                assert!(*n == 1, "request {} was cancelled twice", header.id);
            }
            frame_type::PART => {
                let credit = payload.len() as u64;
                raw.send(frame_type::WINDOW, 0, 0, &credit.to_le_bytes()).await;
            }
            frame_type::PING => raw.send(frame_type::PONG, 0, header.id, &[]).await,
            frame_type::PONG if is_ending => return seen,
            _ => {}
        }
    }
}

#[test]
fn the_peer_sees_one_cancel_of_a_dropped_call_at_most() {
    alone(async {
        for in_flight in [4, 1024] {
            let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").start().await.unwrap();
            let limits = PeerLimits { in_flight, ..PeerLimits::default() };
            let raw = Raw::connect(&host_port(&node), "raw", limits).await;
            let is_over = Arc::new(Notify::new());
            let counting = tokio::spawn(count(raw, Arc::clone(&is_over)));
            let peer = node.peer("raw").await.unwrap();
            let mut random = in_flight;
            let n = rounds(2_000, 10_000);
            let mut made = 0;
            while made < n {
                for (_, call) in kinds(&peer) {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    poll_and_drop(call, (random >> 60) as usize % 5, (random >> 40) as usize % 4).await;
                    made += 1;
                }
            }
            until_quiet(&[&node]).await;
            is_over.notify_one();
            let seen = counting.await.unwrap();
            println!("{made} calls, {} requests, {} cancels", seen.requests.len(), seen.n_cancels);
            assert!(seen.n_cancels > n / 20, "only {} of {made} calls were cancelled", seen.n_cancels);
        }
    });
}

async fn call_and_call(two: &Two, n: usize) {
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let stub = two.stub.clone();
        tasks.spawn(async move {
            let hour = Duration::from_secs(3600);
            for nth in 0..n / 64 {
                match nth % 64 {
                    // One of 64 is cancelled, and one has no time.
                    0 => poll_and_drop(call(stub.wait().with_timeout(hour)), 1, task % 3).await,
                    1 => {
                        let error = stub.wait().with_timeout(Duration::from_micros(1)).await.unwrap_err();
                        assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
                    }
                    _ => assert_eq!(stub.one().with_timeout(hour).await.unwrap(), 1),
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    two.quiet().await;
}

#[test]
fn a_million_short_calls_with_a_long_deadline_leave_nothing_behind() {
    alone(async {
        let two = Two::start(&Limits::default()).await;
        call_and_call(&two, 10_000).await;
        let before = Accounts::now();
        call_and_call(&two, rounds(50_000, 1_000_000)).await;
        before.are_back(KEPT_BY_LINK).await;
        println!("before: {before:?}, after: {:?}", Accounts::now());
    });
}

/// Reads frames to the end, and counts answers.
async fn count_answers(mut raw: OwnedReadHalf, mut buffer: BytesMut, n_answers: Counter) {
    while let Ok(1..) = raw.read_buf(&mut buffer).await {
        while let Ok(Some(header)) = FrameHeader::decode(&buffer)
            && buffer.len() >= HEADER_LEN + header.payload_len
        {
            buffer.advance(HEADER_LEN + header.payload_len);
            if header.frame_type == frame_type::RESPONSE {
                n_answers.add();
            }
        }
    }
}

/// Sends so many requests for a method, and cancels each when the next ones are sent, if wanted. Gives back on how many
/// connections: who cancels too much loses them, and each has its own limit.
async fn storm(node: &Node, store: &Store, method: &str, n: usize, cancels: bool) -> usize {
    const AT_ONCE: usize = 1_000;
    let body = [&[0x91, 0xa0 | method.len() as u8][..], method.as_bytes()].concat();
    let (mut sent, mut n_connections) = (0, 0);
    while sent < n {
        let raw = Raw::connect(&host_port(node), "raw", PeerLimits::default()).await;
        n_connections += 1;
        // Of an earlier connection there may be methods that cannot be cancelled.
        let before = store.running.load(Ordering::SeqCst);
        store.most_running.store(before, Ordering::SeqCst);
        let begun_before = store.n_begun.load(Ordering::SeqCst);
        let (stream, unread) = raw.into_parts();
        let (reader, mut writer) = stream.into_split();
        let n_answers = Counter::default();
        let mut reading = tokio::spawn(count_answers(reader, unread, n_answers.clone()));
        for first in (0..).step_by(AT_ONCE) {
            let mut frames = BytesMut::new();
            for id in first + 1..=first + AT_ONCE {
                put_frame(&mut frames, frame_type::REQUEST, 0, id as u64, |out| out.extend_from_slice(&body));
                if let (true, Some(before @ 1..)) = (cancels, id.checked_sub(AT_ONCE)) {
                    put_frame(&mut frames, frame_type::CANCEL, 0, before as u64, |_| {});
                }
            }
            // It reads its answers before it goes on: a call is refused, or it runs.
            let all = until("all but the last calls are taken", || {
                let n_begun = store.n_begun.load(Ordering::SeqCst) - begun_before;
                n_answers.get() + n_begun + AT_ONCE >= first
            });
            let is_over = tokio::select! {
                () = all => sent >= n || writer.write_all(&frames).await.is_err(),
                _ = &mut reading => true,
            };
            if is_over {
                break;
            }
            sent += AT_ONCE;
        }
        if !reading.is_finished() {
            if !cancels {
                // The threads of the last ones may only just have begun.
                until("as many run as may", || store.running.load(Ordering::SeqCst) >= before + FEW).await;
            }
            let _ = writer.shutdown().await;
            let _ = reading.await;
        }
        let most = store.most_running.load(Ordering::SeqCst);
        assert!(most <= before + FEW, "{most} ran at once, and before {before}");
    }
    n_connections
}

/// The most bytes that a storm may have on the heap at once: queues and buffers of one connection.
const STORM: usize = 24 << 20;

async fn withstands(method: &str, cancels: bool) {
    let store = Store::default();
    let limits = Limits::default().with_calls_per_peer(FEW);
    let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").limits(limits).serve(store.clone());
    let node = node.start().await.unwrap();
    storm(&node, &store, method, 2_000, cancels).await;
    store.open();
    until("the methods have ended", || store.running.load(Ordering::SeqCst) == 0).await;
    *store.is_open.0.lock().unwrap() = false;
    let before = Accounts::now();
    HEAP.reset_peak_usage();
    let n_connections = storm(&node, &store, method, rounds(15_000, 1_000_000), cancels).await;
    let peak = HEAP.peak_usage() - before.heap;
    println!("{method}, cancels: {cancels}: {n_connections} connections, {peak} bytes more");
    assert!(store.n_begun.load(Ordering::SeqCst) >= FEW, "nothing has run");
    store.open();
    until("the methods have ended", || store.running.load(Ordering::SeqCst) == 0).await;
    assert!(cancels || n_connections == 1, "{n_connections} connections");
    assert!(peak <= STORM, "{peak} bytes");
    before.are_back(KEPT_BY_LINK).await;
}

#[test]
fn a_million_requests_that_are_cancelled_at_once_run_no_more_methods_than_may_run() {
    alone(withstands("Store.wait", true));
}

#[test]
fn a_million_requests_that_are_cancelled_run_no_more_methods_that_cannot_be_cancelled() {
    alone(withstands("Store.stuck", true));
}

#[test]
fn a_million_requests_for_a_method_that_is_stuck_take_no_memory() {
    alone(withstands("Store.stuck", false));
    alone(withstands("Store.wait", false));
}
