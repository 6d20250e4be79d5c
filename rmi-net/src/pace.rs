//! How long a method keeps a thread: what decides where its next call runs.
//!
//! A method that has shown to be quick is polled where its request is read, which spares a task; one that computes for
//! long moves to the compute pool, where it holds up neither connections nor other tasks. Everything else is a task of
//! its own, and so is every method at first. What a poll took is wall time, so a busy machine can make a quick method
//! look slow for a while: every step down can be taken up again. With the reader one poll in eight is timed, by chance.
//!
//! Shared by all connections, and only ever a hint: the counters are atomics without order between them.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// A poll up to this is quick.
pub(crate) const QUICK: Duration = Duration::from_micros(20);
/// A poll above this must not happen where requests are read.
const SLOW: Duration = Duration::from_micros(200);
/// A poll above this is work for the compute pool.
const HEAVY: Duration = Duration::from_micros(500);

/// So many quick polls in a row, and a method runs where its requests are read.
const PROVEN: u32 = 16;
/// Each time that it is found slow there, twice as many are needed, up to this.
const PROVEN_AT_MOST: u32 = 1024;
/// So many heavy polls, with fewer others between them, and it runs on the compute pool.
const HEAVY_POLLS: u32 = 4;
/// So many polls in a row on the compute pool that were not slow, and it is a task again.
const LIGHT_POLLS: u32 = 64;

/// Where a call of an `async` method runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a task of its own.
    Task,
    /// Where the request was read.
    Reader,
    /// Polled on the compute pool.
    Pool,
}

/// What is known of a method's polls.
#[derive(Debug)]
pub(crate) struct Pace {
    place: AtomicU8,
    /// Quick polls in a row while it is a task or runs with the reader; light ones in a row on the pool.
    in_row: AtomicU32,
    /// Quick polls in a row that are needed.
    needed: AtomicU32,
    /// Heavy polls, less others.
    heavy: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            place: AtomicU8::new(TASK),
            in_row: AtomicU32::new(0),
            needed: AtomicU32::new(PROVEN),
            heavy: AtomicU32::new(0),
        }
    }
}

const TASK: u8 = 0;
const READER: u8 = 1;
const POOL: u8 = 2;

impl Pace {
    /// Where the next call runs.
    pub(crate) fn place(&self) -> Place {
        match self.place.load(Ordering::Relaxed) {
            READER => Place::Reader,
            POOL => Place::Pool,
            _ => Place::Task,
        }
    }

    /// A poll took this long, in a call that ran there.
    pub(crate) fn polled(&self, at: Place, took: Duration) {
        match at {
            Place::Reader if took <= SLOW => {
                // Decay: who has been quick for long is forgiven. Most have nothing to forgive, and write nothing here that
                // other threads read.
                let needed = self.needed.load(Ordering::Relaxed);
                if needed <= PROVEN {
                    return;
                }
                let in_row = self.in_row.load(Ordering::Relaxed) + 1;
                if in_row < PROVEN_AT_MOST {
                    return self.in_row.store(in_row, Ordering::Relaxed);
                }
                self.in_row.store(0, Ordering::Relaxed);
                self.needed.store((needed / 2).max(PROVEN), Ordering::Relaxed);
            }
            Place::Reader => {
                self.go_to(TASK);
                let needed = self.needed.load(Ordering::Relaxed);
                self.needed.store((needed * 2).min(PROVEN_AT_MOST), Ordering::Relaxed);
                self.count_heavy(took);
            }
            Place::Task => {
                if took > QUICK {
                    self.in_row.store(0, Ordering::Relaxed);
                } else if self.in_row.fetch_add(1, Ordering::Relaxed) + 1 >= self.needed.load(Ordering::Relaxed) {
                    self.go_to(READER);
                }
                self.count_heavy(took);
            }
            Place::Pool if took > SLOW => self.in_row.store(0, Ordering::Relaxed),
            Place::Pool => {
                if self.in_row.fetch_add(1, Ordering::Relaxed) + 1 >= LIGHT_POLLS {
                    self.go_to(TASK);
                }
            }
        }
    }

    fn count_heavy(&self, took: Duration) {
        let heavy = self.heavy.load(Ordering::Relaxed);
        if took <= HEAVY {
            if heavy > 0 {
                self.heavy.store(heavy - 1, Ordering::Relaxed);
            }
        } else if heavy + 1 < HEAVY_POLLS {
            self.heavy.store(heavy + 1, Ordering::Relaxed);
        } else {
            self.go_to(POOL);
        }
    }

    fn go_to(&self, place: u8) {
        self.in_row.store(0, Ordering::Relaxed);
        self.heavy.store(0, Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);
    const MILLI: Duration = Duration::from_millis(1);

    fn after(polls: impl IntoIterator<Item = Duration>, pace: &Pace) -> Place {
        polls.into_iter().for_each(|took| pace.polled(pace.place(), took));
        pace.place()
    }

    #[test]
    fn a_method_runs_with_the_reader_once_it_has_been_quick_sixteen_times_in_a_row() {
        let pace = Pace::default();
        assert_eq!(after([MICRO; 15], &pace), Place::Task);
        assert_eq!(after([QUICK + MICRO], &pace), Place::Task);
        assert_eq!(after([MICRO; 15], &pace), Place::Task);
        assert_eq!(after([MICRO], &pace), Place::Reader);
    }

    #[test]
    fn one_slow_poll_ends_it_and_then_it_takes_longer_and_is_forgiven_in_the_end() {
        let pace = Pace::default();
        after([MICRO; 16], &pace);
        assert_eq!(after([SLOW], &pace), Place::Reader);
        assert_eq!(after([SLOW + MICRO], &pace), Place::Task);
        assert_eq!(after([MICRO; 31], &pace), Place::Task);
        assert_eq!(after([MICRO], &pace), Place::Reader);
        after([MICRO; 1024], &pace);
        after([SLOW + MICRO], &pace);
        assert_eq!(after([MICRO; 32], &pace), Place::Reader);
    }

    #[test]
    fn a_method_that_computes_goes_to_the_pool_and_comes_back_when_it_does_not() {
        let pace = Pace::default();
        assert_eq!(after([MILLI; 3], &pace), Place::Task);
        assert_eq!(after([MICRO; 3], &pace), Place::Task);
        assert_eq!(after([MILLI; 4], &pace), Place::Pool);
        assert_eq!(after([MICRO; 63], &pace), Place::Pool);
        assert_eq!(after([MILLI], &pace), Place::Pool);
        assert_eq!(after([MICRO; 64], &pace), Place::Task);
    }
}
