//! What a connection has in hand, for whoever asks.

use std::time::{Duration, Instant};

use super::Connection;
use super::serving::Serving;
use crate::snapshot::{ConnectionSnapshot, MethodSnapshot};
use crate::sync::lock;

impl Connection {
    /// Calls of this side that wait, methods that run for the other side, and bytes that wait to be sent.
    pub(crate) fn load(&self) -> (usize, usize, u64) {
        let state = lock(&self.state);
        (state.pending.len(), self.serving.n_running(), state.outgoing.n_bytes())
    }

    /// All of it.
    pub(crate) fn snapshot(&self) -> ConnectionSnapshot {
        let (pending_calls, waiting_calls, queued_bytes) = {
            let state = lock(&self.state);
            (state.pending.len(), state.row.len(), state.outgoing.n_bytes())
        };
        ConnectionSnapshot {
            peer: self.peer_name.to_string(),
            instance: self.instance(),
            is_dialer: self.is_dialer,
            takes_calls: self.takes_calls(),
            pending_calls,
            waiting_calls,
            running_calls: self.serving.n_running(),
            methods: self.serving.methods(self.age_ms(), self.clock.now()),
            memory: self.serving.budget().memory(),
            queued_bytes,
        }
    }
}

impl Serving {
    /// The methods that run and whose answer is wanted, as of this age of the connection.
    fn methods(&self, age_ms: u64, now: Instant) -> Vec<MethodSnapshot> {
        let caller = self.caller().name();
        self.with_running(|call| MethodSnapshot {
            method: call.full_name.to_string(),
            caller: caller.to_owned(),
            age: Duration::from_millis(age_ms.saturating_sub(call.came_ms)),
            remaining: call.deadline.map(|deadline| deadline.saturating_duration_since(now)),
        })
    }
}
