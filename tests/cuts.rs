//! A connection that is cut, wherever, ends its calls at once, and the class of their errors is true: what is said not
//! to have run has not, and nothing runs twice. Bytes that come in the smallest pieces are the same frames.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::proxy::{Cut, Pieces, Proxy, Way};
use common::{Counter, host_port, only_link, rounds, until, until_quiet};
use rmi::{Blob, Class, InvocationException, Kind, Node, PeerEvent, rmi_node};
use rmi_core::frame::{FrameHeader, HEADER_LEN, PREAMBLE, frame_type};
use tokio::task::JoinSet;

/// Keeps account of what has run.
#[derive(Clone, Default)]
struct Ledger {
    runs: Arc<Mutex<HashMap<u64, usize>>>,
    n_runs: Counter,
}

impl Ledger {
    fn runs(&self, key: u64) -> usize {
        self.runs.lock().unwrap().get(&key).copied().unwrap_or(0)
    }
}

#[rmi_node]
impl Ledger {
    async fn note(&self, key: u64) -> u64 {
        *self.runs.lock().unwrap().entry(key).or_default() += 1;
        self.n_runs.add();
        key
    }

    async fn keep(&self, key: u64, one: Blob, two: Blob) -> (Blob, Blob) {
        self.note(key).await;
        (two, one)
    }

    async fn take(&self, key: u64, blob: Blob) -> usize {
        self.note(key).await;
        blob.len()
    }

    async fn give(&self, key: u64, n_bytes: usize) -> Blob {
        self.note(key).await;
        Blob::from(vec![7; n_bytes])
    }
}

/// What is called while the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Small,
    Blobs,
    RequestInParts,
    AnswerInParts,
}

/// Enough for an opening and two parts.
const IN_PARTS: usize = 72_000;
/// Longer than a call on loopback takes, and far below the times after which silence is noticed.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Keys that all have the same length on the wire.
const FIRST_KEY: u64 = 1 << 40;

impl Shape {
    async fn call(self, stub: &LedgerStub, key: u64) -> Result<(), InvocationException> {
        match self {
            Self::Small => assert_eq!(stub.note(key).await?, key),
            Self::Blobs => {
                let answer = stub.keep(key, Blob::from(vec![1; 90]), Blob::from(vec![2; 70])).await?;
                assert_eq!(answer, (Blob::from(vec![2; 70]), Blob::from(vec![1; 90])));
            }
            Self::RequestInParts => assert_eq!(stub.take(key, Blob::from(vec![3; IN_PARTS])).await?, IN_PARTS),
            Self::AnswerInParts => assert_eq!(stub.give(key, IN_PARTS).await?.len(), IN_PARTS),
        }
        Ok(())
    }
}

/// A client whose connection goes through a proxy, and on which nothing moves but what the test calls.
async fn through_proxy(server: &Node) -> (Proxy, Node, LedgerStub) {
    let proxy = Proxy::to(&host_port(server)).await;
    proxy.record();
    let client = Node::builder().name("client").seed(proxy.url()).start().await.unwrap();
    let stub = LedgerStub::new(client.peer("server").await.unwrap());
    // The last that the ends say on their own.
    let has_settled = |way| frames(&proxy.recorded(way), true).iter().any(|(_, f)| f.frame_type == frame_type::PEERS);
    while !(has_settled(Way::Out) && has_settled(Way::Back)) {
        tokio::task::yield_now().await;
    }
    (proxy, client, stub)
}

/// The whole frames of recorded bytes, and where each begins.
fn frames(bytes: &[u8], from_preamble: bool) -> Vec<(usize, FrameHeader)> {
    let mut at = if from_preamble { PREAMBLE.len() } else { 0 };
    let mut frames = Vec::new();
    while let Some(Ok(Some(header))) = bytes.get(at..).map(FrameHeader::decode) {
        let end = at + HEADER_LEN + header.payload_len;
        if end > bytes.len() {
            break;
        }
        frames.push((at, header));
        at = end;
    }
    frames
}

/// The bytes of a call in one direction, when nothing goes wrong.
async fn bytes_of_call(server: &Node, shape: Shape, way: Way, key: u64) -> Vec<u8> {
    let (proxy, client, stub) = through_proxy(server).await;
    proxy.record();
    shape.call(&stub, key).await.unwrap();
    until_quiet(&[server, &client]).await;
    // What was written may still be on its way through the proxy.
    while frames(&proxy.recorded(way), false).iter().map(|(at, f)| at + HEADER_LEN + f.payload_len).max()
        != Some(proxy.recorded(way).len())
    {
        tokio::task::yield_now().await;
    }
    proxy.recorded(way)
}

/// What came of a call on a connection that was cut.
#[derive(Debug)]
struct Outcome {
    key: u64,
    at: u64,
    cut: Cut,
    error: Option<(Kind, Class)>,
    took: Duration,
}

/// Makes a call and cuts its connection after so many bytes of it.
async fn cut_call(server: Node, shape: Shape, way: Way, at: u64, cut: Cut, key: u64) -> Outcome {
    let (proxy, client, stub) = through_proxy(&server).await;
    proxy.cut_after(way, at, cut);
    let begun = Instant::now();
    let result = tokio::time::timeout(AT_ONCE, shape.call(&stub, key)).await;
    let took = begun.elapsed();
    // A call whose caller is not told is found to have ended when the time is over.
    let result = result.ok().filter(|_| took < AT_ONCE);
    let result = result.unwrap_or_else(|| panic!("{shape:?} hangs, cut after {at} bytes {way:?} by {cut:?}"));
    let links = client.snapshot().connections;
    assert!(links.iter().all(|link| link.pending_calls == 0), "{links:?}");
    Outcome { key, at, cut, error: result.err().map(|error| (error.kind(), error.class())), took }
}

/// Where to cut a call: at each byte, or, of payloads that are long, at each `stride`th, and at each near a border.
fn offsets(call: &[u8], stride: usize) -> Vec<u64> {
    let frames = frames(call, false);
    let is_near_border = |at: usize| {
        let near = |border: usize| at + 4 >= border && at <= border + HEADER_LEN + 4;
        at + 4 >= call.len() || frames.iter().any(|(begin, _)| near(*begin))
    };
    (0..=call.len()).filter(|at| at % stride == 0 || is_near_border(*at)).map(|at| at as u64).collect()
}

/// Cuts calls of this shape everywhere in this direction, by both means.
async fn cut_everywhere(shape: Shape, way: Way, stride: usize) {
    let ledger = Ledger::default();
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(ledger.clone());
    let server = server.start().await.unwrap();
    let call = bytes_of_call(&server, shape, way, FIRST_KEY).await;
    let len = call.len() as u64;
    let mut cases: Vec<_> =
        offsets(&call, stride).into_iter().flat_map(|at| [(at, Cut::Fin), (at, Cut::Rst)]).collect();
    let n_cases = cases.len();
    let mut key = FIRST_KEY;
    let (mut running, mut outcomes) = (JoinSet::new(), Vec::new());
    while !(cases.is_empty() && running.is_empty()) {
        if running.len() < 8
            && let Some((at, cut)) = cases.pop()
        {
            key += 1;
            running.spawn(cut_call(server.clone(), shape, way, at, cut, key));
        } else if let Some(outcome) = running.join_next().await {
            outcomes.push(outcome.unwrap());
        }
    }
    // What could still run has run when the node has ended.
    server.shutdown(Duration::from_secs(10)).await;
    for outcome in &outcomes {
        let Outcome { at, cut, .. } = *outcome;
        let runs = ledger.runs(outcome.key);
        let context = format!("{shape:?}, {way:?}, {runs} runs, {outcome:?}");
        let is_true = match outcome.error {
            None => runs == 1,
            Some((_, Class::Executed)) => runs == 1,
            Some((_, Class::NotExecuted)) => runs == 0,
            Some((_, Class::MaybeExecuted)) => runs <= 1,
        };
        assert!(is_true, "the class is not true: {context}");
        // After no byte at all the call may have found the next connection.
        if at > 0 && at < len {
            let (kind, class) = outcome.error.unwrap_or_else(|| panic!("it was not cut: {context}"));
            assert_eq!((kind, class), (Kind::ConnectionLost, Class::MaybeExecuted), "{context}");
            // The cut falls where it is meant to.
            assert_eq!(runs, if way == Way::Out { 0 } else { 1 }, "{context}");
        }
        if at == len && way == Way::Back && cut == Cut::Fin {
            assert_eq!(outcome.error, None, "an answer that has come is lost: {context}");
        }
    }
    let longest = outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default();
    println!("{shape:?} {way:?}: {n_cases} cuts of {len} bytes, the longest call took {longest:?}");
}

/// Bounds the time of a test, also of what takes long under `RMI_FULL`.
async fn within_long(test: impl Future<Output = ()>) {
    let longest = Duration::from_secs(rounds(60, 1800) as u64);
    tokio::time::timeout(longest, test).await.expect("the test took too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_call_that_is_cut_at_any_byte_tells_the_truth() {
    within_long(cut_everywhere(Shape::Small, Way::Out, 1)).await;
    within_long(cut_everywhere(Shape::Small, Way::Back, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_blobs_that_is_cut_at_any_byte_tells_the_truth() {
    let stride = rounds(8, 1);
    within_long(cut_everywhere(Shape::Blobs, Way::Out, stride)).await;
    within_long(cut_everywhere(Shape::Blobs, Way::Back, stride)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_parts_that_is_cut_anywhere_tells_the_truth() {
    // As a rule far apart inside of the parts, where one byte is like the next.
    let stride = rounds(2401, 1);
    within_long(cut_everywhere(Shape::RequestInParts, Way::Out, stride)).await;
    within_long(cut_everywhere(Shape::AnswerInParts, Way::Back, stride)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_on_a_cut_connection_tell_the_truth() {
    within_long(async {
        let (mut n_not_executed, mut n_maybe, mut n_done) = (0, 0, 0);
        for round in 0..rounds(4, 200) as u64 {
            let ledger = Ledger::default();
            let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(ledger.clone());
            let server = server.start().await.unwrap();
            let (proxy, client, stub) = through_proxy(&server).await;
            if round % 2 == 0 {
                // Some arrive, some are on their way, and some wait in the queue.
                proxy.throttle(Way::Out, 50 << 20);
                proxy.cut_after(Way::Out, (1 << 20) + round * 10_007, Cut::Rst);
            } else {
                proxy.freeze(Way::Out);
            }
            // More than sockets and queue hold: small ones and blobs, and in every other round messages in parts.
            let longest = [100 << 10, 63 << 10][round as usize % 2];
            let calls: Vec<_> = (0..1000)
                .map(|n| {
                    let len = [10, 60 << 10, longest][n as usize % 3];
                    (n, tokio::spawn(stub.take(n, Blob::from(vec![1; len])).into_future()))
                })
                .collect();
            let mut n_under_way = None;
            if round % 2 == 1 {
                let (mut last, mut n_same) = ((0, 0), 0);
                until("the sockets are full, and nothing moves any more", || {
                    let now = client.snapshot().connections[0].clone();
                    let now = (now.pending_calls, now.queued_bytes);
                    n_same = if now == std::mem::replace(&mut last, now) { n_same + 1 } else { 0 };
                    now.1 > 1 << 20 && n_same >= 100
                })
                .await;
                n_under_way = Some(last.0);
                proxy.reset();
            }
            let begun = Instant::now();
            let mut outcomes = Vec::new();
            for (key, call) in calls {
                let error = call.await.unwrap().err().map(|error| (error.kind(), error.class()));
                outcomes.push((key, error));
            }
            assert!(begun.elapsed() < 2 * AT_ONCE, "{:?}", begun.elapsed());
            if let Some(n_under_way) = n_under_way {
                // Of the calls that have an id, those of which the queue still had a byte have not run: a mebibyte of them.
                let may_have_run =
                    outcomes.iter().filter(|(_, error)| error.is_some_and(|e| e.1 == Class::MaybeExecuted));
                assert!(may_have_run.count() + 20 < n_under_way, "too many may have run of {n_under_way}");
            }
            server.shutdown(Duration::from_secs(10)).await;
            for (key, error) in outcomes {
                let runs = ledger.runs(key);
                let is_true = match error {
                    None => runs == 1,
                    Some((_, Class::NotExecuted)) => runs == 0,
                    Some((_, Class::MaybeExecuted)) => runs <= 1,
                    Some((_, Class::Executed)) => false,
                };
                assert!(is_true, "round {round}: call {key} has {error:?} and ran {runs} times");
                match error {
                    None => n_done += 1,
                    Some((_, Class::NotExecuted)) => n_not_executed += 1,
                    Some(_) => n_maybe += 1,
                }
            }
        }
        println!("{n_done} done, {n_maybe} may have run, {n_not_executed} have not run");
        assert!(n_not_executed > 0 && n_maybe > 0 && n_done > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_the_smallest_pieces_are_the_same_frames() {
    within_long(async {
        for (pieces, n_calls) in
            [(Pieces::Of(1), rounds(300, 20_000)), (Pieces::Random(300, 11), rounds(3_000, 500_000))]
        {
            let ledger = Ledger::default();
            let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(ledger.clone());
            let server = server.start().await.unwrap();
            let proxy = Proxy::to(&host_port(&server)).await;
            proxy.split(Way::Out, pieces);
            proxy.split(Way::Back, pieces);
            let client = Node::builder().name("client").seed(proxy.url()).start().await.unwrap();
            let stub = LedgerStub::new(client.peer("server").await.unwrap());
            let link = only_link(&client);
            let mut events = client.watch();
            events.next().await;
            let mut callers = JoinSet::new();
            for caller in 0..32u64 {
                let stub = stub.clone();
                let mut random = fastrand::Rng::with_seed(caller);
                callers.spawn(async move {
                    for n in 0..n_calls as u64 / 32 {
                        let key = caller << 32 | n;
                        // Timers and cancels fall between the pieces.
                        match random.u8(..) {
                            0 => assert_eq!(stub.take(key, Blob::from(vec![1; 70_000])).await.unwrap(), 70_000),
                            1 => assert_eq!(stub.give(key, 70_000).await.unwrap().len(), 70_000),
                            2..64 => {
                                let call = stub.note(key).with_timeout(Duration::from_millis(random.u64(1..4)));
                                match call.await {
                                    Ok(answer) => assert_eq!(answer, key),
                                    Err(error) => assert_eq!(error.kind(), Kind::Timeout, "{error:?}"),
                                }
                            }
                            64..128 => drop(stub.note(key).send()),
                            128..192 => {
                                let len = random.usize(..500);
                                let answer = stub.keep(key, Blob::from(vec![4; len]), Blob::default()).await.unwrap();
                                assert_eq!(answer.1, Blob::from(vec![4; len]));
                            }
                            192.. => assert_eq!(stub.note(key).await.unwrap(), key),
                        }
                    }
                });
            }
            while let Some(caller) = callers.join_next().await {
                caller.unwrap();
            }
            until_quiet(&[&server, &client]).await;
            // The connection is the same, and no other came and went meanwhile.
            assert_eq!(only_link(&client), link);
            let event: Result<Option<PeerEvent>, _> = tokio::time::timeout(Duration::ZERO, events.next()).await;
            assert!(event.is_err(), "{event:?}");
            println!("{pieces:?}: {} calls ran", ledger.n_runs.get());
        }
    })
    .await;
}
