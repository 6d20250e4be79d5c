//! In which order calls leave, begin and end. In virtual time, through pipes within the process.

mod common;

use std::sync::{Arc, Mutex};

use common::{Counter, MemStream, Raw, hello, virtually};
use rmi::{Blob, Node, Peer, Role, args, rmi_node};
use rmi_core::frame::frame_type;
use rmi_core::hello::PeerLimits;
use rmi_core::message::IncomingRequest;
use tokio::sync::Semaphore;

/// Notes which calls begin, and lets them end when it is told to.
#[derive(Clone)]
struct Row {
    begun: Arc<Mutex<Vec<u64>>>,
    n_begun: Counter,
    gate: Arc<Semaphore>,
}

impl Default for Row {
    fn default() -> Self {
        Self { begun: Arc::default(), n_begun: Counter::default(), gate: Arc::new(Semaphore::new(0)) }
    }
}

impl Row {
    async fn run(&self, n: u64) -> u64 {
        self.begun.lock().unwrap().push(n);
        self.n_begun.add();
        self.gate.acquire().await.unwrap().forget();
        n
    }
}

#[rmi_node(serial)]
impl Row {
    async fn small(&self, n: u64) -> u64 {
        self.run(n).await
    }

    async fn large(&self, n: u64, _blob: Blob) -> u64 {
        self.run(n).await
    }
}

/// The same, but for the row.
#[derive(Clone, Default)]
struct Crowd(Row);

#[rmi_node]
impl Crowd {
    async fn small(&self, n: u64) -> u64 {
        self.0.run(n).await
    }

    async fn large(&self, n: u64, _blob: Blob) -> u64 {
        self.0.run(n).await
    }
}

async fn raw(name: &str) -> (Node, Peer, Raw<MemStream>) {
    let node = Node::builder().name("node").listen(format!("mem://{name}")).start().await.unwrap();
    let raw = Raw::connect_mem(name, &hello("default", "raw", Role::Client, PeerLimits::default())).await;
    let peer = node.peer("raw").await.unwrap();
    (node, peer, raw)
}

async fn serve(name: &str) -> (Row, Crowd, Node, Node, Peer) {
    let (row, crowd) = (Row::default(), Crowd::default());
    let server = Node::builder().name("server").listen(format!("mem://{name}")).serve(row.clone()).serve(crowd.clone());
    let server = server.start().await.unwrap();
    let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    (row, crowd, server, client, peer)
}

#[test]
fn calls_leave_in_the_order_in_which_they_were_first_polled() {
    virtually(async {
        let (_node, peer, mut raw) = raw("order-polled").await;
        // Made in one order and polled in another: that one counts. Up to 100 KB, so that some are in parts.
        let len = |n: u64| if n.is_multiple_of(7) { 100_000 } else { n as usize };
        let invocations: Vec<_> =
            (0..50u64).map(|n| peer.invoke::<u64>("Row.take", args![n, Blob::from(vec![0; len(n)])])).collect();
        let calls: Vec<_> = invocations.into_iter().rev().map(rmi::Invocation::send).collect();
        for n in (0..50).rev() {
            let (header, payload) = raw.frame_of(frame_type::REQUEST).await;
            assert_eq!(header.id, 50 - n);
            // The first argument stands behind the name, and the opening of a large one has the name too.
            let at = payload.windows(8).position(|bytes| bytes == b"Row.take").expect("no name") + 8;
            assert_eq!(payload[at..at + 2], [0x92, n as u8], "another call came first");
        }
        drop(calls);
    });
}

#[test]
fn a_cancel_comes_behind_its_request() {
    virtually(async {
        let (_node, peer, mut raw) = raw("order-cancel").await;
        let mut dropped = 0;
        for n in 0..100u64 {
            let call = peer.invoke::<u64>("Row.take", args![n, Blob::from(vec![0; n as usize * 2000])]).send();
            if n.is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            drop(call);
            dropped += 1;
        }
        let last = peer.invoke::<u64>("Row.last", args![]).send();
        let (mut begun, mut cancelled) = (Vec::new(), Vec::new());
        loop {
            let (header, payload) = raw.frame().await.expect("the connection ended");
            match header.frame_type {
                frame_type::REQUEST
                    if IncomingRequest::decode(&payload).is_ok_and(|request| request.method() == Ok("Row.last")) =>
                {
                    break;
                }
                frame_type::REQUEST => begun.push(header.id),
                frame_type::CANCEL => {
                    assert!(begun.contains(&header.id), "the cancel of {} came first", header.id);
                    assert!(!cancelled.contains(&header.id), "{} was cancelled twice", header.id);
                    cancelled.push(header.id);
                }
                _ => {}
            }
        }
        assert_eq!(begun, cancelled);
        assert!(!begun.is_empty() && begun.len() <= dropped);
        drop(last);
    });
}

#[test]
fn a_serial_service_runs_calls_one_by_one_in_the_order_of_their_first_parts() {
    virtually(async {
        let (row, _, _server, _client, peer) = serve("order-serial").await;
        let large = peer.invoke::<u64>("Row.large", args![0u64, Blob::from(vec![0; 4 << 20])]).send();
        let small: Vec<_> = (1..20u64).map(|n| peer.invoke::<u64>("Row.small", args![n]).send()).collect();
        for n in 1..=20 {
            row.n_begun.reaches(n).await;
            // The next one does not begin before this one has ended.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            assert_eq!(row.n_begun.get(), n);
            row.gate.add_permits(1);
        }
        assert_eq!(large.await.unwrap(), 0);
        for (n, call) in (1..).zip(small) {
            assert_eq!(call.await.unwrap(), n);
        }
        assert_eq!(*row.begun.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn calls_of_other_services_run_at_once_and_small_ones_pass_large_ones() {
    virtually(async {
        let (_, Crowd(row), _server, _client, peer) = serve("order-crowd").await;
        let large = peer.invoke::<u64>("Crowd.large", args![0u64, Blob::from(vec![0; 4 << 20])]).send();
        let small: Vec<_> = (1..20u64).map(|n| peer.invoke::<u64>("Crowd.small", args![n]).send()).collect();
        row.n_begun.reaches(20).await;
        assert_eq!(row.begun.lock().unwrap().last(), Some(&0), "the large one was not passed");
        row.gate.add_permits(20);
        assert_eq!(large.await.unwrap(), 0);
        for (n, call) in (1..).zip(small) {
            assert_eq!(call.await.unwrap(), n);
        }
    });
}
