//! Buffers of large messages, kept for those that come next.
//!
//! A large message is put together in a buffer of its own. Fresh memory costs more than to fill it: the system hands out
//! each page at its first touch. So a buffer comes back here when the last bytes in it are dropped, wherever that is, and
//! the next message of about its size takes it, of whichever peer that is. To take and to give is one short lock.
//!
//! What must stay true: what waits here is bounded in bytes, and goes when no message has taken it for a while. A message
//! gets a buffer that is at most a quarter larger than it needs, for who keeps its bytes keeps all of the buffer. Nothing
//! is allocated here: a message that was announced and does not come holds no memory that was not in use before. The lock
//! is the last that is taken, for bytes are dropped under any other; buffers are freed when it is given back.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sync::{Mutex, lock};

/// Smaller ones are not worth it: the allocator keeps them for itself.
const LEAST: usize = 256 << 10;
/// How long a buffer waits for a message, from when it was first seen to wait.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// See the module. Owned by the readers of a node's connections together: with the last of them it is gone, and a buffer
/// that comes back later is freed.
#[derive(Debug)]
pub(crate) struct Spares {
    /// Bytes that wait at most.
    most: usize,
    /// In the order in which they came.
    kept: Mutex<Vec<Spare>>,
}

#[derive(Debug)]
struct Spare {
    bytes: Vec<u8>,
    /// When it was first seen to wait. Whoever drops bytes knows no time.
    seen_at: Option<Instant>,
}

impl Spares {
    /// None yet, and so many bytes of them at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// An empty buffer with room for `n_bytes`, and for a quarter more at most: the smallest one that waits, and of equal
    /// ones the latest.
    pub(crate) fn take(&self, n_bytes: usize) -> Option<Vec<u8>> {
        let fits = n_bytes..=n_bytes.saturating_add(n_bytes / 4);
        let mut kept = lock(&self.kept);
        let fitting = kept.iter().enumerate().rev().filter(|(_, spare)| fits.contains(&spare.bytes.capacity()));
        let (idx, _) = fitting.min_by_key(|(_, spare)| spare.bytes.capacity())?;
        Some(kept.remove(idx).bytes)
    }

    /// A buffer that is not needed any more. Those that have waited longest make room for it.
    pub(crate) fn give(&self, mut bytes: Vec<u8>) {
        if !(LEAST..=self.most).contains(&bytes.capacity()) {
            return;
        }
        bytes.clear();
        let mut kept = lock(&self.kept);
        kept.push(Spare { bytes, seen_at: None });
        let mut n_bytes = 0;
        let fits = |spare: &&Spare| {
            n_bytes += spare.bytes.capacity();
            n_bytes <= self.most
        };
        let n_beyond = kept.len() - kept.iter().rev().take_while(fits).count();
        let beyond: Vec<_> = kept.drain(..n_beyond).collect();
        drop(kept);
        drop(beyond);
    }

    /// The bytes of a message, whose buffer comes back with the last of them.
    pub(crate) fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        match bytes.capacity() {
            ..LEAST => Bytes::from(bytes),
            _ => Bytes::from_owner(Lent { bytes, home: Arc::downgrade(self) }),
        }
    }

    /// Lets go of those that have waited for long. When to look again, for whoever was the first to see one wait.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut is_first = false;
        let is_over = |spare: &mut Spare| {
            let seen_at = *spare.seen_at.get_or_insert_with(|| {
                is_first = true;
                now
            });
            now.saturating_duration_since(seen_at) >= KEPT_FOR
        };
        let over: Vec<_> = lock(&self.kept).extract_if(.., is_over).collect();
        drop(over);
        is_first.then(|| now + KEPT_FOR)
    }
}

/// A buffer whose bytes somebody has.
struct Lent {
    bytes: Vec<u8>,
    home: Weak<Spares>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.give(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn buffer(capacity: usize) -> Vec<u8> {
        Vec::with_capacity(capacity)
    }

    fn kept(spares: &Spares) -> Vec<usize> {
        lock(&spares.kept).iter().map(|spare| spare.bytes.capacity()).collect()
    }

    #[test]
    fn a_buffer_comes_back_empty_with_the_last_bytes_of_its_message() {
        let spares = Arc::new(Spares::new(8 * MIB));
        let bytes = spares.lend(vec![7; MIB]);
        let (address, part) = (bytes.as_ptr(), bytes.slice(5..10));
        drop(bytes);
        assert_eq!(kept(&spares), []);
        assert_eq!(part, [7; 5][..]);
        drop(part);
        let again = spares.take(MIB).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert_eq!(spares.take(MIB), None);
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_none_that_is_much_too_large() {
        let spares = Spares::new(64 * MIB);
        [8 * MIB, 5 * MIB, 4 * MIB, 2 * MIB].into_iter().for_each(|capacity| spares.give(buffer(capacity)));
        assert_eq!(spares.take(4 * MIB).unwrap().capacity(), 4 * MIB);
        assert_eq!(spares.take(4 * MIB).unwrap().capacity(), 5 * MIB);
        assert_eq!(spares.take(4 * MIB), None);
        assert_eq!(spares.take(300 << 10), None);
        assert_eq!(kept(&spares), [8 * MIB, 2 * MIB]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_has_waited_longest_goes_first() {
        let spares = Arc::new(Spares::new(8 * MIB));
        [3, 4, 1].into_iter().for_each(|n| spares.give(buffer(n * MIB)));
        spares.give(buffer(2 * MIB));
        assert_eq!(kept(&spares), [4 * MIB, MIB, 2 * MIB]);
        spares.give(buffer(8 * MIB));
        assert_eq!(kept(&spares), [8 * MIB]);
        // Neither what is small nor what would not fit by itself.
        spares.give(buffer(LEAST - 1));
        spares.give(buffer(8 * MIB + 1));
        drop(spares.lend(vec![1; LEAST - 1]));
        assert_eq!(kept(&spares), [8 * MIB]);
    }

    #[test]
    fn what_nobody_takes_is_let_go_after_a_while() {
        let spares = Spares::new(8 * MIB);
        let start = Instant::now();
        assert_eq!(spares.expire(start), None);
        spares.give(buffer(MIB));
        // It may have come long before: its time counts from the first look.
        assert_eq!(spares.expire(start + KEPT_FOR), Some(start + 2 * KEPT_FOR));
        spares.give(buffer(2 * MIB));
        let just_before = start + 2 * KEPT_FOR - Duration::from_millis(1);
        assert_eq!(spares.expire(just_before), Some(just_before + KEPT_FOR));
        assert_eq!(kept(&spares), [MIB, 2 * MIB]);
        assert_eq!(spares.expire(start + 2 * KEPT_FOR), None);
        assert_eq!(kept(&spares), [2 * MIB]);
        // Of equal ones the latest is in use, so those that are not needed go.
        spares.give(buffer(2 * MIB));
        spares.give(spares.take(2 * MIB).unwrap());
        spares.expire(start + 3 * KEPT_FOR);
        assert_eq!(kept(&spares), [2 * MIB]);
    }

    #[test]
    fn what_comes_back_when_its_home_is_gone_is_freed() {
        let spares = Arc::new(Spares::new(8 * MIB));
        let bytes = spares.lend(vec![7; MIB]);
        let home = Arc::downgrade(&spares);
        drop(spares);
        assert!(home.upgrade().is_none());
        assert_eq!(bytes[MIB - 1], 7);
        drop(bytes);
    }
}
