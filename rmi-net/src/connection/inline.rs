//! Quick `async` methods that wait: the reader polls them, and their answers leave with those of what it reads.
//!
//! As tasks of their own they would be taken up by whichever worker is idle, and meet at this connection's locks: waking
//! that worker costs more than all of a method that calls its caller back. So what has begun here and waits stays here,
//! as long as its polls are quick and the reader has time for all of them. The others go on as tasks.
//!
//! [`Inline`] is the reader's, and so are the methods in it: they are dropped with it. What others have is a [`Signal`]
//! for each call, to wake it or to stop it. Each signal stands in the queue at most once, by the key of its call; that of
//! a call that has ended may wake the next one with its key in vain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rmi_core::run::{Begun, MethodTask};
use tracing::Instrument;
use tracing::instrument::Instrumented;

use super::Connection;
use super::batch::{Batch, MOST_TIME, Settling};
use super::running::Run;
use crate::pace::Place;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// Room for so many is kept when none waits.
const MOST_KEPT: usize = 64;

/// The methods that wait with the reader. Takes no memory before there is one.
#[derive(Default)]
pub(super) struct Inline(Option<Box<Calls>>);

#[derive(Default)]
struct Calls {
    by_key: Vec<Option<Box<Call>>>,
    free: Vec<usize>,
    queue: Arc<Queue>,
    /// Those that were woken before this round.
    round: Vec<usize>,
}

/// One of them. The method is dropped before its permit.
struct Call {
    task: Instrumented<MethodTask>,
    run: Run,
    signal: Arc<Signal>,
    waker: Waker,
}

/// The calls that were woken, and the reader if it waits for them.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    keys: Vec<usize>,
    reader: Option<Waker>,
}

/// Wakes a call, or stops it.
#[derive(Debug)]
pub(super) struct Signal {
    queue: Arc<Queue>,
    key: usize,
    /// It stands in the queue.
    is_woken: AtomicBool,
    is_stopped: AtomicBool,
}

impl Queue {
    /// Whether a call has been woken; else the task with this context is woken when one is.
    pub(super) fn poll_woken(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut woken = lock(&self.0);
        if !woken.keys.is_empty() {
            return Poll::Ready(());
        }
        if woken.reader.as_ref().is_none_or(|reader| !reader.will_wake(context.waker())) {
            woken.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Moves those that were woken to `round`. Who does it need not be woken meanwhile.
    pub(super) fn begin_round(&self, round: &mut Vec<usize>) {
        let mut woken = lock(&self.0);
        woken.reader = None;
        round.append(&mut woken.keys);
    }

    fn add(&self, key: usize) {
        let reader = {
            let mut woken = lock(&self.0);
            woken.keys.push(key);
            woken.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Signal {
    /// One that is not woken yet.
    pub(super) fn new(queue: Arc<Queue>, key: usize) -> Arc<Self> {
        Arc::new(Self { queue, key, is_woken: AtomicBool::new(false), is_stopped: AtomicBool::new(false) })
    }

    /// Has the method dropped.
    pub(super) fn stop(self: Arc<Self>) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// The call has its turn, and can be woken again from now on. Whether the method is to be dropped.
    pub(super) fn begin_turn(&self) -> bool {
        self.is_woken.swap(false, Ordering::AcqRel);
        self.is_stopped.load(Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.queue.add(self.key);
        }
    }
}

impl Inline {
    /// Whether no method waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|calls| calls.is_empty())
    }

    /// Takes a call in that was begun, and has it polled in the next round. Gives back how to stop it.
    pub(super) fn insert(&mut self, run: Run, task: MethodTask, span: tracing::Span) -> Arc<Signal> {
        self.0.get_or_insert_default().insert(run, task.instrument(span))
    }

    /// Whether a call has been woken; else the task with this context is woken when one is.
    pub(super) fn poll_woken(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(calls) if !calls.is_empty() => calls.queue.poll_woken(context),
            _ => Poll::Pending,
        }
    }

    /// Drops one method that was stopped, before its turn: it holds what another call needs. Whether there was one, and time
    /// for it.
    pub(super) fn drop_stopped(&mut self, connection: &Connection, batch: &mut Batch) -> bool {
        let Some(calls) = self.0.as_mut().filter(|_| batch.is_in_time()) else { return false };
        batch.begins(|| connection.clock.now());
        let was_there = calls.drop_stopped();
        batch.took(connection.clock.now());
        was_there
    }

    /// Polls the calls that were woken: their answers are gathered. Those that are woken from now on have their turn in
    /// the next round.
    pub(super) fn poll_round(&mut self, connection: &Arc<Connection>, batch: &mut Batch) {
        let Some(calls) = &mut self.0 else { return };
        calls.poll_round(connection, batch);
        if calls.is_empty() && calls.by_key.capacity() > MOST_KEPT {
            self.0 = None;
        }
    }
}

impl Calls {
    fn is_empty(&self) -> bool {
        self.by_key.len() == self.free.len()
    }

    fn insert(&mut self, run: Run, task: Instrumented<MethodTask>) -> Arc<Signal> {
        let key = self.free.pop().unwrap_or(self.by_key.len());
        let signal = Signal::new(Arc::clone(&self.queue), key);
        let waker = Waker::from(Arc::clone(&signal));
        let call = Some(Box::new(Call { task, run, signal: Arc::clone(&signal), waker }));
        match self.by_key.get_mut(key) {
            Some(place) => *place = call,
            None => self.by_key.push(call),
        }
        signal.wake_by_ref();
        signal
    }

    fn drop_stopped(&mut self) -> bool {
        // Those that are not dropped have their turn in the next round.
        self.queue.begin_round(&mut self.round);
        let is_stopped = |key: &usize| {
            let call = self.by_key.get(*key).and_then(Option::as_ref);
            call.is_some_and(|call| call.signal.is_stopped.load(Ordering::Acquire))
        };
        let stopped = self.round.iter().position(is_stopped);
        stopped.is_some_and(|at| {
            let key = self.round.swap_remove(at);
            self.remove(key).is_some()
        })
    }

    fn poll_round(&mut self, connection: &Arc<Connection>, batch: &mut Batch) {
        let mut round = std::mem::take(&mut self.round);
        self.queue.begin_round(&mut round);
        let mut spent = Duration::ZERO;
        for key in round.drain(..) {
            let Some(Some(call)) = self.by_key.get_mut(key) else { continue };
            let pace = &call.run.method.pace;
            let is_stopped = call.signal.begin_turn();
            let now = || connection.clock.now();
            if spent < MOST_TIME && is_stopped {
                batch.begins(now);
                self.remove(key);
                spent += batch.took(now());
            } else if spent < MOST_TIME && pace.place() == Place::Reader {
                batch.begins(now);
                let polled = Pin::new(&mut call.task).poll(&mut Context::from_waker(&call.waker));
                let took = batch.took(now());
                pace.polled(Place::Reader, took);
                spent += took;
                if let Poll::Ready(response) = polled
                    && let Some(call) = self.remove(key)
                {
                    call.run.answer_inline(response, batch, now);
                    if batch.is_worth_a_write() {
                        connection.settle(batch, Settling::Part);
                    }
                }
            } else if let Some(call) = self.remove(key) {
                // One that is stopped as well: it is not in the table any more, and its task is dropped at once.
                batch.forget_time();
                let Call { task, run, .. } = *call;
                let span = task.span().clone();
                connection.run_as_task(run, Begun::Task(task.into_inner()), None, span);
            }
        }
        self.round = round;
    }

    fn remove(&mut self, key: usize) -> Option<Box<Call>> {
        let call = self.by_key.get_mut(key)?.take()?;
        self.free.push(key);
        Some(call)
    }
}
