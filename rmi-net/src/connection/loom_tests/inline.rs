//! Methods that wait with the reader: whoever wakes one or stops one is heard.

use std::future::poll_fn;
use std::task::Wake;

use loom::thread;

use super::super::inline::{Queue, Signal};
use super::*;
use crate::sync::atomic::AtomicBool;

/// Rounds of a reader until a call is to be dropped: how often it had its turn before.
fn rounds_until_stopped(queue: &Queue, signals: &[Arc<Signal>]) -> Vec<usize> {
    let mut turns = vec![0; signals.len()];
    let mut round = Vec::new();
    loop {
        block_on(poll_fn(|context| queue.poll_woken(context)));
        queue.begin_round(&mut round);
        for key in round.drain(..) {
            if signals[key].begin_turn() {
                return turns;
            }
            turns[key] += 1;
        }
    }
}

#[test]
fn who_is_woken_and_then_stopped_has_its_turn_and_is_dropped() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let signal = Signal::new(Arc::clone(&queue), 0);
        let waker = thread::spawn({
            let signal = Arc::clone(&signal);
            move || {
                signal.wake_by_ref();
                signal.stop();
            }
        });
        let turns = rounds_until_stopped(&queue, &[signal]);
        assert!(turns[0] <= 1);
        waker.join().unwrap();
    });
}

#[test]
fn what_was_done_before_a_wake_is_seen_in_the_turn_that_it_brings() {
    model(|| {
        let queue = Arc::new(Queue::default());
        let signals = [0, 1].map(|key| Signal::new(Arc::clone(&queue), key));
        let is_ready = Arc::new([0, 1].map(|_| AtomicBool::new(false)));
        let wakers = [0, 1].map(|key| {
            let (signal, is_ready) = (Arc::clone(&signals[key]), Arc::clone(&is_ready));
            thread::spawn(move || {
                is_ready[key].store(true, Ordering::Relaxed);
                signal.wake();
            })
        });
        let (mut round, mut n_turns) = (Vec::new(), 0);
        while n_turns < 2 {
            block_on(poll_fn(|context| queue.poll_woken(context)));
            queue.begin_round(&mut round);
            for key in round.drain(..) {
                assert!(!signals[key].begin_turn());
                assert!(is_ready[key].load(Ordering::Relaxed));
                n_turns += 1;
            }
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}
