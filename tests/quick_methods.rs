//! A method that has shown to be quick runs where its request is read, also after it has waited. That must not be seen but
//! in speed: whatever it does when it stops being quick is what it would be in a task of its own.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Counter, MemStream, Raw, rounds, until_quiet, virtually, within};
use rmi::{Kind, Limits, Node, Peer, Role, args, rmi_node};
use rmi_core::frame::{FrameHeader, frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use tokio::sync::Semaphore;

#[derive(Clone)]
struct Quick {
    began: Counter,
    /// Those that wait take one each.
    go_on: Arc<Semaphore>,
    dropped: Counter,
}

impl Default for Quick {
    fn default() -> Self {
        Self { began: Counter::default(), go_on: Arc::new(Semaphore::new(0)), dropped: Counter::default() }
    }
}

/// The task that runs: 0 for none.
fn task() -> u64 {
    tokio::task::try_id().map_or(0, |id| id.to_string().parse().unwrap_or(0))
}

/// As no method should that is polled where requests are read.
fn block_on_caller(caller: &Peer) -> rmi::Result<u64> {
    let call = caller.invoke("Quick.one", args![]).into_future();
    Ok(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(call))?)
}

impl Quick {
    async fn wait(&self) {
        self.began.add();
        self.go_on.acquire().await.unwrap().forget();
    }
}

#[rmi_node]
impl Quick {
    /// Does as it is told, and says in which task it ends.
    async fn act(&self, caller: &Peer, what: &str) -> rmi::Result<u64> {
        let _dropped = self.dropped.on_drop();
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
                Ok(task())
            }
            "raise" => Err(rmi::Failure::msg("as told")),
            "wait" => {
                self.wait().await;
                Ok(task())
            }
            "wait and panic" => {
                self.wait().await;
                panic!("as told")
            }
            "wait and block" => {
                self.wait().await;
                std::thread::sleep(Duration::from_millis(20));
                Ok(task())
            }
            "wake itself" => {
                self.began.add();
                std::future::poll_fn(|context| {
                    context.waker().wake_by_ref();
                    Poll::<()>::Pending
                })
                .await;
                Ok(0)
            }
            "never be out of work" => {
                self.began.add();
                loop {
                    // Ready at once, until the task has used up what it may do in one go.
                    tokio::task::coop::consume_budget().await;
                }
            }
            "call back with 6 KiB" => Ok(caller.invoke("Quick.len", args!["x".repeat(6 << 10)]).await?),
            "wait and block on its caller" => {
                self.wait().await;
                block_on_caller(caller)
            }
            "call back" => Ok(caller.invoke("Quick.one", args![]).await?),
            "block" => {
                std::thread::sleep(Duration::from_millis(20));
                Ok(task())
            }
            _ => Ok(task()),
        }
    }

    /// Goes on when its caller is gone.
    #[rmi(no_cancel)]
    async fn to_the_end(&self, waits: bool) -> u64 {
        if waits {
            self.wait().await;
            self.dropped.add();
        }
        task()
    }

    async fn one(&self) -> u64 {
        1
    }

    async fn len(&self, text: &str) -> u64 {
        text.len() as u64
    }

    #[rmi(spawn)]
    async fn apart(&self) -> u64 {
        task()
    }

    #[rmi(spawn)]
    async fn apart_and_blocking(&self, caller: &Peer) -> rmi::Result<u64> {
        block_on_caller(caller)
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
    nodes_at("tcp://127.0.0.1:0", limits).await
}

async fn nodes_at(address: &str, limits: Limits) -> (Node, Node, Peer, Quick) {
    let service = Quick::default();
    let server = Node::builder().name("server").listen(address).limits(limits).serve(service.clone());
    let server = server.start().await.unwrap();
    let client =
        Node::builder().name("client").seeds(server.addresses()).serve(Quick::default()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    become_quick(&peer).await;
    (server, client, peer, service)
}

/// A node at `mem://name`, and a peer of it that has made 20 calls: the method is known to be quick.
async fn node_and_raw(name: &str, limits: Limits) -> (Node, Raw<MemStream>, Quick) {
    let service = Quick::default();
    let server = Node::builder().name("server").listen(format!("mem://{name}")).limits(limits).serve(service.clone());
    let server = server.start().await.unwrap();
    let hello = common::hello("default", "raw", Role::Client, PeerLimits::default());
    let mut raw = Raw::connect_mem(name, &hello).await;
    for id in 1..=20 {
        raw.send(frame_type::REQUEST, 0, id, &request("")).await;
        raw.frame_of(frame_type::RESPONSE).await;
    }
    (server, raw, service)
}

/// Calls until two calls in a row have run in the same task: the reader's, which it gives back.
async fn become_quick(peer: &Peer) -> u64 {
    until_same(|| act(peer, "")).await
}

async fn until_same(call: impl Fn() -> rmi::Invocation<u64>) -> u64 {
    let mut last = 0;
    within(async {
        loop {
            let task = call().await.unwrap();
            if task == last {
                return task;
            }
            last = task;
        }
    })
    .await
}

/// So many calls that are under way, and have begun.
async fn under_way(peer: &Peer, service: &Quick, what: &str, n: usize) -> Vec<rmi::InvocationFuture<u64>> {
    let n_before = service.began.get();
    let calls = (0..n).map(|_| act(peer, what).send()).collect();
    within(service.began.reaches(n_before + n)).await;
    calls
}

async fn all_answered(calls: Vec<rmi::InvocationFuture<u64>>) {
    for call in calls {
        within(call).await.unwrap();
    }
}

fn act(peer: &Peer, what: &str) -> rmi::Invocation<u64> {
    peer.invoke("Quick.act", args![what])
}

/// The same as it travels.
fn request(what: &str) -> Vec<u8> {
    [&[0x92, 0xa9][..], b"Quick.act", &[0x91, 0xa0 | what.len() as u8], what.as_bytes()].concat()
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
    let n_dropped = service.dropped.get();
    drop(waiting);
    within(service.dropped.reaches(n_dropped + 4)).await;
    until_quiet(&[&server]).await;
    let late = act(&peer, "wait").with_timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Timeout);
    within(service.dropped.reaches(n_dropped + 5)).await;
    let calls = under_way(&peer, &service, "wait", 1).await;
    service.go_on.add_permits(1);
    all_answered(calls).await;
    until_quiet(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_one_way_or_late_gets_no_value() {
    let (_server, mut raw, _) = node_and_raw("quick-and-late", Limits::default()).await;
    // The arguments are followed by keywords, the time that is left, and flags.
    let with = |options: &[u8], what: &str| {
        let mut request = request(what);
        request[0] += options.len() as u8;
        [&request[..], options].concat()
    };
    for id in [21, 23] {
        raw.send(frame_type::REQUEST, 0, id, &with(&[0xc0, 0xc0, 1], "")).await;
        raw.send(frame_type::REQUEST, 0, id + 1, &request("")).await;
        assert_eq!(raw.frame_of(frame_type::RESPONSE).await.0.id, id + 1);
    }
    raw.send(frame_type::REQUEST, 0, 25, &with(&[0xc0, 5], "block")).await;
    let (header, _) = raw.frame_of(frame_type::RESPONSE).await;
    assert_eq!((header.id, header.has(frame_flag::EXCEPTION)), (25, true));
}

/// Whoever cancels calls counts on their places, which those that wait would else hold until all of a read is handled.
#[test]
fn a_call_that_comes_with_the_cancels_of_those_that_wait_has_a_place() {
    virtually(async {
        let (server, mut raw, service) = node_and_raw("quick-places", Limits::default().with_calls_per_peer(4)).await;
        for id in 21..=24 {
            raw.send(frame_type::REQUEST, 0, id, &request("wait")).await;
        }
        service.began.reaches(4).await;
        let mut all = Vec::new();
        let mut add = |frame_type, id, payload: &[u8]| {
            all.extend([&FrameHeader::new(frame_type, id, payload.len()).encode()[..], payload].concat());
        };
        (21..=24).for_each(|id| add(frame_type::CANCEL, id, &[]));
        (25..=28).for_each(|id| add(frame_type::REQUEST, id, &request("wait")));
        raw.write(&all).await;
        service.began.reaches(8).await;
        service.go_on.add_permits(4);
        for _ in 25..=28 {
            let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
            assert!(!header.has(frame_flag::EXCEPTION), "{}", String::from_utf8_lossy(&payload));
        }
        until_quiet(&[&server]).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_goes_on_where_its_request_was_read() {
    let (server, _client, peer, service) = nodes(Limits::default()).await;
    for n in [1, 100, 1] {
        // A thread that is interrupted makes a quick method look slow for a while.
        within(async {
            loop {
                let reader = become_quick(&peer).await;
                let calls = under_way(&peer, &service, "wait", n).await;
                // Whoever they are woken by.
                let go_on = Arc::clone(&service.go_on);
                std::thread::spawn(move || go_on.add_permits(n)).join().unwrap();
                let mut all_in_reader = true;
                for call in calls {
                    all_in_reader &= call.await.unwrap() == reader;
                }
                until_quiet(&[&server]).await;
                if all_in_reader {
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_after_it_has_waited_ends_that_one_call() {
    let (server, _client, peer, service) = nodes(Limits::default()).await;
    for _ in 0..3 {
        become_quick(&peer).await;
        let waiting = under_way(&peer, &service, "wait", 2).await;
        let panicking = under_way(&peer, &service, "wait and panic", 2).await;
        service.go_on.add_permits(4);
        for call in panicking {
            assert_eq!(within(call).await.unwrap_err().kind(), Kind::Panicked);
        }
        all_answered(waiting).await;
    }
    until_quiet(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_blocks_after_it_has_waited_it_holds_nothing_up() {
    let (_server, _client, peer, service) = nodes(Limits::default()).await;
    let blocking = under_way(&peer, &service, "wait and block", 64).await;
    // 64 times 20 ms: one after the other they would take 1.3 s. Only the first one finds the reader's task.
    let begin = Instant::now();
    service.go_on.add_permits(64);
    within(peer.ping().into_future()).await.unwrap();
    let ping = begin.elapsed();
    all_answered(blocking).await;
    let all = begin.elapsed();
    assert!(ping * 3 < all, "a ping took {ping:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_rests_holds_nothing_up_and_can_be_cancelled() {
    for what in ["wake itself", "never be out of work"] {
        let (server, _client, peer, service) = nodes(Limits::default()).await;
        let restless = under_way(&peer, &service, what, 3).await;
        for _ in 0..10 {
            within(peer.ping().into_future()).await.unwrap();
            within(act(&peer, "").into_future()).await.unwrap();
        }
        let n_dropped = service.dropped.get();
        drop(restless);
        within(service.dropped.reaches(n_dropped + 3)).await;
        until_quiet(&[&server]).await;
    }
}

/// All of it on one thread, where nothing else runs unless the reader lets it, and in virtual time, where no poll is slow.
#[test]
fn one_that_never_rests_lets_others_run_on_the_same_thread() {
    virtually(async {
        for what in ["wake itself", "never be out of work"] {
            let address = format!("mem://quick-{}", what.len());
            let (server, _client, peer, service) = nodes_at(&address, Limits::default()).await;
            let restless = under_way(&peer, &service, what, 3).await;
            peer.ping().await.unwrap();
            act(&peer, "").await.unwrap();
            drop(restless);
            until_quiet(&[&server]).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_drops_those_that_wait_but_for_those_that_are_not_cancelled() {
    let (server, client, peer, service) = nodes(Limits::default()).await;
    let to_the_end = |waits: bool| peer.invoke::<u64>("Quick.to_the_end", args![waits]);
    until_same(|| to_the_end(false)).await;
    let waiting = under_way(&peer, &service, "wait", 5).await;
    let kept = to_the_end(true).send();
    within(service.began.reaches(6)).await;
    let n_dropped = service.dropped.get();
    peer.disconnect();
    for call in waiting.into_iter().chain([kept]) {
        assert_eq!(within(call).await.unwrap_err().kind(), Kind::ConnectionLost);
    }
    within(service.dropped.reaches(n_dropped + 5)).await;
    service.go_on.add_permits(1);
    // The one that is not cancelled has run to its end.
    within(service.dropped.reaches(n_dropped + 6)).await;
    until_quiet(&[&server, &client]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_answers_those_that_wait_or_tells_their_callers() {
    for is_woken in [true, false] {
        let (server, _client, peer, service) = nodes(Limits::default()).await;
        let waiting = under_way(&peer, &service, "wait", 20).await;
        let grace = Duration::from_millis(if is_woken { 20_000 } else { 50 });
        let shutdown = tokio::spawn(server.shutdown(grace).into_future());
        // Refused once the goaway is here: it has begun.
        within(async { while act(&peer, "").await.is_ok() {} }).await;
        if is_woken {
            service.go_on.add_permits(20);
        }
        for call in waiting {
            match within(call).await {
                Ok(_) => assert!(is_woken),
                Err(error) => assert_eq!((is_woken, error.kind()), (false, Kind::Cancelled)),
            }
        }
        within(shutdown).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_blocks_it_holds_nothing_up() {
    let (_server, _client, peer, _) = nodes(Limits::default()).await;
    // 64 calls of 20 ms: one after the other they would take 1.3 s. Only the first one finds the reader's task.
    let begin = Instant::now();
    let blocking: Vec<_> = (0..64).map(|_| act(&peer, "block").send()).collect();
    within(peer.ping().into_future()).await.unwrap();
    let ping = begin.elapsed();
    all_answered(blocking).await;
    let all = begin.elapsed();
    assert!(ping * 3 < all, "a ping took {ping:?} of {all:?}");
}

/// Those that find no room in the queue wait for it, at rest: in virtual time, which goes on only when nobody runs.
#[test]
fn those_that_wait_for_room_to_call_back_are_at_rest_and_find_it() {
    virtually(async {
        let (_server, mut raw, _) = node_and_raw("quick-room", Limits::default().with_queue_bytes(512 << 10)).await;
        for id in 21..=170 {
            raw.send(frame_type::REQUEST, 0, id, &request("call back with 6 KiB")).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 21..=170 {
            raw.frame_of(frame_type::REQUEST).await;
        }
    });
}

/// Not all polls are timed: whatever calls come in turn with it, it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_it_blocks_in_turn_with_one_that_is_quick_it_is_found() {
    let (server, _client, peer, _) = nodes(Limits::default()).await;
    let one = || peer.invoke::<u64>("Quick.one", args![]);
    for phase in 0..4 {
        let reader = become_quick(&peer).await;
        for _ in 0..phase {
            one().await.unwrap();
        }
        within(async {
            while act(&peer, "block").await.unwrap() == reader {
                one().await.unwrap();
            }
        })
        .await;
    }
    until_quiet(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_a_task_may_block_on_its_caller() {
    let (_server, _client, peer, _) = nodes(Limits::default()).await;
    for _ in 0..50 {
        assert_eq!(within(peer.invoke::<u64>("Quick.apart_and_blocking", args![]).into_future()).await.unwrap(), 1);
    }
}

/// It waits for itself, and nobody can help it. But the error says whose fault it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_blocks_on_its_caller_where_requests_are_read_loses_the_connection() {
    if rounds(0, 1) == 0 {
        return println!("skipped: it takes 20 s, and runs where RMI_FULL is set");
    }
    let (server, client, peer, service) = nodes(Limits::default()).await;
    let blocking = under_way(&peer, &service, "wait and block on its caller", 1).await;
    let other = server.peer("client").await.unwrap();
    service.go_on.add_permits(1);
    let held_up = within(other.invoke::<u64>("Quick.to_the_end", args![true]).into_future()).await.unwrap_err();
    let causes = std::iter::successors(Some(&held_up as &dyn std::error::Error), |error| error.source());
    let text: String = causes.map(|error| format!("{error}: ")).collect();
    assert!(text.contains("needs `#[rmi(spawn)]`"), "{text}");
    for call in blocking {
        assert_eq!(within(call).await.unwrap_err().kind(), Kind::ConnectionLost);
    }
    until_quiet(&[&server, &client]).await;
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
