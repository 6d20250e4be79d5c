//! From the queue to the system: no frame is left behind, and the class of an error tells whether one has left.

use loom::thread;

use super::*;

#[test]
fn no_frame_is_left_behind() {
    model(|| {
        let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
        let callers = [0, 1].map(|_| {
            let connection = Arc::clone(&connection);
            thread::spawn(move || call(&connection, request()))
        });
        writer.run();
        let tickets = callers.map(|caller| caller.join().unwrap());
        // Nobody calls any more: whoever found the wire busy has woken the writer.
        writer.run();
        assert_eq!(wire.ids(frame_type::REQUEST), [1, 2]);
        drop(tickets);
        writer.run();
        assert_quiet(&connection, &wire);
        assert_eq!(wire.ids(frame_type::CANCEL).len(), 2);
    });
}

/// Who adds what makes the queue worth a write does not leave it to the writer task.
#[test]
fn what_is_worth_a_write_is_written_by_who_adds_it() {
    model(|| {
        let (connection, wire, _writer) = connection(Limits::default(), usize::MAX);
        let large = request_of(super::outgoing::WORTH_A_WRITE);
        // With the first in flight, the second is not alone.
        let tickets = [call(&connection, request()), call(&connection, large)];
        assert_eq!(wire.ids(frame_type::REQUEST), [1, 2]);
        drop(tickets);
    });
}

#[test]
fn no_frame_is_left_behind_by_those_who_do_not_wait_for_the_writer() {
    model(|| {
        let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
        let first = call(&connection, request());
        let callers = [0, 1].map(|_| {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                let large = request_of(super::outgoing::WORTH_A_WRITE);
                start(&connection, large).unwrap()
            })
        });
        writer.run();
        let started = callers.map(|caller| caller.join().unwrap());
        writer.run();
        assert_eq!(wire.ids(frame_type::REQUEST), [1, 2], "the peer takes two at once");
        drop((first, started));
        writer.run();
        assert_quiet(&connection, &wire);
    });
}

/// What counted as written when it was taken out waits again, and the writer task goes on with it.
#[test]
fn a_call_that_is_alone_and_goes_out_in_part_is_written_to_its_end() {
    model(|| {
        let (connection, wire, mut writer) = connection(Limits::default(), 5);
        let ticket = call(&connection, request());
        let (_, _, n_left) = connection.load();
        assert!(n_left > 0 && wire.ids(frame_type::REQUEST).is_empty());
        let pinging = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                lock(&connection.state).outgoing.push(frame_type::PING, 0, 1, |_| {});
                connection.flush(true);
            })
        };
        wire.make_room(usize::MAX);
        writer.run();
        pinging.join().unwrap();
        writer.run();
        assert_eq!((wire.ids(frame_type::REQUEST), wire.ids(frame_type::PING)), (vec![1], vec![1]));
        assert_eq!(connection.load(), (1, 0, 0));
        drop(ticket);
    });
}

#[test]
fn parts_go_on_when_credit_comes() {
    model(|| {
        let limits = Limits::default().with_window(1);
        let window = limits.window();
        let (connection, wire, mut writer) = connection(limits, usize::MAX);
        let request = request_of(3 * window);
        let ticket = call(&connection, request);
        writer.run();
        let reading = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                lock(&connection.state).outgoing.add_credit(4 * window as u64);
                connection.flush(true);
            })
        };
        // Another frame on its way keeps the wire busy meanwhile.
        let pinging = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                lock(&connection.state).outgoing.push(frame_type::PING, 0, 1, |_| {});
                connection.flush(true);
            })
        };
        reading.join().unwrap();
        pinging.join().unwrap();
        writer.run();
        assert_eq!(connection.load(), (1, 0, 0));
        assert_eq!(wire.ids(frame_type::PING), [1]);
        assert_eq!(lock(&connection.state).pending.get_mut(1).unwrap().progress, Progress::Sent);
        drop(ticket);
    });
}

/// A call ends while the system takes its request or does not take it yet: `end` gives the class.
fn class_is_true(end: impl Fn(&Connection, Ticket) -> Option<Class> + Copy + Send + Sync + 'static) {
    model(move || {
        let (connection, wire, mut writer) = connection(Limits::default(), 0);
        let ticket = call(&connection, request());
        writer.run();
        let ending = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || end(&connection, ticket))
        };
        wire.make_room(usize::MAX);
        writer.run();
        let class = ending.join().unwrap();
        writer.run();
        let has_left = wire.ids(frame_type::REQUEST) == [1];
        if class == Some(Class::NotExecuted) {
            assert!(!has_left, "it said that it has not run, and it may have");
        }
        // What was called back was either taken out of the queue, or is cancelled behind the request.
        let is_cancelled = wire.ids(frame_type::CANCEL) == [1];
        assert!(connection.has_ended() || has_left == is_cancelled, "{:?}", wire.frames());
        assert_quiet(&connection, &wire);
    });
}

#[test]
fn the_class_of_a_timeout_is_true() {
    class_is_true(|connection, ticket| {
        let ended = {
            let mut state = lock(&connection.state);
            connection.give_up(&mut state, 1, Kind::Timeout, "late")
        };
        connection.tell(ended);
        connection.flush(false);
        Some(block_on(ticket).unwrap_err().class())
    });
}

#[test]
fn the_class_of_a_lost_connection_is_true() {
    class_is_true(|connection, ticket| {
        connection.end(Ended::lost("closed"));
        Some(block_on(ticket).unwrap_err().class())
    });
}

#[test]
fn a_dropped_call_is_taken_back_or_cancelled() {
    class_is_true(|_, ticket| {
        drop(ticket);
        None
    });
}

/// A connection ends while a call that is alone, and counts as written, is just being written: as a whole, or in part.
#[test]
fn the_class_is_true_of_a_call_that_counts_as_written_before_it_is() {
    for room in [0, 5, usize::MAX] {
        model(move || {
            let (connection, wire, mut writer) = connection(Limits::default(), room);
            let ending = {
                let connection = Arc::clone(&connection);
                thread::spawn(move || connection.end(Ended::lost("closed")))
            };
            let started = start(&connection, request());
            ending.join().unwrap();
            writer.run();
            let has_left = wire.ids(frame_type::REQUEST) == [1];
            match started {
                Some(Started::Sent(ticket)) => {
                    let class = block_on(ticket).unwrap_err().class();
                    assert_eq!(class, if has_left { Class::MaybeExecuted } else { Class::NotExecuted });
                }
                None => assert!(!has_left),
                other => panic!("{other:?}"),
            }
        });
    }
}
