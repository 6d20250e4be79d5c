//! How much of large messages the peer may have under way to this end.
//!
//! The peer has credit for the bytes of parts, and gets it back as they are taken in. A fixed amount would cap a long way
//! at that much in each round trip. So the window widens to twice what arrives in the shortest round trip that was seen:
//! the product of bandwidth and delay, as gRPC and BBR estimate it, twice, so that it can still be seen to be too small.
//!
//! A round trip is the time from giving credit to the first part that could not have been sent without it. It says
//! something about the window only if the peer seems to have waited for that credit, with a gap between parts; and on a
//! short way a window is never too narrow. Parts that queue on the way leave no gap, and a peer that had nothing to send
//! makes a round trip longer than the shortest: neither widens the window.
//!
//! What is under way is what a small call has to wait behind. So while calls that are not large come beside the parts, on
//! a way that was found to be short, half of the window is in use, and credit is given in smaller portions. On others that
//! would hide, or make up, what round trips say of the window.

use std::time::{Duration, Instant};

/// The widest that a window gets by itself.
const WIDEST: u64 = 16 << 20;
/// A round trip up to this is one of a short way.
const SHORT_WAY: Duration = Duration::from_millis(1);

/// After a small call, credit is given so often before all of the window is in use again: eight times the window.
const BESIDE: u32 = 64;

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Window {
    size: u64,
    /// Bytes that the peer may still send.
    credit: u64,
    /// So many more times that credit is given, small calls are taken to come beside.
    beside: u32,
    announced: u64,
    most: u64,
    /// Bytes taken in, for which credit is due.
    taken: u64,
    /// Bytes of parts that are coming.
    coming: u64,
    /// All bytes that the peer has sent, or begun to.
    spent: u64,
    shortest: Option<Duration>,
    /// Behind a pointer: most connections never have one.
    probe: Option<Box<Probe>>,
}

/// Credit that was given, whose effect is waited for.
#[derive(Debug)]
struct Probe {
    at: Instant,
    /// What had been spent before the bytes for which it was given.
    from: u64,
    /// More than this cannot be spent without it.
    beyond: u64,
    /// When the last part began to come that could be sent without it.
    last: Instant,
}

impl Window {
    /// A window of so many bytes to begin with; at most a quarter of what is put together at once.
    pub(super) fn new(announced: usize, reassembly: usize) -> Self {
        let announced = announced as u64;
        let most = WIDEST.min(reassembly as u64 / 4).max(announced);
        Self {
            announced,
            size: announced,
            most,
            credit: announced,
            beside: 0,
            taken: 0,
            coming: 0,
            spent: 0,
            shortest: None,
            probe: None,
        }
    }

    /// A part of this length begins to come. Whether the peer had credit for it.
    pub(super) fn spend(&mut self, len: u64, now: impl FnOnce() -> Instant) -> bool {
        let Some(credit) = self.credit.checked_sub(len) else { return false };
        self.credit = credit;
        self.spent += len;
        self.coming += len;
        if let Some(probe) = &mut self.probe {
            let now = now();
            if self.spent <= probe.beyond {
                probe.last = now;
            } else if let Some(probe) = self.probe.take() {
                let Probe { at, from, last, .. } = *probe;
                let since = |earlier| now.saturating_duration_since(earlier);
                self.widen(self.spent - from, since(at), since(last));
            }
        }
        true
    }

    /// So much arrived in this time, a round trip with whatever queued on the way, at whose end nothing came for a while.
    fn widen(&mut self, arrived: u64, round_trip: Duration, gap: Duration) {
        let shortest = self.shortest.map_or(round_trip, |shortest| shortest.min(round_trip));
        self.shortest = Some(shortest);
        if shortest <= SHORT_WAY || gap * 4 < round_trip {
            return;
        }
        let wanted = 2 * u128::from(arrived) * shortest.as_nanos() / round_trip.as_nanos();
        // At most twice as wide each time.
        self.size = u64::try_from(wanted).unwrap_or(u64::MAX).min(self.size * 2).min(self.most).max(self.size);
    }

    /// A part of this length was taken in.
    pub(super) fn take(&mut self, len: u64) {
        self.taken += len;
        self.coming -= len;
    }

    /// A call or an answer that is not large has come.
    pub(super) fn note_small(&mut self) {
        self.beside = BESIDE;
    }

    /// The credit that is due to the peer, once it is half of the announced window, or an eighth if half of it is in use.
    pub(super) fn take_due(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        if self.credit >= self.size {
            return None;
        }
        let is_short = self.shortest.is_some_and(|shortest| shortest <= SHORT_WAY);
        let is_halved = self.beside > 0 && is_short && self.size == self.announced;
        let (size, least) = match is_halved {
            true => (self.announced / 2, self.announced / 8),
            false => (self.size, self.announced / 2),
        };
        let due = size.saturating_sub(self.credit + self.coming);
        if due < least {
            return None;
        }
        self.beside = self.beside.saturating_sub(1);
        let (from, beyond) = (self.spent.saturating_sub(self.taken), self.spent + self.credit);
        if self.probe.is_none() {
            let now = now();
            self.probe = Some(Box::new(Probe { at: now, from, beyond, last: now }));
        }
        self.taken = 0;
        self.credit += due;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const PART: u64 = 64 * KIB;

    /// Sends `total` from `begin` on, over a way of this round trip that passes so many bytes a second on, and takes all in
    /// at once, with something `beside` each part. When all has arrived.
    fn send(
        window: &mut Window,
        begin: Instant,
        total: u64,
        (round_trip, bytes_per_second): (Duration, u64),
        beside: impl Fn(&mut Window),
    ) -> Instant {
        let part_takes = Duration::from_nanos(PART * 1_000_000_000 / bytes_per_second);
        let (mut credit, mut now, mut way_is_free) = (window.credit, begin, begin);
        // Credit on its way to the sender.
        let mut given: std::collections::VecDeque<(Instant, u64)> = Default::default();
        let mut n_sent = 0;
        while n_sent < total {
            while given.front().is_some_and(|(at, _)| *at <= now) {
                credit += given.pop_front().unwrap().1;
            }
            if credit < PART {
                now = given.front().expect("nobody waits for ever").0;
                continue;
            }
            credit -= PART;
            n_sent += PART;
            way_is_free = way_is_free.max(now) + part_takes;
            let arrives = way_is_free + round_trip / 2;
            assert!(window.spend(PART, || arrives));
            window.take(PART);
            beside(window);
            if let Some(due) = window.take_due(|| arrives) {
                given.push_back((arrives + round_trip / 2, due));
            }
        }
        way_is_free + round_trip / 2
    }

    #[test]
    fn a_long_way_gets_a_wide_window_and_a_short_one_does_not() {
        long_and_short_ways(|_| {});
    }

    /// They would hide what it takes.
    #[test]
    fn small_calls_beside_do_not_keep_the_window_from_widening() {
        long_and_short_ways(Window::note_small);
        // Nor where what was there at first was used up, by messages that are no larger than half of it.
        let mut window = Window::new(512 << 10, 64 << 20);
        let (mut now, way) = (Instant::now(), (Duration::from_millis(50), 125_000_000));
        for _ in 0..40 {
            now = send(&mut window, now + Duration::from_millis(100), 256 * KIB, way, Window::note_small);
        }
        send(&mut window, now, 64 * MIB, way, Window::note_small);
        assert!((8 * MIB..=16 * MIB).contains(&window.size), "{}", window.size);
    }

    fn long_and_short_ways(beside: impl Fn(&mut Window)) {
        let new = || Window::new(512 << 10, 64 << 20);
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        let begin = Instant::now();
        // 1 Gbit/s over 50 ms: 6 MiB are on the way.
        let mut window = new();
        let first = send(&mut window, begin, 32 * MIB, (ms(50), 125_000_000), &beside);
        let next = send(&mut window, first, 32 * MIB, (ms(50), 125_000_000), &beside);
        let (first, next) = (first - begin, next - first);
        assert!(first < ms(1200) && next < ms(400), "{first:?}, {next:?}");
        assert!((8 * MIB..=16 * MIB).contains(&window.size), "{}", window.size);
        // 10 Gbit/s over 100 us, and 100 Mbit/s over 20 ms: the window that is there will do.
        for (way, total, most) in [((us(100), 1_250_000_000), 64 * MIB, 600), ((ms(20), 12_500_000), 16 * MIB, 1024)] {
            let mut window = new();
            send(&mut window, begin, total, way, &beside);
            assert!(window.size <= most * KIB, "{}", window.size);
        }
    }

    #[test]
    fn credit_is_given_once_half_a_window_was_taken_in_and_never_exceeded() {
        let mut window = Window::new(512 << 10, 64 << 20);
        let now = Instant::now();
        assert!(window.spend(256 * KIB - 1, || now));
        window.take(256 * KIB - 1);
        assert_eq!(window.take_due(|| now), None);
        assert!(window.spend(1, || now));
        window.take(1);
        assert_eq!(window.take_due(|| now), Some(256 * KIB));
        assert!(!window.spend(512 * KIB + 1, || now));
        assert!(window.spend(512 * KIB, || now));
    }

    #[test]
    fn beside_small_calls_half_a_window_is_in_use_and_afterwards_all_of_it() {
        let mut window = Window::new(512 << 10, 64 << 20);
        window.shortest = Some(SHORT_WAY);
        let now = Instant::now();
        let send = |window: &mut Window, n_parts: u64| {
            for _ in 0..n_parts {
                assert!(window.spend(PART, || now));
                window.take(PART);
                window.take_due(|| now);
            }
            window.credit
        };
        window.note_small();
        // What was given before is not taken back.
        assert_eq!(send(&mut window, 4), 256 * KIB);
        for _ in 4..u64::from(BESIDE) {
            assert_eq!(send(&mut window, 1), 256 * KIB);
            window.note_small();
        }
        send(&mut window, u64::from(BESIDE));
        assert!(send(&mut window, 8) > 256 * KIB);
    }

    #[test]
    fn whatever_comes_beside_the_peer_is_never_left_without_credit() {
        fastrand::seed(7);
        for announced in [64 << 10, 512 << 10, 100_000] {
            let mut window = Window::new(announced, 64 << 20);
            window.shortest = Some(SHORT_WAY);
            let now = Instant::now();
            for _ in 0..100_000 {
                if fastrand::u32(..100) == 0 {
                    window.note_small();
                }
                let len = window.credit.min(fastrand::u64(1..=PART));
                assert!(window.spend(len, || now));
                window.take(len);
                window.take_due(|| now);
                assert!(window.credit >= announced as u64 / 4, "{window:?}");
            }
        }
    }

    #[test]
    fn it_gets_no_wider_than_what_is_put_together_allows() {
        let mut window = Window::new(64 << 10, 1 << 20);
        send(&mut window, Instant::now(), 64 * MIB, (Duration::from_millis(100), 1_250_000_000), |_| {});
        assert_eq!(window.size, 256 * KIB);
    }
}
