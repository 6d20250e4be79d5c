//! `node.snapshot()` shows what is under way, and nothing of what has ended.

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rmi::{ConnectionSnapshot, Limits, Node, Snapshot, rmi_node};
use tokio::sync::Semaphore;

use common::{until, within};

/// Methods that end when the test lets them.
struct Gate {
    open: Arc<Semaphore>,
    unblock: std::sync::Mutex<Receiver<()>>,
}

#[rmi_node]
impl Gate {
    async fn pass(&self, bytes: Vec<u8>) -> usize {
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
        bytes.len()
    }

    fn block(&self) {
        if let Ok(unblock) = self.unblock.lock() {
            let _ = unblock.recv();
        }
    }
}

fn only(snapshot: &Snapshot) -> &ConnectionSnapshot {
    assert_eq!(snapshot.connections.len(), 1, "{snapshot:?}");
    &snapshot.connections[0]
}

/// Whether nothing is under way.
fn is_quiet(node: &Node) -> bool {
    let seen = node.snapshot();
    let link = only(&seen);
    let calls = (link.pending_calls, link.waiting_calls, link.running_calls, link.methods.len());
    let threads = (seen.blocking_threads, seen.compute_threads, seen.waiting_threads);
    (calls, link.memory, link.queued_bytes) == ((0, 0, 0, 0), 0, 0)
        && (seen.running_calls, seen.memory, threads) == (0, 0, (0, 0, 0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_shows_what_is_under_way_and_nothing_else() {
    within(async {
        let (open, (release, unblock)) = (Arc::new(Semaphore::new(0)), channel());
        let gate = Gate { open: Arc::clone(&open), unblock: unblock.into() };
        let limits = Limits::default().with_calls_per_peer(2);
        let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(limits).serve(gate);
        let server = server.start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
        let stub = GateStub::new(client.peer("server").await.unwrap());

        let pass = stub.pass(vec![7; 10_000]).with_timeout(Duration::from_secs(600)).send();
        until("the first runs", || server.snapshot().running_calls == 1).await;
        let block = stub.block().send();
        until("both run", || server.snapshot().blocking_threads == 1).await;
        // There is no place for the third, which waits for one.
        let third = tokio::spawn(stub.pass(Vec::new()).into_future());
        until("the third waits", || only(&client.snapshot()).waiting_calls == 1).await;

        let seen = server.snapshot();
        let link = only(&seen);
        assert_eq!((seen.running_calls, link.running_calls), (2, 2), "{seen:?}");
        assert_eq!((seen.compute_threads, seen.waiting_threads), (0, 0), "{seen:?}");
        assert!(seen.memory >= 10_000 && link.memory == seen.memory, "{seen:?}");
        let names: Vec<_> = link.methods.iter().map(|m| (m.method.as_str(), m.caller.as_str())).collect();
        assert_eq!(names, [("Gate.pass", "client"), ("Gate.block", "client")], "{seen:?}");
        let (pass_seen, block_seen) = (&link.methods[0], &link.methods[1]);
        let remaining = pass_seen.remaining.expect("it has a deadline");
        assert!(remaining > Duration::from_secs(500) && remaining <= Duration::from_secs(600), "{seen:?}");
        assert!(block_seen.remaining.is_none() && block_seen.age <= pass_seen.age, "{seen:?}");
        let age = pass_seen.age;
        until("it grows older", || only(&server.snapshot()).methods[0].age > age).await;
        let seen = client.snapshot();
        assert_eq!((only(&seen).pending_calls, only(&seen).methods.len(), seen.running_calls), (2, 0, 0), "{seen:?}");

        open.add_permits(2);
        assert_eq!(pass.await.unwrap(), 10_000);
        assert_eq!(third.await.unwrap().unwrap(), 0);
        // A method that was cancelled and cannot be dropped runs on, though nobody wants its answer.
        drop(block);
        until("it was cancelled", || only(&server.snapshot()).methods.is_empty()).await;
        let seen = server.snapshot();
        assert_eq!((seen.blocking_threads, seen.running_calls, only(&seen).running_calls), (1, 1, 1), "{seen:?}");

        release.send(()).unwrap();
        for node in [&server, &client] {
            until("nothing is left", || is_quiet(node)).await;
        }
    })
    .await;
}
