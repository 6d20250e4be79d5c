//! A method that has shown to be quick runs where its request is read. That must not be seen but in speed: whatever it
//! does when it stops being quick is what it would be in a task of its own.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Counter, until_quiet, within};
use rmi::{Kind, Limits, Node, Peer, args, rmi_node};
use tokio::sync::Notify;

#[derive(Clone, Default)]
struct Quick {
    began: Counter,
    go_on: Arc<Notify>,
    dropped: Counter,
}

#[rmi_node]
impl Quick {
    /// Does as it is told, and says in which task: 0 for none.
    async fn act(&self, caller: &Peer, what: &str) -> rmi::Result<u64> {
        let task = tokio::task::try_id().map_or(0, |id| id.to_string().parse().unwrap_or(0));
        match what {
            "panic" => panic!("as told"),
            "panic in drop" => {
                struct Panics;
                impl Drop for Panics {
                    fn drop(&mut self) {
                        panic!("as told, in a drop");
                    }
                }
                let _panics = Panics;
                Ok(task)
            }
            "raise" => Err(rmi::Failure::msg("as told")),
            "wait" => {
                let _dropped = self.dropped.on_drop();
                self.began.add();
                self.go_on.notified().await;
                Ok(task)
            }
            "call back" => Ok(caller.invoke("Quick.one", args![]).await?),
            "block" => {
                std::thread::sleep(Duration::from_millis(20));
                Ok(task)
            }
            _ => Ok(task),
        }
    }

    async fn one(&self) -> u64 {
        1
    }

    #[rmi(spawn)]
    async fn apart(&self) -> u64 {
        tokio::task::try_id().map_or(0, |id| id.to_string().parse().unwrap_or(0))
    }
}

/// Runs one call at a time, each of which keeps its thread.
#[derive(Clone, Default)]
struct Serial {
    n_running: Arc<AtomicUsize>,
    began: Counter,
}

#[rmi_node(serial)]
impl Serial {
    async fn compute(&self) -> bool {
        let is_alone = self.n_running.fetch_add(1, Ordering::SeqCst) == 0;
        self.began.add();
        std::thread::sleep(Duration::from_millis(30));
        self.n_running.fetch_sub(1, Ordering::SeqCst);
        is_alone
    }
}

/// Two nodes; the method is known to be quick at the first.
async fn nodes(limits: Limits) -> (Node, Node, Peer, Quick) {
    let service = Quick::default();
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(limits).serve(service.clone());
    let server = server.start().await.unwrap();
    let client =
        Node::builder().name("client").seeds(server.addresses()).serve(Quick::default()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    become_quick(&peer).await;
    (server, client, peer, service)
}

/// Calls until two calls in a row have run in the same task: the reader's.
async fn become_quick(peer: &Peer) {
    let mut last = 0;
    within(async {
        loop {
            let task = act(peer, "").await.unwrap();
            if task == last {
                return;
            }
            last = task;
        }
    })
    .await;
}

fn act(peer: &Peer, what: &str) -> rmi::Invocation<u64> {
    peer.invoke("Quick.act", args![what])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_in_it_ends_that_one_call() {
    let (server, _client, peer, _) = nodes(Limits::default()).await;
    for _ in 0..3 {
        assert_eq!(act(&peer, "panic").await.unwrap_err().kind(), Kind::Panicked);
        become_quick(&peer).await;
        assert_eq!(act(&peer, "panic in drop").await.unwrap_err().kind(), Kind::Panicked);
        become_quick(&peer).await;
        let raised = act(&peer, "raise").await.unwrap_err();
        assert_eq!((raised.kind(), raised.to_string().contains("act")), (Kind::Raised, true));
        become_quick(&peer).await;
        let mistake = peer.invoke::<u64>("Quick.act", args![1]).await.unwrap_err();
        assert_eq!(mistake.kind(), Kind::BadArguments);
    }
    until_quiet(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_call_its_caller_back() {
    let (_server, _client, peer, _) = nodes(Limits::default()).await;
    let calls: Vec<_> = (0..64).map(|_| act(&peer, "call back").send()).collect();
    for call in calls {
        assert_eq!(within(call).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_cancelled_where_it_waits_and_counts_until_then() {
    let (server, _client, peer, service) = nodes(Limits::default().with_calls_per_peer(4)).await;
    let waiting: Vec<_> = (0..4).map(|_| act(&peer, "wait").send()).collect();
    service.began.reaches(4).await;
    // Each of them counts: there is no place for one more, at the caller and at the callee.
    let one_more = act(&peer, "").with_timeout(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!((one_more.kind(), one_more.class()), (Kind::Timeout, rmi::Class::NotExecuted));
    drop(waiting);
    service.dropped.reaches(4).await;
    until_quiet(&[&server]).await;
    let late = act(&peer, "wait").with_timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Timeout);
    service.dropped.reaches(5).await;
    let call = act(&peer, "wait").send();
    service.began.reaches(6).await;
    // Kept, if the method does not wait yet.
    service.go_on.notify_one();
    within(call).await.unwrap();
    until_quiet(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_blocks_it_holds_nothing_up() {
    let (_server, _client, peer, _) = nodes(Limits::default()).await;
    // 64 calls of 20 ms: one after the other they would take 1.3 s. Only the first one finds the reader's task.
    let begin = Instant::now();
    let blocking: Vec<_> = (0..64).map(|_| act(&peer, "block").send()).collect();
    within(peer.ping().into_future()).await.unwrap();
    let ping = begin.elapsed();
    for call in blocking {
        within(call).await.unwrap();
    }
    let all = begin.elapsed();
    assert!(ping * 3 < all, "a ping took {ping:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_to_be_a_task_is_one_however_quick_it_is() {
    let (_server, _client, peer, _) = nodes(Limits::default()).await;
    let mut last = 0;
    for _ in 0..100 {
        let task: u64 = peer.invoke("Quick.apart", args![]).await.unwrap();
        assert_ne!(task, last);
        last = task;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_computes_keeps_its_turn_until_it_has_ended_also_when_it_is_cancelled() {
    let service = Serial::default();
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(service.clone());
    let server = server.start().await.unwrap();
    let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    let stub = SerialStub::new(&peer);
    // It moves to the compute pool.
    for _ in 0..6 {
        assert!(within(stub.compute().into_future()).await.unwrap());
    }
    for n in 0..5 {
        let cancelled = stub.compute().send();
        service.began.reaches(7 + 2 * n).await;
        drop(cancelled);
        assert!(within(stub.compute().into_future()).await.unwrap(), "two ran at once");
    }
    until_quiet(&[&server]).await;
}
