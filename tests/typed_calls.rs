//! A stub calls a method of another node as if it were here: every shape of method, argument and result.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Counter, until_quiet, within};
use rmi::{
    Blob, CallContext, Class, InvocationException, Kind, Node, Peer, RemoteError, ServeError, args, rmi_node, root_exc,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum MathError {
    #[error("division by zero")]
    DivisionByZero,
    #[error("{value} is out of range")]
    OutOfRange { value: i64 },
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the settings")]
struct SettingsError(#[source] std::num::ParseIntError);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: Option<f64>,
    label: String,
}

#[derive(Default)]
struct Shapes {
    told: Counter,
    total: AtomicU64,
}

#[rmi_node]
impl Shapes {
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    fn blocking(&self, text: &str) -> String {
        std::thread::current().name().map_or_else(|| text.to_owned(), |_| text.to_uppercase())
    }

    #[rmi(cpu)]
    fn computed(&self, values: &[u64]) -> u64 {
        values.iter().sum()
    }

    #[rmi(direct)]
    fn direct(&self, by: u64) -> u64 {
        self.total.fetch_add(by, Ordering::SeqCst) + by
    }

    #[rmi(spawn)]
    async fn spawned(&self, point: Point) -> Point {
        tokio::task::yield_now().await;
        Point { x: -point.x, ..point }
    }

    async fn nothing(&self) {}

    async fn keywords(&self, a: u8, #[rmi(keyword)] b: &str, #[rmi(keyword, default = 7)] c: u8) -> String {
        format!("{a} {b} {c}")
    }

    async fn defaults(
        &self,
        #[rmi(default)] name: String,
        #[rmi(default = &[1, 2])] list: &[u8],
        #[rmi(default = Some(3))] maybe: Option<u8>,
    ) -> (String, Vec<u8>, Option<u8>) {
        (name, list.to_vec(), maybe)
    }

    async fn echo_blob(&self, blob: Blob) -> Blob {
        blob
    }

    async fn make_blob(&self, len: usize) -> Blob {
        Blob::from((0..len).map(|n| n as u8).collect::<Vec<u8>>())
    }

    async fn blob_len(&self, first: &Blob, second: &Blob) -> (usize, usize) {
        (first.len(), second.len())
    }

    async fn echo_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn echo_words(&self, words: Vec<String>) -> Vec<String> {
        words
    }

    async fn echo_map(&self, map: BTreeMap<String, Vec<Point>>) -> BTreeMap<String, Vec<Point>> {
        map
    }

    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        if a > 1000 {
            return Err(MathError::OutOfRange { value: a });
        }
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    fn div_blocking(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    async fn any_error(&self, text: &str) -> rmi::Result<i32> {
        Ok(text.parse::<i32>().map_err(SettingsError)?)
    }

    async fn caller(&self, caller: &Peer, word: &str) -> rmi::Result<String> {
        let answer: String = caller.invoke("Shapes.blocking", args![word]).await?;
        Ok(format!("{} says {answer}", caller.name()))
    }

    async fn context(&self, context: &CallContext) -> (String, Option<Duration>) {
        (context.caller_name().to_owned(), context.remaining())
    }

    async fn node(&self, node: &Node) -> (String, usize) {
        (node.name().to_owned(), node.peers().connected())
    }

    #[rmi(oneway)]
    async fn tell(&self, by: u64) {
        self.total.fetch_add(by, Ordering::SeqCst);
        self.told.add();
    }

    async fn wait_here(&self, node: Node) -> rmi::Result<WouldBlock> {
        let peer = node.peer(node.name()).await?;
        let error = peer.invoke::<()>("Shapes.nothing", args![]).wait().unwrap_err();
        Ok(WouldBlock(error.kind() == Kind::WouldBlock))
    }
}

/// Whether that was the answer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WouldBlock(bool);

/// Two nodes that know each other, the second one with a peer that is the first.
async fn pair(address: &str) -> (Node, Node, ShapesStub) {
    let server = Node::builder().name("server").listen(address).serve(Shapes::default()).start().await.unwrap();
    let client = Node::builder()
        .name("client")
        .listen("tcp://127.0.0.1:0")
        .seeds(server.addresses())
        .serve(Shapes::default())
        .start()
        .await
        .unwrap();
    let stub = ShapesStub::new(client.peer("server").await.unwrap());
    (server, client, stub)
}

fn point(x: i32) -> Point {
    Point { x, y: Some(0.5), label: "é".into() }
}

async fn every_shape(stub: &ShapesStub) {
    assert_eq!(stub.add(1, Some(2)).await.unwrap(), 3);
    assert_eq!(stub.add(1, None).await.unwrap(), 2);
    assert_eq!(stub.blocking("word").await.unwrap(), "WORD");
    assert_eq!(stub.computed(&[1, 2, 3]).await.unwrap(), 6);
    assert_eq!(stub.direct(0).await.unwrap(), 0);
    assert_eq!(stub.spawned(point(4)).await.unwrap(), point(-4));
    stub.nothing().await.unwrap();
    assert_eq!(stub.keywords(1, "b", None).await.unwrap(), "1 b 7");
    assert_eq!(stub.keywords(1, "b", Some(8)).await.unwrap(), "1 b 8");
    assert_eq!(stub.defaults(None, None, None).await.unwrap(), (String::new(), vec![1, 2], Some(3)));
    let given = stub.defaults(Some("n".into()), Some(&[]), Some(None)).await.unwrap();
    assert_eq!(given, ("n".into(), vec![], None));
    let map = BTreeMap::from([("a".to_owned(), vec![point(1), Point { y: None, ..point(2) }]), ("b".into(), vec![])]);
    assert_eq!(stub.echo_map(map.clone()).await.unwrap(), map);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_of_method_is_called_over_tcp() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        every_shape(&stub).await;
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_of_method_is_called_in_memory() {
    within(async {
        let (server, client, stub) = pair("mem://every_shape").await;
        every_shape(&stub).await;
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_of_method_is_called_over_a_unix_socket() {
    within(async {
        let path = std::env::temp_dir().join(format!("rmi-typed-calls-{}", std::process::id()));
        let (server, client, stub) = pair(&format!("unix://{}", path.display())).await;
        every_shape(&stub).await;
        until_quiet(&[&server, &client]).await;
        server.shutdown(Duration::from_secs(5)).await;
        assert!(!path.exists(), "the socket's file is left behind");
    })
    .await;
}

#[tokio::test]
async fn every_shape_of_method_is_called_on_one_thread() {
    within(async {
        let (_server, _client, stub) = pair("tcp://127.0.0.1:0").await;
        every_shape(&stub).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_calls_itself_in_every_shape() {
    within(async {
        let node = Node::builder().name("alone").serve(Shapes::default()).start().await.unwrap();
        let itself = node.peer("alone").await.unwrap();
        let stub = ShapesStub::new(&itself);
        every_shape(&stub).await;
        assert_eq!(stub.context().await.unwrap().0, "alone");
        assert_eq!(stub.caller("word").await.unwrap(), "alone says WORD");
        let error = stub.div(1, 0).await.unwrap_err();
        assert_eq!((error.cause(), error.peer()), (Some(&MathError::DivisionByZero), "alone"));
        let blob = Blob::from(vec![1; 5 << 20]);
        assert_eq!(stub.echo_blob(blob).await.unwrap().len(), 5 << 20);
        stub.tell(3).await.unwrap();
        let future = stub.wait_here();
        assert_eq!(future.await.unwrap(), WouldBlock(true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_of_every_size_travel_both_ways() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        for len in [0, 1, 100, 60 << 10, 64 << 10, 100 << 10, 5 << 20] {
            let bytes: Vec<u8> = (0..len).map(|n: usize| n as u8).collect();
            assert!(stub.echo_blob(Blob::from(bytes.clone())).await.unwrap()[..] == bytes, "{len}");
            assert!(stub.make_blob(len).await.unwrap()[..] == bytes, "{len}");
            assert!(stub.echo_bytes(bytes.clone()).await.unwrap() == bytes, "{len}");
        }
        let (small, large) = (Blob::from(vec![1; 3]), Blob::from(vec![2; 200 << 10]));
        assert_eq!(stub.blob_len(&small, &large).await.unwrap(), (3, 200 << 10));
        assert_eq!(stub.blob_len(&large, &large).await.unwrap(), (200 << 10, 200 << 10));
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_arguments_and_results_travel_in_parts() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let numbers: Vec<u64> = (0..400_000).collect();
        assert_eq!(stub.computed(&numbers).await.unwrap(), numbers.iter().sum::<u64>());
        let words: Vec<String> = (0..100_000).map(|n| format!("word {n}")).collect();
        assert!(stub.echo_words(words.clone()).await.unwrap() == words);
        let text = "a".repeat(3 << 20);
        assert_eq!(stub.blocking(&text).await.unwrap().len(), text.len());
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_calls_in_both_directions_do_not_stop_each_other() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let back = ShapesStub::new(server.peer("client").await.unwrap());
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..40u8 {
            for stub in [stub.clone(), back.clone()] {
                calls.spawn(async move {
                    let blob = stub.echo_blob(Blob::from(vec![n; 600 << 10])).await.unwrap();
                    assert!(blob.len() == 600 << 10 && blob.iter().all(|byte| *byte == n));
                    assert_eq!(stub.add(i64::from(n), None).await.unwrap(), i64::from(n) + 1);
                });
            }
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_come_back_as_their_types() {
    within(async {
        let (_server, _client, stub) = pair("tcp://127.0.0.1:0").await;
        assert_eq!(stub.div(6, 2).await.unwrap(), 3);
        let error: InvocationException<MathError> = stub.div(1, 0).await.unwrap_err();
        assert_eq!(error.cause(), Some(&MathError::DivisionByZero));
        assert_eq!((error.kind(), error.class(), error.is_safe_to_retry()), (Kind::Raised, Class::Executed, false));
        assert_eq!((error.peer(), error.method()), ("server", "Shapes.div"));
        assert_eq!(error.to_string(), "invocation of `Shapes.div` failed");
        assert_eq!(root_exc(&error).to_string(), "division by zero");
        assert!(format!("{error:?}").contains("raised on node `server`"), "{error:?}");
        let error = stub.div(1001, 1).await.unwrap_err();
        assert_eq!(error.into_cause().unwrap(), MathError::OutOfRange { value: 1001 });
        assert_eq!(stub.div_blocking(1, 0).await.unwrap_err().cause(), Some(&MathError::DivisionByZero));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_error_keeps_its_type_name_its_words_and_its_sources() {
    within(async {
        let (_server, _client, stub) = pair("tcp://127.0.0.1:0").await;
        assert_eq!(stub.any_error("12").await.unwrap(), 12);
        let error: InvocationException<RemoteError> = stub.any_error("x").await.unwrap_err();
        let remote = error.remote().unwrap();
        assert!(remote.type_name().ends_with("::SettingsError"), "{}", remote.type_name());
        assert_eq!(remote.message(), "cannot read the settings");
        assert_eq!(remote.chain(), ["invalid digit found in string"]);
        assert_eq!((remote.node(), remote.method()), ("server", "Shapes.any_error"));
        let source = std::error::Error::source(root_exc(&error)).unwrap();
        assert_eq!(source.to_string(), "invalid digit found in string");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_gives_a_method_its_caller_its_context_and_itself() {
    within(async {
        let (_server, _client, stub) = pair("tcp://127.0.0.1:0").await;
        assert_eq!(stub.caller("word").await.unwrap(), "client says WORD");
        assert_eq!(stub.node().await.unwrap(), ("server".into(), 1));
        assert_eq!(stub.context().await.unwrap(), ("client".into(), None));
        let limit = Duration::from_secs(20);
        let (_, remaining) = stub.context().with_timeout(limit).await.unwrap();
        assert!(remaining.is_some_and(|left| left <= limit && left > limit / 2), "{remaining:?}");
        let (_, remaining) = stub.context().with_deadline(std::time::Instant::now() + limit).await.unwrap();
        assert!(remaining.is_some_and(|left| left <= limit && left > limit / 2), "{remaining:?}");
        let (_, remaining) = stub.context().with_timeout(Duration::MAX).await.unwrap();
        assert!(remaining.is_some_and(|left| left <= Duration::from_secs(24 * 60 * 60)), "{remaining:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_calls_arrive_without_an_answer() {
    within(async {
        let shapes = Arc::new(Shapes::default());
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve_arc(Arc::clone(&shapes));
        let server = server.start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
        let stub = ShapesStub::new(client.peer("server").await.unwrap());
        for _ in 0..100 {
            stub.tell(2).await.unwrap();
        }
        shapes.told.reaches(100).await;
        assert_eq!(shapes.total.load(Ordering::SeqCst), 200);
        // Refused on the other side: nobody is told, and the connection goes on.
        let gone: rmi::Invocation<()> = ShapesStub::named(client.peer("server").await.unwrap(), "gone").tell(1);
        gone.await.unwrap();
        assert_eq!(stub.direct(0).await.unwrap(), 200);
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[rmi_node]
trait Greeter {
    async fn hello(&self, name: &str) -> String;
}

#[rmi_node(name = "clock")]
trait Clock {
    fn hour(&self) -> u8;
}

#[derive(Clone)]
struct English(u8);

#[rmi_node]
impl Greeter for English {
    async fn hello(&self, name: &str) -> String {
        format!("hello {name}")
    }
}

#[rmi_node]
impl Clock for English {
    fn hour(&self) -> u8 {
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_type_serves_several_interfaces_under_several_names() {
    within(async {
        let server = Node::builder()
            .name("server")
            .listen("tcp://127.0.0.1:0")
            .serve::<GreeterStub>(English(1))
            .serve::<ClockStub>(English(2))
            .serve_as::<ClockStub>("clock.two", English(3))
            .start()
            .await
            .unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
        let peer = client.peer("server").await.unwrap();
        assert_eq!(GreeterStub::new(&peer).hello("you").await.unwrap(), "hello you");
        assert_eq!(ClockStub::new(&peer).hour().await.unwrap(), 2);
        assert_eq!(ClockStub::named(&peer, "clock.two").hour().await.unwrap(), 3);
        let info = client.peers().named("server").iter().next().cloned().unwrap();
        assert_eq!(info.services(), ["Greeter", "clock", "clock.two"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_and_go_at_run_time() {
    within(async {
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
        let stub = ClockStub::new(client.peer("server").await.unwrap());
        assert_eq!(stub.hour().await.unwrap_err().kind(), Kind::NoSuchMethod);
        server.serve::<ClockStub>(English(4)).unwrap();
        assert_eq!(stub.hour().await.unwrap(), 4);
        assert_eq!(server.serve::<ClockStub>(English(5)), Err(ServeError::NameTaken("clock".into())));
        server.serve_as::<ClockStub>("other", English(5)).unwrap();
        assert_eq!(stub.hour().await.unwrap(), 4);
        assert!(server.unserve("clock"));
        assert!(!server.unserve("clock"));
        let error = stub.hour().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::NoSuchMethod, Class::NotExecuted));
        server.serve::<ClockStub>(English(6)).unwrap();
        assert_eq!(stub.hour().await.unwrap(), 6);
        assert!(!server.unserve("rmi"), "the built-in service cannot be taken away");
        for name in ["", "rmi", "rmi.x", "a b"] {
            assert_eq!(server.serve_as::<ClockStub>(name, English(5)), Err(ServeError::BadName(name.into())));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_from_many_tasks_get_their_own_answers() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..1000i64 {
            let stub = stub.clone();
            calls.spawn(async move {
                match n % 4 {
                    0 => assert_eq!(stub.add(n, Some(n)).await.unwrap(), 2 * n),
                    1 => assert_eq!(stub.blocking(&format!("a{n}")).await.unwrap(), format!("A{n}")),
                    2 => assert_eq!(stub.spawned(point(n as i32)).await.unwrap(), point(-n as i32)),
                    _ => assert_eq!(stub.computed(&[n as u64, 1]).await.unwrap(), n as u64 + 1),
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_starts_calls_before_the_first_is_awaited() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let futures: Vec<_> = (0..100).map(|n| stub.add(n, Some(1)).send()).collect();
        for (n, future) in futures.into_iter().enumerate() {
            assert_eq!(future.await.unwrap(), n as i64 + 1);
        }
        // Nobody polls it, and it runs all the same.
        let future = stub.direct(5).send();
        while stub.direct(0).await.unwrap() != 5 {}
        assert_eq!(future.await.unwrap(), 5);
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_that_is_not_awaited_sends_nothing() {
    within(async {
        let (_server, _client, stub) = pair("tcp://127.0.0.1:0").await;
        drop(stub.direct(5));
        drop(stub.direct(5).with_timeout(Duration::from_secs(1)).into_future());
        assert_eq!(stub.direct(0).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_threads_wait() {
    within(async {
        let (server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let stub = stub.clone();
                std::thread::spawn(move || {
                    for k in 0..50 {
                        assert_eq!(stub.add(n, Some(k)).wait().unwrap(), n + k);
                    }
                    assert_eq!(stub.div(1, 0).wait().unwrap_err().cause(), Some(&MathError::DivisionByZero));
                })
            })
            .collect();
        tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| thread.join().unwrap()))
            .await
            .unwrap();
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_on_a_thread_of_the_runtime_is_an_error_that_says_to_await() {
    within(async {
        let (_server, client, stub) = pair("tcp://127.0.0.1:0").await;
        let error = stub.add(1, None).wait().unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::WouldBlock, Class::NotExecuted));
        assert!(root_exc(&error).to_string().contains(".await"), "{error:?}");
        assert!(matches!(client.peer("server").wait(), Err(rmi::LookupError::WouldBlock)));
        assert!(matches!(client.peers().wait_for(|_| true).wait(), Err(rmi::WaitError::WouldBlock)));
        // In an async method too.
        assert_eq!(stub.wait_here().await.unwrap(), WouldBlock(true));
    })
    .await;
}

#[test]
fn a_program_without_a_runtime_starts_nodes_and_calls() {
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Shapes::default());
    let server = server.start().wait().unwrap();
    let peer = rmi::connect(server.addresses().remove(0)).name("client").wait().unwrap();
    let stub = ShapesStub::new(peer);
    assert_eq!(stub.add(1, None).wait().unwrap(), 2);
    assert_eq!(stub.context().wait().unwrap().0, "client");
    server.shutdown(Duration::from_secs(5)).wait();
    let error = stub.add(1, None).with_timeout(Duration::from_secs(5)).wait().unwrap_err();
    assert_eq!(error.class(), Class::NotExecuted, "{error:?}");
}
