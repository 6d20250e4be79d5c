//! What a call costs in allocations: none, neither where it is made nor where it runs.

use std::sync::mpsc;

use allocation_counter::{AllocationInfo, measure};
use rmi::{Node, Peer};
use rmi_benches::clock::StoppedClock;
use rmi_benches::service::{Bench, BenchStub};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const N_CALLS: u64 = 1000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn add(peer: &Peer, n_calls: u64, in_flight: usize) {
    let stub = BenchStub::new(peer);
    if in_flight == 1 {
        for _ in 0..n_calls {
            assert_eq!(stub.add(1, 2).await.unwrap(), 3);
        }
        return;
    }
    let mut calls = Vec::with_capacity(in_flight);
    for _ in 0..n_calls / in_flight as u64 {
        calls.extend((0..in_flight).map(|_| stub.add(1, 2).send()));
        for call in calls.drain(..) {
            assert_eq!(call.await.unwrap(), 3);
        }
    }
}

/// What the thread of the caller and that of the callee allocate for so many calls.
fn allocations(in_flight: usize) -> [AllocationInfo; 2] {
    let clock = StoppedClock::default();
    let (address, addresses) = mpsc::channel();
    let (begin, begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let seams = clock.seams();
    let callee = std::thread::spawn(move || {
        let runtime = runtime();
        let node = Node::builder().name("callee").listen("tcp://127.0.0.1:0").seams(seams).serve(Bench);
        let node = runtime.block_on(node.start().into_future()).unwrap();
        address.send(node.addresses()).unwrap();
        runtime.block_on(begun).unwrap();
        measure(|| runtime.block_on(ended).unwrap())
    });
    let runtime = runtime();
    let seeds = addresses.recv().unwrap();
    let node = Node::builder().name("caller").seams(clock.seams()).seeds(seeds);
    let node = runtime.block_on(node.start().into_future()).unwrap();
    let peer = runtime.block_on(node.peer("callee").into_future()).unwrap();
    clock.stop();
    // Buffers and tables take their size, and the method shows that it is quick.
    runtime.block_on(add(&peer, 4 * N_CALLS, in_flight));
    begin.send(()).unwrap();
    runtime.block_on(add(&peer, N_CALLS, in_flight));
    let caller = measure(|| runtime.block_on(add(&peer, N_CALLS, in_flight)));
    end.send(()).unwrap();
    [caller, callee.join().unwrap()]
}

#[test]
fn a_call_allocates_nothing_where_it_is_made_and_nothing_where_it_runs() {
    for in_flight in [1, 64] {
        let [caller, callee] = allocations(in_flight);
        println!("{in_flight} in flight: {} at the caller, {} at the callee", caller.count_total, callee.count_total);
        assert!(caller.count_total <= N_CALLS / 100, "the caller allocated {caller:?}");
        // It was measured over both rounds of calls.
        assert!(callee.count_total <= 2 * N_CALLS / 100, "the callee allocated {callee:?}");
    }
}
