//! A call that nobody waits for any more ends, and with it what it called in turn; and nothing is left behind.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Counter, only_link, until, until_quiet, within};
use rmi::{Blob, CallContext, Class, Kind, Node, args, inherit, rmi_node};
use tokio::sync::Semaphore;

/// Waits, or has others wait.
#[derive(Clone)]
struct Waiter {
    /// Methods that have begun, were dropped or cancelled before their end, and have come to it.
    begun: Counter,
    dropped: Counter,
    ended: Counter,
    gate: Arc<Semaphore>,
    /// Milliseconds that a method had left.
    left: Arc<AtomicU64>,
}

impl Default for Waiter {
    fn default() -> Self {
        Self {
            begun: Counter::default(),
            dropped: Counter::default(),
            ended: Counter::default(),
            gate: Arc::new(Semaphore::new(0)),
            left: Arc::default(),
        }
    }
}

#[rmi_node]
impl Waiter {
    async fn wait(&self) -> bool {
        let _on_drop = self.dropped.on_drop();
        self.begun.add();
        let opened = self.gate.acquire().await.is_ok();
        self.ended.add();
        opened
    }

    #[rmi(spawn)]
    async fn wait_spawned(&self) -> bool {
        self.wait().await
    }

    #[rmi(no_cancel)]
    async fn wait_to_the_end(&self) -> bool {
        self.wait().await
    }

    #[rmi(timeout = "50ms")]
    async fn wait_shortly(&self) -> bool {
        self.wait().await
    }

    /// Waits on the nodes of the path, one behind the other.
    async fn wait_far(&self, node: &Node, path: Vec<String>) -> rmi::Result<bool> {
        let _on_drop = self.dropped.on_drop();
        self.begun.add();
        let [next, rest @ ..] = &path[..] else { return Ok(self.wait().await) };
        let next = WaiterStub::new(&node.peer(next.as_str()).await?);
        let opened = next.wait_far(rest.to_vec()).await?;
        self.ended.add();
        Ok(opened)
    }

    /// The same on plain threads.
    fn wait_far_blocking(&self, node: &Node, path: Vec<String>) -> rmi::Result<bool> {
        let _on_drop = self.dropped.on_drop();
        self.begun.add();
        match &path[..] {
            [] => {
                let peer = node.peer(node.name()).wait()?;
                Ok(WaiterStub::new(&peer).wait().wait()?)
            }
            [next, rest @ ..] => {
                let next = WaiterStub::new(&node.peer(next.as_str()).wait()?);
                Ok(next.wait_far_blocking(rest.to_vec()).wait()?)
            }
        }
    }

    /// Looks until it is cancelled.
    fn look(&self, context: &CallContext) -> bool {
        self.begun.add();
        while !context.is_cancelled() {
            std::thread::yield_now();
        }
        self.dropped.add();
        true
    }

    #[rmi(cpu)]
    fn compute(&self, context: &CallContext) -> bool {
        self.look(context)
    }

    async fn left(&self, context: &CallContext) -> Option<Duration> {
        context.remaining()
    }

    async fn left_far(&self, node: &Node, to: &str, longer: bool) -> rmi::Result<Option<Duration>> {
        let stub = WaiterStub::new(&node.peer(to).await?);
        let call = stub.left();
        Ok(if longer { call.with_timeout(Duration::from_secs(1000)) } else { call }.await?)
    }

    fn left_far_blocking(&self, node: &Node, to: &str) -> rmi::Result<Option<Duration>> {
        Ok(WaiterStub::new(&node.peer(to).wait()?).left().wait()?)
    }

    async fn left_spawned(&self, node: &Node, to: &str, inherits: bool) -> rmi::Result<Option<Duration>> {
        let call = WaiterStub::new(&node.peer(to).await?).left();
        let task = async move { call.await.ok().flatten() };
        Ok(if inherits { tokio::spawn(inherit(task)) } else { tokio::spawn(task) }.await?)
    }

    async fn quick(&self) -> u8 {
        self.left.fetch_add(1, Ordering::SeqCst);
        1
    }

    async fn size(&self, blob: Blob) -> usize {
        self.begun.add();
        blob.len()
    }

    async fn large(&self, len: usize) -> Blob {
        self.begun.add();
        Blob::from(vec![0; len])
    }
}

/// Nodes that know each other, each with its waiter.
async fn nodes(names: &[&str]) -> (Vec<Node>, Vec<Waiter>) {
    let (mut nodes, mut waiters): (Vec<Node>, Vec<Waiter>) = (Vec::new(), Vec::new());
    for name in names {
        let waiter = Waiter::default();
        let seeds = nodes.first().map(Node::addresses).unwrap_or_default();
        let node = Node::builder().name(*name).listen("tcp://127.0.0.1:0").seeds(seeds).serve(waiter.clone());
        nodes.push(node.start().await.unwrap());
        waiters.push(waiter);
    }
    for node in &nodes {
        node.peers()
            .wait_for({
                let n = names.len() - 1;
                move |peers| peers.connected() == n
            })
            .await
            .unwrap();
    }
    (nodes, waiters)
}

async fn stub(node: &Node, name: &str) -> WaiterStub {
    WaiterStub::new(node.peer(name).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_future_drops_the_method() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let (b, waiter) = (stub(&nodes[0], "b").await, &waiters[1]);
        let link = only_link(&nodes[0]);
        for (n, call) in [b.wait(), b.wait_spawned()].into_iter().enumerate() {
            let call = tokio::spawn(call.into_future());
            waiter.begun.reaches(n + 1).await;
            call.abort();
            waiter.dropped.reaches(n + 1).await;
        }
        assert_eq!(waiter.ended.get(), 0);
        until_quiet(&[&nodes[0], &nodes[1]]).await;
        assert_eq!(only_link(&nodes[0]), link);
        assert_eq!(b.quick().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_goes_down_the_tree() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b", "c", "d"]).await;
        let b = stub(&nodes[0], "b").await;
        let call = b.wait_far(vec!["c".into(), "d".into()]).send();
        waiters[3].begun.reaches(1).await;
        drop(call);
        for waiter in &waiters[1..] {
            waiter.dropped.reaches(1).await;
            assert_eq!(waiter.ended.get(), 0);
        }
        until_quiet(&nodes.iter().collect::<Vec<_>>()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_goes_down_a_tree_of_blocking_methods() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b", "c"]).await;
        let b = stub(&nodes[0], "b").await;
        let call = b.wait_far_blocking(vec!["c".into()]).send();
        waiters[2].begun.reaches(2).await;
        drop(call);
        waiters[1].dropped.reaches(1).await;
        waiters[2].dropped.reaches(2).await;
        until_quiet(&nodes.iter().collect::<Vec<_>>()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_goes_down_when_the_connection_is_lost() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b", "c"]).await;
        let call = stub(&nodes[0], "b").await.wait_far(vec!["c".into()]).send();
        waiters[2].begun.reaches(1).await;
        nodes[0].peer("b").await.unwrap().disconnect();
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
        waiters[1].dropped.reaches(1).await;
        waiters[2].dropped.reaches(1).await;
        until_quiet(&nodes.iter().collect::<Vec<_>>()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cancel_lets_a_method_run_to_its_end() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let (b, waiter) = (stub(&nodes[0], "b").await, &waiters[1]);
        let limit = Duration::from_millis(20);
        drop_after(&waiter.begun, 1, b.wait_to_the_end().send()).await;
        drop_after(&waiter.begun, 2, b.wait().no_cancel().send()).await;
        for call in [b.wait_to_the_end().with_timeout(limit), b.wait().no_cancel().with_timeout(limit)] {
            let error = call.await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::MaybeExecuted));
        }
        assert_eq!(waiter.dropped.get(), 0);
        waiter.begun.reaches(4).await;
        waiter.gate.add_permits(1);
        waiter.ended.reaches(4).await;
        until_quiet(&[&nodes[0], &nodes[1]]).await;
    })
    .await;
}

async fn drop_after<T>(begun: &Counter, n: usize, call: T) {
    begun.reaches(n).await;
    drop(call);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_ends_the_call_and_the_method() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let (b, waiter) = (stub(&nodes[0], "b").await, &waiters[1]);
        let begun = Instant::now();
        let calls = [
            b.wait().with_timeout(Duration::from_millis(50)),
            b.wait().with_deadline(begun + Duration::from_millis(50)),
            b.wait_shortly(),
            b.wait_shortly().with_timeout(Duration::from_millis(60)),
        ];
        for (n, call) in calls.into_iter().enumerate() {
            let error = call.await.unwrap_err();
            // `with_deadline` is over when its turn comes.
            match n {
                1 => assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::NotExecuted), "{error:?}"),
                _ => assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::MaybeExecuted), "{error:?}"),
            }
        }
        assert!(begun.elapsed() >= Duration::from_millis(150));
        waiter.dropped.reaches(3).await;
        assert_eq!(waiter.ended.get(), 0);
        until_quiet(&[&nodes[0], &nodes[1]]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeout_of_the_node_is_for_calls_without_one() {
    within(async {
        let waiter = Waiter::default();
        let b = Node::builder().name("b").listen("tcp://127.0.0.1:0").serve(waiter.clone()).start().await.unwrap();
        let a = Node::builder().name("a").seeds(b.addresses()).default_timeout(Duration::from_millis(50));
        let a = a.start().await.unwrap();
        let stub = stub(&a, "b").await;
        let error = stub.wait().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        let call = stub.wait().with_timeout(Duration::from_secs(20)).send();
        waiter.begun.reaches(2).await;
        let left = stub.left().with_timeout(Duration::from_secs(20)).await.unwrap().unwrap();
        assert!(left > Duration::from_secs(1), "{left:?}");
        waiter.gate.add_permits(1);
        assert!(call.await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_calls_inherit_what_is_left() {
    within(async {
        let (nodes, _) = nodes(&["a", "b", "c"]).await;
        let b = stub(&nodes[0], "b").await;
        let limit = Duration::from_secs(20);
        let at_most = |left: Option<Duration>| left.is_some_and(|left| left <= limit && left > limit / 2);
        for longer in [false, true] {
            let left = b.left_far("c", longer).with_timeout(limit).await.unwrap();
            assert!(at_most(left), "{left:?}");
        }
        assert_eq!(b.left_far("c", false).await.unwrap(), None);
        let left = b.left_far("b", false).with_timeout(limit).await.unwrap();
        assert!(at_most(left), "a call of the node itself: {left:?}");
        let left = b.left_far_blocking("c").with_timeout(limit).await.unwrap();
        assert!(at_most(left), "{left:?}");
        let left = b.left_spawned("c", true).with_timeout(limit).await.unwrap();
        assert!(at_most(left), "{left:?}");
        assert_eq!(b.left_spawned("c", false).with_timeout(limit).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_goes_down_the_tree() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b", "c", "d"]).await;
        let b = stub(&nodes[0], "b").await;
        let error =
            b.wait_far(vec!["c".into(), "d".into()]).with_timeout(Duration::from_millis(200)).await.unwrap_err();
        // Where this side is late to look at its clock, the method can be here first with the end of its own call.
        let is_timeout = (error.kind(), error.class()) == (Kind::Timeout, Class::MaybeExecuted);
        let is_theirs = error.kind() == Kind::Raised && format!("{error:?}").contains("no answer came in time");
        assert!(is_timeout || is_theirs, "{error:?}");
        for waiter in &waiters[1..] {
            waiter.dropped.reaches(1).await;
            assert_eq!(waiter.ended.get(), 0);
        }
        until_quiet(&nodes.iter().collect::<Vec<_>>()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_methods_see_that_they_are_cancelled() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let (b, waiter) = (stub(&nodes[0], "b").await, &waiters[1]);
        let mut n = 0;
        for call in [b.look(), b.compute()] {
            n += 1;
            let call = call.send();
            waiter.begun.reaches(n).await;
            // Its permit lives as long as the method.
            until("the method is counted", || nodes[1].snapshot().connections[0].running_calls == 1).await;
            drop(call);
            waiter.dropped.reaches(n).await;
        }
        for call in [b.look(), b.compute()] {
            n += 1;
            let error = call.with_timeout(Duration::from_millis(30)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            waiter.dropped.reaches(n).await;
        }
        until_quiet(&[&nodes[0], &nodes[1]]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_that_is_dropped_on_its_way_does_not_run() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let (b, waiter) = (stub(&nodes[0], "b").await, &waiters[1]);
        let link = only_link(&nodes[0]);
        for _ in 0..20 {
            drop(b.size(Blob::from(vec![0; 4 << 20])).send());
            drop(b.large(4 << 20).send());
        }
        assert_eq!(b.size(Blob::from(vec![0; 4 << 20])).await.unwrap(), 4 << 20);
        assert_eq!(b.large(4 << 20).await.unwrap().len(), 4 << 20);
        until_quiet(&[&nodes[0], &nodes[1]]).await;
        assert_eq!(only_link(&nodes[0]), link);
        assert!(waiter.begun.get() < 42, "{}", waiter.begun.get());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_ten_thousand_calls_that_were_dropped_anywhere() {
    within(async {
        let (nodes, waiters) = nodes(&["a", "b"]).await;
        let b = stub(&nodes[0], "b").await;
        let link = only_link(&nodes[0]);
        let mut tasks = tokio::task::JoinSet::new();
        for t in 0..4u64 {
            let b = b.clone();
            tasks.spawn(async move {
                for n in 0..2500u64 {
                    let mut call = match n % 3 {
                        0 => b.wait(),
                        1 => b.wait().with_timeout(Duration::from_secs(3600)),
                        _ => b.wait_spawned(),
                    }
                    .into_future();
                    for _ in 0..(n * 7 + t) % 4 {
                        let polled = std::future::poll_fn(|cx| {
                            std::task::Poll::Ready(std::pin::Pin::new(&mut call).poll(cx).is_ready())
                        });
                        assert!(!polled.await);
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        until_quiet(&[&nodes[0], &nodes[1]]).await;
        assert_eq!((only_link(&nodes[0]), waiters[1].ended.get()), (link, 0));
        assert_eq!(waiters[1].begun.get(), waiters[1].dropped.get());
        assert_eq!(b.quick().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_the_node_itself_is_cancelled_and_timed_out_as_well() {
    within(async {
        let (nodes, waiters) = nodes(&["a"]).await;
        let (itself, waiter) = (stub(&nodes[0], "a").await, &waiters[0]);
        let call = tokio::spawn(itself.wait().into_future());
        waiter.begun.reaches(1).await;
        call.abort();
        waiter.dropped.reaches(1).await;
        let error = itself.wait().with_timeout(Duration::from_millis(30)).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Timeout, Class::MaybeExecuted));
        waiter.dropped.reaches(2).await;
        let call = tokio::spawn(itself.look().into_future());
        waiter.begun.reaches(3).await;
        call.abort();
        waiter.dropped.reaches(3).await;
        let error = itself.look().with_timeout(Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        waiter.dropped.reaches(4).await;
        // `send()` starts it, though nobody polls.
        let call = nodes[0].peer("a").await.unwrap().invoke::<u8>("Waiter.quick", args![]).send();
        until("it has run", || waiter.left.load(Ordering::SeqCst) == 1).await;
        assert_eq!(call.await.unwrap(), 1);
    })
    .await;
}

#[derive(Clone)]
struct Stubborn {
    begun: Counter,
    gate: Arc<std::sync::Barrier>,
}

#[rmi_node]
impl Stubborn {
    /// Cannot be cancelled: it does not look.
    fn hold(&self) {
        self.begun.add();
        self.gate.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_method_that_was_cancelled_has_its_place_until_it_ends() {
    within(async {
        let stubborn = Stubborn { begun: Counter::default(), gate: Arc::new(std::sync::Barrier::new(2)) };
        let limits = rmi::Limits::default().with_calls_per_peer(1);
        let b = Node::builder().name("b").listen("tcp://127.0.0.1:0").limits(limits).serve(stubborn.clone());
        let b = b.start().await.unwrap();
        let a = Node::builder().name("a").seeds(b.addresses()).start().await.unwrap();
        let stub = StubbornStub::new(a.peer("b").await.unwrap());
        let call = stub.hold().send();
        stubborn.begun.reaches(1).await;
        drop(call);
        // The cancel is before this one.
        let error = stub.hold().await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Busy, Class::NotExecuted), "{error:?}");
        let gate = Arc::clone(&stubborn.gate);
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        until_quiet(&[&a, &b]).await;
        assert_eq!(stubborn.begun.get(), 1);
    })
    .await;
}
