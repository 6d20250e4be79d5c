//! The end of a connection: calls that were accepted are answered, those that were not have not run, and whoever waits
//! for the last of them hears of it.

use loom::thread;

use super::*;

#[test]
fn the_last_call_that_ends_wakes_who_waits_for_the_node_to_be_idle() {
    model(|| {
        let (connection, ..) = connection(Limits::default(), 0);
        let permits = [1, 2].map(|id| connection.permit(id, 10).unwrap());
        let methods = permits.map(|permit| thread::spawn(move || drop(permit)));
        block_on(connection.serving.idle());
        assert_eq!(connection.serving.n_running(), 0);
        methods.into_iter().for_each(|method| method.join().unwrap());
    });
}

/// Plays the peer of a connection that ends: it agrees, and closes when it has read to the end.
fn agree(connection: &Arc<Connection>, wire: &Wire, reason: GoAwayReason, mut meanwhile: impl FnMut()) {
    if reason == GoAwayReason::Duplicate {
        connection.went_away(&GoAway { reason, last_accepted: u64::MAX, message: String::new() });
    }
    let mut n_pongs = 0;
    while !wire.is_shut_down() {
        meanwhile();
        let pings = wire.ids(frame_type::PING);
        if pings.len() > n_pongs {
            n_pongs = pings.len();
            lock(&connection.state).last_pong = pings[n_pongs - 1];
            connection.progress.ring();
        }
        thread::yield_now();
    }
    connection.end(Ended::lost("the peer closed the connection"));
}

#[test]
fn a_call_of_this_side_is_answered_or_refused() {
    model(|| {
        let (connection, wire, writer) = connection(Limits::default(), usize::MAX);
        let winding_down = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || block_on(connection.wind_down(GoAwayReason::Duplicate, None)))
        };
        let calling = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || match start(&connection, request()) {
                Some(Started::Sent(ticket)) => block_on(ticket).is_ok(),
                Some(_) => panic!("there is room"),
                None => false,
            })
        };
        let mut writer = writer;
        agree(&connection, &wire, GoAwayReason::Duplicate, || {
            writer.run();
            if wire.ids(frame_type::REQUEST) == [1] {
                assert!(connection.answered(1, answer()));
            }
        });
        let is_answered = calling.join().unwrap();
        winding_down.join().unwrap();
        assert_eq!(is_answered, wire.ids(frame_type::REQUEST) == [1], "a call that was sent is answered");
        assert_quiet(&connection, &wire);
    });
}

/// What waits for credit is cancelled by the peer, in one reading with an answer to this side: nothing is left to be
/// written but the end.
#[test]
fn the_end_is_written_when_the_last_that_waits_is_cancelled_beside_an_answer() {
    model(|| {
        let limits = Limits::default().with_window(1);
        let large = rmi_core::payload::Payload::encode(&vec![7u8; 3 * limits.window()]).unwrap();
        let (connection, wire, mut writer) = connection(limits, usize::MAX);
        let ticket = call(&connection, request());
        let permit = connection.permit(1, 10).unwrap();
        connection.respond(1, "method", Response::Value(large), Some(permit));
        lock(&connection.state).is_finishing = true;
        connection.flush(true);
        writer.run();
        assert!(!wire.is_shut_down(), "something waits for credit");
        let mut batch = Batch::default();
        batch.set_aside(&mut lock(&connection.state), false, false);
        assert!(lock(&connection.state).outgoing.drop_bulk(1, true));
        batch.answered(1, answer());
        assert!(connection.settle(&mut batch, Settling::End));
        assert!(wire.is_shut_down());
        assert!(block_on(ticket).is_ok());
    });
}

#[test]
fn a_call_of_the_peer_is_answered_before_the_end() {
    for reason in [GoAwayReason::Duplicate, GoAwayReason::Shutdown] {
        model(move || {
            let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
            let permit = connection.permit(1, 10).unwrap();
            let winding_down = {
                let connection = Arc::clone(&connection);
                thread::spawn(move || block_on(connection.wind_down(reason, None)))
            };
            let method = {
                let connection = Arc::clone(&connection);
                thread::spawn(move || connection.respond(1, "method", answer(), Some(permit)))
            };
            agree(&connection, &wire, reason, || writer.run());
            method.join().unwrap();
            winding_down.join().unwrap();
            assert_eq!(wire.ids(frame_type::RESPONSE), [1], "{:?}", wire.frames());
            assert_quiet(&connection, &wire);
        });
    }
}
