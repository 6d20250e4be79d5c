//! One call of the peer, from its decoded envelope to its answer: where its method runs.
//!
//! A quick `async` method is polled where its request was read, and stays there if it waits (see
//! [`Inline`](super::inline::Inline)). All others are tasks. Whatever waits stands in the table of
//! [`Serving`](super::serving::Serving), so that it can be stopped. Plain methods run on threads of their pool, and so do
//! the polls of `async` methods that have shown to compute for long, one poll at a time: a method that waits holds no
//! thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use rmi_core::context::CallContext;
use rmi_core::descriptor::Execution;
use rmi_core::exception::Exception;
use rmi_core::kind::Kind;
use rmi_core::message::{IncomingRequest, Response};
use rmi_core::positional::Positional;
use rmi_core::run::{self, Begun, MethodTask, PlainMethod};
use rmi_core::service::Call;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::AbortHandle;

use super::Connection;
use super::batch::Batch;
use super::serving::{RunningCall, Turn};
use crate::host::Method;
use crate::mutant::{self, Mutant};
use crate::pace::Place;

/// A call on its way to its method.
pub(super) struct Run {
    pub(super) method: Arc<Method>,
    pub(super) context: CallContext,
    pub(super) one_way: bool,
    pub(super) no_cancel: bool,
    /// Whose turn it is in a serial service: given back when the method has ended, not earlier.
    pub(super) turn: Option<OwnedSemaphorePermit>,
    pub(super) permit: RunningCall,
}

/// What is known of a call whose method may end where its request was read: lent, until it is known to live longer.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) id: u64,
    pub(super) method: &'a Arc<Method>,
    pub(super) context: &'a CallContext,
    pub(super) one_way: bool,
    pub(super) no_cancel: bool,
}

/// Decodes the arguments of a call; with `polls`, an `async` method is polled once. A refusal is an answer that is there
/// already.
pub(super) fn begin(
    method: &Method,
    context: &CallContext,
    args: Positional<'_>,
    kwargs: Option<&[u8]>,
    attachments: &[Bytes],
    polls: bool,
) -> Begun {
    let call = Call::new(method.descriptor, args, kwargs, attachments, context);
    run::begin(&*method.service, &call, polls)
        .unwrap_or_else(|rejection| Begun::Done(Response::exception(rejection.into_exception())))
}

impl Asked<'_> {
    /// Answers a call that has ended where it was read. It has no permit yet.
    #[inline]
    pub(super) fn answer_here(
        self,
        connection: &Arc<Connection>,
        memory: usize,
        response: Response,
        batch: &mut Batch,
        now: impl FnOnce() -> Instant,
    ) {
        // Most calls: there is nothing to tell, and nothing to look at.
        let is_plain = matches!(response, Response::Value(_)) && self.context.scope().deadline().is_none();
        if is_plain && !self.one_way && can_be_gathered(connection, &response, batch) {
            return batch.answer(self.id, &response);
        }
        self.log(connection, &response);
        if let Some(response) = self.gather_answer(connection, response, batch, now) {
            let permit = connection.permit_begun(self.id, memory);
            connection.respond(self.id, &self.method.full_name, response, Some(permit));
        }
    }

    #[inline(never)]
    fn log(&self, connection: &Connection, response: &Response) {
        let Response::Exception(exception) = response else { return };
        let (caller, method, id) = (connection.peer_name(), &self.method.full_name, self.id);
        match exception.kind {
            Kind::Panicked => tracing::error!(%caller, %method, id, "the method panicked"),
            kind if self.one_way => {
                tracing::warn!(%caller, %method, id, %kind, "a one-way call failed: {}", exception.message);
            }
            kind => tracing::debug!(%caller, %method, id, %kind, "answered with an exception"),
        }
    }

    /// Adds the answer to those that leave together, if one is wanted. Gives back what has no room there.
    #[inline(never)]
    fn gather_answer(
        &self,
        connection: &Connection,
        mut response: Response,
        batch: &mut Batch,
        now: impl FnOnce() -> Instant,
    ) -> Option<Response> {
        if self.one_way {
            return None;
        }
        if let Some(deadline) = self.context.scope().deadline()
            && !self.no_cancel
            && deadline <= now()
        {
            response = Response::exception(Exception::new(Kind::Timeout, "the deadline passed while the method ran"));
        }
        if matches!(response, Response::Exception(_)) {
            response = response.placed(connection.serving.host.node(), &self.method.full_name);
        }
        if !can_be_gathered(connection, &response, batch) {
            // Encoding and writing are no method's time.
            batch.forget_time();
            return Some(response);
        }
        batch.answer(self.id, &response);
        None
    }
}

/// Whether an answer has room among those that leave together.
#[inline]
fn can_be_gathered(connection: &Connection, response: &Response, batch: &Batch) -> bool {
    let len = response.len_at_most();
    response.attachments().is_empty() && batch.has_room(len) && len as u64 <= connection.message_limit()
}

impl Run {
    /// A call that lives longer than its request is read.
    pub(super) fn new(asked: Asked<'_>, permit: RunningCall) -> Self {
        let Asked { method, context, one_way, no_cancel, .. } = asked;
        Self { method: Arc::clone(method), context: context.clone(), one_way, no_cancel, turn: None, permit }
    }

    fn asked(&self) -> Asked<'_> {
        let Self { method, context, one_way, no_cancel, permit, .. } = self;
        Asked { id: permit.id, method, context, one_way: *one_way, no_cancel: *no_cancel }
    }

    fn connection(&self) -> &Arc<Connection> {
        &self.permit.connection
    }

    /// Decodes the arguments of a large request, and runs it.
    pub(super) async fn run_owned(self, body: Bytes, attachments: Vec<Bytes>) {
        let begun = match IncomingRequest::decode(&body) {
            Ok(incoming) => begin(&self.method, &self.context, incoming.args, incoming.kwargs, &attachments, false),
            // It was decoded before.
            Err(error) => Begun::Done(Response::exception(Exception::new(Kind::BadArguments, error.to_string()))),
        };
        drop((body, attachments));
        RunTask::new(self, begun, None).await;
    }

    /// Polls the method in this task. `None` if it has shown to be work for the compute pool.
    fn poll_task(&self, task: &mut MethodTask, context: &mut Context<'_>) -> Poll<Option<Response>> {
        let pace = &self.method.pace;
        if self.method.execution == Execution::Async && pace.place() == Place::Pool {
            return Poll::Ready(None);
        }
        let clock = &self.connection().clock;
        let began = clock.now();
        let polled = Pin::new(task).poll(context);
        pace.polled(Place::Task, clock.now().saturating_duration_since(began));
        polled.map(Some)
    }

    /// Polls the method on the compute pool.
    async fn run_polls_on_pool(mut self, mut task: MethodTask) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let span = tracing::Span::current();
        loop {
            let connection = self.connection();
            let runtime = connection.runtime.clone();
            let slot = connection.serving.host.slot(Execution::Compute, &runtime).await;
            let (waker, span) = (waker.clone(), span.clone());
            // Permit and turn go where the method is: held until the poll has ended, also if this task is stopped.
            let poll = runtime.spawn_blocking(move || {
                let clock = &self.connection().clock;
                let began = clock.now();
                let polled = span.in_scope(|| Pin::new(&mut task).poll(&mut Context::from_waker(&waker)));
                self.method.pace.polled(Place::Pool, clock.now().saturating_duration_since(began));
                drop(slot);
                (self, task, polled)
            });
            // A poll that has not begun when this task is stopped must not begin.
            let stop = AbortOnDrop(poll.abort_handle());
            // Only a runtime that shuts down throws a poll away.
            let Ok((this, unfinished, polled)) = poll.await else { return };
            drop(stop);
            if let Poll::Ready(response) = polled {
                return this.answer(response);
            }
            (self, task) = (this, unfinished);
            woken.0.notified().await;
        }
    }

    async fn run_on_pool(self, method: PlainMethod) {
        let runtime = self.connection().runtime.clone();
        let slot = self.connection().serving.host.slot(self.method.execution, &runtime).await;
        let scope = self.context.scope().clone().blocking(slot);
        let span = tracing::Span::current();
        // From here on the method cannot be dropped; permit and turn are with it until it ends.
        runtime.spawn_blocking(move || {
            let response = span.in_scope(|| run::plain(&scope, method));
            drop(scope);
            self.answer(response);
        });
    }

    /// Answers a call that stands in the table of those that can be stopped.
    pub(super) fn answer(mut self, response: Response) {
        self.turn = None;
        self.asked().log(self.connection(), &response);
        // A call that is not in the table any more was cancelled or has expired: nobody wants the answer.
        let is_wanted = self.permit.leave_table();
        if is_wanted && !self.one_way {
            let connection = Arc::clone(self.connection());
            connection.respond(self.permit.id, &self.method.full_name, response, Some(self.permit));
        }
    }

    /// Answers a call that stands in the table of those that can be stopped, and was polled by the reader.
    pub(super) fn answer_inline(mut self, response: Response, batch: &mut Batch, now: impl FnOnce() -> Instant) {
        // The reader polls no method of a serial service.
        debug_assert!(self.turn.is_none());
        self.asked().log(self.connection(), &response);
        if self.permit.leave_table()
            && let Some(response) = self.asked().gather_answer(self.connection(), response, batch, now)
        {
            let connection = Arc::clone(self.connection());
            connection.respond(self.permit.id, &self.method.full_name, response, Some(self.permit));
        }
    }
}

/// The task of a call: its turn, its method, its answer. Dropping it stops the method, and then gives the permit back.
///
/// Written out because there is one for each call that waits: the compiler would keep what each of the ways of running
/// needs side by side, two KiB of it.
pub(super) struct RunTask {
    /// The method, which is dropped before its permit.
    begun: Option<(Begun, Run)>,
    turn: Option<Turn>,
    /// The same once it runs on a pool.
    elsewhere: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl RunTask {
    /// Runs what was begun, when its turn has come.
    pub(super) fn new(run: Run, begun: Begun, turn: Option<Turn>) -> Self {
        Self { begun: Some((begun, run)), turn, elsewhere: None }
    }
}

impl Future for RunTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some((begun, run)) = &mut this.begun {
            if let Some(turn) = &mut this.turn {
                run.turn = ready!(turn.as_mut().poll(context));
                this.turn = None;
            }
            if let Begun::Task(task) = begun
                && let Some(response) = ready!(run.poll_task(task, context))
            {
                if let Response::Exception(exception) = &response
                    && mutant::is(Mutant::PanicNotCaught)
                    && exception.kind == Kind::Panicked
                {
                    panic!("not caught")
                }
                *begun = Begun::Done(response);
            }
        }
        match this.begun.take() {
            Some((Begun::Done(response), run)) => run.answer(response),
            Some((Begun::Task(task), run)) => this.elsewhere = Some(Box::pin(run.run_polls_on_pool(task))),
            Some((Begun::Closure(method), run)) => this.elsewhere = Some(Box::pin(run.run_on_pool(method))),
            None => {}
        }
        match &mut this.elsewhere {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

/// Wakes the task whose method is polled on the pool.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
