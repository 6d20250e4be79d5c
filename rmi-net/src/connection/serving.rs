//! The calls of the peer: from a request to a running method to its answer.
//!
//! The order of the checks is the order of their costs: decodable, within the budgets, in time, a known method, allowed
//! for this caller, and only then are arguments decoded. What fails answers that one call.
//!
//! A [`RunningCall`] is the call's permit. It moves into the method's task or thread and lives as long as the method
//! itself, cancelled or not, so a peer that cancels at once cannot run more methods than it may.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rmi_core::context::{CallContext, Caller};
use rmi_core::descriptor::Execution;
use rmi_core::exception::Exception;
use rmi_core::frame::{GoAwayReason, MAX_PAYLOAD, frame_flag, frame_type};
use rmi_core::hello::InstanceId;
use rmi_core::kind::Kind;
use rmi_core::message::{IncomingRequest, MAX_METHOD_NAME, Message, Response};
use rmi_core::rejection::Rejection;
use rmi_core::run::{self, MethodTask};
use rmi_core::scan::ScanError;
use rmi_core::scope::{Cancellation, Scope};
use rmi_core::service::{Call, Dispatch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::Connection;
use crate::budget::{PeerBudget, PeerShare, too_many_calls};
use crate::host::{Admission, BYTES_PER_VALUE, Host, Method};
use crate::mutant::{self, Mutant};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// The calls of the peer that run.
#[derive(Debug)]
pub(super) struct Serving {
    host: Arc<Host>,
    caller: Caller,
    calls: Mutex<HashMap<u64, Running>>,
    /// Permits that are out, also those of calls that were cancelled and still run.
    n_running: AtomicUsize,
    /// What the peer uses over all of its connections.
    budget: Arc<PeerBudget>,
    /// For each serial service: whose turn it is.
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
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
    task: Option<AbortHandle>,
    pub(super) full_name: Arc<str>,
}

/// The permit of a call that runs.
#[derive(Debug)]
pub(super) struct RunningCall {
    connection: Arc<Connection>,
    id: u64,
    /// Given back on drop, as is the place in the node's budgets.
    _share: PeerShare,
    _admission: Admission,
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let serving = &self.connection.serving;
        lock(&serving.calls).remove(&self.id);
        serving.n_running.fetch_sub(1, Ordering::AcqRel);
        self.connection.progress.notify_waiters();
    }
}

/// A place in the row of a serial service.
pub(super) type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

impl Serving {
    pub(super) fn new(host: Arc<Host>, caller: Caller, peer: InstanceId) -> Self {
        Self {
            budget: host.budgets.of(peer),
            host,
            caller,
            calls: Mutex::default(),
            n_running: AtomicUsize::new(0),
            turns: Mutex::default(),
        }
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

    /// The node's services and budgets.
    #[cfg(all(test, rmi_loom))]
    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Looks at the calls that run and are still wanted, in the order in which they came.
    pub(super) fn with_running<T>(&self, look: impl FnMut(&Running) -> T) -> Vec<T> {
        let calls = lock(&self.calls);
        ids_where(&calls, |_| true).iter().filter_map(|id| calls.get(id)).map(look).collect()
    }

    /// Stops a call whose caller does not want it any more.
    pub(super) fn cancel(&self, id: u64) {
        let mut calls = lock(&self.calls);
        if calls.get(&id).is_some_and(|call| !call.no_cancel)
            && let Some(call) = calls.remove(&id)
        {
            drop(calls);
            call.stop();
        }
    }

    /// Stops all calls: the connection has ended.
    pub(super) fn cancel_all(&self) {
        let calls: Vec<Running> = {
            let mut calls = lock(&self.calls);
            let ids = ids_where(&calls, |call| !call.no_cancel);
            ids.iter().filter_map(|id| calls.remove(id)).collect()
        };
        calls.into_iter().for_each(Running::stop);
    }

    /// The earliest deadline of the calls that run.
    pub(super) fn earliest(&self) -> Option<Instant> {
        lock(&self.calls).values().filter(|call| !call.no_cancel).filter_map(|call| call.deadline).min()
    }

    /// Takes the calls out whose deadline has passed, or all of them: (id, name, whether an answer is wanted).
    pub(super) fn stop_where(&self, wanted: impl FnMut(&Running) -> bool) -> Vec<(u64, Arc<str>, bool)> {
        let stopped: Vec<(u64, Running)> = {
            let mut calls = lock(&self.calls);
            let ids = ids_where(&calls, wanted);
            ids.into_iter().filter_map(|id| Some((id, calls.remove(&id)?))).collect()
        };
        let told = |(id, call): (u64, Running)| {
            let told = (id, Arc::clone(&call.full_name), !call.one_way);
            call.stop();
            told
        };
        stopped.into_iter().map(told).collect()
    }

    /// A place in the row of the method's service, if it is serial.
    pub(super) fn turn(&self, method_name: &str) -> Option<Turn> {
        let method = self.host.resolve(method_name).ok()?;
        if !method.service_descriptor().is_serial() {
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
        if let Some(task) = self.task {
            task.abort();
        }
    }
}

impl Connection {
    /// A whole request has come. One in parts had begun to come at `came_at`, and may have taken its turn then.
    ///
    /// # Errors
    /// If it cannot be read. It was answered all the same.
    pub(super) fn on_request(
        self: &Arc<Self>,
        id: u64,
        message: Message<'_>,
        turn: Option<Turn>,
        came_at: Option<Instant>,
    ) -> Result<(), ScanError> {
        let incoming = match IncomingRequest::decode(message.body()) {
            Ok(incoming) => incoming,
            Err(error) => {
                let rejection = Rejection::new(Kind::BadArguments, format!("the request cannot be read: {error}"));
                self.reject(id, "", false, rejection);
                return Err(error);
            }
        };
        if let Err(rejection) = self.try_request(id, &incoming, &message, turn, came_at) {
            self.reject(id, incoming.method, incoming.is_one_way(), rejection);
        }
        Ok(())
    }

    fn try_request(
        self: &Arc<Self>,
        id: u64,
        incoming: &IncomingRequest<'_>,
        message: &Message<'_>,
        turn: Option<Turn>,
        came_at: Option<Instant>,
    ) -> Result<(), Rejection> {
        let n_values = incoming.n_values + message.attachments().len();
        let permit = self.permit(id, message.len() + n_values * BYTES_PER_VALUE)?;
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
        let method = self.serving.host.resolve(incoming.method)?;
        let caller = &self.serving.caller;
        if !method.allows(caller.roles()) {
            let message = format!("`{}` may not call `{}`", caller.name(), method.full_name);
            return Err(Rejection::new(Kind::Denied, message));
        }
        let turn = turn.or_else(|| self.serving.turn(incoming.method));
        let execution = method.descriptor.execution();
        // A plain method cannot be dropped: it can look whether it is still wanted.
        let cancellation = matches!(execution, Execution::Blocking | Execution::Compute).then(Cancellation::new);
        let scope = Scope::new(deadline).with_trace_parent(incoming.trace_parent.map(Into::into));
        let scope = match &cancellation {
            Some(cancellation) => scope.with_cancellation(cancellation.clone()),
            None => scope,
        };
        let one_way = incoming.is_one_way();
        let running = Running {
            came_ms: self.heard_at.load(Ordering::Relaxed),
            deadline,
            no_cancel: incoming.is_no_cancel() || method.descriptor.is_no_cancel(),
            one_way,
            cancellation,
            task: None,
            full_name: Arc::clone(&method.full_name),
        };
        lock(&self.serving.calls).insert(id, running);
        if deadline.is_some() {
            self.look_at(deadline);
        }
        let run = Run { connection: Arc::clone(self), id, method, scope, one_way, permit };
        // A `direct` method runs while it is dispatched, so its turn comes before.
        let waits_to_dispatch = turn.is_some() && execution == Execution::Direct;
        if waits_to_dispatch || message.body().len() > MAX_PAYLOAD {
            // Decoding what is large takes time: not here.
            let (body, attachments) = message.to_owned_parts();
            let task = self.runtime.spawn(async move {
                let turn = wait_for(turn).await;
                run.run_owned(body, attachments, turn).await;
            });
            self.serving.set_task(id, task.abort_handle());
            return Ok(());
        }
        match (run.dispatch(incoming.args, incoming.kwargs, message.attachments()), turn) {
            (Dispatch::Done(response), _) => run.answer(response),
            (dispatch, turn) => {
                let span = run.span();
                let method = async move {
                    let turn = wait_for(turn).await;
                    run.run(dispatch, turn).await;
                };
                let task = self.runtime.spawn(method.instrument(span));
                self.serving.set_task(id, task.abort_handle());
            }
        }
        Ok(())
    }

    /// Takes what a call of the peer needs.
    pub(super) fn permit(self: &Arc<Self>, id: u64, memory: usize) -> Result<RunningCall, Rejection> {
        let serving = &self.serving;
        // Only the reader adds, so what is looked at here can only have become less when it is added to.
        let n_running = match mutant::is(Mutant::PermitReleasedOnCancel) {
            true => lock(&serving.calls).len(),
            false => serving.n_running.load(Ordering::Acquire),
        };
        if n_running >= self.limits.calls_per_peer() {
            return Err(Rejection::new(Kind::Busy, too_many_calls(n_running)));
        }
        let n_most = self.limits.calls_per_peer().saturating_mul(2);
        let share = serving.budget.take(n_most, memory, self.limits.memory_per_peer());
        let share = share.map_err(|message| Rejection::new(Kind::Busy, message))?;
        let admission = serving.host.admit(memory)?;
        serving.n_running.fetch_add(1, Ordering::AcqRel);
        Ok(RunningCall { connection: Arc::clone(self), id, _share: share, _admission: admission })
    }

    /// Refuses a call.
    fn reject(self: &Arc<Self>, id: u64, method: &str, one_way: bool, rejection: Rejection) {
        let caller = self.peer_name();
        let method = method.get(..MAX_METHOD_NAME).unwrap_or(method);
        let method = if method.len() > MAX_METHOD_NAME { "" } else { method };
        tracing::debug!(%caller, method, kind = %rejection.kind(), "refused a call");
        if one_way {
            let message = rejection.into_exception().message;
            tracing::warn!(%caller, method, "a one-way call was refused: {message}");
            return;
        }
        self.respond(id, method, Response::exception(rejection.into_exception()), None);
    }

    /// Sends an answer, now if the queue has room, else when it has. The permit is held until then.
    pub(super) fn respond(self: &Arc<Self>, id: u64, method: &str, response: Response, permit: Option<RunningCall>) {
        let response = response.placed(self.serving.host.node(), method);
        let is_rejection = permit.is_none();
        let Some((message, permit)) = self.try_respond(id, self.encode(response, method), permit) else { return };
        if is_rejection {
            // No permit bounds these: only a peer that floods this node without reading gets here.
            return self.end_for(GoAwayReason::TooMuch, "answers are not read");
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut waiting = (message, permit);
            loop {
                let room = this.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                match this.try_respond(id, waiting.0, waiting.1) {
                    None => return,
                    Some(still_waiting) => waiting = still_waiting,
                }
                room.await;
            }
        });
    }

    /// Puts an answer in the queue, or gives it back if there is no room.
    fn try_respond(
        self: &Arc<Self>,
        id: u64,
        answer: EncodedResponse,
        permit: Option<RunningCall>,
    ) -> Option<(EncodedResponse, Option<RunningCall>)> {
        {
            let mut state = lock(&self.state);
            if state.ended.is_some() {
                return None;
            }
            let has_room = match permit {
                Some(_) => state.outgoing.has_room_for_answer(answer.len()),
                // Refusals are small, and leave before what is large: they wait for nobody.
                None => {
                    let small = state.outgoing.n_small_bytes();
                    small == 0 || small + answer.len() as u64 <= 2 * self.limits.queue_bytes() as u64
                }
            };
            if !has_room && !mutant::is(Mutant::UnboundedQueue) {
                return Some((answer, permit));
            }
            // Given back before the answer can leave: the caller may call again as soon as it has it.
            drop(permit);
            let flags = if answer.is_exception { frame_flag::EXCEPTION } else { 0 }
                | if answer.attachments.is_empty() { 0 } else { frame_flag::ATTACHMENTS };
            state.outgoing.push_message(frame_type::RESPONSE, flags, id, answer.head, &answer.attachments);
        }
        self.flush(false);
        None
    }

    fn encode(&self, response: Response, method: &str) -> EncodedResponse {
        let encoded = EncodedResponse::of(&response);
        let (len, limit) = (encoded.len() as u64, self.message_limit());
        if len <= limit {
            return encoded;
        }
        if let Response::Exception(_) = response {
            return EncodedResponse::of(&response.shortened(limit as usize));
        }
        let message =
            format!("the result has {len} bytes and may have {limit}: raise `Limits::with_message` on both nodes");
        let exception = Exception::new(Kind::ResponseTooLarge, message);
        EncodedResponse::of(&Response::exception(exception).placed(self.serving.host.node(), method))
    }

    /// Stops the calls whose deadline has passed.
    pub(super) fn expire_running(self: &Arc<Self>, now: Instant) {
        let is_over = |call: &Running| !call.no_cancel && call.deadline.is_some_and(|deadline| deadline <= now);
        let expired = self.serving.stop_where(is_over);
        self.tell_stopped(expired, Kind::Timeout, "the deadline passed while the method ran");
    }

    /// Stops all calls that run, and tells their callers.
    pub(super) fn stop_running(self: &Arc<Self>) {
        let stopped = self.serving.stop_where(|_| true);
        self.tell_stopped(stopped, Kind::Cancelled, "the node shut down while the method ran");
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
    fn set_task(&self, id: u64, task: AbortHandle) {
        match lock(&self.calls).get_mut(&id) {
            Some(call) => call.task = Some(task),
            // Cancelled between its start and now, or done.
            None => task.abort(),
        }
    }
}

/// The calls for which `wanted` holds, in the order in which they came: that of a map is chance.
fn ids_where(calls: &HashMap<u64, Running>, mut wanted: impl FnMut(&Running) -> bool) -> Vec<u64> {
    let mut ids: Vec<u64> = calls.iter().filter(|(_, call)| wanted(call)).map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids
}

async fn wait_for(turn: Option<Turn>) -> Option<OwnedSemaphorePermit> {
    turn?.await
}

/// An answer, but for its id.
struct EncodedResponse {
    head: BytesMut,
    attachments: Vec<Bytes>,
    is_exception: bool,
}

impl EncodedResponse {
    fn of(response: &Response) -> Self {
        let mut head = BytesMut::new();
        response.encode(&mut head);
        let is_exception = matches!(response, Response::Exception(_));
        Self { head, attachments: response.attachments().to_vec(), is_exception }
    }

    fn len(&self) -> usize {
        self.head.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A call on its way to its method.
struct Run {
    connection: Arc<Connection>,
    id: u64,
    method: Method,
    scope: Scope,
    one_way: bool,
    permit: RunningCall,
}

impl Run {
    fn span(&self) -> tracing::Span {
        tracing::debug_span!(
            "rmi.serve",
            method = &*self.method.full_name,
            caller = &**self.connection.peer_name(),
            id = self.id,
        )
    }

    /// Decodes the arguments. A refusal is an answer that is there already.
    fn dispatch(&self, args: &[u8], kwargs: Option<&[u8]>, attachments: &[Bytes]) -> Dispatch {
        let context = CallContext::new(self.connection.serving.caller.clone(), self.scope.clone());
        let call = Call::new(self.method.descriptor, args, kwargs, attachments, &context);
        run::dispatch(&*self.method.service, &call)
            .unwrap_or_else(|rejection| Dispatch::Done(Response::exception(rejection.into_exception())))
    }

    /// Decodes the arguments of a large request, and runs it.
    async fn run_owned(self, body: Bytes, attachments: Vec<Bytes>, turn: Option<OwnedSemaphorePermit>) {
        let dispatch = match IncomingRequest::decode(&body) {
            Ok(incoming) => self.dispatch(incoming.args, incoming.kwargs, &attachments),
            // It was decoded before.
            Err(error) => {
                let exception = Exception::new(Kind::BadArguments, error.to_string());
                Dispatch::Done(Response::exception(exception))
            }
        };
        drop((body, attachments));
        let span = self.span();
        self.run(dispatch, turn).instrument(span).await;
    }

    /// Runs the method. `turn` is given back when it has ended, not earlier.
    async fn run(self, dispatch: Dispatch, turn: Option<OwnedSemaphorePermit>) {
        match dispatch {
            Dispatch::Done(response) => self.answer(response),
            Dispatch::Task(future) => {
                let response = match mutant::is(Mutant::PanicNotCaught) {
                    true => future.await,
                    false => MethodTask::new(self.scope.clone(), future).await,
                };
                self.answer(response);
            }
            Dispatch::Closure(method) => self.run_on_pool(method, turn).await,
        }
    }

    async fn run_on_pool(self, method: Box<dyn FnOnce() -> Response + Send>, turn: Option<OwnedSemaphorePermit>) {
        let connection = &self.connection;
        let slot = connection.serving.host.slot(self.method.descriptor.execution(), &connection.runtime).await;
        let scope = self.scope.clone().blocking(slot);
        let span = tracing::Span::current();
        // From here on the method cannot be dropped; the permit is with it until it ends.
        self.connection.runtime.clone().spawn_blocking(move || {
            let response = span.in_scope(|| run::closure(&scope, method));
            drop(scope);
            drop(turn);
            self.answer(response);
        });
    }

    fn answer(self, response: Response) {
        if let Response::Exception(exception) = &response {
            let (caller, method, id) = (self.connection.peer_name(), &self.method.full_name, self.id);
            match exception.kind {
                Kind::Panicked => tracing::error!(%caller, %method, id, "the method panicked"),
                kind if self.one_way => {
                    tracing::warn!(%caller, %method, id, %kind, "a one-way call failed: {}", exception.message);
                }
                kind => tracing::debug!(%caller, %method, id, %kind, "answered with an exception"),
            }
        }
        // A call that is not in the table any more was cancelled or has expired: nobody wants the answer.
        let is_wanted = lock(&self.connection.serving.calls).remove(&self.id).is_some();
        if is_wanted && !self.one_way {
            self.connection.respond(self.id, &self.method.full_name, response, Some(self.permit));
        }
    }
}
