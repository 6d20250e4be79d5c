//! Time on a connection: deadlines in both directions, pings, and the end of what does not move, and of buffers that
//! nobody needs.
//!
//! There is no timer for a call. One task sleeps until the earliest deadline that was ever announced to it, then looks
//! at all calls that wait. A deadline may pass up to [`TICK`] before its call is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmi_core::frame::{GoAwayReason, frame_type};
use rmi_core::kind::Kind;

use super::{Connection, Ended, NO_FRAME};
use crate::limits::{DEAD_AFTER, FRAME_TIMEOUT, PING_AFTER, WRITE_STALL};
use crate::sync::atomic::Ordering;
use crate::sync::lock;

/// The shortest sleep: deadlines that are close to each other are looked at together.
const TICK: Duration = Duration::from_millis(2);

/// The keeper task.
pub(super) async fn run(connection: Arc<Connection>) {
    loop {
        let earlier = connection.keeper.notified();
        tokio::pin!(earlier);
        earlier.as_mut().enable();
        let now = connection.clock.now();
        connection.expire_pending(now);
        connection.expire_running(now);
        connection.send_held_cancels();
        let spares = connection.serving.host.expire_spares(now);
        if connection.is_frame_overdue(now) {
            return connection.end_for(GoAwayReason::Protocol, "a frame was begun and not finished in time");
        }
        let silence = match connection.check_alive(now) {
            Ok(next) => next,
            Err(ended) => return connection.end(ended),
        };
        let next = connection.next_look(now, spares.map_or(silence, |spares| spares.min(silence)));
        tokio::select! {
            biased;
            () = earlier => {}
            () = connection.clock.sleep_until(next) => {}
        }
    }
}

impl Connection {
    /// Makes the keeper look at this time at the latest.
    pub(super) fn look_at(&self, at: Option<Instant>) {
        let mut state = lock(&self.state);
        if at.is_some() && state.keeper_at.is_none_or(|next| at.is_some_and(|at| at < next)) {
            state.keeper_at = at;
            drop(state);
            self.keeper.notify_one();
        }
    }

    pub(super) fn expire_pending(&self, now: Instant) {
        let mut told = Vec::new();
        {
            let mut state = lock(&self.state);
            if state.pending.earliest().is_some_and(|earliest| earliest <= now) {
                let is_over = |_, call: &super::PendingCall| call.deadline.is_some_and(|deadline| deadline <= now);
                for id in state.pending.ids(is_over) {
                    told.extend(self.give_up(&mut state, id, Kind::Timeout, "no answer came in time"));
                }
                state.pending.find_earliest();
            }
            state.pending.shrink();
        }
        if !told.is_empty() {
            self.tell(told);
            self.flush(false);
        }
    }

    /// Sends cancels that had to wait.
    fn send_held_cancels(&self) {
        {
            let mut state = lock(&self.state);
            if state.held_cancels.is_empty() {
                return;
            }
            self.send_cancels(&mut state);
        }
        // There may be a place for a call that waits.
        self.wake_first_in_row();
        self.flush(true);
    }

    /// When the frame that has come in part has to be here.
    fn frame_due(&self) -> Option<Instant> {
        let since = self.frame_since.load(Ordering::Relaxed);
        (since != NO_FRAME).then(|| self.opened + Duration::from_millis(since) + FRAME_TIMEOUT)
    }

    fn is_frame_overdue(&self, now: Instant) -> bool {
        self.frame_due().is_some_and(|due| due <= now)
    }

    /// Pings a silent peer. Gives back when to look again.
    fn check_alive(&self, now: Instant) -> Result<Instant, Ended> {
        let after = |ms: u64| self.opened + Duration::from_millis(ms);
        let heard_ms = self.heard_at.load(Ordering::Relaxed);
        let heard_at = after(heard_ms);
        let silence = now.saturating_duration_since(heard_at);
        if silence >= DEAD_AFTER {
            return Err(if self.is_held_up() { Ended::held_up() } else { Ended::silent() });
        }
        let mut next = heard_at + DEAD_AFTER;
        let mut pinged = false;
        {
            let mut state = lock(&self.state);
            if silence < PING_AFTER {
                next = heard_at + PING_AFTER;
            } else if state.pinged_for != Some(heard_ms) {
                // Once for each silence: what is heard after the ping begins another one.
                state.pinged_for = Some(heard_ms);
                state.pinged_reading = state.is_reading.then_some(state.n_readings);
                pinged = true;
                let id = state.next_ping;
                state.next_ping += 1;
                state.outgoing.push(frame_type::PING, 0, id, |_| {});
            }
            // What the peer does not take: measured from when it last took something, or from when this was stuck. What waits
            // on a busy connection is not.
            if !state.outgoing.is_stuck() {
                self.took_at.store(self.age_ms(), Ordering::Relaxed);
            } else if !pinged {
                let took_at = after(self.took_at.load(Ordering::Relaxed));
                if now.saturating_duration_since(took_at) >= WRITE_STALL {
                    return Err(Ended::lost(format!("the peer took nothing for {} s", WRITE_STALL.as_secs())));
                }
                next = next.min(took_at + WRITE_STALL);
            }
        }
        if pinged {
            self.flush(true);
        }
        Ok(next)
    }

    /// Whether nothing is heard because nobody listens: the reader is where it was when the peer was pinged.
    fn is_held_up(&self) -> bool {
        let is_held_up = {
            let state = lock(&self.state);
            state.is_reading && state.pinged_reading == Some(state.n_readings)
        };
        if is_held_up {
            tracing::error!(peer = &*self.peer_name, "a method blocks its thread where requests are read");
        }
        is_held_up
    }

    /// How long it has been seen with neither calls nor bytes in either direction. Whoever looks seldom sees less.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        let is_idle = self.load() == (0, 0, 0);
        let mut state = lock(&self.state);
        let mark = state.pending.last_id().wrapping_add(state.last_request);
        let since = state.idle.filter(|(before, _)| is_idle && *before == mark).map_or(now, |(_, since)| since);
        state.idle = is_idle.then_some((mark, since));
        now.saturating_duration_since(since)
    }

    fn next_look(&self, now: Instant, latest: Instant) -> Instant {
        // Under one lock with `look_at`, which is called for each deadline that is added.
        let mut state = lock(&self.state);
        let running = self.serving.earliest();
        let held = (!state.held_cancels.is_empty()).then(|| state.cancels.next_at(now));
        let earliest = [running, state.pending.earliest(), held, self.frame_due()].into_iter().flatten().min();
        let next = earliest.map_or(latest, |earliest| earliest.min(latest));
        // A look that was asked for between the last one and now has its notification.
        let next = next.max(now + TICK);
        state.keeper_at = Some(next);
        next
    }
}
