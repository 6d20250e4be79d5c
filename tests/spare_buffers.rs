//! The buffer of a large message is used again for the next one, and given back where none comes.
//!
//! The tests of this file take turns, because they look at the heap of the whole process.

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::{Counter, MemStream, Raw, hello, until, virtually};
use peak_alloc::PeakAlloc;
use rmi::{Blob, Limits, Node, Role, rmi_node};
use rmi_core::frame::{MAX_PAYLOAD, frame_flag, frame_type};
use rmi_core::hello::PeerLimits;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const LARGE: usize = 4 << 20;
/// What a call may take beside the buffer of its message.
const BESIDE: usize = 1 << 20;

#[derive(Clone, Default)]
struct Store {
    runs: Counter,
    go_on: Counter,
}

#[rmi_node]
impl Store {
    async fn size(&self, blob: Blob) -> usize {
        blob.len()
    }

    /// Has its message until it is told to go on.
    async fn hold(&self, blob: Blob) {
        self.runs.add();
        self.go_on.reaches(1).await;
        drop(blob);
    }
}

/// Runs a test in virtual time, while no other test of this file runs.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    virtually(test);
}

/// A node that is called, one that calls it, and what is on the heap once both know each other.
async fn two(name: &str) -> (Node, Node, StoreStub, usize) {
    let address = format!("mem://{name}");
    let node = Node::builder().name("node").listen(address.as_str()).serve(Store::default()).start().await.unwrap();
    let caller = Node::builder().name("caller").seed(address.as_str()).start().await.unwrap();
    let stub = StoreStub::new(caller.peer("node").await.unwrap());
    assert_eq!(stub.size(Blob::from(vec![1; 100 << 10])).await.unwrap(), 100 << 10);
    let heap = HEAP.current_usage();
    (node, caller, stub, heap)
}

async fn send(stub: &StoreStub) {
    assert_eq!(stub.size(Blob::from(vec![1; LARGE])).await.unwrap(), LARGE);
}

#[test]
fn the_next_message_is_put_together_where_the_last_one_was() {
    alone(async {
        let (_node, _caller, stub, before) = two("used-again").await;
        send(&stub).await;
        let kept = HEAP.current_usage();
        assert!((LARGE..LARGE + BESIDE).contains(&(kept - before)), "{} bytes are kept", kept - before);
        HEAP.reset_peak_usage();
        send(&stub).await;
        // The caller's own, and no other.
        let more = HEAP.peak_usage() - kept;
        assert!((LARGE..LARGE + BESIDE).contains(&more), "{more} bytes more");
    });
}

#[test]
fn what_no_message_needs_is_given_back() {
    alone(async {
        let (_node, _caller, stub, before) = two("given-back").await;
        send(&stub).await;
        until("the node keeps nothing", || HEAP.current_usage() < before + BESIDE).await;
    });
}

#[test]
fn with_the_last_connection_nothing_is_kept() {
    alone(async {
        let (node, caller, stub, before) = two("last-connection").await;
        send(&stub).await;
        let begin = tokio::time::Instant::now();
        caller.shutdown(Duration::ZERO).await;
        until("the node keeps nothing", || HEAP.current_usage() < before + BESIDE).await;
        // Before anybody would have looked.
        assert!(begin.elapsed() < Duration::from_secs(1), "it took {:?}", begin.elapsed());
        drop(node);
    });
}

/// `Store.hold` of a large blob, sent part by part.
struct Hold {
    id: u64,
    /// What was not sent yet.
    rest: Bytes,
}

impl Hold {
    async fn open(raw: &mut Raw<MemStream>, id: u64) -> Self {
        let lengths = [&[0x91, 0xce][..], &(LARGE as u32).to_be_bytes()].concat();
        let body = [&[0x92, 0xaa][..], b"Store.hold", &[0x91, 0xd6, 0x42, 0, 0, 0, 0]].concat();
        let mut rest = Bytes::from([&lengths[..], &body, &vec![1; LARGE]].concat());
        let opening = [&(rest.len() as u64).to_le_bytes()[..], &rest.split_to(100)].concat();
        raw.send(frame_type::REQUEST, frame_flag::MORE | frame_flag::ATTACHMENTS, id, &opening).await;
        Self { id, rest }
    }

    async fn send_parts(&mut self, raw: &mut Raw<MemStream>, n_most: usize) {
        for _ in 0..n_most {
            if self.rest.is_empty() {
                return;
            }
            let part = self.rest.split_to(self.rest.len().min(MAX_PAYLOAD));
            let more = if self.rest.is_empty() { 0 } else { frame_flag::MORE };
            raw.send(frame_type::PART, more, self.id, &part).await;
        }
    }
}

#[test]
fn a_message_that_has_begun_goes_on_in_a_buffer_that_comes_back() {
    alone(async {
        let store = Store::default();
        let limits = Limits::default().with_window(16 << 20);
        let node = Node::builder().listen("mem://goes-on").limits(limits).serve(store.clone());
        let _node = node.start().await.unwrap();
        let hello = hello("default", "raw", Role::Client, PeerLimits::default());
        let mut raw = Raw::connect_mem("goes-on", &hello).await;
        let mut first = Hold::open(&mut raw, 1).await;
        first.send_parts(&mut raw, usize::MAX).await;
        store.runs.reaches(1).await;
        // The second begins while the buffer of the first is in use.
        let mut second = Hold::open(&mut raw, 2).await;
        second.send_parts(&mut raw, 8).await;
        raw.send(frame_type::PING, 0, 1, &[]).await;
        raw.frame_of(frame_type::PONG).await;
        store.go_on.add();
        raw.frame_of(frame_type::RESPONSE).await;
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        second.send_parts(&mut raw, usize::MAX).await;
        raw.frame_of(frame_type::RESPONSE).await;
        let more = HEAP.peak_usage().saturating_sub(before);
        assert!(more < BESIDE, "{more} bytes more");
    });
}
