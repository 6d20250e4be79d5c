//! What the RMI of bndl, the Python system that this one succeeds, has tests for: calls, nested calls both ways,
//! disconnects, discovery, addresses in use. And what it got wrong: restarts.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{Counter, Raw, hello, only_link, until, until_quiet, within};
use rmi::{
    Class, InvocationException, Kind, Node, NodeBuilder, Peer, PeerEvent, PeerState, Role, StartError, args, rmi_node,
    root_exc,
};
use rmi_core::frame::frame_type;
use rmi_core::hello::PeerLimits;
use tokio::net::TcpListener;

#[derive(Clone, Default)]
struct Worker {
    id: u32,
    runs: Counter,
}

#[rmi_node]
impl Worker {
    async fn id(&self) -> u32 {
        self.runs.add();
        self.id
    }

    async fn never(&self) {
        self.runs.add();
        std::future::pending().await
    }

    /// Calls the caller back, which calls back in turn; gives back the way.
    async fn bounce(&self, caller: &Peer, node: &Node, depth: u32) -> rmi::Result<Vec<String>> {
        let mut way = vec![node.name().to_owned()];
        if depth == 0 {
            return Ok(way);
        }
        way.extend(WorkerStub::new(caller).bounce(depth - 1).await?);
        Ok(way)
    }

    fn bounce_blocking(&self, caller: &Peer, node: &Node, depth: u32) -> rmi::Result<Vec<String>> {
        let mut way = vec![node.name().to_owned()];
        if depth > 0 {
            way.extend(WorkerStub::new(caller).bounce_blocking(depth - 1).wait()?);
        }
        Ok(way)
    }

    async fn bounce_and_fail(&self, caller: &Peer, depth: u32) -> rmi::Result<()> {
        if depth == 0 {
            return Err(rmi::Failure::msg("this is the end"));
        }
        Ok(WorkerStub::new(caller).bounce_and_fail(depth - 1).await?)
    }
}

fn worker(name: &str, id: u32) -> (NodeBuilder, Worker) {
    let worker = Worker { id, ..Worker::default() };
    (Node::builder().name(name).serve(worker.clone()), worker)
}

async fn pair() -> (Node, Node, Peer) {
    let (a, b) = (worker("a", 1).0, worker("b", 2).0);
    let b = b.listen("tcp://127.0.0.1:0").start().await.unwrap();
    let a = a.listen("tcp://127.0.0.1:0").seeds(b.addresses()).start().await.unwrap();
    let peer = a.peer("b").await.unwrap();
    (a, b, peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_nested_both_ways_on_one_connection() {
    within(async {
        let (a, b, peer) = pair().await;
        let way = WorkerStub::new(&peer).bounce(64).await.unwrap();
        assert_eq!(way.len(), 65);
        assert!(way.iter().enumerate().all(|(n, name)| name == if n % 2 == 0 { "b" } else { "a" }), "{way:?}");
        assert_eq!(WorkerStub::new(&peer).bounce_blocking(20).await.unwrap().len(), 21);
        assert_eq!(a.snapshot().connections.len(), 1);
        until_quiet(&[&a, &b]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nested_calls_at_once_do_not_wait_for_each_other() {
    within(async {
        let (a, b, peer) = pair().await;
        let back = b.peer("a").await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            for peer in [&peer, &back] {
                calls.spawn(WorkerStub::new(peer).bounce(8).into_future());
                calls.spawn(WorkerStub::new(peer).bounce_blocking(4).into_future());
            }
        }
        while let Some(call) = calls.join_next().await {
            assert!(call.unwrap().unwrap().len() >= 5);
        }
        until_quiet(&[&a, &b]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exception_of_a_nested_call_names_every_hop() {
    within(async {
        let (_a, _b, peer) = pair().await;
        let error: InvocationException = WorkerStub::new(&peer).bounce_and_fail(3).await.unwrap_err();
        assert_eq!(root_exc(&error).to_string(), "this is the end");
        let story = format!("{error:?}");
        assert_eq!(story.matches("`Worker.bounce_and_fail` failed").count(), 4, "{story}");
        assert_eq!(story.matches("raised on node `b`").count(), 2, "{story}");
        assert_eq!(story.matches("raised on node `a`").count(), 2, "{story}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_listen_is_called_back() {
    within(async {
        let server = worker("server", 1).0.listen("tcp://127.0.0.1:0").start().await.unwrap();
        let client = worker("client", 2).0.seeds(server.addresses()).start().await.unwrap();
        let peer = client.peer("server").await.unwrap();
        assert!(client.addresses().is_empty());
        assert_eq!(WorkerStub::new(&peer).bounce(3).await.unwrap(), ["server", "client", "server", "client"]);
        let back = server.peer("client").await.unwrap();
        assert_eq!(back.info().unwrap().role(), Role::Client);
        assert_eq!(WorkerStub::new(&back).id().await.unwrap(), 2);
        let peers = server.peers();
        assert_eq!((peers.len(), peers.clients().len()), (0, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_fails_at_once_when_its_peer_disconnects() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seed = format!("tcp://{}", listener.local_addr().unwrap());
        let client = Node::builder().name("client").seed(&seed).start().await.unwrap();
        let mut raw = Raw::accept(&listener, &hello("default", "peer", Role::Client, PeerLimits::default())).await;
        let peer = client.peer("peer").await.unwrap();
        let calls: Vec<_> = (0..10).map(|_| peer.invoke::<u8>("Worker.id", args![]).send()).collect();
        for _ in &calls {
            raw.frame_of(frame_type::REQUEST).await;
        }
        drop((raw, listener));
        for call in calls {
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
        }
    })
    .await;
}

/// Waits for an event, and gives back what came before it.
async fn event(events: &mut rmi::PeerEvents, wanted: impl Fn(&PeerEvent) -> bool) -> Vec<PeerEvent> {
    let mut before = Vec::new();
    loop {
        let event = events.next().await.expect("the node has ended");
        if wanted(&event) {
            return before;
        }
        before.push(event);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_connect_again_whoever_disconnects() {
    within(async {
        let (a, b, peer) = pair().await;
        let stub = WorkerStub::new(&peer);
        let mut events = a.watch();
        assert!(matches!(events.next().await, Some(PeerEvent::View(view)) if view.len() == 1));
        for n in 0..6 {
            // Both may have dialled: while a second connection comes or goes, the end of one is no loss.
            until("there is one connection", || [&a, &b].iter().all(|node| node.snapshot().connections.len() == 1))
                .await;
            let instance = peer.instance();
            if n % 2 == 0 {
                peer.disconnect();
                event(&mut events, |event| matches!(event, PeerEvent::Lost(info) if info.name() == "b")).await;
                // The call asks for a connection, and waits for it.
                assert_eq!(stub.id().await.unwrap(), 2);
                event(&mut events, |event| matches!(event, PeerEvent::Connected(info) if info.name() == "b")).await;
            } else {
                // The other side may be back before this one has noticed: then nothing was lost.
                b.peer("a").await.unwrap().disconnect();
                let id = async {
                    loop {
                        match stub.id().await {
                            Ok(id) => return id,
                            Err(error) => assert!(matches!(error.kind(), Kind::ConnectionLost), "{error:?}"),
                        }
                    }
                };
                assert_eq!(id.await, 2);
            }
            assert_eq!(peer.instance(), instance);
        }
        until("one connection is left", || a.snapshot().connections.len() == 1).await;
        only_link(&a);
    })
    .await;
}

/// Nodes that start at once, each with the addresses of all as its seeds.
async fn discover(addresses: Vec<String>) {
    let n = addresses.len();
    let starting: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(id, address)| {
            let (builder, _) = worker(&format!("node-{id}"), id as u32);
            tokio::spawn(builder.listen(address.as_str()).seeds(&addresses).start().into_future())
        })
        .collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.unwrap().unwrap());
    }
    let mut events: Vec<_> = nodes.iter().map(Node::watch).collect();
    for node in &nodes {
        node.peers().wait_for(move |peers| peers.connected() == n - 1).await.unwrap();
    }
    // Each calls each, while connections that are one too many wind down.
    for node in &nodes {
        for (id, other) in nodes.iter().enumerate() {
            let peer = node.peer(other.name()).await.unwrap();
            assert_eq!(WorkerStub::new(&peer).id().await.unwrap(), id as u32);
        }
    }
    let instances: BTreeSet<_> = nodes.iter().map(Node::instance).collect();
    for node in &nodes {
        let settled = || {
            let links = node.snapshot().connections;
            links.len() == n - 1 && links.iter().all(|link| link.takes_calls)
        };
        until("each pair has one connection", settled).await;
        let linked: BTreeSet<_> = node.snapshot().connections.iter().map(|link| link.instance).collect();
        assert!(linked.is_subset(&instances) && linked.len() == n - 1 && !linked.contains(&node.instance()));
        assert_eq!(node.peers().len(), n - 1, "{:?}", node.peers());
    }
    // The two ends agree on which one it is.
    for a in &nodes {
        for link in a.snapshot().connections {
            let b = nodes.iter().find(|node| node.instance() == link.instance).unwrap();
            let theirs = b.snapshot().connections.into_iter().find(|link| link.instance == a.instance()).unwrap();
            assert_ne!(link.is_dialer, theirs.is_dialer);
        }
    }
    // Nobody was ever lost on the way.
    for events in &mut events {
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
            assert!(matches!(event, PeerEvent::View(_) | PeerEvent::Connected(_)), "{event:?}");
        }
    }
    for node in &nodes {
        node.shutdown(Duration::from_secs(5)).await;
    }
}

/// Addresses that were free just now.
fn free_addresses(n: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| format!("tcp://{}", listener.local_addr().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_start_at_once_find_each_other() {
    within(discover(free_addresses(2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_that_start_at_once_find_each_other() {
    within(discover(free_addresses(4))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_that_start_at_once_find_each_other() {
    within(discover(free_addresses(8))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_in_memory_that_start_at_once_find_each_other() {
    within(discover((0..8).map(|n| format!("mem://discover-{n}")).collect())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_through_a_common_seed() {
    within(async {
        let seed = worker("seed", 0).0.listen("tcp://127.0.0.1:0").start().await.unwrap();
        let mut nodes = Vec::new();
        for id in 1..=4 {
            let (builder, _) = worker(&format!("node-{id}"), id);
            nodes.push(builder.listen("tcp://127.0.0.1:0").seeds(seed.addresses()).start().await.unwrap());
        }
        nodes.push(seed);
        for node in &nodes {
            node.peers().wait_for(|peers| peers.connected() == 4).await.unwrap();
        }
        let last = nodes[0].peer("node-4").await.unwrap();
        assert_eq!(WorkerStub::new(&last).id().await.unwrap(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_port_is_taken_when_the_default_one_is_in_use() {
    within(async {
        let a = Node::builder().name("a").listen("tcp://127.0.0.1").start().await.unwrap();
        let b = Node::builder().name("b").listen("tcp://127.0.0.1").seeds(a.addresses()).start().await.unwrap();
        let port = |node: &Node| node.addresses()[0].to_string().rsplit(':').next().unwrap().parse::<u16>().unwrap();
        assert!(port(&a) >= rmi::DEFAULT_PORT && port(&b) > port(&a), "{a:?} {b:?}");
        a.peer("b").await.unwrap().ping().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error_that_says_what_to_do() {
    within(async {
        let a = Node::builder().name("a").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let address = a.addresses().remove(0);
        let error = Node::builder().listen(&address).start().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StartError::Listen { .. }), "{text}");
        assert!(
            text.contains(&address.to_string()) && text.contains("choose another, port 0 for any free one"),
            "{text}"
        );
        let mem = Node::builder().listen("mem://in-use").start().await.unwrap();
        let error = Node::builder().listen("mem://in-use").start().await.unwrap_err();
        assert!(error.to_string().contains("another node listens there"), "{error}");
        drop(mem);
        for (address, hint) in [
            ("tcp://0.0.0.0:0", "danger_plaintext"),
            ("tcp://192.0.2.1:5000", "danger_plaintext"),
            ("tcp:/127.0.0.1", "write `tcp://host:port`"),
            ("unix:///no/such/directory/socket", "make it first"),
        ] {
            let error = Node::builder().listen(address).start().await.unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
        }
        let error = Node::builder().seed("tcp://192.0.2.1:5000").start().await.unwrap_err();
        assert!(matches!(error, StartError::NotLocal { .. }), "{error}");
        let error = Node::builder().danger_plaintext().listen("tcp://0.0.0.0:0").start().await.unwrap_err();
        assert!(error.to_string().contains("advertise(..)"), "{error}");
    })
    .await;
}

/// A node on a runtime of its own, which can be killed like a process.
async fn process(name: &str, id: u32, address: &str) -> (tokio::runtime::Runtime, Node, Worker) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (builder, worker) = worker(name, id);
    let builder = builder.listen(address).runtime(runtime.handle().clone());
    let node = builder.start().await.unwrap();
    (runtime, node, worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_calls_go_to_the_new_process_and_never_of_those_who_meant_the_old_one() {
    within(async {
        let (mut runtime, mut node, mut old) = process("server", 0, "tcp://127.0.0.1:0").await;
        let address = node.addresses()[0].to_string();
        let client = Node::builder().name("client").listen("tcp://127.0.0.1:0").seed(&address).start().await.unwrap();
        for id in 1..=5 {
            let peer = client.peer("server").await.unwrap();
            let pinned = peer.pinned();
            assert_eq!(pinned.instance(), Some(node.instance()));
            let (stub, pinned_stub) = (WorkerStub::new(&peer), WorkerStub::new(&pinned));
            assert_eq!(pinned_stub.id().await.unwrap(), id - 1);
            let n_runs = old.runs.get();
            let never = stub.never().send();
            old.runs.reaches(n_runs + 1).await;
            let mut events = client.watch();
            // The system would close the sockets of a process; here they are closed when the tasks that have them are gone.
            let killed = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(common::LONGEST));
            killed.await.unwrap();
            drop(node);
            let error = never.await.unwrap_err();
            assert!(matches!(error.kind(), Kind::ConnectionLost | Kind::PeerRestarted), "{error:?}");
            assert_eq!(error.class(), Class::MaybeExecuted);
            event(&mut events, |event| matches!(event, PeerEvent::Lost(_))).await;
            let early = pinned_stub.id().send();
            let early = tokio::spawn(early);
            let (new_runtime, new_node, new) = process("server", id, &address).await;
            let also_early = tokio::spawn(pinned_stub.id().into_future());
            event(
                &mut events,
                |event| matches!(event, PeerEvent::Restarted { new, .. } if new.instance() == new_node.instance()),
            )
            .await;
            for call in [early.await.unwrap(), also_early.await.unwrap(), pinned_stub.id().await] {
                let error = call.unwrap_err();
                assert!(matches!(error.kind(), Kind::PeerRestarted | Kind::ConnectFailed), "{error:?}");
                assert_eq!(error.class(), Class::NotExecuted);
            }
            assert_eq!(pinned_stub.id().await.unwrap_err().kind(), Kind::PeerRestarted);
            assert_eq!(new.runs.get(), 0, "a call that meant the old process ran on the new one");
            assert_eq!(stub.id().await.unwrap(), id);
            assert_eq!(peer.instance(), Some(new_node.instance()));
            assert_eq!(client.peers().len(), 1, "{:?}", client.peers());
            (runtime, node, old) = (new_runtime, new_node, new);
        }
        drop((node, old));
        runtime.shutdown_background();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_shut_down_starts_again_on_its_address_at_once() {
    within(async {
        let mut server = worker("server", 0).0.listen("tcp://127.0.0.1:0").start().await.unwrap();
        let address = server.addresses()[0].to_string();
        let client = Node::builder().name("client").seed(&address).start().await.unwrap();
        let peer = client.peer("server").await.unwrap();
        for id in 1..=4 {
            server.shutdown(Duration::from_secs(5)).await;
            server = worker("server", id).0.listen(address.as_str()).start().await.unwrap();
            let instance = server.instance();
            let is_new =
                move |peer: &rmi::PeerInfo| peer.instance() == instance && peer.state() == PeerState::Connected;
            client.peers().wait_for(move |peers| peers.iter().any(is_new)).await.unwrap();
            assert_eq!(WorkerStub::new(&peer).id().await.unwrap(), id);
            assert_eq!(client.peers().len(), 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_live_nodes_with_one_name_are_a_conflict_and_both_stay() {
    within(async {
        let a = worker("twin", 1).0.listen("tcp://127.0.0.1:0").start().await.unwrap();
        let client = Node::builder().name("client").listen("tcp://127.0.0.1:0").seeds(a.addresses()).start().await.unwrap();
        let peer = client.peer("twin").await.unwrap();
        assert_eq!(WorkerStub::new(&peer).id().await.unwrap(), 1);
        let mut events = client.watch();
        let b = worker("twin", 2).0.listen("tcp://127.0.0.1:0").seeds(client.addresses()).start().await.unwrap();
        let conflict = |event: &PeerEvent| {
            matches!(event, PeerEvent::NameConflict { old, new } if (old.instance(), new.instance()) == (a.instance(), b.instance()))
        };
        event(&mut events, conflict).await;
        let twins = client.peers().wait_for(|peers| peers.connected() == 2).await.unwrap().named("twin").to_peers();
        let mut ids = Vec::new();
        for twin in &twins {
            ids.push(WorkerStub::new(twin).id().await.unwrap());
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        // The lookup takes the newer one.
        let newer = client.peer("twin").await.unwrap();
        assert_eq!(newer.instance(), Some(b.instance()));
        assert_eq!(WorkerStub::new(&newer).id().await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_live_nodes_with_one_name_and_one_address_do_not_evict_each_other() {
    within(async {
        let a = worker("twin", 1).0.listen("tcp://127.0.0.1:0").start().await.unwrap();
        let client = Node::builder().name("client").listen("tcp://127.0.0.1:0").seeds(a.addresses()).start().await.unwrap();
        client.peer("twin").await.unwrap();
        let mut events = client.watch();
        // As two containers do whose programs tell the address that they have inside.
        let b = worker("twin", 2).0.listen("tcp://127.0.0.1:0").advertise(&a.addresses()[0]).seeds(client.addresses());
        let b = b.start().await.unwrap();
        let conflict = |event: &PeerEvent| {
            matches!(event, PeerEvent::NameConflict { old, new } if (old.instance(), new.instance()) == (a.instance(), b.instance()))
        };
        let seen = event(&mut events, conflict).await;
        let is_eviction = |event: &PeerEvent| matches!(event, PeerEvent::Restarted { .. } | PeerEvent::Lost(_));
        assert!(!seen.iter().any(is_eviction), "{seen:?}");
        let twins = client.peers().named("twin").to_peers();
        assert_eq!(twins.len(), 2);
        for _ in 0..100 {
            for twin in &twins {
                let id = if twin.instance() == Some(a.instance()) { 1 } else { 2 };
                assert_eq!(WorkerStub::new(twin).id().await.unwrap(), id);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_cluster_are_strangers() {
    within(async {
        let a = worker("a", 1).0.cluster("one").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let b = worker("b", 2).0.cluster("two").seeds(a.addresses()).start().await.unwrap();
        let error = b.peer("a").with_timeout(Duration::from_millis(500)).await.unwrap_err();
        assert!(error.to_string().contains("cluster"), "{error}");
        let error = rmi::connect(a.addresses().remove(0)).cluster("two").await.unwrap_err();
        assert!(Arc::new(error).to_string().contains("cannot connect to tcp://"));
        assert!(a.peers().is_empty() && a.peers().clients().is_empty());
        assert_eq!(rmi::connect(a.addresses().remove(0)).cluster("one").await.unwrap().name(), "a");
    })
    .await;
}
