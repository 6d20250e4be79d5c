//! Each kind of failure says what happened, whether the method ran, and costs one call: the connection stays as it was.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Counter, Raw, hello, host_port, only_link, until, until_quiet, within};
use rmi::{
    Blob, Class, Invocation, InvocationException, Kind, Limits, Node, Peer, RemoteError, Role, args, rmi_node, root_exc,
};
use rmi_core::frame::{GoAway, GoAwayReason, frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use rmi_core::message::{Message, Response};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("it is {0}")]
struct Oops(String);

/// Runs into whatever it is told to.
struct Faulty {
    /// How often a method has begun.
    runs: Counter,
    /// Methods wait for this.
    gate: Arc<Semaphore>,
}

impl Default for Faulty {
    fn default() -> Self {
        Self { runs: Counter::default(), gate: Arc::new(Semaphore::new(0)) }
    }
}

/// A value that fails where it is told to.
#[derive(Debug, Clone)]
struct Bomb(Trigger);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Trigger {
    Never,
    EncodeFails,
    EncodePanics,
    DecodeFails,
    DecodePanics,
    DropPanics,
}

impl Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Trigger::EncodeFails => Err(serde::ser::Error::custom("the bomb does not encode")),
            Trigger::EncodePanics => panic!("on purpose: encode"),
            trigger => trigger.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Trigger::deserialize(deserializer)? {
            Trigger::DecodeFails => Err(serde::de::Error::custom("the bomb does not decode")),
            Trigger::DecodePanics => panic!("on purpose: decode"),
            trigger => Ok(Bomb(trigger)),
        }
    }
}

/// Panics in its drop, once decoded by the callee.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mine {
    armed: bool,
}

impl Drop for Mine {
    fn drop(&mut self) {
        if self.armed && !std::thread::panicking() {
            panic!("on purpose: drop");
        }
    }
}

#[rmi_node]
impl Faulty {
    async fn fine(&self) -> usize {
        self.runs.add()
    }

    async fn raise(&self, text: String) -> Result<(), Oops> {
        self.runs.add();
        Err(Oops(text))
    }

    async fn panic(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    async fn panic_later(&self) -> u8 {
        self.runs.add();
        tokio::task::yield_now().await;
        panic!("on purpose: method")
    }

    fn panic_blocking(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    #[rmi(cpu)]
    fn panic_cpu(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    #[rmi(direct)]
    fn panic_direct(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    async fn take_mine(&self, _mine: &Mine) -> u8 {
        self.runs.add();
        1
    }

    fn take_mine_blocking(&self, _mine: &Mine) -> u8 {
        self.runs.add();
        1
    }

    async fn give(&self, trigger: Trigger) -> Bomb {
        self.runs.add();
        Bomb(trigger)
    }

    fn give_blocking(&self, trigger: Trigger) -> Bomb {
        self.runs.add();
        Bomb(trigger)
    }

    async fn take(&self, bomb: Bomb) -> bool {
        self.runs.add();
        bomb.0 == Trigger::Never
    }

    async fn large(&self, len: usize) -> Vec<u8> {
        self.runs.add();
        vec![1; len]
    }

    async fn raise_large(&self, len: usize) -> Result<(), Oops> {
        self.runs.add();
        Err(Oops("a".repeat(len)))
    }

    async fn size(&self, blob: Blob) -> usize {
        self.runs.add();
        blob.len()
    }

    async fn wait(&self) -> u8 {
        self.runs.add();
        let _permit = self.gate.acquire().await;
        1
    }

    async fn hand_on(&self, node: &Node, to: &str, method: &str) -> rmi::Result<u8> {
        self.runs.add();
        let peer = node.peer(to).await?;
        Ok(peer.invoke(method, args!["far away"]).await?)
    }

    async fn hand_on_typed(&self, node: &Node, to: &str) -> rmi::Result<()> {
        let peer = node.peer(to).await?;
        Ok(FaultyStub::new(&peer).raise("typed".into()).await?)
    }
}

struct Pair {
    faulty: Arc<Faulty>,
    server: Node,
    client: Node,
    peer: Peer,
    stub: FaultyStub,
}

impl Pair {
    async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let faulty = Arc::new(Faulty::default());
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(limits.clone());
        let server = server.serve_arc(Arc::clone(&faulty)).start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).limits(limits).start().await.unwrap();
        let peer = client.peer("server").await.unwrap();
        let stub = FaultyStub::new(&peer);
        Self { faulty, server, client, peer, stub }
    }

    /// Makes a call that fails, and looks at all that has to be so afterwards.
    async fn fails<T: std::fmt::Debug + serde::de::DeserializeOwned, E: rmi::RemoteCause>(
        &self,
        call: Invocation<T, E>,
        kind: Kind,
        class: Class,
    ) -> InvocationException<E> {
        let (link, before) = (only_link(&self.client), self.faulty.runs.get());
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (kind, class), "{error:?}");
        assert_eq!(error.is_safe_to_retry(), class == Class::NotExecuted);
        let n_runs = self.faulty.runs.get() - before;
        match class {
            Class::NotExecuted => assert_eq!(n_runs, 0, "{error:?}"),
            Class::Executed => assert_eq!(n_runs, 1, "{error:?}"),
            Class::MaybeExecuted => assert!(n_runs <= 1, "{error:?}"),
        }
        let story = format!("{error:?}");
        assert_eq!(error.peer(), "server");
        assert!(story.contains("Faulty."), "it does not name the method: {story}");
        if !matches!(kind, Kind::RequestEncode | Kind::WouldBlock | Kind::LocalShutdown) {
            assert!(story.contains("server"), "it does not name the peer: {story}");
        }
        self.stub.fine().await.unwrap();
        assert_eq!(only_link(&self.client), link, "the connection is another one");
        until_quiet(&[&self.client, &self.server]).await;
        error
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raised() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.raise("so".into()), Kind::Raised, Class::Executed).await;
        assert_eq!(error.cause(), Some(&Oops("so".into())));
        // In parts, with its payload.
        let error = pair.fails(pair.stub.raise_large(1 << 20), Kind::Raised, Class::Executed).await;
        assert_eq!(error.cause().unwrap().0.len(), 1 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicked() {
    within(async {
        let pair = Pair::start().await;
        let stub = &pair.stub;
        for call in [stub.panic(), stub.panic_later(), stub.panic_blocking(), stub.panic_cpu(), stub.panic_direct()] {
            let error = pair.fails(call, Kind::Panicked, Class::Executed).await;
            assert!(!format!("{error:?}").contains("on purpose"), "the text of a panic stays at home: {error:?}");
        }
        let (there, here) = (Mine { armed: true }, Mine { armed: false });
        stub.take_mine(&here).await.unwrap();
        pair.fails(stub.take_mine(&there), Kind::Panicked, Class::Executed).await;
        pair.fails(stub.take_mine_blocking(&there), Kind::Panicked, Class::Executed).await;
        std::mem::forget(there);
        for trigger in [Trigger::EncodePanics] {
            pair.fails(stub.give(trigger), Kind::Panicked, Class::Executed).await;
            pair.fails(stub.give_blocking(trigger), Kind::Panicked, Class::Executed).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_encode_and_decode() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.give(Trigger::EncodeFails), Kind::ResponseEncode, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("the bomb does not encode"), "{error:?}");
        let error = pair.fails(pair.stub.give(Trigger::DecodeFails), Kind::ResponseDecode, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("the bomb does not decode"), "{error:?}");
        let call = pair.peer.invoke::<String>("Faulty.fine", args![]);
        pair.fails(call, Kind::ResponseDecode, Class::Executed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_arguments_and_no_such_method() {
    within(async {
        let pair = Pair::start().await;
        let error =
            pair.fails(pair.stub.take(Bomb(Trigger::DecodeFails)), Kind::BadArguments, Class::NotExecuted).await;
        assert_eq!(root_exc(&error).to_string(), "take() argument 'bomb': the bomb does not decode");
        pair.fails(pair.stub.take(Bomb(Trigger::DecodePanics)), Kind::BadArguments, Class::NotExecuted).await;
        let call = pair.peer.invoke::<()>("Faulty.nothing", args![]);
        pair.fails(call, Kind::NoSuchMethod, Class::NotExecuted).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_encode() {
    within(async {
        let pair = Pair::start().await;
        let error =
            pair.fails(pair.stub.take(Bomb(Trigger::EncodeFails)), Kind::RequestEncode, Class::NotExecuted).await;
        assert!(root_exc(&error).to_string().contains("the bomb does not encode"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_and_response_too_large() {
    within(async {
        const LIMIT: usize = 256 << 10;
        let pair = Pair::with_limits(Limits::default().with_message(LIMIT)).await;
        // Name, the rest of the array, and the blob's length: 14 + 4 + 6 + 6 bytes.
        let fits = (LIMIT - 200..LIMIT).rev();
        let mut most = 0;
        for len in fits {
            match pair.stub.size(Blob::from(vec![0; len])).await {
                Ok(size) => {
                    most = size;
                    break;
                }
                Err(error) => assert_eq!(error.kind(), Kind::RequestTooLarge),
            }
        }
        assert!(most > LIMIT - 100, "{most}");
        assert_eq!(pair.stub.size(Blob::from(vec![0; most - 1])).await.unwrap(), most - 1);
        let too_large = pair.stub.size(Blob::from(vec![0; most + 1]));
        let error = pair.fails(too_large, Kind::RequestTooLarge, Class::NotExecuted).await;
        assert!(root_exc(&error).to_string().contains(&LIMIT.to_string()), "{error:?}");
        // bin 32: five bytes in front.
        assert_eq!(pair.stub.large(LIMIT - 5).await.unwrap().len(), LIMIT - 5);
        let error = pair.fails(pair.stub.large(LIMIT - 4), Kind::ResponseTooLarge, Class::Executed).await;
        assert!(root_exc(&error).to_string().contains("with_message"), "{error:?}");
        pair.fails(pair.stub.large(1 << 20), Kind::ResponseTooLarge, Class::Executed).await;
        // Of an error that is too large the words stay, as far as they may.
        let error = pair.fails(pair.stub.raise_large(LIMIT), Kind::Raised, Class::Executed).await;
        let remote = error.remote().expect("the payload cannot have come");
        assert!(remote.message().starts_with("it is aaa") && remote.type_name().ends_with("Oops"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smaller_limit_of_the_two_ends_counts() {
    within(async {
        let small = Limits::default().with_message(64 << 10);
        let faulty = Arc::new(Faulty::default());
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(small);
        let server = server.serve_arc(Arc::clone(&faulty)).start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
        let stub = FaultyStub::new(client.peer("server").await.unwrap());
        let error = stub.size(Blob::from(vec![0; 70 << 10])).await.unwrap_err();
        assert_eq!((error.kind(), faulty.runs.get()), (Kind::RequestTooLarge, 0));
        let error = stub.large(70 << 10).await.unwrap_err();
        assert_eq!((error.kind(), faulty.runs.get()), (Kind::ResponseTooLarge, 1));
        assert_eq!(stub.large(60 << 10).await.unwrap().len(), 60 << 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeout() {
    within(async {
        let pair = Pair::start().await;
        let call = pair.stub.wait().with_timeout(Duration::from_millis(30));
        let error = pair.fails(call, Kind::Timeout, Class::MaybeExecuted).await;
        assert!(format!("{error:?}").contains("did not answer in time"), "{error:?}");
        let call = pair.stub.fine().with_timeout(Duration::ZERO);
        pair.fails(call, Kind::Timeout, Class::NotExecuted).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_connected_and_connect_failed() {
    within(async {
        let pair = Pair::start().await;
        let caller = pair.server.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
        assert_eq!(caller.clients()[0].name(), "client");
        let back = pair.server.peer("client").await.unwrap();
        back.ping().await.unwrap();
        drop(pair.stub);
        pair.client.shutdown(Duration::from_secs(5)).await;
        // A client cannot be dialled.
        pair.server.peers().wait_for(|peers| peers.clients().is_empty()).await.unwrap();
        let error = back.ping().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::NotConnected, Class::NotExecuted), "{error:?}");
        assert!(format!("{error:?}").contains("client"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_failed_names_the_address_and_the_reason() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let mut hello = hello("default", "gone", Role::Member, PeerLimits::default());
        hello.node.addresses = vec![address.clone()];
        let client = Node::builder().name("client").seed(&address).start().await.unwrap();
        let raw = Raw::accept(&listener, &hello).await;
        let peer = client.peer("gone").await.unwrap();
        drop((listener, raw));
        client.peers().wait_for(|peers| peers.connected() == 0).await.unwrap();
        let error = peer.ping().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectFailed, Class::NotExecuted), "{error:?}");
        let story = format!("{error:?}");
        assert!(story.contains("node `gone` could not be reached") && story.contains(&address), "{story}");
        assert!(story.contains("refused"), "{story}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_shutdown() {
    within(async {
        let pair = Pair::start().await;
        let itself = pair.client.peer("client").await.unwrap();
        pair.client.shutdown(Duration::from_secs(5)).await;
        let error = pair.stub.fine().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::LocalShutdown, Class::NotExecuted), "{error:?}");
        let error = itself.ping().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::LocalShutdown, Class::NotExecuted), "{error:?}");
        assert_eq!(pair.faulty.runs.get(), 0);
        assert!(matches!(pair.client.peer("server").await, Err(rmi::LookupError::Shutdown { .. })));
        let waited = pair.client.peers().wait_for(|_| false).await;
        assert!(matches!(waited, Err(rmi::WaitError::Shutdown)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_lost() {
    within(async {
        let pair = Pair::start().await;
        let call = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        pair.peer.disconnect();
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
        assert!(format!("{error:?}").contains("server"), "{error:?}");
        // The other side has cancelled the method.
        until_quiet(&[&pair.server]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_away() {
    within(async {
        let pair = Pair::start().await;
        let accepted = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        let shutdown = tokio::spawn(pair.server.shutdown(Duration::from_secs(20)).into_future());
        until("the client has heard of it", || !pair.client.snapshot().connections[0].takes_calls).await;
        let error = pair.stub.fine().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::GoingAway, Class::NotExecuted), "{error:?}");
        assert_eq!(pair.faulty.runs.get(), 1);
        pair.faulty.gate.add_permits(1);
        assert_eq!(accepted.await.unwrap(), 1);
        shutdown.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_by_the_end_of_grace() {
    within(async {
        let pair = Pair::start().await;
        let accepted = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        pair.server.shutdown(Duration::from_millis(50)).await;
        let error = accepted.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Cancelled, Class::MaybeExecuted), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_wait_at_the_limit_of_calls_and_then_are_overloaded() {
    within(async {
        let limits = Limits::default().with_calls_per_peer(2).with_waiting_calls(3);
        let pair = Pair::with_limits(limits).await;
        // Two go out, and three wait for their places, before this returns.
        let calls: Vec<_> = (0..5).map(|_| pair.stub.wait().send()).collect();
        let error = pair.stub.fine().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Overloaded, Class::NotExecuted), "{error:?}");
        pair.faulty.runs.reaches(2).await;
        assert_eq!(pair.faulty.runs.get(), 2);
        pair.faulty.gate.add_permits(1);
        for call in calls {
            assert_eq!(call.await.unwrap(), 1);
        }
        until_quiet(&[&pair.client, &pair.server]).await;
    })
    .await;
}

/// A request as a stranger writes it: method, no arguments, remaining milliseconds.
fn request(method: &str, remaining: Option<u8>) -> Vec<u8> {
    let mut body = vec![if remaining.is_some() { 0x94 } else { 0x91 }, 0xa0 | method.len() as u8];
    body.extend_from_slice(method.as_bytes());
    body.extend(remaining.into_iter().flat_map(|ms| [0x90, 0x80, ms]));
    body
}

async fn answer(raw: &mut Raw) -> (u64, Response) {
    let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
    let response = Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap();
    (header.id, response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_and_expired_on_arrival() {
    within(async {
        let pair = Pair::with_limits(Limits::default().with_calls_per_peer(2)).await;
        let mut raw = Raw::connect(&host_port(&pair.server), "raw", PeerLimits::default()).await;
        for id in 1..=4 {
            raw.send(frame_type::REQUEST, 0, id, &request("Faulty.wait", None)).await;
        }
        for id in 3..=4 {
            let (answered, Response::Exception(exception)) = answer(&mut raw).await else {
                panic!("it was not refused")
            };
            assert_eq!((answered, exception.kind, exception.class), (id, Kind::Busy, Class::NotExecuted));
            assert_eq!((&*exception.node, &*exception.method), ("server", "Faulty.wait"));
        }
        // The limit is for each peer.
        assert_eq!(pair.faulty.runs.get(), 2);
        pair.stub.fine().await.unwrap();
        pair.faulty.gate.add_permits(1);
        for _ in 1..=2 {
            let (_, response) = answer(&mut raw).await;
            assert!(matches!(response, Response::Value(_)), "{response:?}");
        }
        raw.send(frame_type::REQUEST, 0, 5, &request("Faulty.fine", Some(0))).await;
        let (5, Response::Exception(exception)) = answer(&mut raw).await else { panic!("it was not refused") };
        assert_eq!((exception.kind, exception.class), (Kind::ExpiredOnArrival, Class::NotExecuted));
        assert_eq!(pair.faulty.runs.get(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_is_busy_at_its_own_limits() {
    within(async {
        let limits = Limits::default().with_running_calls(2).with_memory_per_peer(100 << 10);
        let pair = Pair::with_limits(limits).await;
        let first = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        let second = pair.stub.wait().send();
        pair.faulty.runs.reaches(2).await;
        let error = pair.stub.fine().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Busy, Class::NotExecuted), "{error:?}");
        pair.faulty.gate.add_permits(1);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 1));
        // One message always fits an empty budget.
        until_quiet(&[&pair.server]).await;
        assert_eq!(pair.stub.size(Blob::from(vec![0; 1 << 20])).await.unwrap(), 1 << 20);
    })
    .await;
}

/// A peer of which only the handshake is honest, and a node that is connected to it.
async fn impostor(limits: PeerLimits) -> (Raw, Node, Peer, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = format!("tcp://{}", listener.local_addr().unwrap());
    let client = Node::builder().name("client").seed(&seed).start().await.unwrap();
    let raw = Raw::accept(&listener, &hello("default", "server", Role::Client, limits)).await;
    let peer = client.peer("server").await.unwrap();
    (raw, client, peer, listener)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_read_costs_its_call_only() {
    within(async {
        let (mut raw, client, peer, _listener) = impostor(PeerLimits::default()).await;
        let link = only_link(&client);
        let garbage: [(&[u8], u8); 6] = [
            (&[0xc1], 0),
            (&[], 0),
            (&[0x01, 0x01], 0),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff], 0),
            (&[0x01], frame_flag::EXCEPTION),
            (&[0x91, 0x7f, 0x01], frame_flag::ATTACHMENTS),
        ];
        for (body, flags) in garbage {
            let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
            let (header, _) = raw.frame_of(frame_type::REQUEST).await;
            raw.send(frame_type::RESPONSE, flags, header.id, body).await;
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::ResponseDecode, Class::Executed), "{body:?}: {error:?}");
            assert!(format!("{error:?}").contains("server"), "{error:?}");
            assert_eq!(only_link(&client), link);
        }
        let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let (header, _) = raw.frame_of(frame_type::REQUEST).await;
        raw.send(frame_type::RESPONSE, 0, header.id, &[7]).await;
        assert_eq!(call.await.unwrap(), 7);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_of_an_unknown_kind_has_the_class_that_travelled() {
    within(async {
        let (mut raw, _client, peer, _listener) = impostor(PeerLimits::default()).await;
        for (class, expected) in [(0, Class::NotExecuted), (1, Class::MaybeExecuted), (2, Class::Executed)] {
            let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
            let (header, _) = raw.frame_of(frame_type::REQUEST).await;
            raw.send(frame_type::RESPONSE, frame_flag::EXCEPTION, header.id, &[0x82, 0, 0xcd, 0x03, 0xe7, 1, class])
                .await;
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::Other(999), expected), "{error:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_away_above_the_last_accepted_did_not_run() {
    within(async {
        let (mut raw, _client, peer, _listener) = impostor(PeerLimits::default()).await;
        let first = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let (one, _) = raw.frame_of(frame_type::REQUEST).await;
        let second = peer.invoke::<u8>("Faulty.fine", args![]).send();
        raw.frame_of(frame_type::REQUEST).await;
        let goaway = GoAway { reason: GoAwayReason::Shutdown, last_accepted: one.id, message: String::new() };
        let mut payload = bytes::BytesMut::new();
        goaway.encode(&mut payload);
        raw.send(frame_type::GOAWAY, 0, 0, &payload).await;
        let error = second.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::GoingAway, Class::NotExecuted), "{error:?}");
        drop(raw);
        let error = first.await.unwrap_err();
        assert_eq!(error.class(), Class::MaybeExecuted, "{error:?}");
        assert!(matches!(error.kind(), Kind::ConnectionLost | Kind::GoingAway), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_did_not_leave_entirely_did_not_run() {
    within(async {
        // Nothing beyond the first window goes out.
        let (raw, _client, peer, _listener) = impostor(PeerLimits { window: 64 << 10, ..PeerLimits::default() }).await;
        let large = peer.invoke::<u8>("Faulty.size", args![Blob::from(vec![0; 1 << 20])]).send();
        let small = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let mut raw = raw;
        while raw.frame_of(frame_type::REQUEST).await.0.id != 2 {}
        drop(raw);
        let error = large.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::NotExecuted), "{error:?}");
        let error = small.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_two_hops_the_root_is_the_innermost_cause() {
    within(async {
        let far =
            Node::builder().name("far").listen("tcp://127.0.0.1:0").serve(Faulty::default()).start().await.unwrap();
        let near = Node::builder().name("near").listen("tcp://127.0.0.1:0").seeds(far.addresses());
        let near = near.serve(Faulty::default()).start().await.unwrap();
        let client = Node::builder().name("client").seeds(near.addresses()).start().await.unwrap();
        let stub = FaultyStub::new(client.peer("near").await.unwrap());

        let error: InvocationException<RemoteError> = stub.hand_on("far", "Faulty.raise").await.unwrap_err();
        assert_eq!((error.kind(), error.peer(), error.method()), (Kind::Raised, "near", "Faulty.hand_on"));
        assert_eq!(root_exc(&error).to_string(), "it is far away");
        let remote: &RemoteError = root_exc(&error).downcast_ref().unwrap();
        assert_eq!((remote.node(), remote.method()), ("far", "Faulty.raise"));
        assert_eq!(remote.decode::<Oops>().unwrap(), Oops("far away".into()));
        let story = format!("{error:?}");
        for part in
            ["`Faulty.hand_on` failed", "raised on node `near`", "`Faulty.raise` failed", "raised on node `far`"]
        {
            assert!(story.contains(part), "{part}: {story}");
        }
        let error = stub.hand_on_typed("far").await.unwrap_err();
        assert_eq!(root_exc(&error).to_string(), "it is typed");
        assert_eq!(
            root_exc(&error).downcast_ref::<RemoteError>().unwrap().decode::<Oops>().unwrap(),
            Oops("typed".into())
        );

        // A refusal on the second hop is an error that the first method raised.
        let error = stub.hand_on("far", "Faulty.gone").await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Raised, Class::Executed), "{error:?}");
        assert!(root_exc(&error).to_string().contains("has no method `gone`"), "{error:?}");
        assert!(format!("{error:?}").contains("refused by node `far` (not executed)"), "{error:?}");
    })
    .await;
}
