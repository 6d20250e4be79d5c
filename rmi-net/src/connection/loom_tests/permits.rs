//! Permits and memory: never more than there are, never fewer, and given back before the answer can be seen.

use std::sync::atomic::{AtomicUsize as Plain, Ordering::SeqCst};

use loom::thread;
use rmi_core::message::Message;

use super::super::reader::Reading;
use super::*;

/// Nothing is held of what the node and the peer may hold: a message of any size fits.
fn assert_budgets_are_whole(connection: &Arc<Connection>) {
    assert_eq!(connection.serving.n_running(), 0);
    drop(connection.permit(u64::MAX, usize::MAX).expect("something is held"));
}

#[test]
fn a_caller_that_has_its_answer_may_call_again() {
    model(|| {
        let limits = Limits::default().with_calls_per_peer(1);
        let (connection, wire, _writer) = connection(limits, usize::MAX);
        let permit = connection.permit(1, 10).unwrap();
        let method = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.respond(1, "method", answer(), Some(permit)))
        };
        // The wake of the writer leaves the frame in the queue: what is there is as good as written.
        while lock(&connection.state).outgoing.is_empty() && wire.ids(frame_type::RESPONSE).is_empty() {
            thread::yield_now();
        }
        let second = connection.permit(2, 10).expect("the first call is answered");
        method.join().unwrap();
        assert_eq!(connection.serving.n_running(), 1);
        drop(second);
        assert_eq!(connection.serving.n_running(), 0);
        assert_budgets_are_whole(&connection);
    });
}

#[test]
fn connections_share_the_budgets_of_their_node() {
    model(|| {
        let limits = Limits::default().with_running_calls(1);
        let host = host(&limits);
        let n_held = Arc::new(Plain::new(0));
        let peers = [1, 2].map(|instance| {
            let (connection, _) = end_of(InstanceId(instance), true, limits.clone(), &host, 0);
            let n_held = Arc::clone(&n_held);
            thread::spawn(move || {
                let permit = connection.permit(1, 10);
                if permit.is_ok() {
                    assert_eq!(n_held.fetch_add(1, SeqCst), 0, "two calls run where one may");
                    thread::yield_now();
                    n_held.fetch_sub(1, SeqCst);
                }
                permit.is_ok()
            })
        });
        let granted = peers.map(|peer| peer.join().unwrap());
        assert!(granted.contains(&true), "both were refused");
        drop(host.admit(usize::MAX).expect("the budget of the node is whole"));
    });
}

/// One that has begun takes its permit in any case; it counts from then on, and what it has taken is given back.
#[test]
fn who_has_begun_takes_what_another_may_have_taken() {
    model(|| {
        let limits = Limits::default().with_running_calls(1);
        let host = host(&limits);
        let (one, _) = end_of(InstanceId(1), true, limits.clone(), &host, 0);
        let (other, _) = end_of(InstanceId(2), true, limits, &host, 0);
        let begun = thread::spawn(move || one.permit_begun(1, 10));
        let second = other.permit(1, 10);
        let begun = begun.join().unwrap();
        assert_eq!(begun.connection.serving.n_running(), 1);
        assert!(other.permit(2, 10).is_err(), "the node is full");
        drop((begun, second));
        drop(host.admit(usize::MAX).expect("the budget of the node is whole"));
    });
}

#[test]
fn the_memory_of_a_peer_is_bounded_and_given_back() {
    model(|| {
        let limits = Limits::default().with_memory_per_peer(1);
        let most = limits.memory_per_peer();
        let (connection, ..) = connection(limits, 0);
        // One message always fits.
        let first = connection.permit(1, most + 1).unwrap();
        let method = thread::spawn(move || drop(first));
        let second = connection.permit(2, most);
        method.join().unwrap();
        if let Err(rejection) = &second {
            assert_eq!(rejection.kind(), Kind::Busy);
        }
        drop(second);
        assert_budgets_are_whole(&connection);
    });
}

#[derive(Debug)]
struct Echo;

#[rmi_core::rmi_node]
impl Echo {
    /// Runs on the thread that takes the request: no task is needed.
    #[rmi(direct)]
    fn run(&self) -> u8 {
        1
    }
}

#[test]
fn a_call_that_ends_while_its_time_is_over_and_the_node_stops_is_answered_once() {
    model(|| {
        let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
        connection.serving.host.serve("Echo", rmi_core::service::erase(Arc::new(Echo))).unwrap();
        let expiring = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.expire_running(connection.clock.now() + Duration::from_secs(10)))
        };
        let stopping = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.stop_running())
        };
        let mut message = BytesMut::new();
        Request::new(Target::by_name("Echo.run"), Args::new()).encode(Some(Duration::from_secs(5)), &mut message);
        assert!(connection.on_request(1, Message::Borrowed(&message), None, &mut Reading::default()).is_ok());
        expiring.join().unwrap();
        stopping.join().unwrap();
        writer.run();
        assert_eq!(wire.ids(frame_type::RESPONSE), [1], "{:?}", wire.frames());
        assert_eq!(connection.load(), (0, 0, 0));
        assert_budgets_are_whole(&connection);
    });
}
