//! Not executed: the peer refused the call before its method ran.

use std::sync::Arc;
use std::time::Duration;

use rmi::{Blob, Class, Kind, Limits, Node, Role, args, root_exc};
use rmi_core::frame::{GoAway, GoAwayReason, frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use rmi_core::message::{Message, Response};

use crate::common::{Raw, hello, host_port, until, until_quiet, virtually, within};
use crate::service::{Bomb, Faulty, Pair, Trigger, answer, impostor, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_arguments() {
    within(async {
        let pair = Pair::start().await;
        let error =
            pair.fails(pair.stub.take(Bomb(Trigger::DecodeFails)), Kind::BadArguments, Class::NotExecuted).await;
        assert_eq!(root_exc(&error).to_string(), "take() argument 'bomb': the bomb does not decode");
        pair.fails(pair.stub.take(Bomb(Trigger::DecodePanics)), Kind::BadArguments, Class::NotExecuted).await;
        let call = pair.peer.invoke::<()>("Faulty.fine", args![1]);
        pair.fails(call, Kind::BadArguments, Class::NotExecuted).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_such_method() {
    within(async {
        let pair = Pair::start().await;
        let call = pair.peer.invoke::<()>("Faulty.nothing", args![]);
        pair.fails(call, Kind::NoSuchMethod, Class::NotExecuted).await;
        pair.server.unserve("Faulty");
        let error = pair.stub.fine().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::NoSuchMethod, Class::NotExecuted), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.fails(pair.stub.secret(), Kind::Denied, Class::NotExecuted).await;
        assert!(root_exc(&error).to_string().contains("`client` may not call `Faulty.secret`"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy() {
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
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_on_arrival() {
    within(async {
        let pair = Pair::start().await;
        let mut raw = Raw::connect(&host_port(&pair.server), "raw", PeerLimits::default()).await;
        raw.send(frame_type::REQUEST, 0, 1, &request("Faulty.fine", Some(0))).await;
        let (1, Response::Exception(exception)) = answer(&mut raw).await else { panic!("it was not refused") };
        assert_eq!((exception.kind, exception.class), (Kind::ExpiredOnArrival, Class::NotExecuted));
        assert_eq!(pair.faulty.runs.get(), 0);
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
        drop((raw, first));
    })
    .await;
}

/// The time counts from the first part, not from the last. In virtual time.
#[test]
fn expired_while_its_parts_came() {
    virtually(async {
        let faulty = Arc::new(Faulty::default());
        let node = Node::builder().name("server").listen("mem://expired-parts").serve_arc(Arc::clone(&faulty));
        let _node = node.start().await.unwrap();
        let hello = hello("default", "raw", Role::Client, PeerLimits::default());
        let mut raw = Raw::connect_mem("expired-parts", &hello).await;
        // `Faulty.size` of 100,000 bytes, within 200 ms.
        let head = [&[0x94, 0xab][..], b"Faulty.size", &[0x91, 0xc6], &100_000u32.to_be_bytes()].concat();
        let tail = [&[0; 100_000][..], &[0xc0, 0xcc, 200]].concat();
        let opening = [&((head.len() + tail.len()) as u64).to_le_bytes()[..], &head].concat();
        for (id, pause, is_expired) in [(1, 150, false), (2, 250, true)] {
            raw.send(frame_type::REQUEST, frame_flag::MORE, id, &opening).await;
            raw.send(frame_type::PART, frame_flag::MORE, id, &tail[..50_000]).await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            raw.send(frame_type::PART, 0, id, &tail[50_000..]).await;
            let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
            let response = Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap();
            match response {
                Response::Value(_) => assert!(!is_expired),
                Response::Exception(exception) => {
                    assert!(is_expired, "{exception:?}");
                    assert_eq!((exception.kind, exception.class), (Kind::ExpiredOnArrival, Class::NotExecuted));
                }
            }
        }
        assert_eq!(faulty.runs.get(), 1);
    });
}
