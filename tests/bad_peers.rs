//! What a peer may do wrong, or too often: so much is borne, what is more ends its connections, with the reason, and
//! nobody else notices. In virtual time, so that the limits are exact.

mod common;

use std::time::Duration;

use bytes::BytesMut;
use common::{Counter, MemStream, Raw, hello, only_link, until_quiet, virtually};
use rmi::{Kind, Limits, Node, Peer, Role, args, rmi_node};
use rmi_core::frame::{FrameHeader, GoAwayReason, HEADER_LEN, frame_flag, frame_type, put_frame};
use rmi_core::hello::{Hello, PeerLimits};
use rmi_core::message::{Message, Response};

#[derive(Clone, Default)]
struct Echo {
    runs: Counter,
    dropped: Counter,
}

#[rmi_node]
impl Echo {
    async fn echo(&self, n: u64) -> u64 {
        n
    }

    async fn never(&self) {
        let _dropped = self.dropped.on_drop();
        self.runs.add();
        std::future::pending().await
    }
}

/// A node, and a peer that must not notice anything.
struct Attacked {
    node: Node,
    name: &'static str,
    echo: Echo,
    healthy: (Node, Peer),
}

impl Attacked {
    async fn start(name: &'static str, limits: Limits) -> Self {
        let echo = Echo::default();
        let node = Node::builder().name("node").listen(format!("mem://{name}")).limits(limits).serve(echo.clone());
        let node = node.start().await.unwrap();
        let client = Node::builder().name("healthy").seeds(node.addresses()).start().await.unwrap();
        let peer = client.peer("node").await.unwrap();
        Self { node, name, echo, healthy: (client, peer) }
    }

    async fn raw(&self, hello: &Hello) -> Raw<MemStream> {
        Raw::connect_mem(self.name, hello).await
    }

    /// The healthy peer still has the connection that it had, and is answered on it.
    async fn is_well(&self, link: (rmi::InstanceId, bool)) {
        assert_eq!(self.healthy.1.invoke::<u64>("Echo.echo", args![7]).await.unwrap(), 7);
        assert_eq!(only_link(&self.healthy.0), link);
    }

    fn link(&self) -> (rmi::InstanceId, bool) {
        only_link(&self.healthy.0)
    }
}

fn raw_hello() -> Hello {
    hello("default", "raw", Role::Client, PeerLimits::default())
}

fn echo(n: u8) -> Vec<u8> {
    [&[0x92, 0xa9][..], b"Echo.echo", &[0x91, n]].concat()
}

fn never() -> Vec<u8> {
    [&[0x91, 0xaa][..], b"Echo.never"].concat()
}

async fn answer(raw: &mut Raw<MemStream>) -> (u64, Response) {
    let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
    (header.id, Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap())
}

/// Sends requests that cannot be read, and looks at what each is answered with.
async fn send_garbage(raw: &mut Raw<MemStream>, ids: std::ops::Range<u64>) {
    for id in ids {
        raw.send(frame_type::REQUEST, 0, id, &[0xc1]).await;
        let (answered, Response::Exception(exception)) = answer(raw).await else { panic!("{id} was not refused") };
        assert_eq!((answered, exception.kind), (id, Kind::BadArguments));
    }
}

#[test]
fn a_hundred_requests_that_cannot_be_read_are_borne_and_ten_more_each_second() {
    virtually(async {
        let attacked = Attacked::start("bad-requests", Limits::default()).await;
        let link = attacked.link();
        let mut raw = attacked.raw(&raw_hello()).await;
        send_garbage(&mut raw, 1..101).await;
        // It is at the limit, and its good calls are as good as before.
        raw.send(frame_type::REQUEST, 0, 101, &echo(5)).await;
        assert!(matches!(answer(&mut raw).await, (101, Response::Value(_))));
        tokio::time::sleep(Duration::from_secs(1)).await;
        send_garbage(&mut raw, 102..112).await;
        raw.send(frame_type::REQUEST, 0, 112, &[0xc1]).await;
        let goaway = raw.goaway().await.expect("no GOAWAY");
        assert_eq!((goaway.reason, goaway.last_accepted), (GoAwayReason::TooMuch, 112));
        assert!(goaway.message.contains("cannot be read"), "{}", goaway.message);
        attacked.is_well(link).await;
    });
}

#[test]
fn ten_thousand_cancels_at_once_are_borne_and_two_thousand_more_each_second() {
    virtually(async {
        let attacked = Attacked::start("cancels", Limits::default()).await;
        let link = attacked.link();
        let mut raw = attacked.raw(&raw_hello()).await;
        let mut n_sent = 0;
        for n_cancels in [10_000, 2_000, 2_000] {
            let mut frames = BytesMut::new();
            for id in n_sent..n_sent + n_cancels {
                put_frame(&mut frames, frame_type::CANCEL, 0, id, |_| {});
            }
            raw.write(&frames).await;
            n_sent += n_cancels;
            raw.send(frame_type::PING, 0, n_sent, &[]).await;
            assert_eq!(raw.frame_of(frame_type::PONG).await.0.id, n_sent);
            if n_sent < 14_000 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        raw.send(frame_type::CANCEL, 0, n_sent, &[]).await;
        let goaway = raw.goaway().await.expect("no GOAWAY");
        assert_eq!(goaway.reason, GoAwayReason::TooMuch);
        assert!(goaway.message.contains("cancels"), "{}", goaway.message);
        attacked.is_well(link).await;
    });
}

#[test]
fn a_hundred_answers_that_cannot_be_read_are_borne() {
    virtually(async {
        let attacked = Attacked::start("bad-answers", Limits::default()).await;
        let link = attacked.link();
        let mut raw = attacked.raw(&raw_hello()).await;
        let peer = attacked.node.peer("raw").await.unwrap();
        for n in 1..=101 {
            let call = peer.invoke::<u64>("Echo.echo", args![n]).send();
            let (header, _) = raw.frame_of(frame_type::REQUEST).await;
            raw.send(frame_type::RESPONSE, 0, header.id, &[0xc1]).await;
            assert_eq!(call.await.unwrap_err().kind(), Kind::ResponseDecode, "{n}");
        }
        let goaway = raw.goaway().await.expect("no GOAWAY");
        assert_eq!(goaway.reason, GoAwayReason::TooMuch);
        attacked.is_well(link).await;
    });
}

#[test]
fn who_connects_several_times_has_no_more_mistakes_memory_or_calls() {
    virtually(async {
        let limits = Limits::default().with_calls_per_peer(2).with_memory_per_peer(64 << 10);
        let attacked = Attacked::start("several", limits).await;
        let link = attacked.link();
        let hello = raw_hello();
        let (mut one, mut two, mut three) =
            (attacked.raw(&hello).await, attacked.raw(&hello).await, attacked.raw(&hello).await);
        // Twice the limit of one connection: of two that were dialled at once the one that winds down has calls.
        for (id, raw) in [(1, &mut one), (1, &mut two)] {
            raw.send(frame_type::REQUEST, 0, id, &never()).await;
            raw.send(frame_type::REQUEST, 0, id + 1, &never()).await;
        }
        attacked.echo.runs.reaches(4).await;
        three.send(frame_type::REQUEST, 0, 1, &echo(1)).await;
        let (1, Response::Exception(busy)) = answer(&mut three).await else { panic!("it was not refused") };
        assert_eq!(busy.kind, Kind::Busy, "{busy:?}");
        one.send(frame_type::CANCEL, 0, 1, &[]).await;
        attacked.echo.dropped.reaches(1).await;
        three.send(frame_type::REQUEST, 0, 2, &echo(1)).await;
        assert!(matches!(answer(&mut three).await, (2, Response::Value(_))));
        // What one of them holds, the other has not.
        let large =
            |n: usize| [&[0x92, 0xaa][..], b"Echo.never", &[0xdc], &(n as u16).to_be_bytes(), &vec![1; n]].concat();
        three.send(frame_type::REQUEST, 0, 3, &large(1100)).await;
        let (3, Response::Exception(busy)) = answer(&mut three).await else { panic!("it was not refused") };
        assert_eq!(busy.kind, Kind::Busy, "{busy:?}");
        send_garbage(&mut two, 3..63).await;
        send_garbage(&mut three, 4..44).await;
        one.send(frame_type::REQUEST, 0, 3, &[0xc1]).await;
        assert_eq!(one.goaway().await.expect("no GOAWAY").reason, GoAwayReason::TooMuch);
        attacked.is_well(link).await;
    });
}

#[test]
fn a_process_has_eight_connections_at_most() {
    virtually(async {
        let attacked = Attacked::start("connections", Limits::default()).await;
        let link = attacked.link();
        let hello = raw_hello();
        let mut raws = Vec::new();
        for _ in 0..8 {
            raws.push(attacked.raw(&hello).await);
        }
        let other = Node::builder().name("other").seeds(attacked.node.addresses()).start().await.unwrap();
        other.peer("node").await.expect("another process has its own eight");
        let mut ninth = Raw::dial_mem(attacked.name).await;
        ninth.say_hello(&hello).await;
        ninth.read_preamble().await;
        let goaway = ninth.goaway().await.expect("no GOAWAY");
        assert_eq!(goaway.reason, GoAwayReason::TooMuch, "{goaway:?}");
        drop(raws.pop());
        common::until("one has ended", || attacked.node.snapshot().connections.len() == 7 + 2).await;
        raws.push(attacked.raw(&hello).await);
        attacked.is_well(link).await;
    });
}

#[test]
fn a_frame_that_was_begun_is_finished_within_thirty_seconds() {
    virtually(async {
        let attacked = Attacked::start("started-frame", Limits::default()).await;
        let link = attacked.link();
        let mut raw = attacked.raw(&raw_hello()).await;
        let header = FrameHeader::new(frame_type::PAD, 0, 1000).encode();
        let frame = [&header[..], &[0; 1000]].concat();
        // In pieces, over 29 seconds: it is slow, and it comes.
        for piece in frame.chunks(frame.len().div_ceil(30)) {
            raw.write(piece).await;
            tokio::time::sleep(Duration::from_secs(1) - Duration::from_millis(1)).await;
        }
        raw.send(frame_type::PING, 0, 1, &[]).await;
        assert_eq!(raw.frame_of(frame_type::PONG).await.0.id, 1);
        // The next one never ends, though there is always something of it to be heard.
        let begun = tokio::time::Instant::now();
        raw.write(&frame[..HEADER_LEN]).await;
        for n in 0..30 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{n}");
            tokio::time::sleep(Duration::from_secs(1) - Duration::from_millis(1)).await;
            raw.write(&[0]).await;
        }
        let goaway = raw.goaway().await.expect("no GOAWAY");
        let took = begun.elapsed();
        assert_eq!(goaway.reason, GoAwayReason::Protocol);
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31), "{took:?}");
        attacked.is_well(link).await;
    });
}

/// Two nodes that let many calls run.
async fn roomy(name: &'static str) -> Attacked {
    let limits =
        || Limits::default().with_calls_per_peer(20_000).with_running_calls(20_000).with_memory_per_peer(1 << 30);
    Attacked::start(name, limits()).await
}

#[test]
fn ten_thousand_calls_whose_time_is_over_at_once_end_nothing_else() {
    virtually(async {
        let attacked = roomy("mass-timeout").await;
        let link = attacked.link();
        let timeout = Duration::from_secs(1);
        let call = || attacked.healthy.1.invoke::<()>("Echo.never", args![]).with_timeout(timeout).send();
        let calls: Vec<_> = (0..10_000).map(|_| call()).collect();
        for call in calls {
            let error = call.await.unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
        }
        attacked.echo.dropped.reaches(10_000).await;
        attacked.is_well(link).await;
    });
}

#[test]
fn a_caller_that_cancels_more_than_its_peer_bears_is_slowed_down_and_not_closed() {
    virtually(async {
        let attacked = roomy("mass-cancel").await;
        let link = attacked.link();
        let begun = tokio::time::Instant::now();
        let mut n = 0;
        for _ in 0..4 {
            let calls: Vec<_> =
                (0..5_000).map(|_| attacked.healthy.1.invoke::<()>("Echo.never", args![]).send()).collect();
            n += calls.len();
            attacked.echo.runs.reaches(n).await;
            drop(calls);
        }
        // Every method is cancelled in the end, as fast as the peer bears it.
        attacked.echo.dropped.reaches(n).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(9), "{took:?}");
        until_quiet(&[&attacked.node, &attacked.healthy.0]).await;
        attacked.is_well(link).await;
    });
}
