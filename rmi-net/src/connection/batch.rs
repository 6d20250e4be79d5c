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
const TIMED_TOGETHER: u32 = 8;
/// Where they took long together, so many are timed one by one.
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
    /// Polls of quick methods since one was timed, and how many of those to come are timed one by one.
    n_untimed: u32,
    n_watched: u32,
}

impl Batch {
    /// Begins, with nothing in it. `now`, if it is known.
    pub(super) fn begin(&mut self, now: Option<Instant>) {
        self.now = now;
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

    /// The time, read once for the end of one method and the beginning of the next.
    pub(super) fn now(&mut self, read: impl FnOnce() -> Instant) -> Instant {
        *self.now.get_or_insert_with(read)
    }

    /// What comes next is no method's time.
    pub(super) fn forget_time(&mut self) {
        self.now = None;
    }

    /// A method has ended, or waits, that began at the time which is [known](Self::now). How long it took.
    pub(super) fn took(&mut self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.now.unwrap_or(now));
        self.now = Some(now);
        self.spent += took;
        took
    }

    /// The same for a method that was quick so far: most are not timed, for to read the clock takes longer than many of
    /// them. When one is, then with those before it, whose time is not lost; where that is more than one quick poll may
    /// take, the next ones are timed one by one. `None` if it is not known of this one.
    pub(super) fn took_sometimes(&mut self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        self.n_untimed += 1;
        if self.n_watched == 0 && self.n_untimed < TIMED_TOGETHER {
            return None;
        }
        let took = self.took(now());
        let is_alone = std::mem::take(&mut self.n_untimed) == 1;
        self.n_watched = if took > pace::QUICK { WATCHED } else { self.n_watched.saturating_sub(1) };
        // If it was slow, it was one of them: it is found when it is slow again.
        (is_alone || took <= pace::SLOW).then_some(took)
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
        self.now = None;
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

    /// How long each of several methods took in one batch, as far as it was told, where each took so many microseconds.
    fn told(batch: &mut Batch, micros: &[u64]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut now = start;
        batch.begin(Some(start));
        let mut end = |micros: &u64| {
            now += Duration::from_micros(*micros);
            let told = batch.took_sometimes(|| now);
            told.map(|took| took.as_micros() as u64)
        };
        micros.iter().map(&mut end).collect()
    }

    #[test]
    fn one_of_several_quick_methods_is_timed_with_those_before_it() {
        let mut batch = Batch::default();
        let mut expected = vec![None; 9];
        expected[7] = Some(8);
        assert_eq!(told(&mut batch, &[1; 9]), expected);
        assert_eq!(batch.spent, Duration::from_micros(8));
        // Also of those that come alone.
        let alone: Vec<_> = (0..7).flat_map(|n| told(&mut batch, &[n])).collect();
        assert_eq!(alone, [None, None, None, None, None, None, Some(6)]);
    }

    #[test]
    fn where_they_took_long_together_they_are_timed_one_by_one() {
        let mut batch = Batch::default();
        let long = pace::QUICK.as_micros() as u64;
        let mut micros = vec![1; 7];
        micros.extend([long, 1, 2]);
        assert_eq!(told(&mut batch, &micros)[7..], [Some(long + 7), Some(1), Some(2)]);
        let rest = told(&mut batch, &[1; WATCHED as usize]);
        assert_eq!(rest.iter().filter(|told| told.is_some()).count(), WATCHED as usize - 2);
    }

    #[test]
    fn one_that_is_slow_among_others_is_found_the_next_time() {
        let mut batch = Batch::default();
        let slow = pace::SLOW.as_micros() as u64 + 1;
        let told = told(&mut batch, &[1, slow, 1, 1, 1, 1, 1, 1, 1, slow, 1]);
        // Nobody is blamed for what another may have done.
        assert_eq!(told[7..], [None, Some(1), Some(slow), Some(1)]);
        assert_eq!(batch.spent, Duration::from_micros(2 * slow + 9));
    }
}
