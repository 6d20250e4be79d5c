//! From the queue to the socket.
//!
//! A caller that is alone writes itself: no task has to wake up. Otherwise the writer task does it, and lets everybody
//! who is ready to run add frames first: one write then carries them all. Either way the write is a `poll_write` with
//! the waker of the writer task, so what the system does not take at once is the task's business, and what is half
//! written stands in [`Io`], never in a future.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use rmi_core::message::Response;
use tokio::io::AsyncWrite;

use super::outgoing::Finished;
use super::pending::{EndedCall, Progress};
use super::{Connection, Ended, nil};
use crate::mutant::{self, Mutant};
use crate::sync::atomic::Ordering;
use crate::sync::lock;

/// Most buffers in one system call.
const MOST_SLICES: usize = 16;
/// A buffer that a burst has made larger than this is given back.
const KEPT_BUFFER: usize = 64 << 10;

/// The writing half, and what has left the queue but not this process.
pub(super) struct Io {
    /// `None` once the connection has ended.
    writer: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    head: BytesMut,
    tail: VecDeque<Bytes>,
    /// Large messages whose last part stands in `tail`.
    finished: Vec<Finished>,
    /// One-way calls that were written, to be told when the lock is given back.
    told: Vec<EndedCall>,
    is_shut_down: bool,
}

/// How far a write got.
enum Flushed {
    All,
    /// The socket is full; the writer task's waker is registered.
    Blocked,
}

impl Io {
    pub(super) fn new(writer: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self {
            writer: Some(writer),
            head: BytesMut::new(),
            tail: VecDeque::new(),
            finished: Vec::new(),
            told: Vec::new(),
            is_shut_down: false,
        }
    }

    /// Closes the writing half.
    pub(super) fn close(&mut self) {
        self.writer = None;
        self.head = BytesMut::new();
        self.tail = VecDeque::new();
    }

    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// Writes once. `Ready(0)` if the other end takes nothing any more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()));
        };
        if self.tail.is_empty() {
            return Pin::new(writer).poll_write(context, &self.head);
        }
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        slices[0] = IoSlice::new(&self.head);
        for (slice, bytes) in slices[1..].iter_mut().zip(&self.tail) {
            *slice = IoSlice::new(bytes);
        }
        Pin::new(writer).poll_write_vectored(context, &slices)
    }

    /// Takes off what was written. Gives back how much of it was small frames.
    fn advance(&mut self, mut n: usize) -> usize {
        let n_head = n.min(self.head.len());
        self.head.advance(n_head);
        n -= n_head;
        while n > 0 {
            let Some(front) = self.tail.front_mut() else { break };
            let taken = n.min(front.len());
            front.advance(taken);
            n -= taken;
            if front.is_empty() {
                self.tail.pop_front();
            }
        }
        n_head
    }
}

impl Connection {
    /// Gets what is in the queue going. `is_alone`: nobody else is likely to add something at once.
    pub(super) fn flush(&self, is_alone: bool) {
        let waker = {
            let mut state = lock(&self.state);
            if state.is_writer_awake || !(state.outgoing.has_work() || state.is_finishing) {
                return;
            }
            let waker = state.writer.clone();
            // Without a waker the writer task has not started yet: it will look at the queue when it does.
            let Some(waker) = waker else { return };
            if !is_alone {
                state.is_writer_awake = true;
            }
            waker
        };
        if !is_alone {
            return waker.wake();
        }
        let (flushed, told) = match self.io.try_lock() {
            Ok(mut io) => {
                let flushed = self.write_all(&mut io, &mut Context::from_waker(&waker));
                (flushed, std::mem::take(&mut io.told))
            }
            // Somebody writes just now, and may have looked at the queue before we added to it.
            Err(_) => (Ok(Flushed::Blocked), Vec::new()),
        };
        self.tell(told);
        match flushed {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => {
                lock(&self.state).is_writer_awake = true;
                waker.wake();
            }
            Err(error) => self.end(Ended::io(error)),
        }
    }

    /// Writes what the socket takes at once, on a connection that is about to end: nothing waits for the rest, and the
    /// writer task may not even have started.
    pub(super) fn write_last(&self) {
        let told = {
            let mut io = lock(&self.io);
            // The connection ends in any case.
            let _ = self.write_all(&mut io, &mut Context::from_waker(Waker::noop()));
            std::mem::take(&mut io.told)
        };
        self.tell(told);
    }

    /// Writes until the queue is empty or the socket is full.
    fn write_all(&self, io: &mut Io, context: &mut Context<'_>) -> std::io::Result<Flushed> {
        loop {
            if io.is_empty() {
                let finished = std::mem::take(&mut io.finished);
                if !finished.is_empty() {
                    self.parts_written(&finished, &mut io.told);
                }
                if io.head.capacity() > KEPT_BUFFER {
                    io.head = BytesMut::new();
                }
                let mut state = lock(&self.state);
                state.outgoing.fill(&mut io.head, &mut io.tail, &mut io.finished);
                if io.is_empty() {
                    state.is_writer_awake = false;
                    let is_finishing = state.is_finishing && state.outgoing.is_empty();
                    drop(state);
                    return if is_finishing { shut_down(io, context) } else { Ok(Flushed::All) };
                }
            }
            let n = match io.poll_write(context) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    if mutant::is(Mutant::HalfWrittenFrameLost) {
                        io.head.clear();
                        io.tail.clear();
                    }
                    return Ok(Flushed::Blocked);
                }
            };
            let n_head = io.advance(n);
            self.took(n_head, n - n_head, &mut io.told);
        }
    }

    /// The system has taken bytes of small frames and of parts.
    fn took(&self, n_head: usize, n_parts: usize, told: &mut Vec<EndedCall>) {
        let written = self.written.fetch_add(n_head as u64, Ordering::AcqRel) + n_head as u64;
        let mut state = lock(&self.state);
        state.outgoing.written(n_head, n_parts);
        // Where large messages wait for credit only their parts show that the peer takes something: pongs and small
        // answers fit into the sockets for long, whether it reads or not.
        if n_parts > 0 || !state.outgoing.has_bulk() {
            self.took_at.store(self.age_ms(), Ordering::Relaxed);
        }
        while state.one_way.front().is_some_and(|(end, _)| *end <= written) {
            let Some((_, id)) = state.one_way.pop_front() else { break };
            told.extend(state.pending.end(id, Ok(Response::Value(nil()))));
        }
        let is_winding_down = state.said_goaway.is_some();
        drop(state);
        if is_winding_down {
            self.progress.notify_waiters();
        }
        // Answers and calls may wait for room in the queue.
        self.room.notify_waiters();
        self.wake_first_in_row();
    }

    /// Large messages whose last part was written.
    fn parts_written(&self, finished: &[Finished], told: &mut Vec<EndedCall>) {
        let mut state = lock(&self.state);
        for Finished { id, .. } in finished.iter().filter(|finished| !finished.is_response) {
            let Some(call) = state.pending.get_mut(*id) else { continue };
            call.progress = Progress::Sent;
            if call.one_way {
                told.extend(state.pending.end(*id, Ok(Response::Value(nil()))));
            }
        }
    }
}

fn shut_down(io: &mut Io, context: &mut Context<'_>) -> std::io::Result<Flushed> {
    if !io.is_shut_down
        && let Some(writer) = &mut io.writer
    {
        match Pin::new(writer).poll_shutdown(context) {
            Poll::Ready(result) => {
                result?;
                io.is_shut_down = true;
            }
            Poll::Pending => return Ok(Flushed::Blocked),
        }
    }
    Ok(Flushed::All)
}

/// The writer task.
pub(super) async fn run(connection: Arc<Connection>) {
    // Whether others had their turn to add frames since the task was woken.
    let mut has_yielded = false;
    let error = poll_fn(|context| {
        {
            let mut state = lock(&connection.state);
            match &mut state.writer {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
        }
        let mut io = lock(&connection.io);
        if !has_yielded && io.is_empty() {
            has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        has_yielded = false;
        let written = connection.write_all(&mut io, context);
        let told = std::mem::take(&mut io.told);
        drop(io);
        connection.tell(told);
        match written {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    })
    .await;
    connection.end(Ended::io(error));
}
