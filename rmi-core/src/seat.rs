//! Where the future of an `async` method is while it runs: in a box, which serves the next call of that method too.
//!
//! A future must not move once it has been polled, so each call would take memory and give it back. What a thread keeps
//! instead are boxes in which nothing is left. There are some places for them, found by size: the box that comes last has
//! its place, and a method of another type takes a box of its own.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::message::Response;

/// How many boxes a thread keeps, and how large they may be.
const N_KEPT: usize = 16;
const MOST_BYTES: usize = 1 << 10;

type Seat = Pin<Box<dyn Taken>>;

thread_local! {
    /// Boxes in which nothing is left, each at the place of its size.
    static KEPT: [Cell<Option<Seat>>; N_KEPT] = const { [const { Cell::new(None) }; N_KEPT] };
}

/// The future of a method, or what is left of it.
pub struct MethodFuture(Seat);

impl fmt::Debug for MethodFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MethodFuture")
    }
}

impl MethodFuture {
    /// One that was not polled yet.
    pub(crate) fn new<F: Future<Output = Response> + Send + 'static>(future: F) -> Self {
        let mut next = Some(future);
        if let Some(mut seat) = take(size_of::<Option<F>>())
            && seat.as_mut().take(&mut next)
        {
            return Self(seat);
        }
        Self(Box::pin(next))
    }

    /// Polls the method, unless it has ended. When it ends, its response is there, and it is dropped at once; also if that
    /// panics, nothing is left of it then.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, response: &mut Option<Response>) {
        self.0.as_mut().poll(context, response);
    }

    /// Drops the method, if it has not ended. Also if that panics, nothing is left of it.
    pub(crate) fn clear(&mut self) {
        self.0.as_mut().clear();
    }

    /// Keeps the box for the next one. Nothing is left of the method.
    pub(crate) fn keep(self) {
        let size = size_of_val(&*self.0);
        if size <= MOST_BYTES {
            // A thread that is ending keeps none.
            let _ = KEPT.try_with(|kept| kept[place(size)].set(Some(self.0)));
        }
    }
}

fn take(size: usize) -> Option<Seat> {
    if size > MOST_BYTES {
        return None;
    }
    KEPT.try_with(|kept| kept[place(size)].take()).ok().flatten()
}

fn place(size: usize) -> usize {
    size / 8 % N_KEPT
}

/// A method that has taken its seat, or an empty seat.
trait Taken: Send {
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>, response: &mut Option<Response>);

    fn clear(self: Pin<&mut Self>);

    /// Takes in what is in `next`, if it is of the type that has its seat here.
    fn take(self: Pin<&mut Self>, next: &mut dyn Any) -> bool;
}

impl<F: Future<Output = Response> + Send + 'static> Taken for Option<F> {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, response: &mut Option<Response>) {
        if let Some(future) = self.as_mut().as_pin_mut()
            && let Poll::Ready(ready) = future.poll(context)
        {
            *response = Some(ready);
            self.set(None);
        }
    }

    fn clear(mut self: Pin<&mut Self>) {
        self.set(None);
    }

    fn take(mut self: Pin<&mut Self>, next: &mut dyn Any) -> bool {
        let Some(next) = next.downcast_mut::<Self>() else { return false };
        self.set(next.take());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::reply::reply_value;

    /// Polled once, what comes of it.
    fn poll(method: &mut MethodFuture) -> Option<Vec<u8>> {
        let mut response = None;
        method.poll(&mut Context::from_waker(Waker::noop()), &mut response);
        match response? {
            Response::Value(payload) => Some(payload.body().to_vec()),
            Response::Exception(exception) => panic!("{exception:?}"),
        }
    }

    fn place_of(method: &MethodFuture) -> *const u8 {
        (&raw const *method.0).cast()
    }

    fn n_kept() -> usize {
        let is_kept = |place: &Cell<Option<Seat>>| {
            let seat = place.take();
            let is_kept = seat.is_some();
            place.set(seat);
            is_kept
        };
        KEPT.with(|kept| kept.iter().filter(|place| is_kept(place)).count())
    }

    /// Methods of one type, with room for so many bytes.
    fn method<const N: usize>(answer: u8, held: &Arc<()>) -> MethodFuture {
        let (held, room) = (Arc::clone(held), [answer; N]);
        MethodFuture::new(async move {
            let _held = held;
            ready(()).await;
            reply_value(room[N - 1])
        })
    }

    #[test]
    fn the_next_method_of_a_kind_takes_the_same_seat() {
        let held = Arc::new(());
        let mut first = method::<8>(1, &held);
        let mut second = method::<8>(2, &held);
        assert_eq!((poll(&mut first), poll(&mut second)), (Some(vec![1]), Some(vec![2])));
        assert_eq!(Arc::strong_count(&held), 1, "what has ended is dropped at once");
        // It is polled no more.
        assert_eq!(poll(&mut first), None);
        let place = place_of(&first);
        first.keep();
        assert_eq!(n_kept(), 1);
        let mut third = method::<8>(3, &held);
        assert_eq!((place_of(&third), n_kept()), (place, 0));
        assert_eq!(poll(&mut third), Some(vec![3]));
        // Two of a kind: one box is enough.
        second.keep();
        third.keep();
        assert_eq!(n_kept(), 1);
    }

    #[test]
    fn methods_of_the_same_size_are_told_apart() {
        fn one(answer: u8) -> MethodFuture {
            MethodFuture::new(async move { reply_value(answer) })
        }
        fn other(answer: u8) -> MethodFuture {
            MethodFuture::new(async move { reply_value(answer + 100) })
        }
        for _ in 0..3 {
            for (make, expected) in [(one as fn(u8) -> MethodFuture, 5), (other, 105), (one, 5)] {
                let mut method = make(5);
                assert_eq!(poll(&mut method), Some(vec![expected]));
                method.keep();
                assert_eq!(n_kept(), 1);
            }
        }
    }

    #[test]
    fn only_small_seats_are_kept() {
        let held = Arc::new(());
        for (mut method, is_kept) in [(method::<900>(1, &held), true), (method::<1100>(1, &held), false)] {
            let n_before = n_kept();
            poll(&mut method);
            method.keep();
            assert_eq!(n_kept() - n_before, usize::from(is_kept));
        }
        assert_eq!(poll(&mut method::<1100>(7, &held)), Some(vec![7]));
    }

    #[test]
    fn nothing_is_left_of_a_method_that_panics_when_it_is_dropped() {
        struct Panics(bool);
        impl Drop for Panics {
            fn drop(&mut self) {
                assert!(!self.0, "asked to");
            }
        }
        fn method(panics: bool) -> MethodFuture {
            let panics = Panics(panics);
            MethodFuture::new(async move {
                let _panics = panics;
                reply_value(9)
            })
        }
        // When it ends, and before it was polled.
        for end in [|method: &mut MethodFuture| drop(poll(method)), MethodFuture::clear] {
            let mut panicking = method(true);
            assert!(catch_unwind(AssertUnwindSafe(|| end(&mut panicking))).is_err());
            panicking.clear();
            panicking.keep();
            assert_eq!(n_kept(), 1);
            assert_eq!(poll(&mut method(false)), Some(vec![9]));
        }
    }
}
