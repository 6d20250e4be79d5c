//! Plain methods run on threads, as many at once as the node allows; and who waits for a nested call holds none.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{Counter, until, until_quiet, within};
use rmi::{CallContext, Kind, Limits, Node, Peer, rmi_node};

/// A door for threads.
#[derive(Default)]
struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap();
        }
    }
}

#[derive(Clone, Default)]
struct Pooled {
    door: Arc<Door>,
    /// Methods that have begun; that run now; the most that ever ran at once.
    begun: Counter,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Pooled {
    fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        let n = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(n, Ordering::SeqCst);
        self.begun.add();
        let result = f();
        self.running.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

#[rmi_node]
impl Pooled {
    fn block(&self) {
        self.run(|| self.door.pass());
    }

    #[rmi(cpu)]
    fn compute(&self) {
        self.run(|| self.door.pass());
    }

    async fn quick(&self) -> u8 {
        1
    }

    fn quick_blocking(&self) -> u8 {
        self.run(|| 1)
    }

    fn panic(&self) -> u8 {
        panic!("on purpose")
    }

    fn nested(&self, caller: &Peer, depth: u32) -> rmi::Result<u32> {
        self.begun.add();
        match depth {
            0 => Ok(0),
            _ => Ok(PooledStub::new(caller).nested(depth - 1).wait()? + 1),
        }
    }

    #[rmi(cpu)]
    fn nested_cpu(&self, caller: &Peer, depth: u32) -> rmi::Result<u32> {
        match depth {
            0 => Ok(0),
            _ => Ok(PooledStub::new(caller).nested_cpu(depth - 1).wait()? + 1),
        }
    }

    fn nested_itself(&self, node: &Node, depth: u32) -> rmi::Result<u32> {
        match depth {
            0 => Ok(0),
            _ => Ok(PooledStub::new(node.peer(node.name()).wait()?).nested_itself(depth - 1).wait()? + 1),
        }
    }

    /// Waits for peers, not for a call.
    fn look_up(&self, node: &Node, name: &str) -> rmi::Result<String> {
        let peer = node.peer(name).wait()?;
        node.peers().wait_for(|_| true).wait()?;
        peer.ping().wait()?;
        Ok(peer.name().to_owned())
    }

    /// Waits for a call, and is cancelled meanwhile.
    fn wait_for_ever(&self, caller: &Peer, context: &CallContext) -> Option<bool> {
        self.begun.add();
        let error = PooledStub::new(caller).never().wait().err()?;
        Some(error.kind() == Kind::Cancelled && context.is_cancelled())
    }

    async fn never(&self) {
        self.begun.add();
        std::future::pending().await
    }
}

async fn pair(limits: Limits) -> (Node, Pooled, Node, Pooled, PooledStub) {
    let (of_server, of_client) = (Pooled::default(), Pooled::default());
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(limits.clone());
    let server = server.serve(of_server.clone()).start().await.unwrap();
    let client = Node::builder().name("client").seeds(server.addresses()).limits(limits).serve(of_client.clone());
    let client = client.start().await.unwrap();
    let stub = PooledStub::new(client.peer("server").await.unwrap());
    (server, of_server, client, of_client, stub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_plain_methods_run_at_once() {
    within(async {
        let (server, pooled, client, _, stub) = pair(Limits::default()).await;
        let calls: Vec<_> = (0..100).map(|_| stub.block().send()).collect();
        pooled.begun.reaches(64).await;
        // Whoever had been started beyond the limit would run by the time of these answers.
        for _ in 0..100 {
            assert_eq!(stub.quick().await.unwrap(), 1);
        }
        assert_eq!((pooled.begun.get(), pooled.most.load(Ordering::SeqCst)), (64, 64));
        pooled.door.open();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!((pooled.begun.get(), pooled.most.load(Ordering::SeqCst)), (100, 64));
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_are_those_of_the_node() {
    within(async {
        let limits = Limits::default().with_blocking_threads(3).with_compute_threads(2);
        let (server, pooled, client, _, stub) = pair(limits).await;
        let computing: Vec<_> = (0..10).map(|_| stub.compute().send()).collect();
        pooled.begun.reaches(2).await;
        for _ in 0..100 {
            stub.quick().await.unwrap();
        }
        assert_eq!(pooled.begun.get(), 2);
        // The pools are apart.
        let blocking: Vec<_> = (0..10).map(|_| stub.block().send()).collect();
        pooled.begun.reaches(5).await;
        for _ in 0..100 {
            stub.quick().await.unwrap();
        }
        assert_eq!(pooled.begun.get(), 5);
        pooled.door.open();
        for call in computing.into_iter().chain(blocking) {
            call.await.unwrap();
        }
        assert!(pooled.most.load(Ordering::SeqCst) <= 5);
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_the_node_itself_are_within_its_limits() {
    within(async {
        let pooled = Pooled::default();
        let node = Node::builder().name("alone").limits(Limits::default().with_blocking_threads(2));
        let node = node.serve(pooled.clone()).start().await.unwrap();
        let stub = PooledStub::new(node.peer("alone").await.unwrap());
        let calls: Vec<_> = (0..6).map(|_| stub.block().send()).collect();
        pooled.begun.reaches(2).await;
        for _ in 0..100 {
            stub.quick().await.unwrap();
        }
        assert_eq!(pooled.begun.get(), 2);
        pooled.door.open();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(pooled.most.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_waits_do_not_lock_up_on_one_thread() {
    within(async {
        let limits = Limits::default().with_blocking_threads(1).with_compute_threads(1);
        let (server, _, client, _, stub) = pair(limits).await;
        assert_eq!(stub.nested(20).await.unwrap(), 20);
        assert_eq!(stub.nested_cpu(20).await.unwrap(), 20);
        assert_eq!(stub.nested_itself(20).await.unwrap(), 20);
        let back = PooledStub::new(server.peer("client").await.unwrap());
        let calls: Vec<_> = (0..20).flat_map(|_| [stub.nested(6).send(), back.nested(6).send()]).collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), 6);
        }
        assert_eq!(stub.look_up("client").await.unwrap(), "client");
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_plain_methods_that_wait_for_calls_there_are_no_more_than_may_be() {
    within(async {
        let limits = Limits::default().with_blocking_threads(1).with_waiting_threads(3);
        let (server, _, client, of_client, stub) = pair(limits).await;
        let mut waiting = Vec::new();
        for n in 1..=3 {
            waiting.push(stub.wait_for_ever().send());
            of_client.begun.reaches(n).await;
        }
        // The call that one more makes is refused; the method itself runs on.
        for _ in 0..10 {
            assert_eq!(stub.wait_for_ever().await.unwrap(), Some(false));
            assert_eq!(stub.nested(1).await.unwrap_err().kind(), Kind::Raised);
        }
        assert_eq!(of_client.begun.get(), 3);
        assert_eq!(stub.quick_blocking().await.unwrap(), 1);
        // A wait that has ended makes room for another.
        drop(waiting.pop());
        until("one waits no more", || server.snapshot().connections[0].running_calls == 2).await;
        let another = stub.wait_for_ever().send();
        of_client.begun.reaches(4).await;
        drop((waiting, another));
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_comes_back_from_a_panic_and_from_a_cancelled_wait() {
    within(async {
        let limits = Limits::default().with_blocking_threads(1);
        let (server, pooled, client, of_client, stub) = pair(limits).await;
        for _ in 0..10 {
            assert_eq!(stub.panic().await.unwrap_err().kind(), Kind::Panicked);
        }
        assert_eq!(stub.quick_blocking().await.unwrap(), 1);
        for n in 1..=10 {
            let call = stub.wait_for_ever().send();
            of_client.begun.reaches(n).await;
            drop(call);
        }
        assert_eq!(stub.quick_blocking().await.unwrap(), 1);
        assert_eq!(pooled.begun.get(), 12);
        // The deadline ends the method's own wait too: seldom its answer is here before the caller has given up.
        match stub.wait_for_ever().with_timeout(Duration::from_millis(50)).await {
            Err(error) => assert_eq!(error.kind(), Kind::Timeout),
            Ok(was_cancelled) => assert_eq!(was_cancelled, Some(false)),
        }
        assert_eq!(stub.quick_blocking().await.unwrap(), 1);
        until_quiet(&[&server, &client]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_for_a_thread_can_be_cancelled() {
    within(async {
        let limits = Limits::default().with_blocking_threads(1);
        let (server, pooled, client, _, stub) = pair(limits).await;
        let first = stub.block().send();
        pooled.begun.reaches(1).await;
        let waiting: Vec<_> = (0..50).map(|_| stub.block().send()).collect();
        let last = stub.quick_blocking().send();
        let error = stub.block().with_timeout(Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        drop(waiting);
        stub.quick().await.unwrap();
        pooled.door.open();
        first.await.unwrap();
        assert_eq!(last.await.unwrap(), 1);
        until_quiet(&[&server, &client]).await;
        assert_eq!(pooled.begun.get(), 2, "a cancelled call ran");
    })
    .await;
}
