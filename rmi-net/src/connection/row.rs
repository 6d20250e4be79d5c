//! The calls that wait for room on a connection, in the order in which they were begun: the first goes first.
//!
//! Only the first of the row is woken, and it keeps its place until it has gone out or is given up. So a call that finds
//! too little room is not overtaken by the ones behind it, and calls of a serial service leave in their order.
//!
//! A call that nobody polls (it was sent, and is not awaited yet) cannot go out, and holds nobody up: the ones behind it
//! pass.
//!
//! What a running method needs goes before the rest, which may wait until that method has ended.

use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Row {
    /// A waker is there once a call was polled.
    places: BTreeMap<Place, Option<Waker>>,
    next: u64,
}

/// A place in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    is_behind_methods: bool,
    number: u64,
}

impl Row {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a call that comes now has others before it.
    pub(super) fn is_before(&self, is_nested: bool) -> bool {
        self.polled().next().is_some_and(|(first, _)| !is_nested || !first.is_behind_methods)
    }

    /// Takes the last place, of those of running methods if it is made by one.
    pub(super) fn join(&mut self, is_nested: bool) -> Place {
        self.next += 1;
        let place = Place { is_behind_methods: !is_nested, number: self.next };
        self.places.insert(place, None);
        place
    }

    /// Leaves the row.
    pub(super) fn leave(&mut self, place: Place) {
        self.places.remove(&place);
    }

    pub(super) fn is_first(&self, place: Place) -> bool {
        self.polled().next().is_none_or(|(first, _)| place <= *first)
    }

    /// Waits on: the waker is kept.
    pub(super) fn wait(&mut self, place: Place, waker: &Waker) {
        match self.places.get_mut(&place) {
            Some(Some(kept)) => kept.clone_from(waker),
            Some(kept) => *kept = Some(waker.clone()),
            None => {}
        }
    }

    /// The waker of the first, to be woken when the lock is given back.
    #[must_use = "it has to be woken"]
    pub(super) fn first(&self) -> Option<Waker> {
        self.polled().next().map(|(_, waker)| waker.clone())
    }

    /// The wakers of all.
    #[must_use = "they have to be woken"]
    pub(super) fn all(&self) -> Vec<Waker> {
        self.polled().map(|(_, waker)| waker.clone()).collect()
    }

    fn polled(&self) -> impl Iterator<Item = (&Place, &Waker)> {
        self.places.iter().filter_map(|(place, waker)| Some((place, waker.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::wake_count::WakeCount;
    use super::*;

    #[test]
    fn who_was_woken_in_vain_stays_the_first() {
        let mut row = Row::default();
        let (first, second) = (row.join(false), row.join(false));
        let (woken, other) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
        row.wait(second, &other.clone().into());
        for n in 1..4 {
            row.wait(first, &woken.clone().into());
            row.first().unwrap().wake();
            assert!(row.is_first(first) && !row.is_first(second));
            assert_eq!((woken.get(), other.get()), (n, 0));
        }
        row.leave(first);
        row.first().unwrap().wake();
        assert_eq!(other.get(), 1);
        assert_eq!((row.len(), row.all().len()), (1, 1));
    }

    #[test]
    fn calls_of_methods_go_before_the_others_and_keep_their_order() {
        let mut row = Row::default();
        assert!(!row.is_before(false) && !row.is_before(true));
        let (other, nested, next) = (row.join(false), row.join(true), row.join(true));
        for place in [other, nested, next] {
            row.wait(place, Waker::noop());
        }
        assert!(row.is_before(false) && row.is_before(true));
        for place in [nested, next, other] {
            assert!(row.is_first(place));
            row.leave(place);
        }
        let last = row.join(false);
        row.wait(last, Waker::noop());
        assert!(row.is_before(false) && !row.is_before(true));
    }

    #[test]
    fn who_is_not_polled_holds_nobody_up() {
        let mut row = Row::default();
        let (unpolled, polled) = (row.join(false), row.join(false));
        assert!(!row.is_before(false) && row.first().is_none());
        row.wait(polled, Waker::noop());
        assert!(row.is_first(polled) && row.first().is_some());
        // It has its place before the others all the same.
        assert!(row.is_first(unpolled));
        row.wait(unpolled, Waker::noop());
        assert!(!row.is_first(polled));
    }
}
