//! From the queue to the socket.
//!
//! A caller that is alone writes itself: no task has to wake up. Otherwise the writer task does it, and lets everybody
//! who is ready to run add frames first: one write then carries them all. Only who adds what makes the queue
//! [worth a write](super::outgoing::WORTH_A_WRITE) does not wait for the task: so the two ends work at the same time, not
//! in turn. What the system does not take at once is the task's business, whose waker alone waits for the socket, and what
//! is half written stands in [`Io`], never in a future.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use rmi_core::message::Response;
use tokio::io::AsyncWrite;

use super::outgoing::{Finished, Outgoing};
use super::pending::{EndedCall, Progress};
use super::{Connection, Ended, State, nil, pass};
use crate::mutant::{self, Mutant};
use crate::seam::WriteHalf;
use crate::sync::atomic::Ordering;
use crate::sync::{TriedGuard, lock, lock_tried};

/// Most buffers in one system call.
const MOST_SLICES: usize = 16;
/// So often the queue is emptied once more by who is not the writer task: it does not write for all others.
const MOST_FILLS: usize = 3;
/// A buffer that a burst has made larger than this is given back.
const KEPT_BUFFER: usize = 64 << 10;

/// The writing half, and what has left the queue but not this process.
#[repr(C)]
pub(super) struct Io {
    /// `None` once the connection has ended.
    writer: Option<WriteHalf>,
    head: BytesMut,
    is_shut_down: bool,
    tail: VecDeque<Bytes>,
    /// What was written since others were last told.
    written: Written,
    /// Large messages whose last part stands in `tail`.
    finished: Vec<Finished>,
    /// One-way calls that were written, to be told when the lock is given back.
    told: Vec<EndedCall>,
}

/// Bytes of small frames, and of parts.
#[derive(Default)]
struct Written {
    small: usize,
    parts: usize,
}

/// How far a write got.
enum Flushed {
    All,
    /// The socket is full, or enough was written by who is not the writer task: the rest is for the task.
    Blocked,
}

impl Io {
    pub(super) fn new(writer: WriteHalf) -> Self {
        Self {
            writer: Some(writer),
            head: BytesMut::new(),
            tail: VecDeque::new(),
            finished: Vec::new(),
            told: Vec::new(),
            written: Written::default(),
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

    /// Takes out of the queue what is to be written next. What was taken before is written, and was noted.
    fn fill(&mut self, outgoing: &mut Outgoing) {
        if self.head.capacity() > KEPT_BUFFER {
            self.head = BytesMut::new();
        }
        outgoing.fill(&mut self.head, &mut self.tail, &mut self.finished);
    }

    /// Writes once. What there is is not empty, so an other end that takes nothing of it takes nothing any more: an error.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()));
        };
        let written = if self.tail.is_empty() {
            ready!(Pin::new(writer).poll_write(context, &self.head))
        } else {
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            slices[0] = IoSlice::new(&self.head);
            for (slice, bytes) in slices[1..].iter_mut().zip(&self.tail) {
                *slice = IoSlice::new(bytes);
            }
            ready!(Pin::new(writer).poll_write_vectored(context, &slices))
        };
        Poll::Ready(if let Ok(0) = written { Err(std::io::ErrorKind::WriteZero.into()) } else { written })
    }

    /// Takes off what was written. Gives back how much of it was small frames.
    fn advance(&mut self, mut n: usize) -> usize {
        let n_head = n.min(self.head.len());
        pass(&mut self.head, n_head);
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
        let write = self.next_write(&mut lock(&self.state), is_alone);
        self.write(write);
    }

    /// Does what [`next_write`](Self::next_write) has found to do, when the lock of the state is given back.
    #[inline]
    pub(super) fn write(&self, write: Write<'_>) {
        if !matches!(write, Write::Nothing) {
            self.write_or_wake(write);
        }
    }

    fn write_or_wake(&self, write: Write<'_>) {
        let mut io = match write {
            Write::Nothing => return,
            Write::Later(waker) => return waker.wake(),
            Write::Now(io) => io,
            Write::Small(mut io, n_frames) => match self.write_small(&mut io, n_frames) {
                Ok(true) => return,
                Ok(false) => io,
                Err(error) => {
                    drop(io);
                    return self.end(Ended::io(error));
                }
            },
        };
        // The writer task's waker takes the place of this one, if the socket is full.
        let flushed = self.write_all(&mut io, &mut Context::from_waker(Waker::noop()), MOST_FILLS);
        let told = std::mem::take(&mut io.told);
        drop(io);
        if !told.is_empty() {
            self.tell(told);
        }
        match flushed {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => self.wake_writer(),
            Err(error) => self.end(Ended::io(error)),
        }
    }

    /// Writes small frames that count as written already. Whether they are: else what is left of them is in hand again.
    fn write_small(&self, io: &mut Io, n_frames: usize) -> std::io::Result<bool> {
        let n = match io.poll_write(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        let is_whole = n == io.head.len();
        pass(&mut io.head, n);
        self.count_written(n);
        if !is_whole {
            lock(&self.state).outgoing.take_in_hand(n_frames, io.head.len());
        }
        Ok(is_whole)
    }

    /// So many bytes of small frames were written. Who says so has the lock of `io`.
    fn count_written(&self, n_small: usize) {
        let written = self.written.load(Ordering::Relaxed) + n_small as u64;
        self.written.store(written, Ordering::Release);
    }

    fn wake_writer(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.is_writer_awake = true;
            state.writer.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Writes what the socket takes at once, on a connection that is about to end: nothing waits for the rest, and the
    /// writer task may not even have started.
    pub(super) fn write_last(&self) {
        let told = {
            let mut io = lock_tried(&self.io);
            // The connection ends in any case.
            let _ = self.write_all(&mut io, &mut Context::from_waker(Waker::noop()), usize::MAX);
            std::mem::take(&mut io.told)
        };
        self.tell(told);
    }

    /// Writes until the queue is empty, the socket is full, or the queue was emptied so often.
    fn write_all(&self, io: &mut Io, context: &mut Context<'_>, most_fills: usize) -> std::io::Result<Flushed> {
        if io.is_shut_down {
            // Credit and pongs, for what the peer still sends: of no use to it, and there is no way to it any more.
            let mut state = lock(&self.state);
            state.outgoing = Outgoing::new(&self.limits, 0, 0);
            state.is_writer_awake = false;
            return Ok(Flushed::All);
        }
        let mut n_fills = 0;
        loop {
            while !io.is_empty() {
                match io.poll_write(context) {
                    Poll::Ready(Ok(n)) => {
                        let n_head = io.advance(n);
                        io.written.small += n_head;
                        io.written.parts += n - n_head;
                        self.count_written(n_head);
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => {
                        if mutant::is(Mutant::HalfWrittenFrameLost) {
                            io.head.clear();
                            io.tail.clear();
                        }
                        let mut state = lock(&self.state);
                        let has_written = self.note_written(&mut state, io);
                        self.note_stuck(&mut state);
                        let is_winding_down = state.said_goaway.is_some();
                        drop(state);
                        self.tell_written(has_written, is_winding_down);
                        return Ok(Flushed::Blocked);
                    }
                }
            }
            let mut state = lock(&self.state);
            let has_written = self.note_written(&mut state, io);
            let is_done = !state.outgoing.has_work();
            let is_finishing = is_done && state.is_finishing && state.outgoing.is_empty();
            let is_winding_down = state.said_goaway.is_some();
            if is_done {
                state.is_writer_awake = false;
                self.note_stuck(&mut state);
            } else if n_fills < most_fills {
                io.fill(&mut state.outgoing);
            }
            drop(state);
            self.tell_written(has_written, is_winding_down);
            if is_finishing {
                return shut_down(io, context);
            }
            if is_done {
                return Ok(Flushed::All);
            }
            if n_fills == most_fills {
                return Ok(Flushed::Blocked);
            }
            n_fills += 1;
        }
    }

    /// What was written has consequences: one-way calls end, and large messages have left. Whether anything was.
    fn note_written(&self, state: &mut State, io: &mut Io) -> bool {
        let Written { small, parts } = std::mem::take(&mut io.written);
        if small + parts == 0 {
            return false;
        }
        state.outgoing.written(small, parts);
        // Where large messages wait for credit only their parts show that the peer takes something: pongs and small
        // answers fit into the sockets for long, whether it reads or not.
        if state.outgoing.is_stuck() && (parts > 0 || !state.outgoing.has_bulk()) {
            self.took_at.store(self.age_ms(), Ordering::Relaxed);
        }
        let written = self.written.load(Ordering::Acquire);
        while state.one_way.front().is_some_and(|(end, _)| *end <= written) {
            let Some((_, id)) = state.one_way.pop_front() else { break };
            io.told.extend(state.pending.end(id, Ok(Response::Value(nil()))));
        }
        if !io.is_empty() {
            return true;
        }
        for Finished { id, .. } in io.finished.drain(..).filter(|finished| !finished.is_response) {
            let Some(call) = state.pending.get_mut(id) else { continue };
            call.progress = Progress::Sent;
            if call.one_way {
                io.told.extend(state.pending.end(id, Ok(Response::Value(nil()))));
            }
        }
        true
    }

    /// Whether something waits that cannot be written now, and if so, since when.
    fn note_stuck(&self, state: &mut State) {
        if state.outgoing.note_stuck() {
            self.took_at.store(self.age_ms(), Ordering::Relaxed);
        }
    }

    /// Who is to write what is in the queue. `is_alone`: nobody else is likely to add something at once.
    ///
    /// Who writes now has taken it out already, and with it the lock of `io`. It is only tried here, so nobody waits for it
    /// under the lock of the state.
    pub(super) fn next_write(&self, state: &mut State, is_alone: bool) -> Write<'_> {
        let has_grown = state.outgoing.has_grown();
        if !has_grown && (state.is_writer_awake || !(state.outgoing.has_work() || state.is_finishing)) {
            return Write::Nothing;
        }
        // If the writer task has not started yet, it will look at the queue when it does.
        let Some(waker) = &state.writer else { return Write::Nothing };
        if (is_alone || has_grown)
            && let Ok(mut io) = self.io.try_lock()
            && io.is_empty()
            && !io.is_shut_down
        {
            io.fill(&mut state.outgoing);
            // Nobody waits for these to be written, so nobody has to be told, and the state not to be locked again: that is
            // a call or an answer that is alone. Who adds something meanwhile finds the lock of `io` taken.
            let is_all = state.outgoing.is_in_hand() && io.tail.is_empty() && !state.is_writer_awake;
            let is_awaited =
                self.room.is_heard() || self.n_in_row.load(Ordering::Relaxed) > 0 || !state.one_way.is_empty();
            if is_all && !is_awaited && state.said_goaway.is_none() && !state.is_finishing {
                return Write::Small(io, state.outgoing.leave_hand());
            }
            return Write::Now(io);
        }
        // Also if somebody writes just now, who may have looked at the queue before something was added to it.
        state.is_writer_awake = true;
        Write::Later(waker.clone())
    }

    /// Tells those who wait for room, or for everything to be written.
    fn tell_written(&self, has_written: bool, is_winding_down: bool) {
        if !has_written {
            return;
        }
        if is_winding_down {
            self.progress.ring_locked();
        }
        // Answers and calls may wait for room in the queue.
        self.room.ring_locked();
        self.wake_first_in_row();
    }
}

/// Who writes.
pub(super) enum Write<'a> {
    /// Nobody has to.
    Nothing,
    /// Who has asked, with what is to be written.
    Now(TriedGuard<'a, Io>),
    /// The same; so many small frames are all there is, and count as written.
    Small(TriedGuard<'a, Io>, usize),
    /// The task with this waker.
    Later(Waker),
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
        let has_work = {
            let mut state = lock(&connection.state);
            match &mut state.writer {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
            state.outgoing.n_small_bytes() > 0
        };
        if !has_yielded && has_work {
            has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        has_yielded = false;
        let mut io = lock_tried(&connection.io);
        let written = connection.write_all(&mut io, context, usize::MAX);
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
