//! What one peer may use of this node, over all of its connections.
//!
//! Each instance has one [`PeerBudget`], which its connections share: who connects twice has no more memory and no more
//! mistakes than who connects once. Running calls are bounded for each connection, and for all of them together by twice
//! as many: of two connections that were dialled at once the one that winds down still has calls, and none of them fails
//! for it.
//!
//! A [`Bucket`] bounds what costs the peer little and this node more. It is pure: whoever takes from it says the time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rmi_core::hello::InstanceId;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// So many at once, and so many in each second from then on.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    most: u32,
    interval: Duration,
    /// When it will be full again; `None` if it has always been.
    full_at: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(most: u32, per_second: u32) -> Self {
        Self { most, interval: Duration::from_nanos(1_000_000_000 / per_second as u64), full_at: None }
    }

    /// Takes one. Whether there was one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let is_there = self.next_at(now) <= now;
        if is_there {
            self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + self.interval);
        }
        is_there
    }

    /// When there will be one to take: `now`, or later.
    pub(crate) fn next_at(&self, now: Instant) -> Instant {
        let missing = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        now + (missing + self.interval).saturating_sub(self.interval * self.most)
    }
}

/// What a peer may do wrong, or too often, before its connections are closed.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Cancels. More than an honest peer can need: the permits of methods are what really bounds it.
    pub(crate) cancels: Bucket,
    /// Requests that cannot be read.
    pub(crate) bad_requests: Bucket,
    /// Answers that cannot be read: each makes this side end a call.
    pub(crate) bad_answers: Bucket,
}

/// What one peer uses, over all of its connections.
#[derive(Debug)]
pub(crate) struct PeerBudget {
    n_running: AtomicUsize,
    memory: AtomicUsize,
    patience: Mutex<Patience>,
}

impl PeerBudget {
    fn new() -> Self {
        let patience = Patience {
            cancels: Bucket::new(10_000, 2_000),
            bad_requests: Bucket::new(100, 10),
            bad_answers: Bucket::new(100, 10),
        };
        Self { n_running: AtomicUsize::new(0), memory: AtomicUsize::new(0), patience: Mutex::new(patience) }
    }

    /// Whether there is a place for a call, and the memory that it needs.
    ///
    /// # Errors
    /// Why there is none, in words. One call always finds memory where no other holds any.
    pub(crate) fn look(&self, n_most: usize, memory: usize, most: usize) -> Result<(), String> {
        let (n_running, held) = (self.n_running.load(Ordering::Acquire), self.memory());
        match () {
            () if n_running >= n_most => Err(too_many_calls(n_running)),
            () if !fits(held, memory, most) => Err(too_much_memory(held, memory, most)),
            () => Ok(()),
        }
    }

    /// Takes a place for a call and the memory that it needs, until they are [given back](Self::give_back).
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(crate) fn take(&self, n_most: usize, memory: usize, most: usize) -> Result<(), String> {
        let (add, sub) = (Ordering::AcqRel, Ordering::Acquire);
        let count = self.n_running.fetch_update(add, sub, |n| (n < n_most).then_some(n + 1));
        if let Err(n) = count {
            return Err(too_many_calls(n));
        }
        let held =
            self.memory.fetch_update(add, sub, |held| fits(held, memory, most).then(|| held.saturating_add(memory)));
        let Err(held) = held else { return Ok(()) };
        self.give_back(0);
        Err(too_much_memory(held, memory, most))
    }

    /// The same for a call that has begun already, when there [was](Self::look) enough: others may have taken it since.
    pub(crate) fn take_begun(&self, memory: usize) {
        self.n_running.fetch_add(1, Ordering::AcqRel);
        self.memory.fetch_add(memory, Ordering::AcqRel);
    }

    /// Gives back what a call has taken, once.
    pub(crate) fn give_back(&self, memory: usize) {
        self.memory.fetch_sub(memory, Ordering::AcqRel);
        self.n_running.fetch_sub(1, Ordering::AcqRel);
    }

    /// The memory that its calls hold.
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Acquire)
    }

    /// Looks at what is left of the patience with this peer.
    pub(crate) fn patience<T>(&self, look: impl FnOnce(&mut Patience) -> T) -> T {
        look(&mut lock(&self.patience))
    }
}

/// One call always fits where no other holds any.
fn fits(held: usize, memory: usize, most: usize) -> bool {
    held == 0 || held.saturating_add(memory) <= most
}

fn too_much_memory(held: usize, memory: usize, most: usize) -> String {
    format!(
        "the calls of this caller hold {held} bytes and may hold {most}, and this one needs {memory} more: send less at \
         once, or raise `Limits::with_memory_per_peer` on the called node"
    )
}

/// What a peer is told that is at its limit of calls.
pub(crate) fn too_many_calls(n_running: usize) -> String {
    format!(
        "{n_running} calls of this caller run already: await some of them first, or raise \
         `Limits::with_calls_per_peer` on the called node"
    )
}

/// The budgets of the peers that have connections. One without any is forgotten.
#[derive(Debug, Default)]
pub(crate) struct PeerBudgets(Mutex<HashMap<InstanceId, Weak<PeerBudget>>>);

impl PeerBudgets {
    /// The budget of a peer, for a new connection to it.
    pub(crate) fn of(&self, peer: InstanceId) -> Arc<PeerBudget> {
        let mut budgets = lock(&self.0);
        if let Some(budget) = budgets.get(&peer).and_then(Weak::upgrade) {
            return budget;
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(PeerBudget::new());
        budgets.insert(peer, Arc::downgrade(&budget));
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_so_many_at_once_and_so_many_in_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10);
        let take_all = |bucket: &mut Bucket, now| std::iter::from_fn(|| bucket.take(now).then_some(())).count();
        assert_eq!(take_all(&mut bucket, start), 100);
        assert_eq!(bucket.next_at(start), start + Duration::from_millis(100));
        assert_eq!(take_all(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(take_all(&mut bucket, start + Duration::from_millis(100)), 1);
        assert_eq!(take_all(&mut bucket, start + Duration::from_millis(1100)), 10);
        // It never holds more than it did at first.
        assert_eq!(take_all(&mut bucket, start + Duration::from_secs(3600)), 100);
        assert_eq!(bucket.next_at(start + Duration::from_secs(7200)), start + Duration::from_secs(7200));
    }

    #[test]
    fn a_budget_is_exact_at_its_limits_and_given_back() {
        let budgets = PeerBudgets::default();
        let budget = budgets.of(InstanceId(1));
        (0..3).for_each(|_| budget.take(3, 10, 30).unwrap());
        assert!(budget.take(3, 0, 30).unwrap_err().contains("3 calls"));
        assert!(budget.take(4, 1, 30).unwrap_err().contains("30 bytes"));
        // A call that was refused for want of memory has given its place back.
        budget.take(4, 0, 30).unwrap();
        budget.give_back(0);
        (0..3).for_each(|_| budget.give_back(10));
        // However large, one fits an empty budget; a second does not.
        budget.take(3, 1000, 30).unwrap();
        assert!(budget.take(3, 1, 30).is_err());
        budget.give_back(1000);
        assert_eq!((budget.n_running.load(Ordering::Acquire), budget.memory.load(Ordering::Acquire)), (0, 0));
    }

    #[test]
    fn a_look_says_what_taking_would_and_takes_nothing() {
        let budget = PeerBudget::new();
        for (n_most, memory) in [(1, 1), (0, 1), (2, 30), (2, 31), (1, 0), (3, 20)] {
            let look = budget.look(n_most, memory, 30);
            assert_eq!(look, budget.take(n_most, memory, 30), "{n_most}, {memory}");
        }
        // Who has begun takes what others may have taken meanwhile.
        budget.take_begun(100);
        assert!(budget.look(usize::MAX, 1, 30).unwrap_err().contains("more"));
        budget.give_back(100);
        budget.look(4, 0, 30).unwrap();
    }

    #[test]
    fn the_connections_of_one_peer_share_a_budget_and_it_ends_with_them() {
        let budgets = PeerBudgets::default();
        let (one, same, other) = (budgets.of(InstanceId(1)), budgets.of(InstanceId(1)), budgets.of(InstanceId(2)));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop((one, same));
        drop(budgets.of(InstanceId(3)));
        assert_eq!(lock(&budgets.0).len(), 2);
    }
}
