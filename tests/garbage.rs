//! Whatever a stranger sends, the node goes on, and its peers do not notice.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Raw, hello, host_port, until_quiet, within};
use rmi::{Blob, Kind, Limits, Node, Role, rmi_node};
use rmi_core::frame::{FrameHeader, GoAwayReason, PREAMBLE, frame_flag, frame_type, put_frame};
use rmi_core::hello::PeerLimits;
use rmi_core::message::{Message, Response};

#[derive(Clone, Default)]
struct Echo {
    runs: Arc<AtomicUsize>,
}

#[rmi_node]
impl Echo {
    async fn size(&self, blob: Blob) -> usize {
        blob.len()
    }

    async fn run(&self) -> usize {
        self.runs.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn never(&self) {
        std::future::pending().await
    }
}

/// A node that is attacked, and a peer that works with it all the time.
struct Attacked {
    node: Node,
    host_port: String,
    echo: Echo,
    /// Ends when it is told to; gives back how many calls went well.
    healthy: tokio::task::JoinHandle<usize>,
    is_over: Arc<tokio::sync::Notify>,
    client: Node,
}

impl Attacked {
    async fn start(limits: Limits) -> Self {
        let echo = Echo::default();
        let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").limits(limits).serve(echo.clone());
        let node = node.start().await.unwrap();
        let client = Node::builder().name("healthy").seeds(node.addresses()).start().await.unwrap();
        let stub = EchoStub::new(client.peer("node").await.unwrap());
        let is_over = Arc::new(tokio::sync::Notify::new());
        let healthy = tokio::spawn({
            let is_over = Arc::clone(&is_over);
            async move {
                let over = is_over.notified();
                tokio::pin!(over);
                let mut n_calls = 0;
                loop {
                    let len = if n_calls % 10 == 0 { 100 << 10 } else { 100 };
                    tokio::select! {
                        biased;
                        () = &mut over => return n_calls,
                        size = stub.size(Blob::from(vec![0; len])).into_future() => assert_eq!(size.unwrap(), len),
                    }
                    n_calls += 1;
                }
            }
        });
        Self { host_port: host_port(&node), node, echo, healthy, is_over, client }
    }

    async fn raw(&self) -> Raw {
        Raw::connect(&self.host_port, "raw", PeerLimits::default()).await
    }

    /// The attack is over: the healthy peer has worked on the same connection all along, and the node is as before.
    async fn ends(self) {
        let stub = EchoStub::new(self.client.peer("node").await.unwrap());
        assert_eq!(stub.size(Blob::from(vec![0; 10])).await.unwrap(), 10);
        self.is_over.notify_one();
        self.healthy.await.expect("a call of the healthy peer failed");
        let peers = self.node.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
        assert_eq!(peers.clients()[0].name(), "healthy");
        until_quiet(&[&self.node, &self.client]).await;
        assert_eq!(self.node.snapshot().connections.len(), 1);
    }
}

fn preamble_and(frame: &[u8]) -> Vec<u8> {
    [&PREAMBLE[..], frame].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_rmi_is_closed_without_a_reply() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut state = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(100_000)
        .collect();
        let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
        let strangers: [&[u8]; 10] = [
            &random,
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
            &tls,
            &[0x94, 0x00, 0x01],
            b"\0\0\0\0",
            b"\xc1RMI/2\r\n",
            b"\xc1RMI/1\n\n",
            b"\xc1\xc1",
            b"x",
        ];
        for bytes in strangers {
            let mut raw = Raw::dial(&attacked.host_port).await;
            raw.write(bytes).await;
            let rest = raw.rest().await;
            assert!(rest.is_empty(), "{:?} was answered with {rest:?}", &bytes[..bytes.len().min(10)]);
        }
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_finish_its_hello_is_closed_after_five_seconds() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut greeting = BytesMut::from(&PREAMBLE[..]);
        let hello = hello("default", "slow", Role::Client, PeerLimits::default());
        put_frame(&mut greeting, frame_type::HELLO, 0, 0, |out| hello.encode(out));
        let begun = Instant::now();
        let mut strangers = tokio::task::JoinSet::new();
        for len in [0, 1, 8, 10, 22, greeting.len() / 2, greeting.len() - 1] {
            let mut raw = Raw::dial(&attacked.host_port).await;
            raw.write(&greeting[..len]).await;
            strangers.spawn(async move { (len, raw.rest().await) });
        }
        while let Some(stranger) = strangers.join_next().await {
            let (len, rest) = stranger.unwrap();
            assert!(rest.is_empty(), "{len} bytes were answered with {rest:?}");
            let age = begun.elapsed();
            assert!(age > Duration::from_millis(4900) && age < Duration::from_secs(8), "{len} bytes: {age:?}");
        }
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_breaks_the_protocol_is_told_so_at_once() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let frame = |frame_type: u8, payload: &[u8]| {
            [&FrameHeader::new(frame_type, 0, payload.len()).encode()[..], payload].concat()
        };
        let giant = [&u32::MAX.to_le_bytes()[..], &[frame_type::HELLO, 0], &[0; 8]].concat();
        let mut long = FrameHeader::new(frame_type::HELLO, 0, 16 * 1024 + 1).encode().to_vec();
        long.extend_from_slice(&[0; 100]);
        for first in [
            giant.clone(),
            giant[..4].to_vec(),
            vec![9, 0, 0, 0],
            long,
            frame(frame_type::REQUEST, &[0x91, 0xa1, b'x']),
            frame(frame_type::PING, &[]),
            frame(0xff, &[]),
            frame(frame_type::HELLO, &[]),
            frame(frame_type::HELLO, &[0xc1]),
            frame(frame_type::HELLO, &[0x80]),
            frame(frame_type::HELLO, &[0xdf, 0xff, 0xff, 0xff, 0xff]),
            frame(frame_type::HELLO, &[0x82, 0, 0x92, 1, 1, 5, 0]),
        ] {
            let begun = Instant::now();
            let mut raw = Raw::dial(&attacked.host_port).await;
            raw.write(&preamble_and(&first)).await;
            raw.read_preamble().await;
            let goaway = raw.goaway().await.expect("no GOAWAY");
            assert_eq!(goaway.reason, GoAwayReason::Protocol, "{first:?}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{first:?} took {:?}", begun.elapsed());
        }
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_belong_here_is_told_why() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let ours = || hello("default", "raw", Role::Client, PeerLimits::default());
        let mut wrong_version = ours();
        wrong_version.versions = (2, 9);
        let mut wants_more = ours();
        wants_more.required = 1;
        let mut both = hello("another", "raw", Role::Client, PeerLimits::default());
        both.versions = (2, 9);
        let mut itself = ours();
        itself.node.instance = attacked.node.instance();
        for (hello, reason) in [
            (hello("another", "raw", Role::Client, PeerLimits::default()), GoAwayReason::ForeignCluster),
            (wrong_version, GoAwayReason::Version),
            (wants_more, GoAwayReason::Version),
            // What another version says of its cluster may mean something else.
            (both, GoAwayReason::Version),
            (itself, GoAwayReason::SelfConnect),
        ] {
            let mut raw = Raw::dial(&attacked.host_port).await;
            raw.say_hello(&hello).await;
            raw.read_preamble().await;
            let goaway = raw.goaway().await.expect("no GOAWAY");
            assert_eq!(goaway.reason, reason);
            assert!(!goaway.message.is_empty());
        }
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_says_that_it_is_full() {
    within(async {
        let attacked = Attacked::start(Limits::default().with_connections(2)).await;
        let raw = attacked.raw().await;
        let mut third = Raw::dial(&attacked.host_port).await;
        third.say_hello(&hello("default", "third", Role::Client, PeerLimits::default())).await;
        third.read_preamble().await;
        assert_eq!(third.goaway().await.expect("no GOAWAY").reason, GoAwayReason::TooMuch);
        drop(raw);
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_strangers_do_not_keep_peers_out() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut strangers = Vec::new();
        for _ in 0..100 {
            strangers.push(Raw::dial(&attacked.host_port).await);
        }
        let mut raw = attacked.raw().await;
        raw.send(frame_type::PING, 0, 7, &[]).await;
        assert_eq!(raw.frame_of(frame_type::PONG).await.0.id, 7);
        drop((strangers, raw));
        attacked.ends().await;
    })
    .await;
}

/// What a request is answered with; the connection is still there after it.
async fn answer(raw: &mut Raw, id: u64) -> Response {
    let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
    assert_eq!(header.id, id);
    Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_read_is_a_bad_argument_and_no_more() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut raw = attacked.raw().await;
        let method = [&[0x92, 0xa8][..], b"Echo.run"].concat();
        let with = |rest: &[u8]| [&method, rest].concat();
        let depth_bomb = with(&vec![0x91; 60_000]);
        let count_bomb = with(&[0xdd, 0xff, 0xff, 0xff, 0xff]);
        let mut many_values = with(&[0xdc, 0xff, 0xff]);
        many_values.resize(many_values.len() + 0xffff, 0x90);
        many_values.truncate(60_000);
        let mut id = 0;
        for (body, flags) in [
            (vec![], 0),
            (vec![0xc1], 0),
            (b"garbage".to_vec(), 0),
            (vec![0x90], 0),
            (vec![0x91, 0x05], 0),
            (vec![0x91, 0xa1, 0xff], 0),
            (with(&[0x05]), 0),
            (with(&[0x90, 0x90]), 0),
            (depth_bomb, 0),
            (count_bomb, 0),
            (many_values, 0),
            (with(&[0x91, 0xc6, 0xff, 0xff, 0xff, 0xff]), 0),
            (with(&[0x91, 0xd9, 0xff, b'a']), 0),
            (with(&[0x90]), frame_flag::ATTACHMENTS),
            (vec![0x91, 0x7f], frame_flag::ATTACHMENTS),
            (vec![0x91, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], frame_flag::ATTACHMENTS),
            (vec![0x92, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], frame_flag::ATTACHMENTS),
        ] {
            id += 1;
            raw.send(frame_type::REQUEST, flags, id, &body).await;
            let response = answer(&mut raw, id).await;
            let Response::Exception(exception) = &response else { panic!("{body:?}: {response:?}") };
            assert_eq!(exception.kind, Kind::BadArguments, "{:?}: {exception:?}", &body[..body.len().min(20)]);
            assert_eq!(exception.node, "node");
        }
        // A reference to an attachment that is not there.
        let blob = [&[0x92, 0xa9][..], b"Echo.size", &[0x91, 0xd6, 0x42, 7, 0, 0, 0]].concat();
        raw.send(frame_type::REQUEST, 0, id + 1, &blob).await;
        let response = answer(&mut raw, id + 1).await;
        assert!(matches!(&response, Response::Exception(e) if e.kind == Kind::BadArguments), "{response:?}");
        assert_eq!(attacked.echo.runs.load(Ordering::SeqCst), 0);
        raw.send(frame_type::REQUEST, 0, id + 2, &[&[0x91, 0xa8][..], b"Echo.run"].concat()).await;
        assert!(matches!(answer(&mut raw, id + 2).await, Response::Value(_)));
        drop(raw);
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_skipped_is_skipped() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut raw = attacked.raw().await;
        raw.send(frame_type::PAD, 0xff, u64::MAX, &[0xc1; 100]).await;
        raw.send(0x7f, 0xff, 5, b"from the future").await;
        raw.send(frame_type::GOSSIP, 0, 5, b"from the future").await;
        raw.send(frame_type::CANCEL, 0, 99, &[]).await;
        raw.send(frame_type::PONG, 0, 1 << 40, &[]).await;
        raw.send(frame_type::WINDOW, 0, 0, &u64::MAX.to_le_bytes()).await;
        raw.send(frame_type::WINDOW, 0, 0, &u64::MAX.to_le_bytes()).await;
        raw.send(frame_type::PING, 0xff, 5, b"anything").await;
        assert_eq!(raw.frame_of(frame_type::PONG).await.0.id, 5);
        raw.send(frame_type::REQUEST, 0xf0, 3, &[&[0x91, 0xa8][..], b"Echo.run"].concat()).await;
        assert!(matches!(answer(&mut raw, 3).await, Response::Value(_)));
        drop(raw);
        attacked.ends().await;
    })
    .await;
}

/// The opening of a message of this length.
fn opening(total: u64, first: &[u8]) -> Vec<u8> {
    [&total.to_le_bytes()[..], first].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_ends_the_connection_with_the_reason() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let run = [&[0x91, 0xa8][..], b"Echo.run"].concat();
        let frame = |frame_type: u8, flags: u8, id: u64, payload: &[u8]| {
            [&FrameHeader::new(frame_type, id, payload.len()).with_flags(flags).encode()[..], payload].concat()
        };
        let (request, response, part) = (frame_type::REQUEST, frame_type::RESPONSE, frame_type::PART);
        let more = frame_flag::MORE;
        let open = frame(request, more, 5, &opening(100_000, &[0; 4096]));
        let attacks: Vec<(&str, Vec<Vec<u8>>)> = vec![
            ("an unknown type", vec![frame(0xff, 0, 0, &[])]),
            ("a reserved type", vec![frame(frame_type::STREAM_ITEM, 0, 0, &[])]),
            ("a giant length", vec![u32::MAX.to_le_bytes().to_vec()]),
            ("a length one above the most", vec![65_547u32.to_le_bytes().to_vec()]),
            ("a tiny length", vec![9u32.to_le_bytes().to_vec()]),
            (
                "a second hello",
                vec![{
                    let mut out = BytesMut::new();
                    let hello = hello("default", "raw", Role::Client, PeerLimits::default());
                    put_frame(&mut out, frame_type::HELLO, 0, 0, |out| hello.encode(out));
                    out.to_vec()
                }],
            ),
            ("id 0", vec![frame(request, 0, 0, &run)]),
            ("an id twice", vec![frame(request, 0, 3, &run), frame(request, 0, 3, &run)]),
            ("an id that counts down", vec![frame(request, 0, 3, &run), frame(request, 0, 2, &run)]),
            ("an answer to nothing", vec![frame(response, 0, 1, &[0xc0])]),
            ("an answer to nothing in parts", vec![frame(response, more, 1, &opening(100_000, &[0; 4096]))]),
            ("a part of no request", vec![frame(part, 0, 9, &[0; 10])]),
            ("a part of no response", vec![frame(part, frame_flag::RESPONSE, 9, &[0; 10])]),
            ("an opening without its total", vec![frame(request, more, 5, &[1, 2, 3])]),
            ("an opening without bytes", vec![frame(request, more, 5, &opening(100_000, &[]))]),
            ("an opening with too many bytes", vec![frame(request, more, 5, &opening(100_000, &[0; 4097]))]),
            ("an opening that is all", vec![frame(request, more, 5, &opening(4096, &[0; 4096]))]),
            ("a total of everything", vec![frame(request, more, 5, &opening(u64::MAX, &[0; 10]))]),
            ("a total above the limit", vec![frame(request, more, 5, &opening((8 << 20) + 1, &[0; 10]))]),
            ("a tiny part", vec![open.clone(), frame(part, more, 5, &[0; 4095])]),
            ("an empty part", vec![open.clone(), frame(part, 0, 5, &[])]),
            ("too few parts", vec![open.clone(), frame(part, 0, 5, &[0; 100])]),
            ("too many parts", vec![open.clone(), frame(part, more, 5, &[0; 65_536]), frame(part, 0, 5, &[0; 65_536])]),
            (
                "more after the end",
                vec![open.clone(), frame(part, more, 5, &[0; 65_536]), frame(part, more, 5, &[0; 30_368])],
            ),
            ("a malformed window", vec![frame(frame_type::WINDOW, 0, 0, &[1, 2, 3])]),
            ("a malformed goaway", vec![frame(frame_type::GOAWAY, 0, 0, &[0xc1])]),
            ("malformed peers", vec![frame(frame_type::PEERS, 0, 0, &[0xdd, 0xff, 0xff, 0xff, 0xff])]),
        ];
        for (what, frames) in attacks {
            let begun = Instant::now();
            let mut raw = attacked.raw().await;
            raw.write(&frames.concat()).await;
            let goaway = raw.goaway().await.unwrap_or_else(|| panic!("{what}: no GOAWAY"));
            assert_eq!(goaway.reason, GoAwayReason::Protocol, "{what}");
            assert!(!goaway.message.is_empty(), "{what}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{what} took {:?}", begun.elapsed());
        }
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_beyond_the_window_end_the_connection() {
    within(async {
        let attacked = Attacked::start(Limits::default().with_window(64 << 10)).await;
        let mut raw = attacked.raw().await;
        // Credit comes back for what was taken in: a sender that waits for it gets its message through.
        let total = 14 + 1_000_000u64;
        let head = [&[0x92, 0xa9][..], b"Echo.size", &[0x91, 0xc6], &1_000_000u32.to_be_bytes()].concat();
        let mut rest = vec![0u8; total as usize + 3 - head.len()];
        raw.send(frame_type::REQUEST, frame_flag::MORE, 1, &opening(total + 3, &head)).await;
        let mut credit = 64 << 10;
        while !rest.is_empty() {
            let len = rest.len().min(32 << 10);
            while credit < len {
                let (_, payload) = raw.frame_of(frame_type::WINDOW).await;
                credit += u64::from_le_bytes(payload.try_into().unwrap()) as usize;
            }
            credit -= len;
            let part: Vec<u8> = rest.drain(..len).collect();
            raw.send(frame_type::PART, if rest.is_empty() { 0 } else { frame_flag::MORE }, 1, &part).await;
        }
        let response = answer(&mut raw, 1).await;
        let Response::Value(value) = &response else { panic!("{response:?}") };
        assert_eq!(value.decode::<usize>().unwrap(), 1_000_000);
        // One that does not wait does not: less than half of the window does not come back yet.
        drop(raw);
        let mut raw = attacked.raw().await;
        let mut frames = BytesMut::new();
        put_frame(&mut frames, frame_type::REQUEST, frame_flag::MORE, 2, |out| {
            out.extend_from_slice(&opening(1 << 20, &[0; 100]));
        });
        for len in [10_000, 65_536] {
            put_frame(&mut frames, frame_type::PART, frame_flag::MORE, 2, |out| out.resize(out.len() + len, 0));
        }
        raw.write(&frames).await;
        assert_eq!(raw.goaway().await.expect("no GOAWAY").reason, GoAwayReason::Protocol);
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_ends_the_connection() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let mut raw = attacked.raw().await;
        let mut frames = BytesMut::new();
        for id in 0..100 {
            put_frame(&mut frames, frame_type::PING, 0, id, |_| {});
        }
        raw.write(&frames).await;
        assert_eq!(raw.goaway().await.expect("no GOAWAY").reason, GoAwayReason::TooMuch);
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_cancelled_at_once_do_not_run_beyond_the_limit() {
    within(async {
        let attacked = Attacked::start(Limits::default().with_calls_per_peer(4)).await;
        let mut raw = attacked.raw().await;
        let never = [&[0x91, 0xaa][..], b"Echo.never"].concat();
        let mut frames = BytesMut::new();
        for id in 1..=5000 {
            put_frame(&mut frames, frame_type::REQUEST, 0, id, |out| out.extend_from_slice(&never));
            put_frame(&mut frames, frame_type::CANCEL, 0, id, |_| {});
        }
        raw.write(&frames).await;
        raw.send(frame_type::PING, 0, 1, &[]).await;
        let running = || attacked.node.snapshot().connections.iter().map(|c| c.running_calls).max();
        assert!(running() <= Some(4));
        raw.frame_of(frame_type::PONG).await;
        assert!(running() <= Some(4));
        drop(raw);
        attacked.ends().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_in_the_middle_of_anything_leaves_nothing_behind() {
    within(async {
        let attacked = Attacked::start(Limits::default()).await;
        let never = [&[0x91, 0xaa][..], b"Echo.never"].concat();
        let mut frames = BytesMut::new();
        put_frame(&mut frames, frame_type::REQUEST, 0, 1, |out| out.extend_from_slice(&never));
        put_frame(&mut frames, frame_type::REQUEST, frame_flag::MORE, 2, |out| {
            out.extend_from_slice(&opening(100_000, &[0; 200]));
        });
        put_frame(&mut frames, frame_type::PART, frame_flag::MORE, 2, |out| out.extend_from_slice(&[0; 5000]));
        for len in [1, 4, 13, 14, 30, frames.len() - 3000, frames.len()] {
            let mut raw = attacked.raw().await;
            raw.write(&frames[..len]).await;
        }
        attacked.ends().await;
    })
    .await;
}
