//! A pending call: whatever happens to it at once, it ends once, its caller hears of it, and nothing is left.

use loom::thread;

use super::*;

/// What can happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Answer,
    Timeout,
    Drop,
    Close,
}

impl Event {
    fn happens(self, connection: &Connection, ticket: &std::sync::Mutex<Option<Ticket>>) {
        match self {
            Event::Answer => assert!(connection.answered(1, answer())),
            Event::Timeout => connection.expire_pending(connection.clock.now() + Duration::from_secs(10)),
            Event::Drop => {
                let ticket = ticket.lock().unwrap().take();
                drop(ticket);
            }
            Event::Close => connection.end(Ended::lost("closed")),
        }
    }
}

/// A call is on its way when two things happen to it at once, and its caller waits for it unless one of them is that
/// the caller goes.
fn race(first: Event, second: Event) {
    model(move || {
        let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
        let mut timed = request();
        timed.timeout = Some(Duration::from_secs(5));
        let ticket = Arc::new(std::sync::Mutex::new(Some(call(&connection, timed))));
        assert_eq!(wire.ids(frame_type::REQUEST), [1]);
        let threads = [first, second].map(|event| {
            let (connection, ticket) = (Arc::clone(&connection), Arc::clone(&ticket));
            thread::spawn(move || event.happens(&connection, &ticket))
        });
        let has_waiter = first != Event::Drop && second != Event::Drop;
        if has_waiter {
            let ticket = ticket.lock().unwrap().take().unwrap();
            match block_on(ticket) {
                Ok(_) => assert!(first == Event::Answer || second == Event::Answer),
                // It has left.
                Err(error) => assert_eq!(error.class(), Class::MaybeExecuted),
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        writer.run();
        assert_quiet(&connection, &wire);
        assert!(wire.ids(frame_type::CANCEL).len() <= 1);
        // The connection still takes calls, unless it was closed.
        let is_closed = first == Event::Close || second == Event::Close;
        assert_eq!(start(&connection, request()).is_none(), is_closed);
    });
}

#[test]
fn an_answer_and_a_timeout_at_once() {
    race(Event::Answer, Event::Timeout);
}

#[test]
fn an_answer_and_a_drop_at_once() {
    race(Event::Answer, Event::Drop);
}

#[test]
fn an_answer_and_the_end_of_the_connection_at_once() {
    race(Event::Answer, Event::Close);
}

#[test]
fn a_timeout_and_a_drop_at_once() {
    race(Event::Timeout, Event::Drop);
}

#[test]
fn a_timeout_and_the_end_of_the_connection_at_once() {
    race(Event::Timeout, Event::Close);
}

#[test]
fn a_drop_and_the_end_of_the_connection_at_once() {
    race(Event::Drop, Event::Close);
}

/// It is not asked for an outcome before its caller is woken for the first time.
#[test]
fn a_caller_that_is_known_from_the_start_is_woken() {
    model(|| {
        let (connection, wire, _writer) = connection(Limits::default(), usize::MAX);
        let answering = {
            let (connection, wire) = (Arc::clone(&connection), wire.clone());
            thread::spawn(move || {
                while wire.ids(frame_type::REQUEST) != [1] {
                    thread::yield_now();
                }
                assert!(connection.answered(1, answer()));
            })
        };
        let mut ticket = None;
        let outcome = block_on(std::future::poll_fn(|context| {
            let ticket = ticket.get_or_insert_with(|| {
                let started =
                    Arc::clone(&connection).start(&mut request(), Some(context.waker()), &Weak::<Nowhere>::new());
                let Some(Started::Sent(ticket)) = started else { panic!("there is room") };
                ticket
            });
            Pin::new(ticket).poll(context)
        }));
        assert!(outcome.is_ok());
        answering.join().unwrap();
        drop(ticket);
        assert_quiet(&connection, &wire);
    });
}

#[test]
fn a_call_for_which_there_is_room_again_goes_out() {
    model(|| {
        let (connection, wire, mut writer) = connection(Limits::default(), usize::MAX);
        let held = [call(&connection, request()), call(&connection, request())];
        let Some(Started::Later(later)) = start(&connection, request()) else { panic!("there is room for two") };
        let answering = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || assert!(connection.answered(1, answer())))
        };
        let dropping = thread::spawn(move || drop(held));
        let Started::Sent(ticket) = block_on(later) else { panic!("refused") };
        answering.join().unwrap();
        dropping.join().unwrap();
        drop(ticket);
        writer.run();
        assert_quiet(&connection, &wire);
        assert_eq!(lock(&connection.state).row.len(), 0);
    });
}

/// A call that joins the row, and whoever waits there already: room that was set aside and not needed is theirs.
#[test]
fn a_call_goes_out_when_room_is_free_again_that_was_set_aside() {
    model(|| {
        let limits = Limits::default().with_queue_frames(64);
        let (connection, wire, mut writer) = connection(limits, usize::MAX);
        let mut batch = Batch::default();
        batch.set_aside(&mut lock(&connection.state), true, false);
        let Some(Started::Later(earlier)) = start(&connection, request()) else { panic!("there is room") };
        let calling = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || match start(&connection, request()) {
                Some(Started::Sent(ticket)) => drop(ticket),
                Some(Started::Later(later)) => drop(block_on(later)),
                other => panic!("the call was not sent: {other:?}"),
            })
        };
        let settling = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || assert!(connection.settle(&mut batch, Settling::End)))
        };
        drop(block_on(earlier));
        calling.join().unwrap();
        settling.join().unwrap();
        writer.run();
        assert_quiet(&connection, &wire);
    });
}
