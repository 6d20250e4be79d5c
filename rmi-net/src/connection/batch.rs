//! What the reader gathers while it handles what one read gave, so that it is done for many at once: one lock, one
//! write.
//!
//! Answers of methods that ended where they were read stand here as whole frames. Room for them is set aside in the
//! queue before, so nothing here waits for room, and no more than that is ever gathered. Answers to calls of this side
//! are gathered too: their callers are woken together, when the lock is given back.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rmi_core::frame::{frame_type, put_frame, put_whole_frame};
use rmi_core::message::Response;

use super::State;
use super::answering::flags_of;
use super::completion::Waiter;
use super::outgoing::WORTH_A_WRITE;
use crate::pace;

/// Answers to the peer that are gathered at most, and their bytes.
const MOST_ANSWERS: usize = 64;
/// The same where calls go both ways. Each end then waits for the other again and again, so it gets its answers early.
const MOST_ANSWERS_BOTH_WAYS: usize = 16;
const ROOM: usize = 32 << 10;
/// Answers to calls of this side that are gathered at most.
const MOST_ANSWERED: usize = 256;
/// Time that methods may take in one batch. Those after that are tasks of their own.
pub(super) const MOST_TIME: Duration = Duration::from_micros(500);

/// Of so many polls of quick methods one is timed.
const TIMED_OF: u32 = 8;
/// Where those that are not took long together, so many are timed.
const WATCHED: u32 = 64;

/// When the reader lets go of what it has gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// There is enough of it for a write; it goes on.
    Part,
    /// Methods that wait for the answers that came are polled next, and nothing is written before.
    Methods,
    /// It has handled what it has read.
    End,
}

/// See the module.
#[derive(Default)]
pub(super) struct Batch {
    answers: BytesMut,
    n_answers: usize,
    /// So many of them are worth a write.
    most_answers: usize,
    /// Whether there is room for answers in the queue.
    has_room: bool,
    /// With where they go, once that was looked up.
    answered: Vec<(u64, Response, Option<Waiter>)>,
    /// Credit for what was taken in of large messages.
    pub(super) credit: Option<u64>,
    /// When the last thing ended whose time was taken.
    now: Option<Instant>,
    /// Time that methods took.
    spent: Duration,
    /// Polls that were not timed since the time that is known.
    n_untimed: u32,
    /// How many polls to come are not timed, and how many are in any case.
    n_skipped: u32,
    n_watched: u32,
    /// What the next `n_skipped` is drawn from: nothing that callers do in turn keeps step with it.
    dice: u32,
}

impl Batch {
    /// Begins, with nothing in it. `now`, if it is known.
    pub(super) fn begin(&mut self, now: Option<Instant>) {
        self.now = now;
        self.n_untimed = 0;
        self.spent = Duration::ZERO;
    }

    /// If there are requests, or methods that wait, has room for their answers in the queue, if it has any, and if none of
    /// those methods may be waiting for it itself.
    pub(super) fn set_aside(&mut self, state: &mut State, has_requests: bool, has_methods: bool) {
        let has_answers = if has_methods { state.row.len() == 0 } else { has_requests };
        self.has_room = has_answers && state.outgoing.set_aside(MOST_ANSWERS, ROOM);
        self.most_answers = if state.pending.len() > 0 { MOST_ANSWERS_BOTH_WAYS } else { MOST_ANSWERS };
    }

    /// Whether one more method may run where its request was read.
    pub(super) fn has_time(&self) -> bool {
        self.has_room && self.is_in_time()
    }

    /// Whether methods have not yet taken all of the time that they may.
    pub(super) fn is_in_time(&self) -> bool {
        self.spent < MOST_TIME
    }

    /// A method begins whose time is to be taken. The time is read once for the end of one method and the beginning of the
    /// next; what polls that were not timed took meanwhile is no time of this one, but of the batch.
    pub(super) fn begins(&mut self, read: impl FnOnce() -> Instant) {
        if self.now.is_none() {
            self.now = Some(read());
        } else if self.n_untimed > 0 && self.took(read()) > pace::QUICK {
            self.n_watched = WATCHED;
        }
        self.n_untimed = 0;
    }

    /// Whether the next poll of a quick method is to be timed. Most are not, for to read the clock takes longer than many
    /// of them; then it counts as one that was not.
    pub(super) fn times_next(&mut self) -> bool {
        if self.n_watched > 0 {
            self.n_watched -= 1;
            return true;
        }
        if self.n_skipped > 0 {
            self.n_skipped -= 1;
            self.n_untimed += 1;
            return false;
        }
        // A linear congruential generator, with the numbers of Numerical Recipes.
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.n_skipped = (self.dice >> 16) % (2 * TIMED_OF - 1);
        true
    }

    /// What comes next is no method's time.
    pub(super) fn forget_time(&mut self) {
        self.now = None;
        self.n_untimed = 0;
    }

    /// A method has ended, or waits, that [began](Self::begins) to be timed. How long it took.
    pub(super) fn took(&mut self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.now.unwrap_or(now));
        self.now = Some(now);
        self.spent += took;
        took
    }

    /// Whether an answer of this size has room.
    pub(super) fn has_room(&self, n_bytes: usize) -> bool {
        self.has_room && self.n_answers < MOST_ANSWERS && self.answers.len() + n_bytes <= ROOM
    }

    /// Adds an answer. There is room for it.
    pub(super) fn answer(&mut self, id: u64, response: &Response) {
        self.n_answers += 1;
        match response {
            // Most answers: what is to be written stands there as it is.
            Response::Value(value) if value.attachments().is_empty() => {
                put_whole_frame(&mut self.answers, frame_type::RESPONSE, 0, id, value.body());
            }
            _ => put_frame(&mut self.answers, frame_type::RESPONSE, flags_of(response), id, |out| response.encode(out)),
        }
    }

    /// Whether what was gathered for the peer is worth a write.
    pub(super) fn is_worth_a_write(&self) -> bool {
        self.n_answers >= self.most_answers || self.answers.len() >= WORTH_A_WRITE
    }

    /// Whether answers to calls of this side were gathered.
    pub(super) fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// Adds an answer to a call of this side. Whether it is time to settle.
    pub(super) fn answered(&mut self, id: u64, response: Response) -> bool {
        self.answered.push((id, response, None));
        self.answered.len() >= MOST_ANSWERED
    }

    /// Moves the answers and the credit to the queue, and looks up where those to calls of this side go. Whether room is
    /// free again that was set aside; if it `goes_on`, room is set aside anew.
    pub(super) fn settle(
        &mut self,
        state: &mut State,
        goes_on: bool,
        mut answered: impl FnMut(&mut State, u64) -> Option<Waiter>,
    ) -> bool {
        if let Some(credit) = self.credit.take() {
            state.outgoing.push(frame_type::WINDOW, 0, 0, |out| out.extend_from_slice(&credit.to_le_bytes()));
        }
        // What is written now is no method's time.
        self.forget_time();
        let had_room = std::mem::take(&mut self.has_room);
        if had_room {
            state.outgoing.append(&mut self.answers, std::mem::take(&mut self.n_answers));
            self.has_room = goes_on && state.outgoing.set_aside(MOST_ANSWERS, ROOM);
        }
        for (id, _, waiter) in &mut self.answered {
            *waiter = answered(state, *id);
        }
        had_room
    }

    /// Hands the answers to calls of this side to their callers, when the lock is given back.
    pub(super) fn complete(&mut self) {
        for (_, response, waiter) in self.answered.drain(..) {
            if let Some(waiter) = waiter {
                waiter.complete(Ok(response));
            }
        }
        if self.answered.capacity() > MOST_ANSWERED {
            self.answered = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of so many polls of one microsecond each are timed, all in one batch.
    fn timed(batch: &mut Batch, start: Instant, n: u32) -> Vec<bool> {
        let mut now = start;
        let mut poll = |_| {
            let is_timed = batch.times_next();
            if is_timed {
                batch.begins(|| now);
            }
            now += Duration::from_micros(1);
            if is_timed {
                assert_eq!(batch.took(now), Duration::from_micros(1));
            }
            is_timed
        };
        (0..n).map(&mut poll).collect()
    }

    #[test]
    fn some_polls_of_quick_methods_are_timed_and_nothing_keeps_step_with_them() {
        let mut batch = Batch::default();
        let start = Instant::now();
        batch.begin(Some(start));
        let timed = timed(&mut batch, start, 8000);
        let n_timed = timed.iter().filter(|timed| **timed).count();
        assert!((800..1200).contains(&n_timed), "{n_timed}");
        // One of two, three, ... that take turns as often as the others.
        for length in 2..10 {
            for phase in 0..length {
                let n = timed.iter().skip(phase).step_by(length).filter(|timed| **timed).count();
                assert!(n * length > n_timed / 2, "{n} of {n_timed} at {phase} of {length}");
            }
        }
        // No time is lost before the last one that was timed.
        let last = timed.iter().rposition(|timed| *timed).unwrap();
        assert_eq!(batch.spent, Duration::from_micros(last as u64 + 1));
    }

    #[test]
    fn where_those_that_are_not_timed_took_long_the_next_ones_are() {
        let mut batch = Batch { n_skipped: 3, ..Batch::default() };
        let start = Instant::now();
        batch.begin(Some(start));
        assert_eq!([(); 4].map(|()| batch.times_next()), [false, false, false, true]);
        let long = pace::QUICK + Duration::from_nanos(1);
        batch.begins(|| start + long);
        // It took no time itself, but the batch has.
        assert_eq!((batch.took(start + long), batch.spent), (Duration::ZERO, long));
        batch.n_skipped = 3;
        assert!((0..WATCHED).all(|_| batch.times_next()));
        assert!(!batch.times_next());
        // What was begun anew, or was no method's time, is nobody's.
        for forget in [|batch: &mut Batch| batch.begin(None), Batch::forget_time] {
            let mut batch = Batch { n_skipped: 1, ..Batch::default() };
            batch.begin(Some(start));
            assert!(!batch.times_next());
            forget(&mut batch);
            batch.begins(|| start + long);
            assert_eq!((batch.n_watched, batch.spent), (0, Duration::ZERO));
        }
    }
}
