//! The calls of this side: from a request to its answer, or to the reason why there is none.
//!
//! A call is registered and its frame put in the queue under one lock, so that ids leave in their order and an answer
//! always finds its call. What is large is encoded before. The outcome is handed over elsewhere, see
//! [`Completion`].
//!
//! A call that finds no room waits for it. Room in the queue comes by itself: the peer reads whatever its methods do. A
//! place at the peer does not: it is free when another call has ended. A call that is made by a method, which holds a
//! place here, never waits for a place there, for it could wait for itself: it is refused.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rmi_core::exception::CallError;
use rmi_core::frame::{MAX_PAYLOAD, frame_flag, frame_type};
use rmi_core::kind::{Class, Kind};
use rmi_core::message::Request;
use rmi_core::transport::{Link, Started, Ticket};

use super::batch::{Batch, Settling};
use super::completion::{Completion, Waiter};
use super::pending::{EndedCall, PendingCall, Progress};
use super::row::Place;
use super::writer::Write;
use super::{Connection, HeldCancel, State};
use crate::mutant::{self, Mutant};
use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, lock};

/// The way on for a call that waits on a connection which takes no more calls: to another one.
pub(crate) trait Detour: Send + Sync + 'static {
    /// Starts the call as if it had not been started.
    fn start_anew(&self, request: &mut Request) -> Started;
}

impl Connection {
    /// Starts a call, for the task with this waker. `None` if this connection takes none; one that waits for room takes
    /// the detour then.
    pub(crate) fn start(
        self: Arc<Self>,
        request: &mut Request,
        waker: Option<&Waker>,
        detour: &Weak<impl Detour>,
    ) -> Option<Started> {
        let deadline = match request.has_deadline(self.default_timeout) {
            true => {
                let now = self.clock.now();
                let deadline = request.deadline_at(now, self.default_timeout).map(|deadline| (deadline, now));
                if deadline.is_some_and(|(deadline, now)| deadline <= now) {
                    return Some(Started::refused(expired_unsent()));
                }
                deadline
            }
            false => None,
        };
        if self.peer_limits.in_flight == 0 {
            let error = CallError::new(Kind::Overloaded, "the peer takes no calls at all");
            return Some(Started::refused(error));
        }
        // What may be large is encoded before the lock is taken.
        let remaining = deadline.map(|(deadline, now)| deadline.saturating_duration_since(now));
        let deadline = deadline.map(|(deadline, _)| deadline);
        let message = match Encoded::of(request, remaining, self.message_limit()) {
            Ok(message) => message,
            Err(error) => return Some(Started::refused(error)),
        };
        let starter = Starter::new(waker.cloned());
        let mut state = lock(&self.state);
        if state.refusal(request.scope.is_some()).is_some() {
            return None;
        }
        let n_bytes = message.len(request);
        if state.row.is_before(request.scope.is_some()) || !self.has_room(&state, n_bytes, request.one_way) {
            return Some(self.start_later(&mut state, request, n_bytes, deadline, detour.clone()));
        }
        let sent = self.send(state, request, message, deadline, remaining, starter);
        Some(sent.started(self))
    }

    /// The call has to wait until the peer has a place for it, and the queue room.
    fn start_later(
        self: &Arc<Self>,
        state: &mut State,
        request: &mut Request,
        n_bytes: usize,
        deadline: Option<Instant>,
        detour: Weak<impl Detour>,
    ) -> Started {
        let is_nested = request.scope.is_some() && !mutant::is(Mutant::NestedCallsWait);
        let lacks_place = is_nested && !self.has_place(state);
        if lacks_place || state.row.len() >= self.limits.waiting_calls() {
            return overloaded(state, lacks_place);
        }
        // Not before: what is refused is dropped when the lock is given back, for it may have code of others in it.
        let mut request = request.take();
        let place = PlaceInRow { connection: Arc::clone(self), place: state.row.join(is_nested) };
        self.n_in_row.fetch_add(1, Ordering::Relaxed);
        Started::Later(Box::pin(async move {
            let this = &place.connection;
            // `None` if it does not go out here.
            let started = poll_fn(|context| {
                let waker = context.waker().clone();
                let mut state = lock(&this.state);
                if state.refusal(is_nested).is_some() {
                    return Poll::Ready(None);
                }
                if is_nested && !this.has_place(&state) {
                    return Poll::Ready(Some(overloaded(&state, true)));
                }
                if !state.row.is_first(place.place) || !this.has_room(&state, n_bytes, request.one_way) {
                    state.row.wait(place.place, context.waker());
                    return Poll::Pending;
                }
                // Encoded now: less time is left than before the wait.
                let remaining = deadline.map(|deadline| deadline.saturating_duration_since(this.clock.now()));
                Poll::Ready(Some(match Encoded::of(&request, remaining, this.message_limit()) {
                    Ok(message) => {
                        let starter = Starter::new(Some(waker));
                        this.send(state, &request, message, deadline, remaining, starter).started(Arc::clone(this))
                    }
                    Err(error) => Started::refused(error),
                }))
            });
            let started = match deadline {
                None => started.await,
                Some(deadline) => tokio::select! {
                    biased;
                    started = started => started,
                    () = this.clock.sleep_until(deadline) => Some(Started::refused(expired_unsent())),
                },
            };
            if let Some(started) = started {
                return started;
            }
            request.begun_deadline = deadline;
            match detour.upgrade() {
                Some(detour) => detour.start_anew(&mut request),
                // Whoever waits for a call holds the way to its peer.
                None => Started::refused(CallError::new(Kind::NotConnected, "the connection is closing")),
            }
        }))
    }

    fn has_room(&self, state: &State, n_bytes: usize, one_way: bool) -> bool {
        let has_room = mutant::is(Mutant::UnboundedQueue) || state.outgoing.has_room_for_request(n_bytes, one_way);
        has_room && self.has_place(state)
    }

    /// Whether the peer takes one more call.
    fn has_place(&self, state: &State) -> bool {
        // The peer is still at calls of which it does not know yet that they are cancelled.
        let n_in_flight = state.pending.len() + state.held_cancels.len();
        (n_in_flight as u64) < self.peer_limits.in_flight
    }

    /// Registers the call and puts its frame in the queue, under one lock: ids leave in their order.
    #[inline(always)]
    fn send(
        &self,
        mut guard: MutexGuard<'_, State>,
        request: &Request,
        message: Encoded,
        deadline: Option<Instant>,
        remaining: Option<Duration>,
        starter: Starter,
    ) -> Sent {
        let state = &mut *guard;
        let id = state.pending.next_id();
        let ((start, end), in_parts) = match message {
            Encoded::Small { .. } => {
                let encode = |out: &mut BytesMut| request.encode(remaining, out);
                (state.outgoing.push(frame_type::REQUEST, 0, id, encode), false)
            }
            Encoded::Large { head } => {
                let attachments = request.args.attachments();
                let flags = if attachments.is_empty() { 0 } else { frame_flag::ATTACHMENTS };
                state.outgoing.push_message(frame_type::REQUEST, flags, id, head, attachments)
            }
        };
        let progress = if in_parts { Progress::InParts } else { Progress::Queued { start, end } };
        let Starter { completion, waker } = starter;
        let is_watched = waker.is_some();
        let waiter = Waiter::new(Arc::clone(&completion), waker);
        let call = PendingCall::new(deadline, progress, request.one_way, request.no_cancel, waiter);
        state.pending.insert(id, call);
        if request.one_way && !in_parts {
            state.one_way.push_back((end, id));
        }
        let wake_keeper = deadline.is_some() && state.keeper_at.is_none_or(|at| deadline.is_some_and(|d| d < at));
        if wake_keeper {
            state.keeper_at = deadline;
        }
        let is_alone = state.pending.len() == 1;
        let write = self.next_write(state, is_alone);
        drop(guard);
        if wake_keeper {
            self.keeper.notify_one();
        }
        self.write(write);
        let span = tracing::debug_span!("rmi.call", method = %request.target, peer = &*self.peer_name, id);
        Sent { id, completion, is_watched, span }
    }

    /// The largest message that may be sent.
    pub(super) fn message_limit(&self) -> u64 {
        self.message_limit
    }

    /// What the reader has gathered goes its way: answers of methods are written, answers to calls go to their callers.
    /// Whether all of those calls were ever made.
    pub(super) fn settle(&self, batch: &mut Batch, settling: Settling) -> bool {
        let goes_on = settling != Settling::End;
        let (mut were_made, mut n_ended, mut made_room) = (true, 0, false);
        let writes = settling != Settling::Methods;
        let completes = batch.has_answered();
        let (write, has_work, is_winding_down) = {
            let mut state = lock(&self.state);
            state.is_reading = goes_on;
            let was_set_aside = batch.settle(&mut state, goes_on, |state, id| {
                were_made &= id <= state.pending.last_id();
                // The answer came before all parts of the request were taken: the rest is of no use.
                if state.pending.get_mut(id).is_some_and(|call| call.progress == Progress::InParts) {
                    made_room |= state.outgoing.drop_bulk(id, false);
                }
                if !state.held_cancels.is_empty() {
                    let State { held_cancels, outgoing, .. } = &mut *state;
                    held_cancels.retain(|held| {
                        if held.id == id {
                            outgoing.release(held.begun);
                        }
                        held.id != id
                    });
                    n_ended += 1;
                }
                let ended = state.pending.remove(id);
                n_ended += usize::from(ended.is_some());
                ended?.waiter
            });
            // Who found no room because of what was set aside has to look again.
            made_room |= was_set_aside;
            // Callers are woken before something is written, and not under the lock with which that begins.
            let write = if writes && !completes { self.next_write(&mut state, true) } else { Write::Nothing };
            let has_work = completes && writes && (state.outgoing.has_work() || state.is_finishing);
            (write, has_work, state.said_goaway.is_some())
        };
        self.write(write);
        if completes {
            batch.complete();
            if has_work {
                self.flush(true);
            }
        }
        if made_room {
            self.room.ring_locked();
        }
        if made_room || n_ended > 0 {
            self.wake_first_in_row();
        }
        if n_ended > 0 || is_winding_down {
            self.progress.ring_locked();
        }
        were_made
    }

    /// Ends a call on this side. Gives back what is to be told.
    pub(super) fn give_up(&self, state: &mut State, id: u64, kind: Kind, message: &str) -> Option<EndedCall> {
        let sent = self.withdraw(state, id);
        let class = if sent { Class::MaybeExecuted } else { Class::NotExecuted };
        state.pending.end(id, Err(CallError::new(kind, message).with_class(class)))
    }

    /// Takes a request back, or cancels it if it may have left. Whether it may have left.
    fn withdraw(&self, state: &mut State, id: u64) -> bool {
        let Some(call) = state.pending.get_mut(id) else { return true };
        let (progress, no_cancel, one_way) = (call.progress, call.no_cancel, call.one_way);
        if call.is_answer_open {
            state.dropped.push((true, id));
        }
        // A message in parts does not run before its last part has left the queue.
        let cut = match progress {
            Progress::Queued { start, .. } if state.outgoing.take_back(start) => return false,
            Progress::InParts => state.outgoing.cut_bulk(id, false),
            Progress::Queued { .. } | Progress::Sent => None,
        };
        if cut.is_some() || (!no_cancel && !one_way) {
            state.held_cancels.push_back(HeldCancel { id, begun: cut.unwrap_or(0) });
            self.send_cancels(state);
        }
        cut.is_none()
    }

    /// Puts the cancels in the queue that the peer takes by now. The keeper looks again when it takes more.
    pub(super) fn send_cancels(&self, state: &mut State) {
        if state.held_cancels.is_empty() {
            return;
        }
        let now = self.clock.now();
        while !state.held_cancels.is_empty() && state.cancels.take(now) {
            let Some(HeldCancel { id, begun }) = state.held_cancels.pop_front() else { return };
            state.outgoing.push(frame_type::CANCEL, 0, id, |_| {});
            state.outgoing.release(begun);
        }
        let next = state.cancels.next_at(now);
        if !state.held_cancels.is_empty() && state.keeper_at.is_none_or(|at| next < at) {
            state.keeper_at = Some(next);
            self.keeper.notify_one();
        }
    }
}

impl Link for Connection {
    fn abandon(&self, id: u64) {
        if mutant::is(Mutant::PendingCallLeaked) {
            return;
        }
        // Dropped when the lock is given back.
        let _waiter = {
            let mut state = lock(&self.state);
            // One that has ended is not there any more.
            let Some(call) = state.pending.get_mut(id) else { return };
            let waiter = call.waiter.take();
            if call.one_way {
                // It is not taken back, and has its place at the peer until it is written.
                drop(state);
                return;
            }
            if state.ended.is_none() {
                self.withdraw(&mut state, id);
            }
            state.pending.remove(id);
            waiter
        };
        self.made_room();
        self.flush(false);
    }
}

/// Who starts a call. The waker is cloned before the connection is locked, for it is the user's code.
struct Starter {
    completion: Arc<Completion>,
    waker: Option<Waker>,
}

impl Starter {
    fn new(waker: Option<Waker>) -> Self {
        Self { completion: Completion::new(), waker }
    }
}

/// A call that has gone out.
struct Sent {
    id: u64,
    completion: Arc<Completion>,
    /// The waker of who waits is known.
    is_watched: bool,
    span: tracing::Span,
}

impl Sent {
    #[inline]
    fn started(self, connection: Arc<Connection>) -> Started {
        let ticket = Ticket::new(connection, self.id, self.completion, self.is_watched);
        Started::Sent(if self.span.is_disabled() { ticket } else { ticket.with_companion(Box::new(self.span)) })
    }
}

/// A request before it has an id.
enum Encoded {
    /// One frame, for sure, of so many bytes at most: encoded straight into the queue.
    Small { len: usize },
    /// Encoded, but for its attachments.
    Large { head: BytesMut },
}

impl Encoded {
    #[inline]
    fn of(request: &Request, remaining: Option<Duration>, limit: u64) -> Result<Self, CallError> {
        let len = request.len_at_most();
        if len as u64 <= limit.min(MAX_PAYLOAD as u64) && request.args.attachments().is_empty() {
            return Ok(Self::Small { len });
        }
        let mut head = BytesMut::with_capacity(request.args.positional().len() + request.args.keywords().len() + 256);
        request.encode(remaining, &mut head);
        let encoded = Self::Large { head };
        let len = encoded.len(request) as u64;
        if len > limit {
            let message =
                format!("the message has {len} bytes and may have {limit}: raise `Limits::with_message` on both nodes");
            return Err(CallError::new(Kind::RequestTooLarge, message));
        }
        Ok(encoded)
    }

    fn len(&self, request: &Request) -> usize {
        match self {
            Encoded::Small { len } => *len,
            Encoded::Large { head } => head.len() + request.args.attachments().iter().map(Bytes::len).sum::<usize>(),
        }
    }
}

/// The place of a call that waits for room, until it has gone out or is given up.
struct PlaceInRow {
    connection: Arc<Connection>,
    place: Place,
}

impl Drop for PlaceInRow {
    fn drop(&mut self) {
        lock(&self.connection.state).row.leave(self.place);
        self.connection.n_in_row.fetch_sub(1, Ordering::Relaxed);
        // There may be room for the next one too.
        self.connection.wake_first_in_row();
    }
}

fn overloaded(state: &State, is_nested: bool) -> Started {
    let (n_in_flight, n_waiting) = (state.pending.len(), state.row.len());
    let message = match is_nested {
        true => format!("{n_in_flight} calls to this peer are in flight, and a method that runs does not wait"),
        false => format!(
            "{n_in_flight} calls to this peer are in flight and {n_waiting} wait: await some of them first, or raise \
             `Limits::with_waiting_calls` on this node"
        ),
    };
    Started::refused(CallError::new(Kind::Overloaded, message))
}

fn expired_unsent() -> CallError {
    CallError::new(Kind::Timeout, "the time was over before the call could be sent").with_class(Class::NotExecuted)
}
