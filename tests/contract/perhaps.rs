//! May have executed: the call had left, and no answer came. The method ran once, not at all, or still runs.

use std::time::Duration;

use bytes::BytesMut;
use rmi::{Class, Kind, Limits, Node, Role, args};
use rmi_core::frame::{GoAway, GoAwayReason, frame_flag, frame_type, put_frame};
use rmi_core::hello::PeerLimits;

use crate::common::{Raw, hello, host_port, until_quiet, virtually, within};
use crate::service::{Pair, impostor};

/// In virtual time, which goes on when nobody has anything to do: so the method has begun when it is over.
#[test]
fn timeout() {
    virtually(async {
        let pair = Pair::listening("mem://contract-timeout", Limits::default()).await;
        let call = pair.stub.wait().with_timeout(Duration::from_millis(30));
        let error = pair.fails(call, Kind::Timeout, Class::MaybeExecuted).await;
        assert!(format!("{error:?}").contains("did not answer in time"), "{error:?}");
        assert_eq!(pair.faulty.runs.get(), 2, "it did not run, and what was called after it");
        let call = pair.stub.fine().with_timeout(Duration::ZERO);
        pair.fails(call, Kind::Timeout, Class::NotExecuted).await;
    });
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

/// Ids lead to places of a table, which are used again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_is_for_its_own_call_and_no_other() {
    within(async {
        let (mut raw, _client, peer, _listener) = impostor(PeerLimits::default()).await;
        let mut given_up = Vec::new();
        for n in 0..300_u64 {
            let call = peer.invoke::<u64>("Faulty.fine", args![]).send();
            let (header, _) = raw.frame_of(frame_type::REQUEST).await;
            if n % 50 != 49 {
                drop(call);
                given_up.push(header.id);
                continue;
            }
            for late in given_up.drain(..) {
                raw.send(frame_type::RESPONSE, 0, late, &[1]).await;
            }
            raw.send(frame_type::RESPONSE, 0, header.id, &[2]).await;
            assert_eq!(call.await.unwrap(), 2, "after {n} calls");
        }
    })
    .await;
}

/// What is answered already keeps nothing of a second answer, also where both come in one read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_answer_that_comes_in_parts_is_forgotten_at_once() {
    within(async {
        let (mut raw, _client, peer, _listener) = impostor(PeerLimits::default()).await;
        for n in 0..50 {
            let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
            let id = raw.frame_of(frame_type::REQUEST).await.0.id;
            let mut bytes = BytesMut::new();
            put_frame(&mut bytes, frame_type::RESPONSE, 0, id, |out| out.extend_from_slice(&[1]));
            put_frame(&mut bytes, frame_type::RESPONSE, frame_flag::MORE, id, |out| {
                out.extend_from_slice(&100_000_u64.to_le_bytes());
                out.extend_from_slice(&[0; 4096]);
            });
            // To one whose parts are awaited this would be too much.
            put_frame(&mut bytes, frame_type::RESPONSE, 0, id, |out| out.extend_from_slice(&[1]));
            raw.write(&bytes).await;
            assert_eq!(call.await.unwrap(), 1, "after {n} calls");
        }
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
async fn going_away_with_a_call_that_was_accepted() {
    within(async {
        let (mut raw, _client, peer, _listener) = impostor(PeerLimits::default()).await;
        let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let (header, _) = raw.frame_of(frame_type::REQUEST).await;
        let goaway = GoAway { reason: GoAwayReason::Shutdown, last_accepted: header.id, message: String::new() };
        let mut payload = bytes::BytesMut::new();
        goaway.encode(&mut payload);
        raw.send(frame_type::GOAWAY, 0, 0, &payload).await;
        drop(raw);
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_restarted() {
    within(async {
        let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let come = || async {
            let mut hello = hello("default", "server", Role::Member, PeerLimits::default());
            hello.node.addresses = vec!["tcp://127.0.0.1:9".to_owned()];
            let mut raw = Raw::dial(&host_port(&node)).await;
            raw.say_hello(&hello).await;
            raw.read_preamble().await;
            raw
        };
        let mut old = come().await;
        let peer = node.peer("server").await.unwrap();
        let pinned = peer.pinned();
        let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
        old.frame_of(frame_type::REQUEST).await;
        // Another process with the same name and address: the old one is no more, though its connection still stands.
        let mut new = come().await;
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::PeerRestarted, Class::MaybeExecuted), "{error:?}");
        // Who is bound to the old process learns that it is gone; who follows the name calls the new one.
        let error = pinned.invoke::<u8>("Faulty.fine", args![]).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::PeerRestarted, Class::NotExecuted), "{error:?}");
        let call = peer.invoke::<u8>("Faulty.fine", args![]).send();
        let (header, _) = new.frame_of(frame_type::REQUEST).await;
        new.send(frame_type::RESPONSE, 0, header.id, &[5]).await;
        assert_eq!(call.await.unwrap(), 5);
    })
    .await;
}

#[test]
fn what_was_lost_is_not_sent_again() {
    virtually(async {
        let node = Node::builder().name("node").listen("mem://not-again").start().await.unwrap();
        let hello = hello("default", "server", Role::Client, PeerLimits::default());
        let mut raw = Raw::connect_mem("not-again", &hello).await;
        let peer = node.peer("server").await.unwrap();
        for n in 0..5u8 {
            // The first request on each connection is the call that was made on it, and no older one.
            let call = peer.invoke::<u8>("Faulty.fine", args![n]).send();
            let (header, payload) = raw.frame_of(frame_type::REQUEST).await;
            assert_eq!((header.id, payload.last()), (1, Some(&n)));
            drop(raw);
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
            // The same process comes again.
            raw = Raw::connect_mem("not-again", &hello).await;
            node.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
        }
    });
}
