//! The end of a connection that loses no answer.
//!
//! ```text
//! goaway (no new calls) ─▶ one round trip ─▶ goaway (the last call that was accepted) ─▶ accepted calls end
//!   ─▶ everything is written ─▶ half-close ─▶ read to the end, 2 s at most ─▶ close
//! ```
//!
//! Closing a socket with unread input resets it, and a reset throws away what the other end has not read yet: hence the
//! half-close, and the reading to the end.

use std::sync::Arc;
use std::time::Instant;

use rmi_core::exception::Exception;
use rmi_core::frame::GoAwayReason;
use rmi_core::kind::{Class, Kind};
use rmi_core::message::Response;

use super::{Connection, Ended};
use crate::limits::{ALIVE_CHECK, LINGER};
use crate::mutant::{self, Mutant};
use crate::sync::lock;

impl Connection {
    /// Ends the connection when its calls have ended, at `at` at the latest; then the rest is cancelled and told.
    ///
    /// For [`GoAwayReason::Shutdown`] the peer learns which of its calls will not be executed. For the others it is
    /// waited for until the peer takes no new calls either.
    pub(crate) async fn wind_down(self: Arc<Self>, reason: GoAwayReason, at: Option<Instant>) {
        self.say_goaway(reason, "");
        self.flush(true);
        let is_shutdown = reason == GoAwayReason::Shutdown;
        if is_shutdown {
            // Whatever the peer sent before it knew is here when its pong is.
            self.within(Some(self.clock.now() + ALIVE_CHECK), self.ping()).await;
            {
                let mut state = lock(&self.state);
                state.last_accepted = state.last_request;
            }
            self.say_goaway(reason, "");
            self.flush(true);
        }
        if is_shutdown {
            // Methods that run for any peer may still need this one.
            self.within(at, self.node_at_rest()).await;
        }
        let calls_ended = self.wait_until(|state| {
            let is_alone = is_shutdown || state.goaway.is_some();
            let is_served = !state.is_reading && state.arriving.is_empty() && self.serving.n_running() == 0;
            (is_alone
                && is_served
                && state.pending.len() == 0
                && (state.outgoing.is_empty() || mutant::is(Mutant::AnswerLostAtShutdown)))
            .then_some(())
        });
        if !self.within(at, calls_ended).await {
            self.refuse_arriving();
            self.stop_running();
            self.give_up_all(if is_shutdown { Kind::LocalShutdown } else { Kind::ConnectionLost });
        }
        if mutant::is(Mutant::AnswerLostAtShutdown) {
            return self.end(Ended::new(Kind::ConnectionLost, "the connection was closed"));
        }
        // What is being read may still be answered.
        let has_read = self.wait_until(|state| (!state.is_reading).then_some(()));
        self.within(Some(self.clock.now() + LINGER), has_read).await;
        lock(&self.state).is_finishing = true;
        self.flush(true);
        // The reader ends the connection when it has read to the end.
        let ended = self.wait_until(|_| None::<()>);
        self.within(Some(self.clock.now() + LINGER), ended).await;
        self.end(Ended::new(Kind::ConnectionLost, "the connection was closed"));
    }

    /// Waits until no method runs on the node, for whatever peer.
    async fn node_at_rest(&self) {
        // Those that have just begun where their requests were read count when that was handled. It rings then, for the other
        // connections wind down too.
        let connections = self.watcher.upgrade().map(|watcher| watcher.connections());
        for connection in connections.unwrap_or_default() {
            // One that has ended begins none.
            let _ = connection.wait_until(|state| (!state.is_reading).then_some(())).await;
        }
        self.serving.idle().await;
    }

    /// Ends the connection when its calls have ended, unless this side is at it already.
    pub(crate) async fn wind_down_once(self: Arc<Self>, reason: GoAwayReason) {
        let is_first = lock(&self.state).said_goaway.is_none();
        if is_first {
            self.wind_down(reason, None).await;
        }
    }

    /// Waits for something, but not beyond `at`. Whether it happened.
    async fn within<T>(&self, at: Option<Instant>, what: impl Future<Output = T>) -> bool {
        let Some(at) = at else {
            what.await;
            return true;
        };
        tokio::select! {
            biased;
            _ = what => true,
            () = self.clock.sleep_until(at) => false,
        }
    }

    /// Requests that have come in part only will not run any more, and their callers are told so.
    fn refuse_arriving(self: &Arc<Self>) {
        let arriving = {
            let mut state = lock(&self.state);
            let arriving = std::mem::take(&mut state.arriving);
            state.dropped.extend(arriving.iter().map(|id| (false, *id)));
            arriving
        };
        for id in arriving {
            let exception = Exception::new(Kind::GoingAway, "the node shut down before all of the call had come");
            self.respond(id, "", Response::exception(exception.with_class(Class::NotExecuted)), None);
        }
    }

    fn give_up_all(&self, kind: Kind) {
        let mut told = Vec::new();
        {
            let mut state = lock(&self.state);
            for id in state.pending.ids(|_, _| true) {
                told.extend(self.give_up(&mut state, id, kind, "this node ended the connection"));
            }
        }
        self.tell(told);
    }
}
