//! A peer that falls silent, or that takes nothing any more, is noticed within 21 s; a call with a deadline ends at its
//! deadline all the same; and nobody else is affected.
//!
//! In virtual time, and once in real time where `RMI_FULL` is set.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::proxy::{Proxy, Way};
use common::{Counter, hello, rounds, until};
use rmi::{Address, Blob, Class, InvocationException, Kind, Node, PeerEvent, Role, args, rmi_node};
use rmi_core::frame::{FrameHeader, PREAMBLE, frame_type, put_frame};
use rmi_core::hello::PeerLimits;
use rmi_net::seam::{Net, Seams, Stream, SystemClock, SystemRng};
use rmi_net::transport::SystemNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

#[derive(Clone, Default)]
struct Waiter {
    begun: Counter,
    dropped: Counter,
}

#[rmi_node]
impl Waiter {
    async fn wait(&self) {
        let _on_drop = self.dropped.on_drop();
        self.begun.add();
        std::future::pending().await
    }

    async fn give(&self, n_bytes: usize) -> Blob {
        Blob::from(vec![0; n_bytes])
    }
}

/// How long something that is gone may go unnoticed.
const NOTICED: Duration = Duration::from_secs(21);

/// The credit that nodes give by default.
const WINDOW: u64 = 512 << 10;

fn in_virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(3600), test).await.expect("the test hangs") });
}

fn in_real_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(120), test).await.expect("the test hangs") });
}

async fn server(name: &str, listen: &str) -> (Node, Waiter) {
    let waiter = Waiter::default();
    let node = Node::builder().name(name).listen(listen).serve(waiter.clone()).start().await.unwrap();
    (node, waiter)
}

/// A node that dials through this network.
async fn dialer(net: Arc<dyn Net>, seed: &Address) -> (Node, Waiter) {
    let clock = Arc::new(SystemClock::new(tokio::runtime::Handle::current()));
    let seams = Seams { net, clock, rng: Arc::new(SystemRng::seeded(5)) };
    let waiter = Waiter::default();
    let node = Node::builder().name("client").seed(seed).seams(seams).serve(waiter.clone()).start().await.unwrap();
    (node, waiter)
}

/// A call, and how long it took.
async fn timed<T>(call: impl IntoFuture<Output = Result<T, InvocationException>>) -> (Option<(Kind, Class)>, Duration) {
    let begun = Instant::now();
    let result = call.await;
    (result.err().map(|error| (error.kind(), error.class())), begun.elapsed())
}

/// A link falls silent in these directions, so long after something was heard last.
async fn a_link_falls_silent(listen: &str, ways: &[Way], after: Duration) {
    let context = format!("{ways:?} after {after:?}");
    let (server, of_server) = server("server", listen).await;
    let (proxy, net) = Proxy::net();
    let (client, of_client) = dialer(net, &server.addresses()[0]).await;
    let stub = WaiterStub::new(client.peer("server").await.unwrap());
    let back = WaiterStub::new(server.peer("client").await.unwrap());
    let before = tokio::spawn(timed(stub.wait()));
    let of_server_before = tokio::spawn(timed(back.wait()));
    of_server.begun.reaches(1).await;
    of_client.begun.reaches(1).await;
    let mut events = client.watch();
    events.next().await;
    sleep(after).await;
    ways.iter().for_each(|way| proxy.freeze(*way));
    let silent = Instant::now();

    let with_deadline = tokio::spawn(timed(stub.wait().with_timeout(Duration::from_secs(1))));
    let after = tokio::spawn(timed(stub.give(10)));
    let (error, took) = with_deadline.await.unwrap();
    assert_eq!(error, Some((Kind::Timeout, Class::MaybeExecuted)), "{context}");
    assert!((1000..=1250).contains(&took.as_millis()), "{context}: {took:?}");

    let lost = (Kind::ConnectionLost, Class::MaybeExecuted);
    assert_eq!(after.await.unwrap().0, Some(lost), "{context}");
    assert_eq!(before.await.unwrap().0, Some(lost), "{context}");
    assert_eq!(of_server_before.await.unwrap().0, Some(lost), "{context}");
    assert!(matches!(events.next().await, Some(PeerEvent::Lost(_))), "{context}");
    // What ran for the other end is cancelled, on both sides.
    let n_begun = of_server.begun.get();
    of_server.dropped.reaches(n_begun).await;
    of_client.dropped.reaches(1).await;
    let noticed = silent.elapsed();
    assert!(noticed <= NOTICED, "{context}: {noticed:?}");
    assert!(client.snapshot().connections.iter().all(|link| link.pending_calls == 0), "{context}");

    // It heals by itself.
    proxy.thaw();
    let thawed = Instant::now();
    let peer = client.peer("server").await.unwrap();
    peer.ping().await.unwrap();
    assert!(thawed.elapsed() <= Duration::from_secs(5), "{context}: {:?}", thawed.elapsed());
    println!("{context}: the deadline after {took:?}, noticed after {noticed:?}, back after {:?}", thawed.elapsed());
    client.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}

#[test]
fn a_silent_link_is_noticed_and_deadlines_hold() {
    for ways in [&[Way::Out, Way::Back][..], &[Way::Out], &[Way::Back]] {
        for after in [0, 3, 7_000, 9_999, 10_001, 15_000] {
            let after = Duration::from_millis(after);
            in_virtual_time(a_link_falls_silent("mem://silent-server", ways, after));
        }
    }
}

#[test]
fn a_silent_link_is_noticed_in_real_time() {
    if rounds(0, 1) == 0 {
        return println!("skipped: it takes 20 s, and runs where RMI_FULL is set");
    }
    in_real_time(a_link_falls_silent("tcp://127.0.0.1:0", &[Way::Out, Way::Back], Duration::from_secs(3)));
}

/// A peer that goes on to talk and reads nothing: it asks for so many answers of this length, and gives so much credit.
async fn deaf_peer(hub: &Address, n_answers: u64, n_bytes: usize, window: u64) -> Stream {
    let mut stream = SystemNet.dial(hub).await.unwrap();
    let mut words = bytes::BytesMut::from(&PREAMBLE[..]);
    let hello = hello("default", "deaf", Role::Client, PeerLimits { window, ..PeerLimits::default() });
    put_frame(&mut words, frame_type::HELLO, 0, 0, |out| hello.encode(out));
    stream.writer.write_all(&words).await.unwrap();
    stream.reader.read_exact(&mut [0; PREAMBLE.len()]).await.unwrap();
    for id in 1..=n_answers {
        let mut request = vec![0x92, 0xab];
        request.extend(b"Waiter.give");
        request.extend([0x91, 0xce]);
        request.extend((n_bytes as u32).to_be_bytes());
        let header = FrameHeader::new(frame_type::REQUEST, id, request.len());
        stream.writer.write_all(&[&header.encode()[..], &request].concat()).await.unwrap();
    }
    stream
}

/// Pings for as long as the other end lets it: it is alive, but reads nothing. Gives back how long that was.
async fn talk(mut stream: Stream) -> Duration {
    let begun = Instant::now();
    for id in 1.. {
        let header = FrameHeader::new(frame_type::PING, id, 0);
        if stream.writer.write_all(&header.encode()).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(2)).await;
    }
    begun.elapsed()
}

#[test]
fn nothing_begins_to_run_that_was_given_up_while_the_process_stood_still() {
    in_virtual_time(async {
        for seconds in [20, 25, 600] {
            let (server, waiter) = server("server", "mem://still-server").await;
            let mut stream = deaf_peer(&server.addresses()[0], 0, 0, WINDOW).await;
            server.peers().wait_for(|peers| peers.clients().len() == 1).await.unwrap();
            // It is here, and nobody has looked, when the time is over.
            let request = [&[0x91, 0xab][..], b"Waiter.wait"].concat();
            let header = FrameHeader::new(frame_type::REQUEST, 1, request.len());
            stream.writer.write_all(&[&header.encode()[..], &request].concat()).await.unwrap();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            until("the connection has ended", || server.snapshot().connections.is_empty()).await;
            assert_eq!(waiter.begun.get(), 0, "after {seconds} s");
            server.shutdown(Duration::ZERO).await;
        }
    });
}

/// It is silent for `quiet` before it is called.
async fn a_peer_stops_reading(
    listen: &str,
    n_answers: u64,
    n_bytes: usize,
    n_calls: usize,
    window: u64,
    quiet: Duration,
) {
    let (hub, _) = server("hub", listen).await;
    let address = hub.addresses().remove(0);
    let lively = Node::builder().name("lively").seed(&address).serve(Waiter::default()).start().await.unwrap();
    lively.peer("hub").await.unwrap();
    let to_lively = hub.peer("lively").await.unwrap();
    let stream = deaf_peer(&address, n_answers, n_bytes, window).await;
    let to_deaf = hub.peer("deaf").await.unwrap();
    sleep(quiet).await;
    let begun = Instant::now();
    let talking = tokio::spawn(talk(stream));
    let calls: Vec<_> = (0..n_calls)
        .map(|_| tokio::spawn(timed(to_deaf.invoke::<()>("Any.thing", args![Blob::from(vec![1; n_bytes])]))))
        .collect();
    let mut most_queued = 0;
    // The limit, and one message that was let in below it.
    let most_allowed = (4 << 20) + n_bytes as u64 + 1024;
    loop {
        let snapshot = hub.snapshot();
        let Some(link) = snapshot.connections.iter().find(|link| link.peer == "deaf") else { break };
        most_queued = most_queued.max(link.queued_bytes);
        assert!(begun.elapsed() <= NOTICED, "not closed after {:?}", begun.elapsed());
        let call_begun = Instant::now();
        let answer: Blob = to_lively.invoke("Waiter.give", args![100usize]).await.unwrap();
        assert_eq!(answer.len(), 100);
        assert!(call_begun.elapsed() < Duration::from_secs(1), "{:?}", call_begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    let closed = begun.elapsed();
    assert!(most_queued <= most_allowed, "{most_queued} bytes were queued");
    // It was closed because nothing was taken, and not before the time is over for that.
    assert!(most_queued > 1 << 20 && closed >= Duration::from_secs(19), "{most_queued} bytes, {closed:?}");
    for call in calls {
        let (error, _) = call.await.unwrap();
        let (kind, class) = error.expect("nobody answers");
        assert!(matches!(kind, Kind::ConnectionLost | Kind::NotConnected | Kind::Overloaded), "{kind:?}");
        assert_ne!(class, Class::Executed);
    }
    let talked = talking.await.unwrap();
    println!(
        "{n_answers} answers and {n_calls} calls of {n_bytes} bytes: closed after {closed:?}, {most_queued} bytes queued at most, it talked for {talked:?}"
    );
    assert_eq!(lively.snapshot().connections.len(), 1);
    hub.shutdown(Duration::ZERO).await;
    lively.shutdown(Duration::ZERO).await;
}

/// There is always something in the queue of a busy connection. That is not what the peer does not take.
#[test]
fn a_connection_that_is_busy_for_long_is_not_taken_for_one_that_is_stuck() {
    in_virtual_time(async {
        let (hub, _) = server("hub", "mem://busy-hub").await;
        let caller = Node::builder().name("caller").seed("mem://busy-hub").start().await.unwrap();
        let peer = caller.peer("hub").await.unwrap();
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let peer = peer.clone();
                tokio::spawn(async move {
                    loop {
                        if let Err(error) = peer.invoke::<Blob>("Waiter.give", args![1usize]).await {
                            return error;
                        }
                    }
                })
            })
            .collect();
        for _ in 0..450 {
            for _ in 0..7 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(caller.snapshot().connections.len(), 1);
        for call in calls {
            assert!(!call.is_finished(), "{:?}", call.await.unwrap());
            call.abort();
        }
        hub.shutdown(Duration::ZERO).await;
    });
}

#[test]
fn a_peer_that_stops_reading_is_closed_and_costs_no_more_than_its_queue() {
    in_virtual_time(async {
        // Large answers, large calls, answers that go in one frame, and all of it.
        for (n_answers, n_bytes, n_calls) in [(20, 1 << 20, 0), (0, 1 << 20, 20), (900, 50_000, 0), (500, 60_000, 500)]
        {
            a_peer_stops_reading("mem://deaf-hub", n_answers, n_bytes, n_calls, WINDOW, Duration::ZERO).await;
        }
        // It has its time from when something came to wait, not from when it last took something.
        a_peer_stops_reading("mem://deaf-hub", 0, 1 << 20, 20, WINDOW, Duration::from_secs(9)).await;
        // What it gives credit for fits into the sockets, and so do the answers to its pings, for as long as it likes.
        for (n_answers, n_calls) in [(20, 0), (0, 20)] {
            a_peer_stops_reading("mem://deaf-hub", n_answers, 1 << 20, n_calls, 64 << 10, Duration::ZERO).await;
        }
    });
}

#[test]
fn a_peer_that_stops_reading_is_closed_in_real_time() {
    if rounds(0, 1) == 0 {
        return println!("skipped: it takes 20 s, and runs where RMI_FULL is set");
    }
    in_real_time(a_peer_stops_reading("tcp://127.0.0.1:0", 20, 1 << 20, 20, WINDOW, Duration::ZERO));
}
