//! Quick `async` methods that wait: the reader polls them, and their answers leave with those of what it reads.
//!
//! As tasks of their own they would be taken up by whichever worker is idle, and meet at this connection's locks: waking
//! that worker costs more than all of a method that calls its caller back. So what has begun here and waits stays here,
//! as long as its polls are quick; the calls of a method that has shown to be slow go on as tasks.
//!
//! [`Inline`] is the reader's, and so are the methods in it: they are dropped with it. What others have is a [`Signal`]
//! for each call, to wake it or to stop it. Each signal stands in the queue at most once.

use std::collections::VecDeque;
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

/// The methods that wait with the reader.
#[derive(Default)]
pub(super) struct Inline {
    calls: Vec<Option<Box<InlineCall>>>,
    free: Vec<usize>,
    queue: Arc<Queue>,
    /// Whose turn it is in this round.
    turn: VecDeque<usize>,
}

/// One of them. The method is dropped before its permit.
struct InlineCall {
    task: Instrumented<MethodTask>,
    run: Run,
    signal: Arc<Signal>,
    waker: Waker,
}

/// The calls that were woken.
#[derive(Debug, Default)]
struct Queue(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    keys: Vec<usize>,
    /// The reader, if it waits for them.
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

impl Signal {
    /// Has the method dropped.
    pub(super) fn stop(self: Arc<Self>) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let reader = {
            let mut woken = lock(&self.queue.0);
            woken.keys.push(self.key);
            woken.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Inline {
    /// Whether no method waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.len() == self.free.len()
    }

    /// Takes a call in that was begun, and has it polled in this round. Gives back how to stop it.
    pub(super) fn insert(&mut self, run: Run, task: MethodTask, span: tracing::Span) -> Arc<Signal> {
        let key = self.free.pop().unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() - 1
        });
        let (is_woken, is_stopped) = (AtomicBool::new(true), AtomicBool::new(false));
        let signal = Arc::new(Signal { queue: Arc::clone(&self.queue), key, is_woken, is_stopped });
        let waker = Waker::from(Arc::clone(&signal));
        self.calls[key] = Some(Box::new(InlineCall { task: task.instrument(span), run, signal: Arc::clone(&signal), waker }));
        self.turn.push_back(key);
        signal
    }

    /// Whether a call has been woken; else the task with this context is woken when one is.
    pub(super) fn poll_woken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Pending;
        }
        if !self.turn.is_empty() {
            return Poll::Ready(());
        }
        let mut woken = lock(&self.queue.0);
        if !woken.keys.is_empty() {
            return Poll::Ready(());
        }
        if woken.reader.as_ref().is_none_or(|reader| !reader.will_wake(context.waker())) {
            woken.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Begins a round: those that are woken from now on have their turn in the next one.
    pub(super) fn begin_round(&mut self) {
        let mut woken = lock(&self.queue.0);
        // Who handles what has come need not be woken.
        woken.reader = None;
        self.turn.extend(woken.keys.drain(..));
    }

    /// Polls the calls of this round, while there is time: their answers are gathered.
    pub(super) fn poll(&mut self, connection: &Arc<Connection>, batch: &mut Batch) {
        let clock = &connection.clock;
        let mut spent = Duration::ZERO;
        while spent < MOST_TIME
            && let Some(key) = self.turn.pop_front()
        {
            // One that has ended may be woken, and then wakes in vain who has its place now.
            let Some(Some(call)) = self.calls.get_mut(key) else { continue };
            call.signal.is_woken.swap(false, Ordering::AcqRel);
            if call.signal.is_stopped.load(Ordering::Acquire) {
                batch.forget_time();
                self.remove(key);
                continue;
            }
            let pace = &call.run.method.pace;
            if pace.place() != Place::Reader {
                batch.forget_time();
                if let Some(call) = self.remove(key) {
                    let InlineCall { task, run, .. } = *call;
                    let span = task.span().clone();
                    connection.run_as_task(run, Begun::Task(task.into_inner()), None, span);
                }
                continue;
            }
            let began = batch.now(|| clock.now());
            let polled = Pin::new(&mut call.task).poll(&mut Context::from_waker(&call.waker));
            let took = batch.took(began, clock.now());
            call.run.method.pace.polled(Place::Reader, took);
            spent += took;
            if let Poll::Ready(response) = polled
                && let Some(call) = self.remove(key)
            {
                call.run.answer_inline(response, batch, || clock.now());
                if batch.is_worth_a_write() {
                    connection.settle(batch, Settling::Part);
                }
            }
        }
        if self.is_empty() && self.calls.capacity() > MOST_KEPT {
            (self.calls, self.free) = Default::default();
        }
    }

    fn remove(&mut self, key: usize) -> Option<Box<InlineCall>> {
        let call = self.calls.get_mut(key)?.take()?;
        self.free.push(key);
        Some(call)
    }
}
