//! A node ends in peace: what it has accepted is answered, what it has not did not run, and nothing of it is left.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::proxy::{Pieces, Proxy, Way};
use common::{Counter, Raw, host_port, rounds, until, within};
use rmi::{Blob, Class, Kind, Node, Peer, PeerEvent, args, rmi_node};
use rmi_core::frame::{GoAway, GoAwayReason, frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use rmi_core::message::{Message, Response};
use rmi_net::seam::{Seams, SystemClock, SystemRng};

#[derive(Clone, Default)]
struct Counting {
    runs: Counter,
    dropped: Counter,
}

#[rmi_node]
impl Counting {
    async fn run(&self) -> usize {
        let n = self.runs.add();
        for _ in 0..n % 5 {
            tokio::task::yield_now().await;
        }
        n
    }

    fn run_blocking(&self) -> usize {
        self.runs.add()
    }

    async fn run_large(&self, blob: Blob) -> Blob {
        self.runs.add();
        blob
    }

    async fn answer(&self, n_bytes: usize) -> Blob {
        self.runs.add();
        Blob::from(vec![7; n_bytes])
    }

    async fn never(&self) {
        let _on_drop = self.dropped.on_drop();
        self.runs.add();
        std::future::pending().await
    }

    /// Calls back when it is told to.
    async fn call_back(&self, caller: &Peer) -> rmi::Result<usize> {
        self.runs.add();
        CountingStub::new(caller).wait_for(1).await?;
        Ok(CountingStub::new(caller).run().await?)
    }

    async fn wait_for(&self, n: usize) {
        self.dropped.reaches(n).await;
    }
}

async fn node(name: &str, seeds: &[&Node]) -> (Node, Counting) {
    let counting = Counting::default();
    let seeds = seeds.iter().flat_map(|node| node.addresses());
    let node = Node::builder().name(name).listen("tcp://127.0.0.1:0").seeds(seeds).serve(counting.clone());
    (node.start().await.unwrap(), counting)
}

/// What a round of calls came to, until the node took no more.
struct Drained {
    n_answers: usize,
    /// Why each caller was turned away.
    refusals: Vec<Kind>,
    n_runs: usize,
}

/// Shuts a node down while 16 callers call without pause, over this network.
async fn drain_under_load(round: usize, network: Option<fn(&Proxy)>) -> Drained {
    let (server, counting) = node("server", &[]).await;
    let proxy = Proxy::to(&host_port(&server)).await;
    let seed = match network {
        Some(network) => {
            network(&proxy);
            proxy.url()
        }
        None => server.addresses()[0].to_string(),
    };
    let client = Node::builder().name("client").seed(seed).start().await.unwrap();
    let stub = CountingStub::new(client.peer("server").await.unwrap());
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..16 {
        let stub = stub.clone();
        callers.spawn(async move {
            let mut n_answers = 0;
            loop {
                let result = match n % 4 {
                    0 => stub.run_blocking().await.map(drop),
                    1 => stub.run_large(Blob::from(vec![0; 150 << 10])).await.map(drop),
                    2 => stub.answer(300 << 10).await.map(|blob| assert_eq!(blob.len(), 300 << 10)),
                    _ => stub.run().await.map(drop),
                };
                match result {
                    Ok(()) => n_answers += 1,
                    Err(error) => return (n_answers, error),
                }
            }
        });
    }
    counting.runs.reaches(40 + round % 10 * 37).await;
    server.shutdown(Duration::from_secs(20)).await;
    let mut drained = Drained { n_answers: 0, refusals: Vec::new(), n_runs: 0 };
    while let Some(caller) = callers.join_next().await {
        let (n, error) = caller.unwrap();
        assert_eq!(error.class(), Class::NotExecuted, "round {round}: {error:?}");
        drained.refusals.push(error.kind());
        drained.n_answers += n;
    }
    drained.n_runs = counting.runs.get();
    drained
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_that_was_accepted_is_answered() {
    let networks: [Option<fn(&Proxy)>; 4] = [
        None,
        // Large answers stand in the sockets while calls go on to come in: what is closed has unread input.
        Some(|proxy| proxy.throttle(Way::Back, 100 << 20)),
        // What crosses the goaway is on its way for long.
        Some(|proxy| [Way::Out, Way::Back].into_iter().for_each(|way| proxy.delay(way, Duration::from_millis(5)))),
        Some(|proxy| [Way::Out, Way::Back].into_iter().for_each(|way| proxy.split(way, Pieces::Random(10_000, 3)))),
    ];
    let mut refusals = std::collections::BTreeMap::new();
    let (mut n_answers, n_rounds) = (0, rounds(16, 1000));
    for round in 0..n_rounds {
        let drained = within(drain_under_load(round, networks[round % networks.len()])).await;
        assert_eq!(drained.n_answers, drained.n_runs, "round {round}: answers and runs");
        n_answers += drained.n_answers;
        for kind in drained.refusals {
            *refusals.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
    }
    println!("{n_rounds} rounds, {n_answers} calls answered, turned away: {refusals:?}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_gets_all_its_answers() {
    within(async {
        let counting = Counting::default();
        let server = Node::builder().name("server").listen("mem://slow-drain").serve(counting.clone());
        let server = server.start().await.unwrap();
        let (proxy, net) = Proxy::net();
        let clock = Arc::new(SystemClock::new(tokio::runtime::Handle::current()));
        let seams = Seams { net, clock, rng: Arc::new(SystemRng::seeded(1)) };
        let client = Node::builder().name("client").seeds(server.addresses()).seams(seams).start().await.unwrap();
        let stub = CountingStub::new(client.peer("server").await.unwrap());
        proxy.freeze(Way::Back);
        let calls: Vec<_> = (0..9).map(|_| stub.answer(400 << 10).send()).collect();
        counting.runs.reaches(9).await;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(20)).into_future());
        // Longer than a connection that is closing is read to its end.
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(server.snapshot().connections[0].queued_bytes > 0, "nothing waits");
        proxy.thaw();
        for call in calls {
            assert_eq!(call.await.unwrap().len(), 400 << 10);
        }
        shutdown.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_calls_are_answered_too() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let (client, _) = node("client", &[&server]).await;
        let stub = CountingStub::new(client.peer("server").await.unwrap());
        let calls: Vec<_> = (0..100).map(|_| stub.run().send()).collect();
        client.shutdown(Duration::from_secs(10)).await;
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(counting.runs.get(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_still_run_may_call_their_peers() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let (client, of_client) = node("client", &[&server]).await;
        let call = CountingStub::new(client.peer("server").await.unwrap()).call_back().send();
        counting.runs.reaches(1).await;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(20)).into_future());
        until("the client has heard of it", || !client.snapshot().connections[0].takes_calls).await;
        of_client.dropped.add();
        assert_eq!(call.await.unwrap(), 1);
        shutdown.await.unwrap();
    })
    .await;
}

/// Calls another peer from where requests are read, when it is told to.
#[derive(Clone)]
struct Direct {
    runs: Counter,
    go_on: Arc<Mutex<std::sync::mpsc::Receiver<Peer>>>,
    called: Arc<Mutex<Option<tokio::task::JoinHandle<rmi::Result<usize>>>>>,
}

#[rmi_node]
impl Direct {
    #[rmi(direct)]
    fn call(&self) {
        self.runs.add();
        let peer = self.go_on.lock().unwrap().recv().unwrap();
        let call = CountingStub::new(&peer).run().send();
        *self.called.lock().unwrap() = Some(tokio::spawn(async move { Ok(call.await?) }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_direct_method_that_still_runs_may_call_any_peer() {
    within(async {
        let (let_go, go_on) = std::sync::mpsc::channel();
        let (runs, go_on) = (Counter::default(), Arc::new(Mutex::new(go_on)));
        let direct = Direct { runs, go_on, called: Arc::default() };
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(direct.clone());
        let server = server.start().await.unwrap();
        let (caller, _) = node("caller", &[&server]).await;
        let (other, _) = node("other", &[&server]).await;
        other.peer("server").await.unwrap();
        let to = server.peer("other").await.unwrap();
        let call = DirectStub::new(caller.peer("server").await.unwrap()).call().send();
        direct.runs.reaches(1).await;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(20)).into_future());
        let takes_calls = |link: &rmi::ConnectionSnapshot| link.peer == "server" && link.takes_calls;
        until("the other has heard of it", || !other.snapshot().connections.iter().any(takes_calls)).await;
        // Time for a connection to end that does not wait for the method.
        let is_left = || !other.snapshot().connections.iter().any(|link| link.peer == "server");
        let left = tokio::time::timeout(Duration::from_millis(200), until("it is left", is_left)).await;
        assert!(left.is_err(), "the connection did not wait for the method");
        let_go.send(to).unwrap();
        call.await.unwrap();
        let called = direct.called.lock().unwrap().take().unwrap();
        called.await.unwrap().unwrap();
        shutdown.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_grace_the_rest_is_cancelled_and_told() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let (client, of_client) = node("client", &[&server]).await;
        let (peer, back) = (client.peer("server").await.unwrap(), server.peer("client").await.unwrap());
        let theirs = CountingStub::new(&peer).never().send();
        let own = CountingStub::new(&back).never().send();
        counting.runs.reaches(1).await;
        of_client.runs.reaches(1).await;
        let begun = Instant::now();
        server.shutdown(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let error = theirs.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Cancelled, Class::MaybeExecuted), "{error:?}");
        let error = own.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::LocalShutdown, Class::MaybeExecuted), "{error:?}");
        counting.dropped.reaches(1).await;
        of_client.dropped.reaches(1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_see_it_leave() {
    within(async {
        let (server, _) = node("server", &[]).await;
        let (client, _) = node("client", &[&server]).await;
        client.peer("server").await.unwrap();
        // Both ends know of it: what comes to a node that ends is turned away, and never was a peer.
        server.peer("client").await.unwrap();
        let mut events = client.watch();
        let mut own_events = server.watch();
        server.shutdown(Duration::from_secs(5)).await;
        loop {
            match events.next().await.unwrap() {
                PeerEvent::View(_) => {}
                PeerEvent::Left(info) => break assert_eq!(info.name(), "server"),
                event => panic!("{event:?}"),
            }
        }
        // Whoever watches the node itself learns that it has ended.
        while own_events.next().await.is_some() {}
        client.peers().wait_for(|peers| peers.is_empty()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_twice_does_no_harm() {
    within(async {
        let (server, _) = node("server", &[]).await;
        let (client, _) = node("client", &[&server]).await;
        client.peer("server").await.unwrap();
        let grace = Duration::from_secs(5);
        let twice = (server.shutdown(grace).into_future(), server.clone().shutdown(grace).into_future());
        tokio::join!(twice.0, twice.1);
        server.shutdown(grace).await;
        drop(server);
        client.shutdown(grace).await;
        // One without peers.
        let (alone, _) = node("alone", &[]).await;
        alone.shutdown(grace).await;
        alone.shutdown(Duration::ZERO).await;
        assert_eq!(alone.snapshot().connections.len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_shutdown_waits_for_the_first() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let (client, of_client) = node("client", &[&server]).await;
        let call = CountingStub::new(client.peer("server").await.unwrap()).call_back().send();
        counting.runs.reaches(1).await;
        let grace = Duration::from_secs(20);
        let first = tokio::spawn(server.shutdown(grace).into_future());
        until("the client has heard of it", || !client.snapshot().connections[0].takes_calls).await;
        let mut second = server.clone().shutdown(Duration::ZERO).into_future();
        let waited = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
        assert!(waited.is_err() && !first.is_finished(), "a method still runs");
        of_client.dropped.add();
        second.await;
        // The call that held both up was answered, and nothing of the node is left.
        assert_eq!(server.snapshot().connections.len(), 0);
        assert_eq!(call.await.unwrap(), 1);
        first.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_that_has_begun_goes_on_when_nobody_waits_for_it() {
    within(async {
        let (server, _) = node("server", &[]).await;
        let (client, _) = node("client", &[&server]).await;
        client.peer("server").await.unwrap();
        server.peer("client").await.unwrap();
        let mut own_events = server.watch();
        let mut shutdown = server.shutdown(Duration::from_secs(5)).into_future();
        std::future::poll_fn(|context| std::task::Poll::Ready(shutdown.as_mut().poll(context).is_ready())).await;
        drop(shutdown);
        while own_events.next().await.is_some() {}
        client.peers().wait_for(|peers| peers.is_empty()).await.unwrap();
        until("the listener is closed", || std::net::TcpStream::connect(host_port(&server)).is_err()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drop_of_the_last_handle_stops_the_node() {
    within(async {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let counting = Counting::default();
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").runtime(runtime.handle().clone());
        let server = server.serve(counting.clone()).start().await.unwrap();
        let (client, _) = node("client", &[&server]).await;
        let peer = client.peer("server").await.unwrap();
        let never = CountingStub::new(&peer).never().send();
        counting.runs.reaches(1).await;
        let address = host_port(&server);
        let clone = server.clone();
        let handle = server.peer("client").await.unwrap();
        drop(server);
        peer.ping().await.unwrap();
        drop(clone);
        let error = never.await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Cancelled | Kind::ConnectionLost | Kind::GoingAway), "{error:?}");
        assert_eq!(error.class(), Class::MaybeExecuted);
        counting.dropped.reaches(1).await;
        client.peers().wait_for(|peers| peers.connected() == 0).await.unwrap();
        until("the listener is closed", || std::net::TcpStream::connect(&address).is_err()).await;
        // A handle to a peer does not keep the node alive.
        assert_eq!(handle.ping().await.unwrap_err().kind(), Kind::LocalShutdown);
        until("the tasks have ended", || runtime.metrics().num_alive_tasks() == 0).await;
        runtime.shutdown_background();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_from_connect_keeps_its_client_until_it_is_dropped() {
    within(async {
        let (server, _) = node("server", &[]).await;
        let peer = rmi::connect(server.addresses().remove(0)).name("desk").await.unwrap();
        let stub = CountingStub::new(&peer);
        drop(peer);
        assert_eq!(stub.run().await.unwrap(), 1);
        let clients = server.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
        assert_eq!(clients.clients()[0].name(), "desk");
        drop(stub);
        server.peers().wait_for(|peers| peers.clients().is_empty()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_announced_twice_and_lets_what_crosses_run() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let mut raw = Raw::connect(&host_port(&server), "raw", PeerLimits::default()).await;
        until("the node has taken it in", || !server.snapshot().connections.is_empty()).await;
        let run = [&[0x91, 0xac][..], b"Counting.run"].concat();
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(20)).into_future());
        let (_, payload) = raw.frame_of(frame_type::GOAWAY).await;
        let goaway = GoAway::decode(&payload).unwrap();
        assert_eq!((goaway.reason, goaway.last_accepted), (GoAwayReason::Shutdown, u64::MAX));
        // It crosses the goaway.
        raw.send(frame_type::REQUEST, 0, 5, &run).await;
        let mut answered = Vec::new();
        let ping = loop {
            let (header, _) = raw.frame().await.expect("the connection ended");
            match header.frame_type {
                frame_type::PING => break header,
                // It may have run by now.
                frame_type::RESPONSE => answered.push(header.id),
                _ => {}
            }
        };
        raw.send(frame_type::PONG, 0, ping.id, &[]).await;
        raw.send(frame_type::REQUEST, 0, 6, &run).await;
        let mut last_accepted = None;
        while let Some((header, payload)) = raw.frame().await {
            match header.frame_type {
                frame_type::RESPONSE => answered.push(header.id),
                frame_type::GOAWAY => last_accepted = Some(GoAway::decode(&payload).unwrap().last_accepted),
                _ => {}
            }
        }
        let last_accepted = last_accepted.expect("no second goaway");
        assert!(last_accepted == 5 || last_accepted == 6);
        answered.sort_unstable();
        assert_eq!(answered, (5..=last_accepted).collect::<Vec<_>>());
        assert_eq!(counting.runs.get(), answered.len());
        drop(raw);
        shutdown.await.unwrap();
    })
    .await;
}

/// It was accepted, so it is waited for; what has not come at the end of grace does not run, and its caller can know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_grace_what_has_come_in_part_is_refused() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let mut raw = Raw::connect(&host_port(&server), "raw", PeerLimits::default()).await;
        let head = [&[0x92, 0xb2][..], b"Counting.run_large", &[0x91, 0xc6], &450_000u32.to_be_bytes()].concat();
        let opening = [&((head.len() + 450_000) as u64).to_le_bytes()[..], &head].concat();
        raw.send(frame_type::REQUEST, frame_flag::MORE, 1, &opening).await;
        raw.send(frame_type::PART, frame_flag::MORE, 1, &[0; 50_000]).await;
        until("the node has taken it in", || !server.snapshot().connections.is_empty()).await;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_millis(300)).into_future());
        let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
        assert_eq!((header.id, header.has(frame_flag::EXCEPTION)), (1, true));
        let response = Response::decode(&Message::Borrowed(&payload), true).unwrap();
        let Response::Exception(exception) = response else { panic!("{response:?}") };
        assert_eq!((exception.kind, exception.class), (Kind::GoingAway, Class::NotExecuted), "{exception:?}");
        // The rest of it crosses, begins nothing, and does not break the connection, which ends in peace.
        for n in 1..=8 {
            let flags = if n < 8 { frame_flag::MORE } else { 0 };
            raw.send(frame_type::PART, flags, 1, &[0; 50_000]).await;
        }
        let (mut stream, _) = raw.into_parts();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.expect("it was reset");
        drop(stream);
        shutdown.await.unwrap();
        assert_eq!(counting.runs.get(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_does_not_hold_the_node_up() {
    within(async {
        let (server, _) = node("server", &[]).await;
        let raw = Raw::connect(&host_port(&server), "raw", PeerLimits::default()).await;
        server.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
        let begun = Instant::now();
        server.shutdown(Duration::from_secs(20)).await;
        // A second for the round trip, two for the end of the stream.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(raw);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_takes_nobody_new() {
    within(async {
        let (server, counting) = node("server", &[]).await;
        let (client, _) = node("client", &[&server]).await;
        let peer = client.peer("server").await.unwrap();
        let never = CountingStub::new(&peer).never().send();
        counting.runs.reaches(1).await;
        let address = server.addresses().remove(0);
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(20)).into_future());
        until("the listener is closed", || std::net::TcpStream::connect(host_port(&server)).is_err()).await;
        assert!(rmi::connect(address).await.is_err());
        let error = peer.invoke::<()>("Counting.run", args![]).await.unwrap_err();
        assert_eq!(error.class(), Class::NotExecuted, "{error:?}");
        drop(never);
        shutdown.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_addresses_are_free_when_the_shutdown_is_over() {
    within(async {
        let path = std::env::temp_dir().join(format!("rmi-drain-{}", std::process::id()));
        let unix = format!("unix://{}", path.display());
        for _ in 0..100 {
            let node = Node::builder().listen("tcp://127.0.0.1:0").listen("mem://drain").listen(unix.as_str());
            let node = node.start().await.unwrap();
            let addresses = node.addresses();
            node.shutdown(Duration::ZERO).await;
            let again = addresses.iter().fold(Node::builder(), |builder, address| builder.listen(address));
            again.start().await.unwrap().shutdown(Duration::ZERO).await;
        }
    })
    .await;
}
