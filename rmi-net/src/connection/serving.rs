//! The calls of the peer: from a request to a running method to its answer.
//!
//! The order of the checks is the order of their costs: decodable, within the budgets, in time, a known method, allowed
//! for this caller, and only then are arguments decoded. What fails answers that one call.
//!
//! A [`RunningCall`] is the call's permit. It goes where the method runs, and lives as long as the method itself,
//! cancelled or not, so a peer that cancels at once cannot run more methods than it may. A method that ends where its
//! request was read needs none: there is one of those at a time on a connection, and it was begun only because there was
//! room. One that waits takes its permit then. So several connections together may exceed what they share (the budgets of
//! their peer and of the node) by the calls that they began at the same time: by one for each thread.
//!
//! The table of [`Calls`] has what can be stopped: the calls that did not end where they were read. A call that is
//! begun when all have been stopped is stopped at once.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use rmi_core::context::{CallContext, Caller};
use rmi_core::descriptor::Execution;
use rmi_core::exception::Exception;
use rmi_core::hello::InstanceId;
use rmi_core::kind::Kind;
use rmi_core::message::{IncomingRequest, Message, Response};
use rmi_core::rejection::Rejection;
use rmi_core::run::Begun;
use rmi_core::scan::ScanError;
use rmi_core::scope::{Cancellation, Scope};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::Connection;
use super::inline::Signal;
use super::reader::Reading;
use super::running::{Asked, Run, RunTask, begin};
use crate::budget::{PeerBudget, too_many_calls};
use crate::host::{BYTES_PER_VALUE, Host, Method};
use crate::mutant::{self, Mutant};
use crate::pace::Place;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// The largest body whose arguments are decoded where it was read.
const DECODED_HERE: usize = 16 << 10;

/// The calls of the peer that run.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Serving {
    pub(super) host: Arc<Host>,
    /// What the peer uses over all of its connections.
    budget: Arc<PeerBudget>,
    /// Permits that are out, also those of calls that were cancelled and still run.
    n_running: AtomicUsize,
    caller: Caller,
    /// What most calls have in common: no deadline, no trace context.
    plain: CallContext,
    calls: Mutex<Calls>,
    /// For each serial service: whose turn it is.
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The calls that can be stopped.
#[derive(Debug, Default)]
struct Calls {
    by_id: BTreeMap<u64, Running>,
    /// A moment before which no deadline passes.
    earliest: Option<Instant>,
    /// What was stopped for good: further ones are stopped too.
    stopped: Stopped,
}

/// Which calls were stopped for good.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stopped {
    #[default]
    None,
    /// Those that can be cancelled.
    Cancellable,
    All,
}

/// How to stop a call that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// When its request was complete, in milliseconds of the connection's age.
    pub(super) came_ms: u64,
    pub(super) deadline: Option<Instant>,
    no_cancel: bool,
    one_way: bool,
    cancellation: Option<Cancellation>,
    stop: Option<Stop>,
    pub(super) full_name: Arc<str>,
}

/// How to drop the method of a call.
#[derive(Debug)]
enum Stop {
    Task(AbortHandle),
    Inline(Arc<Signal>),
}

impl Stop {
    fn stop(self) {
        match self {
            Self::Task(task) => task.abort(),
            Self::Inline(signal) => signal.stop(),
        }
    }
}

/// The permit of a call that runs.
#[derive(Debug)]
pub(super) struct RunningCall {
    pub(super) connection: Arc<Connection>,
    pub(super) id: u64,
    is_in_table: bool,
    /// What it holds of the budgets of its peer and of the node, beside a place in each.
    memory: usize,
}

impl RunningCall {
    /// Takes the call out of the table. Whether it was there.
    pub(super) fn leave_table(&mut self) -> bool {
        let was_in_table = std::mem::take(&mut self.is_in_table);
        was_in_table && lock(&self.connection.serving.calls).by_id.remove(&self.id).is_some()
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.leave_table();
        let serving = &self.connection.serving;
        serving.n_running.fetch_sub(1, Ordering::AcqRel);
        self.connection.progress.ring();
        // After the place in this connection's budget: when the node is idle, so are its connections.
        serving.budget.give_back(self.memory);
        serving.host.give_back(self.memory);
    }
}

/// A place in the row of a serial service.
pub(super) type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// What is known of a request that came in parts since it was opened.
pub(super) struct Opened {
    pub(super) at: Instant,
    pub(super) turn: Option<Turn>,
}

impl Serving {
    pub(super) fn new(host: Arc<Host>, caller: Caller, peer: InstanceId) -> Self {
        Self {
            budget: host.budgets.of(peer),
            host,
            plain: CallContext::new(caller.clone(), Scope::default()),
            caller,
            calls: Mutex::default(),
            n_running: AtomicUsize::new(0),
            turns: Mutex::default(),
        }
    }

    /// See [`Connection::prefetch`].
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        black_box(Arc::as_ptr(&self.host));
        black_box(self.plain.scope().deadline().is_some());
    }

    /// Waits until no method runs on the node, for whatever peer.
    pub(super) async fn idle(&self) {
        self.host.idle().await;
    }

    /// What the peer uses over all of its connections.
    pub(super) fn budget(&self) -> &PeerBudget {
        &self.budget
    }

    pub(super) fn n_running(&self) -> usize {
        self.n_running.load(Ordering::Acquire)
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Looks at the calls that run and are still wanted, in the order in which they came.
    pub(super) fn with_running<T>(&self, look: impl FnMut(&Running) -> T) -> Vec<T> {
        lock(&self.calls).by_id.values().map(look).collect()
    }

    /// Stops a call whose caller does not want it any more.
    pub(super) fn cancel(&self, id: u64) {
        let mut calls = lock(&self.calls);
        if calls.by_id.get(&id).is_some_and(|call| !call.no_cancel)
            && let Some(call) = calls.by_id.remove(&id)
        {
            drop(calls);
            call.stop();
        }
    }

    /// Stops all calls, and those to come: the connection has ended.
    pub(super) fn cancel_all(&self) {
        self.stop_where(Stopped::Cancellable, |call| !call.no_cancel);
    }

    /// A moment before which no deadline of a call that runs passes.
    pub(super) fn earliest(&self) -> Option<Instant> {
        lock(&self.calls).earliest
    }

    /// Takes the calls out whose deadline has passed: (id, name, whether an answer is wanted).
    fn stop_expired(&self, now: Instant) -> Vec<(u64, Arc<str>, bool)> {
        if self.earliest().is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let is_over = |call: &Running| !call.no_cancel && call.deadline.is_some_and(|deadline| deadline <= now);
        self.stop_where(Stopped::None, is_over)
    }

    /// Takes calls out and stops them, and `for_good` those to come as well.
    fn stop_where(&self, for_good: Stopped, wanted: impl Fn(&Running) -> bool) -> Vec<(u64, Arc<str>, bool)> {
        let stopped: Vec<(u64, Running)> = {
            let mut calls = lock(&self.calls);
            calls.stopped = calls.stopped.max(for_good);
            let ids: Vec<u64> = calls.by_id.iter().filter(|(_, call)| wanted(call)).map(|(id, _)| *id).collect();
            let stopped = ids.into_iter().filter_map(|id| Some((id, calls.by_id.remove(&id)?))).collect();
            let left = calls.by_id.values().filter(|call| !call.no_cancel);
            calls.earliest = left.filter_map(|call| call.deadline).min();
            stopped
        };
        let told = |(id, call): (u64, Running)| {
            let told = (id, Arc::clone(&call.full_name), !call.one_way);
            call.stop();
            told
        };
        stopped.into_iter().map(told).collect()
    }

    /// A place in the row of the method's service, if it is serial.
    pub(super) fn turn(&self, method: &Method) -> Option<Turn> {
        if !method.is_serial {
            return None;
        }
        let row = Arc::clone(
            lock(&self.turns).entry(method.service_name().to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))),
        );
        let mut turn: Turn = Box::pin(async move { row.acquire_owned().await.ok() });
        // Polled once, here and now: that is what puts it in the row. The task that waits for it polls it again.
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(permit) => Some(Box::pin(std::future::ready(permit))),
            std::task::Poll::Pending => Some(turn),
        }
    }
}

impl Running {
    fn stop(self) {
        if let Some(cancellation) = self.cancellation {
            cancellation.cancel();
        }
        if let Some(stop) = self.stop {
            stop.stop();
        }
    }
}

impl Connection {
    /// A whole request has come. One in parts was `opened` before.
    ///
    /// # Errors
    /// If it cannot be read. It was answered all the same.
    pub(super) fn on_request(
        self: &Arc<Self>,
        id: u64,
        message: Message<'_>,
        opened: Option<Opened>,
        reading: &mut Reading,
    ) -> Result<(), ScanError> {
        let read = reading.known.read(message.body());
        let (incoming, position) = match &read {
            Ok((incoming, position)) => (incoming, *position),
            Err(error) => {
                let rejection = Rejection::new(Kind::BadArguments, format!("the request cannot be read: {error}"));
                reading.batch.forget_time();
                self.reject(id, "", false, rejection);
                return Err(*error);
            }
        };
        if let Err(rejection) = self.try_request(id, (incoming, position), &message, opened, reading) {
            reading.batch.forget_time();
            self.reject(id, incoming.method().unwrap_or_default(), incoming.is_one_way(), rejection);
        }
        Ok(())
    }

    fn try_request(
        self: &Arc<Self>,
        id: u64,
        (incoming, position): (&IncomingRequest<'_>, Option<usize>),
        message: &Message<'_>,
        opened: Option<Opened>,
        reading: &mut Reading,
    ) -> Result<(), Rejection> {
        let Reading { batch, inline, known } = reading;
        let (came_at, turn) = opened.map_or((None, None), |opened| (Some(opened.at), opened.turn));
        let n_values = incoming.n_values + message.attachments().len();
        let memory = message.len() + n_values * BYTES_PER_VALUE;
        let mut room = self.look_for_room(memory);
        // Cancels that have come before this call: its caller counts on what those calls held.
        while room.is_err() && inline.drop_stopped(self, batch) {
            room = self.look_for_room(memory);
        }
        room?;
        let deadline = match incoming.remaining {
            None => None,
            Some(remaining) => {
                let now = self.clock.now();
                let deadline = came_at.unwrap_or(now).checked_add(remaining);
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return Err(Rejection::new(Kind::ExpiredOnArrival, "no time was left when the call came"));
                }
                deadline
            }
        };
        let method = known.method(&self.serving.host, incoming, position)?;
        let caller = &self.serving.caller;
        if !method.allows(caller.roles()) {
            let message = format!("`{}` may not call `{}`", caller.name(), method.full_name);
            return Err(Rejection::new(Kind::Denied, message));
        }
        let turn = turn.or_else(|| self.serving.turn(method));
        let execution = method.execution;
        let is_plain_method = matches!(execution, Execution::Blocking | Execution::Compute);
        let own_context;
        let context = if deadline.is_some() || incoming.trace_parent.is_some() || is_plain_method {
            let scope = Scope::new(deadline).with_trace_parent(incoming.trace_parent.map(Into::into));
            // A plain method cannot be dropped: it can look whether it is still wanted.
            let scope = if is_plain_method { scope.with_cancellation(Cancellation::new()) } else { scope };
            own_context = CallContext::new(caller.clone(), scope);
            &own_context
        } else {
            &self.serving.plain
        };
        let (one_way, no_cancel) = (incoming.is_one_way(), incoming.is_no_cancel() || method.is_no_cancel);
        let asked = Asked { id, method, context, one_way, no_cancel };
        // A `direct` method runs while it is dispatched, so its turn comes before.
        let waits_to_dispatch = turn.is_some() && execution == Execution::Direct;
        if waits_to_dispatch || message.body().len() > DECODED_HERE {
            // Decoding what is large takes time: not here.
            batch.forget_time();
            let mut run = Run::new(asked, self.permit(id, memory)?);
            if self.enter_table(&mut run) {
                let (body, attachments) = message.to_owned_parts();
                let span = self.span(&run.method, id);
                let method = async move {
                    run.turn = wait_for(turn).await;
                    run.run_owned(body, attachments).await;
                };
                let task = self.runtime.spawn(method.instrument(span));
                self.serving.set_stop(id, Stop::Task(task.abort_handle()));
            }
            return Ok(());
        }
        let is_quick = execution == Execution::Async && method.pace.place() == Place::Reader;
        let polls = is_quick && turn.is_none() && batch.has_time();
        let runs_here = polls || execution == Execution::Direct;
        let permit = if runs_here { None } else { Some(self.permit(id, memory)?) };
        let span = self.span(method, id);
        let is_timed = if polls { batch.times_next() } else { runs_here };
        if is_timed {
            batch.begins(|| self.clock.now());
        }
        let begun =
            span.in_scope(|| begin(method, context, incoming.args, incoming.kwargs, message.attachments(), polls));
        if is_timed {
            let took = batch.took(self.clock.now());
            if polls {
                method.pace.polled(Place::Reader, took);
            }
        }
        match (begun, turn) {
            (Begun::Done(response), _) => {
                // Given back before the answer can leave: the caller may call again as soon as it has it.
                drop(permit);
                asked.answer_here(self, memory, response, batch, || self.clock.now());
            }
            (begun, turn) => {
                let permit = permit.unwrap_or_else(|| self.permit_begun(id, memory));
                let mut run = Run::new(asked, permit);
                if self.enter_table(&mut run) {
                    match begun {
                        // A method that is not cancelled outlives the reader.
                        Begun::Task(task) if polls && !run.no_cancel => {
                            let signal = inline.insert(run, task, span);
                            self.serving.set_stop(id, Stop::Inline(signal));
                        }
                        begun => {
                            batch.forget_time();
                            self.run_as_task(run, begun, turn, span);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn span(&self, method: &Method, id: u64) -> tracing::Span {
        tracing::debug_span!("rmi.serve", method = &*method.full_name, caller = &**self.peer_name(), id)
    }

    /// Has a call that stands in the table go on as a task of its own.
    pub(super) fn run_as_task(self: &Arc<Self>, run: Run, begun: Begun, turn: Option<Turn>, span: tracing::Span) {
        let id = run.permit.id;
        let task = self.runtime.spawn(RunTask::new(run, begun, turn).instrument(span));
        self.serving.set_stop(id, Stop::Task(task.abort_handle()));
    }

    /// Puts a call into the table of those that can be stopped. If all have been stopped, it is told so.
    fn enter_table(self: &Arc<Self>, run: &mut Run) -> bool {
        let scope = run.context.scope();
        let deadline = scope.deadline();
        let full_name = &run.method.full_name;
        {
            let mut calls = lock(&self.serving.calls);
            let is_stopped = match calls.stopped {
                Stopped::None => false,
                Stopped::Cancellable => !run.no_cancel,
                Stopped::All => true,
            };
            if !is_stopped {
                let running = Running {
                    came_ms: self.heard_at.load(Ordering::Relaxed),
                    deadline,
                    no_cancel: run.no_cancel,
                    one_way: run.one_way,
                    cancellation: scope.cancellation().cloned(),
                    stop: None,
                    full_name: Arc::clone(full_name),
                };
                calls.by_id.insert(run.permit.id, running);
                run.permit.is_in_table = true;
                if !run.no_cancel && deadline.is_some() {
                    calls.earliest = calls.earliest.into_iter().chain(deadline).min();
                }
            }
        }
        if !run.permit.is_in_table {
            self.tell_stopped(vec![(run.permit.id, Arc::clone(full_name), !run.one_way)], Kind::Cancelled, SHUT_DOWN);
        } else if deadline.is_some() {
            self.look_at(deadline);
        }
        run.permit.is_in_table
    }

    /// Whether there is what a call of the peer needs.
    fn look_for_room(&self, memory: usize) -> Result<(), Rejection> {
        let serving = &self.serving;
        self.look_for_place()?;
        let room = serving.budget.look(self.most_of_peer(), memory, self.limits.memory_per_peer());
        room.map_err(|message| Rejection::new(Kind::Busy, message))?;
        serving.host.look(memory)
    }

    /// Only the reader adds calls to those that run here, so what is looked at can only have become less when it is added
    /// to.
    fn look_for_place(&self) -> Result<(), Rejection> {
        let n_running = match mutant::is(Mutant::PermitReleasedOnCancel) {
            true => lock(&self.serving.calls).by_id.len(),
            false => self.serving.n_running(),
        };
        if n_running < self.limits.calls_per_peer() {
            return Ok(());
        }
        Err(Rejection::new(Kind::Busy, too_many_calls(n_running)))
    }

    /// How many calls of the peer may run on all of its connections.
    fn most_of_peer(&self) -> usize {
        self.limits.calls_per_peer().saturating_mul(2)
    }

    /// Takes what a call of the peer needs.
    pub(super) fn permit(self: &Arc<Self>, id: u64, memory: usize) -> Result<RunningCall, Rejection> {
        let serving = &self.serving;
        self.look_for_place()?;
        let taken = serving.budget.take(self.most_of_peer(), memory, self.limits.memory_per_peer());
        taken.map_err(|message| Rejection::new(Kind::Busy, message))?;
        serving.host.take(memory).inspect_err(|_| serving.budget.give_back(memory))?;
        serving.n_running.fetch_add(1, Ordering::AcqRel);
        Ok(RunningCall { connection: Arc::clone(self), id, is_in_table: false, memory })
    }

    /// The same for a call that has begun already, for which there [was room](Self::look_for_room).
    pub(super) fn permit_begun(self: &Arc<Self>, id: u64, memory: usize) -> RunningCall {
        self.serving.budget.take_begun(memory);
        self.serving.host.take_begun(memory);
        self.serving.n_running.fetch_add(1, Ordering::AcqRel);
        RunningCall { connection: Arc::clone(self), id, is_in_table: false, memory }
    }

    /// Stops the calls whose deadline has passed.
    pub(super) fn expire_running(self: &Arc<Self>, now: Instant) {
        let expired = self.serving.stop_expired(now);
        self.tell_stopped(expired, Kind::Timeout, "the deadline passed while the method ran");
    }

    /// Stops all calls that run, and tells their callers.
    pub(super) fn stop_running(self: &Arc<Self>) {
        let stopped = self.serving.stop_where(Stopped::All, |_| true);
        self.tell_stopped(stopped, Kind::Cancelled, SHUT_DOWN);
    }

    fn tell_stopped(self: &Arc<Self>, stopped: Vec<(u64, Arc<str>, bool)>, kind: Kind, message: &str) {
        for (id, method, wants_answer) in stopped {
            if wants_answer {
                self.respond(id, &method, Response::exception(Exception::new(kind, message)), None);
            }
        }
    }
}

impl Serving {
    /// Remembers how to stop a call, unless it has ended by now.
    fn set_stop(&self, id: u64, stop: Stop) {
        match lock(&self.calls).by_id.get_mut(&id) {
            Some(call) => call.stop = Some(stop),
            // Cancelled between its start and now, or done.
            None => stop.stop(),
        }
    }
}

async fn wait_for(turn: Option<Turn>) -> Option<OwnedSemaphorePermit> {
    turn?.await
}

const SHUT_DOWN: &str = "the node shut down while the method ran";
