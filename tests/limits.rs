//! Each limit at one less, exactly, and one more, set to a small value where it can be set, and the words of its error.
//!
//! Peers that keep to no limit are raw ends of connections within the process; time is virtual.

mod common;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::{Counter, MemStream, Raw, hello, until, virtually};
use rmi::{Blob, CallContext, Class, Failure, Kind, Limits, Node, Peer, Role, StartError, Value, args, rmi_node};
use rmi_core::frame::{FrameHeader, GoAwayReason, HEADER_LEN, PREAMBLE, frame_flag, frame_type, put_frame};
use rmi_core::hello::{Hello, InstanceId, NodeRecord, PeerLimits, encode_records};
use rmi_core::message::{Message, Response};

#[derive(Clone, Default)]
struct Store {
    runs: Counter,
    dropped: Counter,
}

#[rmi_node]
impl Store {
    async fn hold(&self, _blob: Blob) {
        let _dropped = self.dropped.on_drop();
        self.runs.add();
        std::future::pending().await
    }

    async fn echo(&self, value: Value) -> Value {
        value
    }

    async fn count(&self, values: Vec<bool>) -> usize {
        values.len()
    }

    async fn many(&self, n: usize) -> Vec<bool> {
        vec![true; n]
    }

    async fn nested(&self, depth: usize) -> Value {
        nested(depth)
    }

    async fn fail(&self, len: usize) -> rmi::Result<()> {
        Err(Failure::msg("a".repeat(len)))
    }

    async fn fail_deep(&self, n_sources: usize) -> Result<(), Deep> {
        Err((0..n_sources).fold(Deep(None), |deep, _| Deep(Some(Box::new(deep)))))
    }

    async fn left(&self, context: &CallContext) -> Option<Duration> {
        context.remaining()
    }
}

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("deep")]
struct Deep(#[source] Option<Box<Deep>>);

/// Arrays in each other: one is an empty array.
fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner]))
}

/// `passes` says whether so much passes: one less and exactly the limit do, one more does not.
async fn is_exact<F: Future<Output = bool>>(limit: usize, mut passes: impl FnMut(usize) -> F) {
    assert!(passes(limit - 1).await, "{} does not pass, and the limit is {limit}", limit - 1);
    assert!(passes(limit).await, "{limit} does not pass, and is the limit");
    assert!(!passes(limit + 1).await, "{} passes, and the limit is {limit}", limit + 1);
}

/// A node of this name, which is also its address, with a store.
async fn node(name: &str, limits: Limits) -> (Node, Store) {
    let store = Store::default();
    let node = Node::builder().name("server").listen(format!("mem://{name}")).limits(limits).serve(store.clone());
    (node.start().await.unwrap(), store)
}

async fn pair(name: &str) -> (Node, Node, Peer) {
    let (server, _) = node(name, Limits::default()).await;
    let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    (server, client, peer)
}

fn raw_hello(name: &str) -> Hello {
    hello("default", name, Role::Client, PeerLimits::default())
}

/// Another process.
async fn raw(address: &str) -> Raw<MemStream> {
    Raw::connect_mem(address, &raw_hello("raw")).await
}

/// `Store.hold` of so many bytes.
fn hold(n: usize) -> Vec<u8> {
    [&[0x92, 0xaa][..], b"Store.hold", &[0x91, 0xc5], &(n as u16).to_be_bytes(), &vec![0; n]].concat()
}

/// What `hold(n)` is charged with: its bytes, and 64 for each of its four values.
fn charge(n: usize) -> usize {
    hold(n).len() + 4 * 64
}

/// What a call is refused with; `None` if it runs, for which the counter is watched.
async fn refusal(raw: &mut Raw<MemStream>, id: u64, body: &[u8], runs: &Counter) -> Option<(Kind, String)> {
    let before = runs.get();
    raw.send(frame_type::REQUEST, 0, id, body).await;
    tokio::select! {
        () = runs.reaches(before + 1) => None,
        (header, payload) = raw.frame_of(frame_type::RESPONSE) => {
            let response = Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap();
            let Response::Exception(exception) = response else { panic!("{response:?}") };
            assert_eq!((header.id, exception.class), (id, Class::NotExecuted));
            Some((exception.kind, exception.message))
        }
    }
}

/// Whether a connection is there after what was sent on it; else what it was closed with.
async fn lives(raw: &mut Raw<MemStream>) -> Result<(), GoAwayReason> {
    raw.send(frame_type::PING, 0, 77, &[]).await;
    loop {
        let (header, payload) = raw.frame().await.expect("closed without a word");
        match header.frame_type {
            frame_type::PONG if header.id == 77 => return Ok(()),
            frame_type::GOAWAY => return Err(rmi_core::frame::GoAway::decode(&payload).unwrap().reason),
            _ => {}
        }
    }
}

#[test]
fn frames() {
    virtually(async {
        let (_node, _) = node("limit-frames", Limits::default()).await;
        for (length, lives_on) in
            [(9u32, false), (10, true), (11, true), (65_545, true), (65_546, true), (65_547, false)]
        {
            let mut raw = raw("limit-frames").await;
            let rest = length as usize;
            raw.write(&[&length.to_le_bytes()[..], &vec![0; if lives_on { rest } else { 0 }]].concat()).await;
            assert_eq!(lives(&mut raw).await.is_ok(), lives_on, "{length}");
        }
    });
}

#[test]
fn hellos_of_others() {
    virtually(async {
        let (_node, _) = node("limit-hello", Limits::default()).await;
        is_exact(16 << 10, |len| async move {
            let of = |n: usize| {
                let mut hello = raw_hello("raw");
                hello.node.labels.insert("label".to_owned(), "a".repeat(n));
                let mut out = BytesMut::from(&PREAMBLE[..]);
                put_frame(&mut out, frame_type::HELLO, 0, 0, |out| hello.encode(out));
                out
            };
            let envelope = of(10_000).len() - 10_000 - PREAMBLE.len() - HEADER_LEN;
            let greeting = of(len - envelope);
            assert_eq!(greeting.len(), PREAMBLE.len() + HEADER_LEN + len);
            let mut raw = Raw::dial_mem("limit-hello").await;
            raw.write(&greeting).await;
            raw.read_preamble().await;
            raw.frame().await.expect("closed without a word").0.frame_type == frame_type::HELLO
        })
        .await;
    });
}

#[test]
fn the_own_hello_and_names() {
    virtually(async {
        let with = |n: usize| Node::builder().name("n").listen("mem://limit-own-hello").label("label", "a".repeat(n));
        let Err(StartError::HelloTooLarge(len)) = with(10_000).start().await else { panic!("it started") };
        is_exact((8 << 10) + 10_000 - len, |n| async move {
            match with(n).start().await {
                Ok(node) => {
                    node.shutdown(Duration::ZERO).await;
                    true
                }
                Err(error) => {
                    assert!(error.to_string().contains("may have 8192: shorten the labels"), "{error}");
                    false
                }
            }
        })
        .await;
        is_exact(128, |len| async move { Node::builder().name("a".repeat(len)).start().await.is_ok() }).await;
        let (node, store) = node("limit-names", Limits::default()).await;
        is_exact(128, |len| std::future::ready(node.serve_as(&"a".repeat(len), store.clone()).is_ok())).await;
    });
}

#[test]
fn names_of_methods_that_are_called() {
    virtually(async {
        let (_server, _client, peer) = pair("limit-method").await;
        is_exact(256, |len| {
            let call = peer.invoke::<()>(&"a".repeat(len), args![]);
            async move {
                let error = call.await.unwrap_err();
                assert_eq!(error.kind(), Kind::NoSuchMethod, "{error:?}");
                !format!("{error:?}").contains("the name of the method is too long")
            }
        })
        .await;
    });
}

#[test]
fn texts_and_sources_of_errors() {
    virtually(async {
        let (_server, _client, peer) = pair("limit-errors").await;
        is_exact(4096, |len| {
            let call = peer.invoke::<()>("Store.fail", args![len]);
            async move {
                let error = call.await.unwrap_err();
                let message = error.remote().unwrap().message();
                assert!(message.len() <= 4096 + '…'.len_utf8());
                message == "a".repeat(len)
            }
        })
        .await;
        is_exact(32, |n| {
            let call = peer.invoke::<()>("Store.fail_deep", args![n]);
            async move { call.await.unwrap_err().remote().unwrap().chain().len() == n }
        })
        .await;
    });
}

#[test]
fn extensions_of_requests() {
    virtually(async {
        let (node, store) = node("limit-extensions", Limits::default()).await;
        is_exact(8192, |len| {
            let store = store.clone();
            async move {
                let text = "a".repeat(len - 16);
                let extensions =
                    [&[0x81, 0xab][..], b"traceparent", &[0xda], &(text.len() as u16).to_be_bytes()].concat();
                let body = [
                    &[0x96, 0xaa][..],
                    b"Store.hold",
                    &[0x91, 0xc4, 0, 0xc0, 0xc0, 0xc0],
                    &extensions,
                    text.as_bytes(),
                ];
                let refused = refusal(&mut raw("limit-extensions").await, 1, &body.concat(), &store.runs).await;
                assert!(
                    refused.as_ref().is_none_or(|(kind, text)| *kind == Kind::BadArguments && text.contains("8 KiB"))
                );
                refused.is_none()
            }
        })
        .await;
        drop(node);
    });
}

#[test]
fn nesting() {
    virtually(async {
        let (_server, _client, peer) = pair("limit-depth").await;
        // A request's own array and that of its arguments are two of the 64.
        for (method, limit, kind) in
            [("Store.echo", 62, Kind::BadArguments), ("Store.nested", 64, Kind::ResponseDecode)]
        {
            is_exact(limit, |depth| {
                let is_echo = method == "Store.echo";
                let args = if is_echo { args![nested(depth)] } else { args![depth] };
                let call = peer.invoke::<Value>(method, args);
                async move {
                    let result = call.await;
                    let refused = result.as_ref().err();
                    assert!(
                        refused.is_none_or(|error| error.kind() == kind && format!("{error:?}").contains("64 levels"))
                    );
                    result.is_ok_and(|value| value == nested(depth))
                }
            })
            .await;
        }
    });
}

#[test]
fn values_in_a_message() {
    virtually(async {
        let (_server, _client, peer) = pair("limit-values").await;
        let most = 1 << 20;
        // Beside the values there are the request, the name, the arguments, and the sequence; in a result the sequence.
        for (method, limit, kind) in
            [("Store.count", most - 4, Kind::BadArguments), ("Store.many", most - 1, Kind::ResponseDecode)]
        {
            is_exact(limit, |n| {
                let is_count = method == "Store.count";
                let args = if is_count { args![vec![true; n]] } else { args![n] };
                let call = peer.invoke::<Value>(method, args);
                async move {
                    let result = call.await;
                    let refused = result.as_ref().err();
                    assert!(
                        refused.is_none_or(|error| error.kind() == kind && format!("{error:?}").contains("1048576"))
                    );
                    result.is_ok()
                }
            })
            .await;
        }
    });
}

#[test]
fn running_calls_of_a_peer_and_of_all() {
    virtually(async {
        for (limits, words) in [
            (Limits::default().with_calls_per_peer(3), "Limits::with_calls_per_peer"),
            (Limits::default().with_running_calls(3), "Limits::with_running_calls"),
        ] {
            let (_node, store) = node(words, limits).await;
            let (mut one, mut other) = (raw(words).await, raw(words).await);
            for id in 1..=3 {
                assert_eq!(refusal(&mut one, id, &hold(1), &store.runs).await, None, "{id}");
            }
            let (kind, message) = refusal(&mut one, 4, &hold(1), &store.runs).await.expect("a fourth call ran");
            assert!(kind == Kind::Busy && message.contains(words), "{message}");
            // The limit of a peer is not that of another; that of the node is.
            let is_refused = refusal(&mut other, 1, &hold(1), &store.runs).await.is_some();
            assert_eq!(is_refused, words.ends_with("running_calls"));
            // A place is given back with the method, and then it can be had again.
            one.send(frame_type::CANCEL, 0, 1, &[]).await;
            store.dropped.reaches(1).await;
            assert_eq!(refusal(&mut one, 5, &hold(1), &store.runs).await, None);
        }
    });
}

#[test]
fn memory_of_a_peer_and_of_all() {
    virtually(async {
        const LIMIT: usize = 64 << 10;
        for (limits, words) in [
            (Limits::default().with_memory_per_peer(LIMIT), "Limits::with_memory_per_peer"),
            (Limits::default().with_memory_per_node(LIMIT), "Limits::with_memory_per_node"),
        ] {
            let (_node, store) = node(words, limits).await;
            let of_node = words.ends_with("node");
            let (mut one, mut other) = (raw(words).await, raw(words).await);
            let second = LIMIT - charge(30_000) - charge(0);
            for (n, (len, passes)) in [(second - 1, true), (second, true), (second + 1, false)].into_iter().enumerate()
            {
                let id = 2 * n as u64 + 1;
                let n_dropped = store.dropped.get();
                assert_eq!(refusal(&mut one, id, &hold(30_000), &store.runs).await, None);
                let who = if of_node { &mut other } else { &mut one };
                let refused = refusal(who, id + 1, &hold(len), &store.runs).await;
                assert_eq!(refused.is_none(), passes, "{len}: {refused:?}");
                assert!(refused.is_none_or(|(kind, message)| kind == Kind::Busy && message.contains(words)));
                one.send(frame_type::CANCEL, 0, id, &[]).await;
                let who = if of_node { &mut other } else { &mut one };
                who.send(frame_type::CANCEL, 0, id + 1, &[]).await;
                store.dropped.reaches(n_dropped + 1 + usize::from(passes)).await;
            }
        }
    });
}

/// A node, and a peer at the other end that never answers.
async fn silent(name: &str, ours: Limits, theirs: PeerLimits) -> (Node, Peer, Raw<MemStream>) {
    let (node, _) = node(name, ours).await;
    let raw = Raw::connect_mem(name, &hello("default", "silent", Role::Client, theirs)).await;
    let peer = node.peer("silent").await.unwrap();
    (node, peer, raw)
}

#[test]
fn calls_in_flight_and_calls_that_wait() {
    virtually(async {
        let theirs = PeerLimits { in_flight: 2, ..PeerLimits::default() };
        let (node, peer, mut raw) = silent("limit-waiting", Limits::default().with_waiting_calls(3), theirs).await;
        let mut calls: Vec<_> = (0..5).map(|n| peer.invoke::<()>("Store.hold", args![n]).send()).collect();
        let error = peer.invoke::<()>("Store.hold", args![5]).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Overloaded, Class::NotExecuted));
        assert!(format!("{error:?}").contains("raise `Limits::with_waiting_calls`"), "{error:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(node.snapshot().connections[0].pending_calls, 2);
        // One that goes makes place for one that waits, and so for one that comes.
        let (header, _) = raw.frame_of(frame_type::REQUEST).await;
        raw.send(frame_type::RESPONSE, 0, header.id, &[0xc0]).await;
        calls.remove(0).await.unwrap();
        calls.push(peer.invoke::<()>("Store.hold", args![6]).send());
        let error = peer.invoke::<()>("Store.hold", args![7]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Overloaded);
    });
}

/// Calls its peer when it is dropped.
struct CallsWhenDropped(Peer);

impl AsRef<[u8]> for CallsWhenDropped {
    fn as_ref(&self) -> &[u8] {
        b"held"
    }
}

impl Drop for CallsWhenDropped {
    fn drop(&mut self) {
        drop(self.0.invoke::<()>("Store.hold", args![0]).send());
    }
}

#[test]
fn a_call_that_is_refused_may_call_when_it_is_dropped() {
    virtually(async {
        let theirs = PeerLimits { in_flight: 1, ..PeerLimits::default() };
        let (_node, peer, _raw) = silent("limit-refused", Limits::default().with_waiting_calls(0), theirs).await;
        let _first = peer.invoke::<()>("Store.hold", args![0]).send();
        let held = CallsWhenDropped(peer.clone());
        // The call has all that is left of it.
        let call = peer.invoke::<()>("Store.hold", args![Blob::from(Bytes::from_owner(held))]);
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), Kind::Overloaded);
    });
}

#[test]
fn bytes_that_wait_to_be_sent() {
    virtually(async {
        const LIMIT: u64 = 100 << 10;
        let (node, peer, _raw) =
            silent("limit-queue", Limits::default().with_queue_bytes(LIMIT as usize), PeerLimits::default()).await;
        // The pipe takes 256 KiB, and what is being written is not in the queue any more.
        let queued = || node.snapshot().connections[0].queued_bytes;
        let mut calls = Vec::new();
        let mut most = 0;
        for _ in 0..1000 {
            calls.push(peer.invoke::<()>("Store.hold", args![Blob::from(vec![0; 1000])]).send());
            tokio::task::yield_now().await;
            most = most.max(queued());
        }
        let one = 1000 + 128;
        assert!(most <= LIMIT && most > LIMIT - one, "{most}");
        assert!(node.snapshot().connections[0].pending_calls < 1000);
    });
}

#[test]
fn connections_that_others_make() {
    virtually(async {
        let (node, _) = node("limit-connections", Limits::default().with_connections(3)).await;
        let mut raws = Vec::new();
        for _ in 0..3 {
            raws.push(raw("limit-connections").await);
        }
        let refused = || async {
            let mut fourth = Raw::dial_mem("limit-connections").await;
            fourth.say_hello(&raw_hello("fourth")).await;
            fourth.read_preamble().await;
            fourth.goaway().await
        };
        let goaway = refused().await.expect("no GOAWAY");
        assert_eq!(goaway.reason, GoAwayReason::TooMuch);
        assert!(goaway.message.contains("as many connections as it may"), "{goaway:?}");
        drop(raws.pop());
        until("one is gone", || node.snapshot().connections.len() == 2).await;
        raws.push(raw("limit-connections").await);
    });
}

#[test]
fn handshakes_that_go_on_at_once() {
    virtually(async {
        let (_node, _) = node("limit-handshakes", Limits::default().with_handshakes(3)).await;
        for n_silent in [1, 2, 3] {
            let mut silent = Vec::new();
            for _ in 0..n_silent {
                silent.push(Raw::dial_mem("limit-handshakes").await);
            }
            let begun = tokio::time::Instant::now();
            raw("limit-handshakes").await;
            let waited = begun.elapsed();
            let has_waited = waited >= Duration::from_secs(5) && waited < Duration::from_millis(5100);
            assert!(if n_silent < 3 { waited.is_zero() } else { has_waited }, "{n_silent}: {waited:?}");
        }
    });
}

/// Tells of so many nodes that are not there.
async fn tell(raw: &mut Raw<MemStream>, n_told: u64) {
    let record = |n: u64| {
        let mut record = NodeRecord::new(InstanceId(n), format!("told-{n}"));
        record.addresses = vec![format!("tcp://127.0.0.1:{n}")];
        record
    };
    let records: Vec<NodeRecord> = (1001..=1000 + n_told).map(record).collect();
    let mut payload = BytesMut::new();
    encode_records(records.iter(), &mut payload);
    raw.send(frame_type::PEERS, 0, 0, &payload).await;
    lives(raw).await.unwrap();
}

#[test]
fn peers_that_are_remembered() {
    virtually(async {
        for (n_told, n_known) in [(1, 2), (2, 3), (3, 3), (50, 3)] {
            let name = format!("limit-peers-{n_told}");
            let (node, _) = node(&name, Limits::default().with_known_peers(3)).await;
            let mut raw = raw(&name).await;
            tell(&mut raw, n_told).await;
            assert_eq!(node.peers().len() + node.peers().clients().len(), n_known, "{n_told}: {:?}", node.peers());
        }
    });
}

#[test]
fn peers_that_have_come_and_gone() {
    virtually(async {
        for n_told in [0, 3] {
            let address = format!("limit-gone-from-{n_told}");
            let (node, _) = node(&address, Limits::default().with_known_peers(3)).await;
            tell(&mut raw(&address).await, n_told).await;
            for n in 1..=10 {
                let mut hello = hello("default", &format!("gone-{n}"), Role::Member, PeerLimits::default());
                hello.node.addresses = vec![format!("mem://limit-gone-{n}")];
                drop(Raw::connect_mem(&address, &hello).await);
                let names = || -> Vec<_> { node.peers().iter().map(|peer| peer.name().to_owned()).collect() };
                let is_lost = || node.snapshot().connections.is_empty() && names().contains(&format!("gone-{n}"));
                until("it has come and gone", is_lost).await;
                // Those that were lost last are remembered, rather than those that were never seen.
                let names = names();
                assert!(names.len() <= 3, "{names:?}");
                for lost in (1..=n).rev().take(3) {
                    assert!(names.contains(&format!("gone-{lost}")), "{lost} of {n}: {names:?}");
                }
            }
        }
    });
}

#[test]
fn time_that_is_left_to_a_call() {
    virtually(async {
        let (_server, _client, peer) = pair("limit-time").await;
        let (day, second) = (Duration::from_secs(24 * 3600), Duration::from_secs(1));
        for timeout in [day - second, day, day + second, Duration::MAX] {
            let call = peer.invoke::<Option<Duration>>("Store.left", args![]).with_timeout(timeout);
            let left = call.await.unwrap().expect("there is no limit");
            let most = timeout.min(day);
            assert!(left <= most + Duration::from_millis(1) && left > most - Duration::from_secs(20), "{left:?}");
        }
    });
}

#[test]
fn pings() {
    virtually(async {
        let (_node, _) = node("limit-pings", Limits::default()).await;
        is_exact(10, |n| async move {
            let mut raw = raw("limit-pings").await;
            // `lives` sends one too.
            for id in 1..n {
                raw.send(frame_type::PING, 0, id as u64, &[]).await;
            }
            let lives = lives(&mut raw).await;
            assert!(lives.is_ok() || lives == Err(GoAwayReason::TooMuch));
            lives.is_ok()
        })
        .await;
    });
}

fn opening(total: usize) -> Vec<u8> {
    [&(total as u64).to_le_bytes()[..], &[0; 100]].concat()
}

#[test]
fn window_and_reassembly() {
    virtually(async {
        let limits = Limits::default().with_window(64 << 10).with_reassembly(1 << 20);
        let (_node, _) = node("limit-window", limits).await;
        let (request, part, more) = (frame_type::REQUEST, frame_type::PART, frame_flag::MORE);
        is_exact(64 << 10, |n| async move {
            let mut raw = raw("limit-window").await;
            raw.send(request, more, 1, &opening(1 << 20)).await;
            // Less than half of the window does not come back yet, and a part is a frame at most.
            raw.send(part, more, 1, &vec![0; 16_000]).await;
            raw.send(part, more, 1, &vec![0; n - 16_000]).await;
            lives(&mut raw).await.is_ok()
        })
        .await;
        is_exact(1 << 20, |n| async move {
            let mut raw = raw("limit-window").await;
            for (id, total) in [(1, 500_000), (2, n - 500_000)] {
                raw.send(request, more, id, &opening(total)).await;
                raw.send(part, more, id, &vec![0; 4096]).await;
            }
            lives(&mut raw).await.is_ok()
        })
        .await;
    });
}

#[test]
fn a_part_that_is_not_the_last() {
    virtually(async {
        let (_node, _) = node("limit-parts", Limits::default()).await;
        for (len, lives_on) in [(4095, false), (4096, true), (4097, true), (65_535, true), (65_536, true)] {
            let mut raw = raw("limit-parts").await;
            raw.send(frame_type::REQUEST, frame_flag::MORE, 1, &opening(1 << 20)).await;
            let header = FrameHeader::new(frame_type::PART, 1, len).with_flags(frame_flag::MORE).encode();
            raw.write(&[&header[..], &vec![0; len]].concat()).await;
            assert_eq!(lives(&mut raw).await.is_ok(), lives_on, "{len}");
        }
    });
}

#[test]
fn what_is_set_too_low_is_raised_to_what_works() {
    let limits = Limits::default().with_message(0).with_window(0).with_reassembly(0).with_calls_per_peer(0);
    let set = (limits.message(), limits.window(), limits.reassembly(), limits.calls_per_peer());
    assert_eq!(set, (65_536, 65_536, 1 << 20, 1));
    let limits = Limits::default().with_message(65_537).with_calls_per_peer(1).with_waiting_calls(0);
    assert_eq!((limits.message(), limits.calls_per_peer(), limits.waiting_calls()), (65_537, 1, 0));
}
