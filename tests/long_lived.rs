//! Do connections last, and do they last for what still needs them? What once ended them before their time stays here.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Counter, until_quiet, within};
use rmi::{Address, Blob, Kind, Limits, Node, Peer, args, rmi_node};
use rmi_net::seam::{BoxFuture, Listener, Net, Seams, Stream, SystemClock, SystemRng};
use rmi_net::transport::SystemNet;
use tokio::sync::Notify;

struct Store {
    started: Counter,
    go_on: Arc<Notify>,
}

impl Store {
    fn new(started: &Counter, go_on: &Arc<Notify>) -> Self {
        Self { started: started.clone(), go_on: Arc::clone(go_on) }
    }
}

#[rmi_node]
impl Store {
    async fn large(&self, n_bytes: usize) -> Blob {
        Blob::from(vec![1; n_bytes])
    }

    async fn one(&self) -> i64 {
        1
    }

    /// Calls another node after this one has been told to go on.
    async fn relay(&self, node: Node) -> rmi::Result<i64> {
        let other = node.peer("other").await?;
        self.started.add();
        self.go_on.notified().await;
        Ok(other.invoke("Store.one", args![]).await?)
    }

    fn spawn_job(&self) {
        // A job that outlives its method must not keep the method's place in the pool.
        tokio::runtime::Handle::current().spawn(rmi::inherit(std::future::pending::<()>()));
    }
}

/// Runs one call at a time.
#[derive(Default)]
struct Row {
    at_once: AtomicUsize,
    most: AtomicUsize,
}

#[rmi_node(serial)]
impl Row {
    fn plain(&self) -> usize {
        self.step()
    }

    #[rmi(direct)]
    fn at_once(&self) -> usize {
        self.step()
    }

    /// How many calls were ever in here at once.
    #[rmi(skip)]
    fn step(&self) -> usize {
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        (0..100_000).for_each(|n| {
            std::hint::black_box(n);
        });
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.most.load(Ordering::SeqCst)
    }
}

fn store() -> Store {
    Store::new(&Counter::default(), &Arc::default())
}

async fn pair(server: Limits, client: Limits) -> (Node, Node, Peer) {
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(server);
    let server = server.serve(store()).serve(Row::default());
    let server = server.start().await.unwrap();
    let client = Node::builder().name("client").seeds(server.addresses()).limits(client).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    (server, client, peer)
}

#[test]
fn idle_connections_live_on() {
    // In virtual time: half an hour of silence but for pings.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let a = Node::builder().name("a").listen("mem://idle-a").start().await.unwrap();
        let b = Node::builder().name("b").listen("mem://idle-b").seeds(a.addresses()).start().await.unwrap();
        b.peer("a").await.unwrap();
        let mut events = b.watch();
        events.next().await;
        let event = tokio::time::timeout(Duration::from_secs(1800), events.next()).await;
        assert!(event.is_err(), "{event:?}");
    });
}

#[test]
fn idle_connections_of_a_large_cluster_are_closed_and_made_again_when_they_are_needed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let hub = Node::builder().name("hub").listen("mem://large-hub").start().await.unwrap();
        let mut nodes = Vec::new();
        for idx in 0..36 {
            let node = Node::builder().name(format!("n{idx}")).listen(format!("mem://large-{idx}").as_str());
            nodes.push(node.seeds(hub.addresses()).serve(store()).start().await.unwrap());
        }
        let caller = Node::builder().name("caller").listen("mem://large-caller").seeds(hub.addresses());
        let caller = caller.start().await.unwrap();
        caller.peers().wait_for(|peers| peers.len() == 37).await.unwrap();
        let call = async |idx: usize| {
            let peer = caller.peer(format!("n{idx}")).await.unwrap();
            assert_eq!(peer.invoke::<i64>("Store.one", args![]).await.unwrap(), 1);
        };
        for idx in 0..36 {
            call(idx).await;
        }
        let dialled = || caller.snapshot().connections.iter().filter(|link| link.is_dialer).count();
        assert!(dialled() > 32, "{:?}", caller.snapshot());
        // The one that is called now and then stays.
        let busy = async {
            loop {
                call(0).await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        };
        let closed = caller.peers().wait_for(|peers| peers.connected() < 32).with_timeout(Duration::from_secs(600));
        tokio::select! {
            closed = closed.into_future() => drop(closed.unwrap()),
            () = busy => {}
        }
        assert!(caller.peer("n0").await.unwrap().is_connected());
        call(35).await;
    });
}

/// A network in which some addresses cannot be reached for a while.
#[derive(Debug)]
struct Doors {
    closed: Arc<AtomicBool>,
}

impl Net for Doors {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        let is_closed = address.to_string().contains("closed") && self.closed.load(Ordering::SeqCst);
        if is_closed { Box::pin(async { Err(io::ErrorKind::TimedOut.into()) }) } else { SystemNet.dial(address) }
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>> {
        SystemNet.listen(address)
    }
}

#[test]
fn nodes_that_have_given_each_other_up_hear_of_each_other_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let closed = Arc::new(AtomicBool::new(true));
        let start = |name: &str| {
            let seams = Seams {
                net: Arc::new(Doors { closed: Arc::clone(&closed) }),
                clock: Arc::new(SystemClock::new(tokio::runtime::Handle::current())),
                rng: Arc::new(SystemRng::default()),
            };
            let node = Node::builder().name(name).listen(format!("mem://{name}").as_str()).seed("mem://open");
            node.seams(seams).start()
        };
        let open = start("open").await.unwrap();
        let (a, b) = (start("closed-a").await.unwrap(), start("closed-b").await.unwrap());
        open.peers().wait_for(|peers| peers.connected() == 2).await.unwrap();
        a.peers().wait_for(|peers| peers.len() == 2).await.unwrap();
        for node in [&a, &b] {
            let given_up = node.peers().wait_for(|peers| peers.len() == 1).with_timeout(Duration::from_secs(300));
            given_up.await.unwrap();
        }
        closed.store(false, Ordering::SeqCst);
        for node in [&a, &b] {
            let found = node.peers().wait_for(|peers| peers.connected() == 2).with_timeout(Duration::from_secs(120));
            found.await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_beside_a_large_answer_ends_nothing_else() {
    within(async {
        let limits = || Limits::default().with_message(64 << 20);
        let (server, client, peer) = pair(limits(), limits()).await;
        for _ in 0..5 {
            let large = peer.invoke::<Blob>("Store.large", args![48usize << 20]).send();
            for _ in 0..20 {
                let error = peer.invoke::<i64>("Store.nothing", args![]).await.unwrap_err();
                assert_eq!(error.kind(), Kind::NoSuchMethod, "{error:?}");
            }
            assert_eq!(large.await.unwrap().len(), 48 << 20);
        }
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_that_nobody_waits_for_are_dropped() {
    within(async {
        let (server, client, peer) = pair(Limits::default(), Limits::default()).await;
        let mut events = client.watch();
        events.next().await;
        // More than the bytes that may be put together at once, if they were kept.
        for round in 0..40u64 {
            let timeout = Duration::from_millis(1 + round % 12);
            let calls =
                (0..4).map(|_| peer.invoke::<Blob>("Store.large", args![8_000_000usize]).with_timeout(timeout).send());
            for call in calls.collect::<Vec<_>>() {
                if let Err(error) = call.await {
                    assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
                }
            }
        }
        assert_eq!(peer.invoke::<Blob>("Store.large", args![8_000_000usize]).await.unwrap().len(), 8_000_000);
        until_quiet(&[&server, &client]).await;
        // No connection was lost.
        let event = tokio::time::timeout(Duration::ZERO, events.next()).await;
        assert!(event.is_err(), "{event:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serial_service_runs_one_call_at_a_time_of_every_shape() {
    within(async {
        let (_server, _client, peer) = pair(Limits::default(), Limits::default()).await;
        for method in ["Row.plain", "Row.at_once"] {
            let calls: Vec<_> = (0..50).map(|_| peer.invoke::<usize>(method, args![]).send()).collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), 1, "{method}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_inherits_does_not_keep_the_thread() {
    within(async {
        let (_server, _client, peer) = pair(Limits::default().with_blocking_threads(1), Limits::default()).await;
        for _ in 0..3 {
            peer.invoke::<()>("Store.spawn_job", args![]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_keeps_the_connections_that_running_methods_need() {
    within(async {
        let (started, go_on) = (Counter::default(), Arc::default());
        let other = Node::builder().name("other").listen("tcp://127.0.0.1:0").serve(store()).start().await.unwrap();
        let relay = Node::builder().name("relay").listen("tcp://127.0.0.1:0").seeds(other.addresses());
        let relay = relay.serve(Store::new(&started, &go_on)).start().await.unwrap();
        let caller = Node::builder().name("caller").seeds(relay.addresses()).start().await.unwrap();
        let call = caller.peer("relay").await.unwrap().invoke::<i64>("Store.relay", args![]).send();
        started.reaches(1).await;
        let mut events = other.watch();
        let shutdown = tokio::spawn(relay.shutdown(Duration::from_secs(20)).into_future());
        // The other node has been told, and is still there for the call.
        while !matches!(events.next().await, Some(rmi::PeerEvent::Left(_))) {}
        go_on.notify_one();
        assert_eq!(call.await.unwrap(), 1);
        shutdown.await.unwrap();
    })
    .await;
}
