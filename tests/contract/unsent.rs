//! Not executed: the call never left this node as a whole.

use std::sync::Arc;
use std::time::Duration;

use rmi::{Blob, Class, Kind, Limits, Node, Role, args, connect, root_exc};
use rmi_core::frame::frame_type;
use rmi_core::hello::PeerLimits;

use crate::common::{Raw, hello, until_quiet, virtually, within};
use crate::service::{Bomb, Faulty, FaultyStub, Pair, Trigger, impostor};

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
async fn request_too_large() {
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
async fn not_connected() {
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

/// Within the process: a port that is given back may be that of the next test, where somebody answers.
#[test]
fn connect_failed_names_the_address_and_the_reason() {
    virtually(async {
        let node = Node::builder().name("node").listen("mem://connect-failed").start().await.unwrap();
        let mut hello = hello("default", "gone", Role::Member, PeerLimits::default());
        hello.node.addresses = vec!["mem://nobody-is-here".to_owned()];
        let raw = Raw::connect_mem("connect-failed", &hello).await;
        let peer = node.peer("gone").await.unwrap();
        drop(raw);
        node.peers().wait_for(|peers| peers.connected() == 0).await.unwrap();
        let error = peer.ping().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectFailed, Class::NotExecuted), "{error:?}");
        let story = format!("{error:?}");
        for part in ["node `gone` could not be reached", "cannot connect to mem://nobody-is-here", "refused"] {
            assert!(story.contains(part), "{part}: {story}");
        }
    });
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_sent_and_is_not_awaited_holds_up_no_other() {
    within(async {
        let pair = Pair::with_limits(Limits::default().with_calls_per_peer(1)).await;
        let running = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        let sent = pair.stub.fine().send();
        let awaited = tokio::spawn(pair.stub.fine().into_future());
        pair.faulty.gate.add_permits(1);
        running.await.unwrap();
        awaited.await.unwrap().unwrap();
        sent.await.unwrap();
        until_quiet(&[&pair.client, &pair.server]).await;
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

#[test]
fn a_peer_from_connect_says_what_became_of_its_server() {
    virtually(async {
        let address = "mem://from-connect";
        let server = Node::builder().name("server").listen(address).start().await.unwrap();
        let peer = connect(address).await.unwrap();
        peer.ping().await.unwrap();
        server.shutdown(Duration::from_secs(5)).await;
        // Until the address was dialled once more, in vain.
        let story = loop {
            let error = peer.ping().await.unwrap_err();
            assert_eq!(error.class(), Class::NotExecuted, "{error:?}");
            let story = format!("{error:?}");
            if error.kind() == Kind::NotConnected && story.contains("refused") {
                break story;
            }
            assert!(story.contains("shut"), "{story}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        for part in ["not connected to node `server`", "it has shut down", "cannot connect to mem://from-connect"] {
            assert!(story.contains(part), "{part}: {story}");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn would_block() {
    within(async {
        let pair = Pair::start().await;
        let error = pair.stub.fine().wait().unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::WouldBlock, Class::NotExecuted), "{error:?}");
        // One that was sent may run, and is cancelled.
        let call = pair.stub.wait().send();
        pair.faulty.runs.reaches(1).await;
        let error = call.wait().unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::WouldBlock, Class::MaybeExecuted), "{error:?}");
        until_quiet(&[&pair.client, &pair.server]).await;
        // In a method too, on whatever node.
        let story = pair.stub.block().await.unwrap();
        assert!(story.contains("`wait()` would block the async runtime"), "{story}");
        assert_eq!(pair.faulty.runs.get(), 1);
    })
    .await;
}

/// What is in the queue of a connection whose other end does not read, and what it is when it does read: in virtual
/// time, through a pipe of known size.
#[test]
fn a_call_that_ends_in_the_queue_is_taken_back() {
    virtually(async {
        let node = Node::builder().name("node").listen("mem://taken-back").start().await.unwrap();
        let mut raw =
            Raw::connect_mem("taken-back", &hello("default", "server", Role::Client, PeerLimits::default())).await;
        let peer = node.peer("server").await.unwrap();
        let fill = || peer.invoke::<u8>("Faulty.size", args![Blob::from(vec![0; 60 << 10])]).send();
        let filling: Vec<_> = (0..8).map(|_| fill()).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let queued = node.snapshot().connections[0].queued_bytes;
        // One whose time is over, and one that is dropped.
        let late = peer.invoke::<u8>("Faulty.fine", args![]).with_timeout(Duration::from_secs(1)).send();
        let dropped = peer.invoke::<u8>("Faulty.fine", args![]).send();
        assert!(node.snapshot().connections[0].queued_bytes > queued, "they have left already");
        drop(dropped);
        let error = late.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::NotExecuted), "{error:?}");
        assert!(error.is_safe_to_retry());
        let last = peer.invoke::<u8>("Faulty.last", args![]).send();
        let (mut n_large, mut n_taken_back) = (0, 0);
        loop {
            let (header, payload) = raw.frame().await.expect("the connection ended");
            match header.frame_type {
                frame_type::REQUEST if payload.ends_with(b"Faulty.last") => break,
                frame_type::REQUEST => n_large += 1,
                frame_type::PAD => n_taken_back += 1,
                other => assert!(matches!(other, frame_type::PEERS), "{other:#x}"),
            }
            assert!(
                !payload.ends_with(b"Faulty.fine") || header.frame_type == frame_type::PAD,
                "it was not taken back"
            );
        }
        assert_eq!((n_large, n_taken_back), (8, 2));
        drop((filling, last));
    });
}
