//! The calls of this side that wait for an answer, found by the id of their request.
//!
//! Ids count up and are never used again, but they may skip: an id is taken only if its place in the table, given by
//! its low bits, is free. So a call is found with one look, a long call does not get in the way of later ones, and
//! nothing is allocated for a call while the table has room.
//!
//! Invariants: an id stands in at most one place; a call leaves the table when it ends, or its caller is gone. The
//! earliest deadline may be that of a call that has ended: then the keeper looks once in vain.

use std::time::Instant;

use rmi_core::transport::Outcome;

use super::completion::Waiter;
use crate::mutant::{self, Mutant};

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// In the queue: its bytes lie between these positions of the outgoing stream.
    Queued { start: u64, end: u64 },
    /// Being sent in parts, the last of which has not been written.
    InParts,
    /// The last byte was given to the system.
    Sent,
}

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) deadline: Option<Instant>,
    pub(super) progress: Progress,
    pub(super) one_way: bool,
    pub(super) no_cancel: bool,
    /// The answer is coming in parts.
    pub(super) is_answer_open: bool,
    /// `None` if its caller is gone, and it goes out all the same.
    pub(super) waiter: Option<Waiter>,
}

impl PendingCall {
    pub(super) fn new(
        deadline: Option<Instant>,
        progress: Progress,
        one_way: bool,
        no_cancel: bool,
        waiter: Waiter,
    ) -> Self {
        Self { deadline, progress, one_way, no_cancel, is_answer_open: false, waiter: Some(waiter) }
    }
}

/// A call that has just ended, and how.
#[derive(Debug)]
#[must_use = "its caller has to be told"]
pub(super) struct EndedCall {
    waiter: Option<Waiter>,
    outcome: Outcome,
}

impl EndedCall {
    /// Tells its caller, when the locks are given back.
    pub(super) fn tell(self) {
        if let Some(waiter) = self.waiter {
            waiter.complete(self.outcome);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A power of two of places, or none.
    places: Vec<Option<(u64, PendingCall)>>,
    n_calls: usize,
    last_id: u64,
    earliest: Option<Instant>,
}

/// Enough for one call at a time: a connection on which there are no more keeps using the same memory.
const FEWEST_PLACES: usize = 2;
/// An empty table that is larger than this is given back.
const KEPT_PLACES: usize = 64;

impl Pending {
    /// The id that the next call will have.
    pub(super) fn next_id(&mut self) -> u64 {
        // At most half of the places are taken, so a free one is near.
        if (self.n_calls + 1) * 2 > self.places.len() {
            self.grow();
        }
        let mut id = self.last_id + 1;
        while self.places[self.place(id)].is_some() {
            id += 1;
        }
        id
    }

    /// Adds a call under the id that [`next_id`](Self::next_id) gave.
    pub(super) fn insert(&mut self, id: u64, call: PendingCall) {
        if let Some(deadline) = call.deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        let place = self.place(id);
        debug_assert!(self.places[place].is_none());
        self.places[place] = Some((id, call));
        self.last_id = id;
        self.n_calls += 1;
    }

    /// The greatest id that was given out.
    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Calls that have not ended.
    pub(super) fn len(&self) -> usize {
        self.n_calls
    }

    /// A moment before which no deadline passes.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// The answer to a call begins to come in parts. Whether the call still waits for it.
    pub(super) fn open_answer(&mut self, id: u64) -> bool {
        match self.get_mut(id) {
            Some(call) => {
                call.is_answer_open = true;
                true
            }
            None => false,
        }
    }

    /// The place of a call in the table.
    fn find(&self, id: u64) -> Option<usize> {
        let place = self.place(id);
        let (found, _) = self.places.get(place)?.as_ref()?;
        (*found == id || mutant::is(Mutant::LateAnswerTakenForAnother)).then_some(place)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut PendingCall> {
        let place = self.find(id)?;
        self.places[place].as_mut().map(|(_, call)| call)
    }

    /// Ends a call. `None` if it has ended before or is gone.
    pub(super) fn end(&mut self, id: u64, outcome: Outcome) -> Option<EndedCall> {
        Some(EndedCall { waiter: self.remove(id)?.waiter, outcome })
    }

    /// Takes a call out of the table.
    pub(super) fn remove(&mut self, id: u64) -> Option<PendingCall> {
        let place = self.find(id)?;
        let (_, call) = self.places[place].take()?;
        self.n_calls -= 1;
        Some(call)
    }

    /// The calls for which `wanted` holds.
    pub(super) fn ids(&self, mut wanted: impl FnMut(u64, &PendingCall) -> bool) -> Vec<u64> {
        let calls = self.places.iter().flatten();
        let mut ids: Vec<u64> = calls.filter(|(id, call)| wanted(*id, call)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Finds the earliest deadline anew.
    pub(super) fn find_earliest(&mut self) {
        self.earliest = self.places.iter().flatten().filter_map(|(_, call)| call.deadline).min();
    }

    /// Gives memory back that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        if self.n_calls == 0 && self.places.len() > KEPT_PLACES {
            self.places = Vec::new();
        }
    }

    fn place(&self, id: u64) -> usize {
        id as usize & self.places.len().saturating_sub(1)
    }

    fn grow(&mut self) {
        let n_places = (self.places.len() * 2).max(FEWEST_PLACES);
        let mut places = Vec::new();
        places.resize_with(n_places, || None);
        let old = std::mem::replace(&mut self.places, places);
        for (id, call) in old.into_iter().flatten() {
            // Two calls that had different places have different ones in a table of twice the size.
            let place = self.place(id);
            self.places[place] = Some((id, call));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::completion::Completion;
    use super::*;

    fn call() -> PendingCall {
        PendingCall::new(None, Progress::Sent, false, false, Waiter::new(Completion::new(), None))
    }

    #[test]
    fn a_long_call_does_not_get_in_the_way_of_later_ones() {
        let mut pending = Pending::default();
        let long = pending.next_id();
        pending.insert(long, call());
        // Fewer where Miri runs them, which is slow.
        for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
            let id = pending.next_id();
            pending.insert(id, call());
            assert!(pending.remove(id).is_some() && pending.remove(id).is_none());
        }
        assert_eq!(pending.places.len(), 2 * FEWEST_PLACES, "room for two");
        assert!(pending.get_mut(long).is_some());
        assert_eq!(pending.len(), 1);
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((0u8..3, 0usize..64), 1..if cfg!(miri) { 60 } else { 400 })) {
            let mut pending = Pending::default();
            let mut model: BTreeSet<u64> = BTreeSet::new();
            let mut last = 0;
            for (step, which) in steps {
                match (step, model.iter().copied().nth(which % model.len().max(1))) {
                    (0 | 1, _) => {
                        let id = pending.next_id();
                        prop_assert!(id > last);
                        last = id;
                        pending.insert(id, call());
                        model.insert(id);
                    }
                    (_, Some(id)) => {
                        prop_assert!(pending.remove(id).is_some() && pending.remove(id).is_none());
                        model.remove(&id);
                    }
                    _ => {}
                }
                prop_assert_eq!(pending.len(), model.len());
                prop_assert_eq!(pending.ids(|_, _| true), Vec::from_iter(model.iter().copied()));
                prop_assert!(pending.get_mut(last + 1).is_none());
            }
        }
    }
}
