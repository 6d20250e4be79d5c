//! However many calls there are at once, each ends: with its answer, or refused at once. Nothing waits for itself.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Counter, Raw, host_port, only_link, rounds, until, until_quiet, within};
use rmi::{Blob, Kind, Limits, Node, Peer, args, rmi_node};
use rmi_core::frame::{frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Answers, or asks the next one.
#[derive(Clone)]
struct Under {
    begun: Counter,
    gate: Arc<Semaphore>,
}

impl Default for Under {
    fn default() -> Self {
        Self { begun: Counter::default(), gate: Arc::new(Semaphore::new(0)) }
    }
}

/// What became of a call that others depend on: `None` if it went well, else the kind of the refusal, however deep.
type Refused = Option<String>;

#[rmi_node]
impl Under {
    async fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    #[rmi(spawn)]
    async fn echo_spawned(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn echo_blocking(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn wait(&self) {
        self.begun.add();
        let _ = self.gate.acquire().await;
    }

    /// Calls its caller back, which calls its caller back, and so on.
    async fn deeper(&self, caller: &Peer, left: u32) -> Refused {
        self.begun.add();
        let left = left.checked_sub(1)?;
        flat(UnderStub::new(caller).deeper(left).await)
    }

    /// The same on plain threads.
    fn deeper_blocking(&self, caller: &Peer, left: u32) -> Refused {
        self.begun.add();
        let left = left.checked_sub(1)?;
        flat(UnderStub::new(caller).deeper_blocking(left).wait())
    }

    /// Calls the next node of a ring, which calls the next one, and so on.
    async fn onward(&self, node: &Node, left: u32) -> Refused {
        self.begun.add();
        let left = left.checked_sub(1)?;
        match node.peer(next_in_ring(node.name())).await {
            Ok(next) => flat(UnderStub::new(next).onward(left).await),
            Err(error) => Some(error.to_string()),
        }
    }

    fn onward_blocking(&self, node: &Node, left: u32) -> Refused {
        self.begun.add();
        let left = left.checked_sub(1)?;
        match node.peer(next_in_ring(node.name())).wait() {
            Ok(next) => flat(UnderStub::new(next).onward_blocking(left).wait()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Sends this much to its caller.
    async fn push(&self, caller: &Peer, n_bytes: usize) -> Refused {
        self.begun.add();
        let _ = self.gate.acquire().await;
        flat(UnderStub::new(caller).take(Blob::from(vec![1; n_bytes])).await)
    }

    #[rmi(oneway)]
    async fn note(&self, bytes: Vec<u8>) {
        std::hint::black_box(bytes);
        self.begun.add();
    }

    async fn take(&self, blob: Blob) -> Refused {
        (blob.len() < 100).then(|| "too short".to_owned())
    }
}

fn flat(result: Result<Refused, rmi::InvocationException>) -> Refused {
    result.unwrap_or_else(|error| Some(error.kind().to_string()))
}

const RING: usize = 5;

fn next_in_ring(name: &str) -> String {
    let position: usize = name.parse().unwrap_or(0);
    ((position + 1) % RING).to_string()
}

/// Nodes of these limits that are all connected, and what they offer.
async fn nodes(n: usize, limits: &Limits) -> Vec<(Node, Under)> {
    let mut nodes: Vec<(Node, Under)> = Vec::new();
    for position in 0..n {
        let under = Under::default();
        let seeds = nodes.first().map(|(node, _)| node.addresses()).unwrap_or_default();
        let node = Node::builder().name(position.to_string()).listen("tcp://127.0.0.1:0").seeds(seeds);
        let node = node.limits(limits.clone()).serve(under.clone()).start().await.unwrap();
        nodes.push((node, under));
    }
    for (node, _) in &nodes {
        node.peers().wait_for(move |peers| peers.connected() == n - 1).await.unwrap();
    }
    nodes
}

async fn all_quiet(nodes: &[(Node, Under)]) {
    until_quiet(&nodes.iter().map(|(node, _)| node).collect::<Vec<_>>()).await;
}

/// Each of two nodes has a stub of the other.
async fn stubs(nodes: &[(Node, Under)]) -> [UnderStub; 2] {
    let stub = async |node: &Node, name: &str| UnderStub::new(node.peer(name).await.unwrap());
    [stub(&nodes[0].0, "1").await, stub(&nodes[1].0, "0").await]
}

/// Queues and calls in flight of 64.
fn of_64() -> Limits {
    Limits::default().with_calls_per_peer(64).with_queue_frames(64).with_waiting_calls(64)
}

/// 64 tasks that await their calls: so many of 1 KiB, and so many of 64 KiB between them.
fn flood(tasks: &mut JoinSet<()>, stub: &UnderStub, n_small: usize, n_large: usize) {
    let (made, n) = (Arc::new(AtomicUsize::new(0)), n_small + n_large);
    for _ in 0..64 {
        let (stub, made) = (stub.clone(), Arc::clone(&made));
        tasks.spawn(async move {
            loop {
                let nth = made.fetch_add(1, Ordering::Relaxed);
                if nth >= n {
                    return;
                }
                // Spread evenly.
                let is_large = nth * n_large / n != (nth + 1) * n_large / n;
                let len = if is_large { 64 << 10 } else { 1 << 10 };
                assert_eq!(stub.echo(vec![7; len]).await.unwrap().len(), len);
            }
        });
    }
}

async fn flood_both_ways(limits: &Limits, n_small: usize, n_large: usize) {
    let longest = Duration::from_secs(120);
    let flooded = async {
        let nodes = nodes(2, limits).await;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for stub in stubs(&nodes).await {
            flood(&mut tasks, &stub, n_small, n_large);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        println!("2 x ({n_small} + {n_large}) calls: {:?}", begun.elapsed());
        all_quiet(&nodes).await;
    };
    tokio::time::timeout(longest, flooded).await.expect("calls hang");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_flood_each_other_and_every_call_is_answered() {
    for _ in 0..rounds(2, 100) {
        flood_both_ways(&of_64(), rounds(400, 20_000), rounds(20, 1_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_flood_each_other_through_queues_that_are_always_full() {
    let tight = of_64().with_calls_per_peer(16).with_queue_frames(2).with_queue_bytes(64 << 10).with_window(64 << 10);
    for _ in 0..rounds(2, 50) {
        flood_both_ways(&tight, rounds(200, 10_000), rounds(20, 1_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_more_calls_at_once_than_there_is_room_for_the_rest_is_refused_at_once() {
    let n = rounds(2_500, 20_000);
    for _ in 0..rounds(2, 20) {
        within(async {
            let nodes = nodes(2, &of_64()).await;
            let mut tasks = JoinSet::new();
            for stub in stubs(&nodes).await {
                // One task makes them all at once: what cannot wait is refused before the next one is made.
                tasks.spawn(async move {
                    let calls: Vec<_> = (0..n).map(|_| stub.echo_spawned(vec![7; 1 << 10]).send()).collect();
                    let mut n_answered = 0;
                    for call in calls {
                        match call.await {
                            Ok(bytes) => n_answered += usize::from(bytes.len() == 1 << 10),
                            Err(error) => assert_eq!(error.kind(), Kind::Overloaded, "{error:?}"),
                        }
                    }
                    n_answered
                });
            }
            while let Some(n_answered) = tasks.join_next().await {
                let n_answered = n_answered.unwrap();
                assert!((64..n).contains(&n_answered), "{n_answered} of {n} calls were answered");
            }
            all_quiet(&nodes).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_room_is_refused_before_it_waits() {
    within(async {
        let nodes = nodes(2, &of_64().with_waiting_calls(3)).await;
        let [stub, _] = stubs(&nodes).await;
        // Tasks, for the queue may be full before the last one is in it.
        let in_flight: Vec<_> = (0..64).map(|_| tokio::spawn(stub.wait().into_future())).collect();
        nodes[1].1.begun.reaches(64).await;
        let waiting: Vec<_> = (0..3).map(|_| stub.wait().send()).collect();
        for _ in 0..10 {
            let mut refused = Box::pin(stub.wait().send());
            let error = std::future::poll_fn(|context| std::task::Poll::Ready(refused.as_mut().poll(context)));
            let std::task::Poll::Ready(Err(error)) = error.await else { panic!("it waits") };
            assert_eq!(error.kind(), Kind::Overloaded, "{error:?}");
        }
        nodes[1].1.gate.close();
        for call in in_flight {
            call.await.unwrap().unwrap();
        }
        for call in waiting {
            call.await.unwrap();
        }
        all_quiet(&nodes).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_call_back_go_64_deep() {
    within(async {
        let nodes = nodes(2, &Limits::default()).await;
        let [stub, back] = stubs(&nodes).await;
        for _ in 0..rounds(3, 200) {
            for stub in [&stub, &back] {
                assert_eq!(stub.deeper(64).await.unwrap(), None);
                assert_eq!(stub.deeper_blocking(64).await.unwrap(), None);
            }
        }
        all_quiet(&nodes).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_round_a_ring_of_five() {
    within(async {
        let nodes = nodes(RING, &Limits::default()).await;
        let mut tasks = JoinSet::new();
        for (node, _) in &nodes {
            let stub = UnderStub::new(node.peer(next_in_ring(node.name())).await.unwrap());
            tasks.spawn(async move {
                for _ in 0..rounds(3, 200) {
                    assert_eq!(stub.onward(12).await.unwrap(), None);
                    assert_eq!(stub.onward_blocking(12).await.unwrap(), None);
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        all_quiet(&nodes).await;
    })
    .await;
}

type MakeCall = fn(&UnderStub) -> rmi::Invocation<Refused>;

/// What became of ten times as many calls as the limit allows, from every node at once: (answered, refused).
async fn ten_times(limit: usize, n_nodes: usize, call: MakeCall) -> (usize, usize) {
    let nodes = nodes(n_nodes, &Limits::default().with_calls_per_peer(limit)).await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (node, _) in &nodes {
        let stub = UnderStub::new(
            node.peer(((node.name().parse::<usize>().unwrap() + 1) % n_nodes).to_string()).await.unwrap(),
        );
        for _ in 0..10 * limit {
            let call = call(&stub).into_future();
            tasks.spawn(async move { flat(call.await) });
        }
    }
    let (mut n_answered, mut n_refused) = (0, 0);
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap().as_deref() {
            None => n_answered += 1,
            Some("Busy" | "Overloaded") => n_refused += 1,
            Some(other) => panic!("{other}"),
        }
    }
    // A second would do on an idle machine; what hangs, hangs for ever.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    println!("limit {limit}, {n_nodes} nodes: {n_answered} answered, {n_refused} refused, {:?}", begun.elapsed());
    all_quiet(&nodes).await;
    // Every place is free again.
    let stub = UnderStub::new(nodes[0].0.peer("1").await.unwrap());
    assert_eq!(stub.deeper(1).await.unwrap(), None);
    (n_answered, n_refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_calls_beyond_the_limit_are_refused_and_never_wait_for_each_other() {
    let calls: [(usize, MakeCall); 4] = [
        (2, |stub| stub.deeper(10)),
        (2, |stub| stub.deeper_blocking(10)),
        (RING, |stub| stub.onward(2 * RING as u32)),
        (RING, |stub| stub.onward_blocking(2 * RING as u32)),
    ];
    for _ in 0..rounds(3, 50) {
        for limit in [1, 4] {
            for (n_nodes, call) in calls {
                let (_, n_refused) = within(ten_times(limit, n_nodes, call)).await;
                assert!(n_refused > 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_methods_that_call_each_other_do_not_run_out_of_threads() {
    within(async {
        // The two share the threads of one runtime.
        let nodes = nodes(2, &Limits::default().with_waiting_threads(128)).await;
        let mut tasks = JoinSet::new();
        for stub in stubs(&nodes).await {
            for _ in 0..600 {
                let call = stub.deeper_blocking(4).into_future();
                tasks.spawn(async move { flat(call.await) });
            }
        }
        let mut n_answered = 0;
        while let Some(ended) = tasks.join_next().await {
            match ended.unwrap().as_deref() {
                None => n_answered += 1,
                Some("Busy" | "Overloaded") => {}
                Some(other) => panic!("{other}"),
            }
        }
        assert!(n_answered > 0);
        all_quiet(&nodes).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_few_calls_gets_many_large_answers() {
    within(async {
        let few =
            Node::builder().name("few").listen("tcp://127.0.0.1:0").limits(Limits::default().with_calls_per_peer(1));
        let few = few.start().await.unwrap();
        let many = Node::builder().name("many").listen("tcp://127.0.0.1:0").seeds(few.addresses());
        let many = many.serve(Under::default()).start().await.unwrap();
        let stub = UnderStub::new(few.peer("many").await.unwrap());
        let calls: Vec<_> = (0..200).map(|_| stub.echo(vec![7; 100 << 10]).send()).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().len(), 100 << 10);
        }
        until_quiet(&[&few, &many]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_send_more_than_the_queue_holds_wait_for_room() {
    within(async {
        let nodes = nodes(2, &Limits::default().with_queue_bytes(1 << 20)).await;
        let [stub, _] = stubs(&nodes).await;
        let calls: Vec<_> = (0..50).map(|_| stub.push(2 << 20).send()).collect();
        nodes[1].1.begun.reaches(50).await;
        nodes[1].1.gate.close();
        for call in calls {
            assert_eq!(call.await.unwrap(), None);
        }
        all_quiet(&nodes).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_calls_that_are_let_go_keep_to_the_limit_all_the_same() {
    within(async {
        let nodes = nodes(2, &Limits::default().with_calls_per_peer(1)).await;
        let [stub, _] = stubs(&nodes).await;
        let link = only_link(&nodes[0].0);
        for _ in 0..200 {
            // It may find no room, and then is not sent; what is sent is not taken back.
            drop(stub.note(vec![7; 100 << 10]).send());
            tokio::task::yield_now().await;
        }
        nodes[1].1.begun.reaches(1).await;
        stub.note(vec![7; 100 << 10]).await.unwrap();
        nodes[1].1.begun.reaches(2).await;
        all_quiet(&nodes).await;
        assert_eq!(only_link(&nodes[0].0), link);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_large_requests_no_more_are_open_than_the_peer_puts_together_also_where_cancels_wait() {
    within(async {
        const REASSEMBLY: u64 = 1 << 20;
        const WINDOW: u64 = 128 << 10;
        let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let limits = PeerLimits { in_flight: 100_000, reassembly: REASSEMBLY, window: WINDOW, ..PeerLimits::default() };
        let mut raw = Raw::connect(&host_port(&node), "raw", limits).await;
        let (credit, mut credits) = tokio::sync::mpsc::channel::<()>(1);
        let parts = Counter::default();
        let reading = tokio::spawn({
            let parts = parts.clone();
            async move {
                // Totals of the requests that were opened, and of those of which a part has come.
                let (mut opened, mut begun) = (HashMap::new(), HashMap::new());
                loop {
                    let (header, payload) = tokio::select! {
                        frame = raw.frame() => frame.expect("the node closed the connection"),
                        credit = credits.recv() => match credit {
                            Some(()) => {
                                raw.send(frame_type::WINDOW, 0, 0, &WINDOW.to_le_bytes()).await;
                                continue;
                            }
                            None => return,
                        },
                    };
                    match header.frame_type {
                        frame_type::REQUEST if header.has(frame_flag::MORE) => {
                            opened.insert(header.id, u64::from_le_bytes(*payload.first_chunk().unwrap()));
                        }
                        frame_type::PART => {
                            if let Some(total) = opened.remove(&header.id) {
                                begun.insert(header.id, total);
                                let all: u64 = begun.values().sum();
                                assert!(all <= REASSEMBLY, "{begun:?} are open");
                            }
                            parts.add();
                        }
                        frame_type::CANCEL => _ = begun.remove(&header.id),
                        _ => {}
                    }
                }
            }
        });
        let peer = node.peer("raw").await.unwrap();
        // More cancels than the peer takes at once: the next ones wait.
        for nth in 0..11_000 {
            drop(peer.invoke::<()>("Under.wait", args![]).send());
            if nth % 100 == 0 {
                until("the queue is empty", || node.snapshot().connections[0].queued_bytes == 0).await;
            }
        }
        for nth in 1..=5 {
            let call = peer.invoke::<()>("Under.echo", args![Blob::from(vec![1; 600 << 10])]);
            let call = tokio::spawn(call.into_future());
            parts.reaches(2 * nth).await;
            call.abort();
            until("it is cancelled", || node.snapshot().connections[0].pending_calls == 0).await;
            credit.send(()).await.unwrap();
        }
        drop(credit);
        reading.await.unwrap();
    })
    .await;
}
