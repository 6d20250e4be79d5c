//! From the socket to calls: the reader task.
//!
//! It reads what is there, handles every whole frame of it, and awaits nothing but the socket and its turn. Its buffer
//! grows with the traffic and is small on an idle connection. What comes in parts goes to its [`Assembly`]. It also polls
//! the quick methods that wait, see [`Inline`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use rmi_core::exception::Exception;
use rmi_core::frame::{
    FrameError, FrameHeader, GoAway, GoAwayReason, HEADER_LEN, decode_window, frame_flag, frame_type,
};
use rmi_core::hello::decode_records;
use rmi_core::kind::Kind;
use rmi_core::message::{Message, Response};
use rmi_core::scan::{ScanError, Scanner};
use tokio::io::AsyncReadExt;

use super::assembly::{Assembly, Whole};
use super::batch::{Batch, Settling};
use super::inline::Inline;
use super::known::Known;
use super::serving::{Opened, Turn};
use super::{Connection, Ended, Halves, NO_FRAME, pass};
use crate::budget::{Bucket, Patience};
use crate::limits::{DEAD_AFTER, LINGER, PING_AFTER};
use crate::mutant::{self, Mutant};
use crate::seam::{Clock, ReadHalf};
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::tasks::spawn;

const LEAST_READ: usize = 256;
const MOST_READ: usize = 64 << 10;
/// After so many bytes others have their turn, and after so many where a call or an answer was among them. The runtime
/// would let a task read for milliseconds, and whom it has woken last waits for the same thread.
const TURN: usize = 1 << 20;
const TURN_WITH_CALLS: usize = 64 << 10;
/// What polling methods counts, without anything having been read.
const TURN_OF_METHODS: usize = 1 << 10;
/// More pings than this within the time after which one is due are an attack.
const MOST_PINGS: u32 = 10;

/// What the reader task owns. What each call touches comes first.
#[repr(C)]
struct Reader {
    connection: Arc<Connection>,
    /// Bytes that came in this turn, and whether a call or an answer was among them.
    n_in_turn: usize,
    has_calls: bool,
    /// The clock went on by a millisecond between the last two reads. If it does so again before the next one, what a call
    /// touches is hardly in the processor's caches any more.
    is_cold: bool,
    /// The greatest id of a request that was handled, and the greatest that is accepted.
    last_request: u64,
    last_accepted: u64,
    reading: Reading,
    /// Messages that come in parts.
    assembly: Assembly,
    /// When the current count of pings began, in milliseconds of the connection's age, and the count.
    pings: (u64, u32),
}

/// Where it reads from, and what has not been handled of it.
struct Input {
    reader: ReadHalf,
    buffer: BytesMut,
    /// Bytes that are asked for.
    want: usize,
}

/// What the calls of the peer need of the reader.
#[derive(Default)]
#[repr(C)]
pub(super) struct Reading {
    pub(super) batch: Batch,
    pub(super) known: Known,
    /// Methods that wait and that are polled here.
    pub(super) inline: Inline,
}

/// Why the connection cannot go on.
pub(super) enum Fatal {
    Frame(FrameError),
    Protocol(&'static str),
    TooMuch(&'static str),
}

pub(super) const NEVER_MADE: Fatal = Fatal::Protocol("an answer to a call that was never made");

impl From<FrameError> for Fatal {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

/// Ends the connection with its reader: also when the runtime ends, or a frame makes the reader panic.
struct EndOnDrop(Arc<Connection>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Ended::lost("the connection's task has ended"));
    }
}

/// The reader task.
pub(super) async fn run(connection: Arc<Connection>, halves: Halves) {
    let _end = EndOnDrop(Arc::clone(&connection));
    let Halves { reader, buffer } = halves;
    let mut input = Input { reader, buffer, want: LEAST_READ };
    let mut this = Reader {
        assembly: Assembly::new(&connection),
        connection,
        n_in_turn: 0,
        has_calls: false,
        is_cold: false,
        last_request: 0,
        last_accepted: u64::MAX,
        reading: Reading::default(),
        pings: (0, 0),
    };
    loop {
        if let Err(fatal) = this.handle(&mut input.buffer) {
            let (runtime, clock) = (this.connection.runtime.clone(), Arc::clone(&this.connection.clock));
            this.give_up(fatal);
            // The end of the connection ends this task. Closing with unread input would throw the reason away.
            spawn(&runtime, read_to_end(input.reader, clock));
            return;
        }
        if mutant::is(Mutant::HalfReadFrameLost) {
            input.buffer.clear();
        }
        if this.n_in_turn >= if this.has_calls { TURN_WITH_CALLS } else { TURN } {
            (this.n_in_turn, this.has_calls) = (0, false);
            tokio::task::yield_now().await;
        }
        #[cfg(mutants)]
        this.connection.await_room_in_the_queue().await;
        let read = loop {
            let mut has_waited = false;
            let read = poll_fn(|context| {
                if has_waited && this.is_cold {
                    this.connection.prefetch();
                    this.reading.known.prefetch();
                }
                has_waited = true;
                this.poll_read(&mut input, context)
            })
            .await;
            if read.is_some() || tokio::task::coop::has_budget_remaining() {
                break read;
            }
            // Methods have used up what this task may do in one go, so that it could not read, whether something is there or
            // not.
            tokio::task::yield_now().await;
        };
        match read {
            None => {
                this.n_in_turn += TURN_OF_METHODS;
                this.has_calls = true;
                this.reading.batch.begin(None);
            }
            Some(Ok(0)) => return this.at_end(),
            Some(Ok(n)) => {
                this.n_in_turn += n;
                if let Err(ended) = this.heard() {
                    return this.connection.end(ended);
                }
            }
            Some(Err(error)) => return this.connection.end(Ended::io(error)),
        }
    }
}

/// Reads and drops what the peer still sends, for a while.
async fn read_to_end(mut reader: ReadHalf, clock: Arc<dyn Clock>) {
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        biased;
        // Looked at first: reading what never ends would leave it no turn.
        () = clock.sleep_until(clock.now() + LINGER) => {}
        _ = tokio::io::copy(&mut reader, &mut nowhere) => {}
    }
}

/// How many bytes the frame at the front needs, as far as that is known. It was or will be checked.
fn frame_len(buffer: &BytesMut) -> usize {
    match FrameHeader::decode(buffer) {
        Ok(Some(header)) => HEADER_LEN + header.payload_len,
        _ => HEADER_LEN,
    }
}

/// What the whole frames are that have come.
struct Ahead {
    /// The id of the last request, or 0.
    last_request: u64,
    /// All are answers in one frame each.
    only_answers: bool,
}

impl Ahead {
    /// Looks at these bytes, as far as they are frames.
    fn of(mut bytes: &[u8]) -> Self {
        let mut ahead = Self { last_request: 0, only_answers: true };
        while let Ok(Some(header)) = FrameHeader::decode(bytes) {
            let Some(rest) = bytes.get(HEADER_LEN + header.payload_len..) else { break };
            ahead.only_answers &= header.frame_type == frame_type::RESPONSE && !header.has(frame_flag::MORE);
            if header.frame_type == frame_type::REQUEST {
                ahead.last_request = ahead.last_request.max(header.id);
            }
            bytes = rest;
        }
        ahead
    }
}

/// A message with blobs in one frame. It gets a buffer of its own, which they share.
fn whole(payload: &[u8]) -> Result<Message<'_>, ScanError> {
    Message::from_bytes(&Bytes::copy_from_slice(payload), true)
}

/// A request that cannot be taken apart is refused like one that cannot be read.
fn or_nothing(message: Result<Message<'_>, ScanError>) -> Message<'_> {
    message.unwrap_or(Message::Borrowed(&[]))
}

/// The place of a large request in the row of its service: the order is that of the first parts.
fn peek_turn(connection: &Connection, flags: u8, first: &[u8]) -> Option<Turn> {
    let mut scanner = Scanner::new(first);
    if flags & frame_flag::ATTACHMENTS != 0 {
        scanner.value().ok()?;
    }
    let mut body = Scanner::new(scanner.rest());
    body.array_header().ok()?;
    let method = connection.serving.host.resolve(body.str().ok()?).ok()?;
    connection.serving.turn(&method)
}

impl Reader {
    /// Reads what is there: the rest of a part straight to its message, all else to the buffer. `None` if there is nothing,
    /// but a method that waits here was woken.
    fn poll_read(&mut self, input: &mut Input, context: &mut Context<'_>) -> Poll<Option<std::io::Result<usize>>> {
        let Input { reader, buffer, want } = input;
        let read = if let Some(mut target) = self.assembly.target() {
            let read = pin!(reader.read_buf(&mut target)).poll(context);
            if let Poll::Ready(Ok(n)) = read {
                self.assembly.filled(n, buffer);
            }
            read
        } else {
            // As much as full reads need with what is left of the one before, for as long as they come.
            if buffer.is_empty() && buffer.capacity() > MOST_READ && *want < MOST_READ {
                *buffer = BytesMut::new();
            }
            if !buffer.is_empty() || buffer.capacity() < *want {
                buffer.reserve((*want).max(frame_len(buffer).saturating_sub(buffer.len())));
            }
            let read = pin!(reader.read_buf(buffer)).poll(context);
            match read {
                Poll::Ready(Ok(n)) if n >= *want => *want = (*want * 2).min(MOST_READ),
                Poll::Ready(Ok(n)) if n < *want / 4 => *want = (*want / 2).max(LEAST_READ),
                _ => {}
            }
            read
        };
        match read {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => self.reading.inline.poll_woken(context).map(|()| None),
        }
    }

    /// Something was read just now.
    ///
    /// # Errors
    /// If this process stood still, and its keeper with it. The peer has given up meanwhile what it sent before then, and is
    /// told so by its own clock: none of that may begin to run now.
    fn heard(&mut self) -> Result<(), Ended> {
        let now = self.connection.clock.now();
        self.reading.batch.begin(Some(now));
        let age = self.connection.age_ms_at(now);
        // Nobody else writes it.
        let heard_at = self.connection.heard_at.load(Ordering::Relaxed);
        self.connection.heard_at.store(age, Ordering::Relaxed);
        self.is_cold = age > heard_at;
        if age.saturating_sub(heard_at) >= DEAD_AFTER.as_millis() as u64 { Err(Ended::silent()) } else { Ok(()) }
    }

    /// Handles every whole frame, and notes since when the one behind them has been coming.
    fn handle(&mut self, buffer: &mut BytesMut) -> Result<(), Fatal> {
        self.begin(buffer);
        let handled = self.frames(buffer);
        // Also what came before something that ends the connection.
        let settled = self.poll_inline().and(self.settle(Settling::End));
        self.reading.known.let_go();
        let has_passed_one = handled?;
        settled?;
        let since = &self.connection.frame_since;
        if buffer.is_empty() && self.assembly.n_left().is_none() {
            since.store(NO_FRAME, Ordering::Relaxed);
        } else if has_passed_one || since.load(Ordering::Relaxed) == NO_FRAME {
            since.store(self.connection.age_ms(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins with what has come: under one lock, the requests are accepted, room is set aside for their answers, and
    /// what has come of answers is dropped whose calls have ended meanwhile. Where only answers have come, nothing of that
    /// is to be done.
    fn begin(&mut self, buffer: &[u8]) {
        let n_left = self.assembly.n_left().unwrap_or_default();
        let Ahead { last_request, only_answers } = Ahead::of(buffer.get(n_left..).unwrap_or_default());
        let has_methods = !self.reading.inline.is_empty();
        if only_answers && !has_methods && self.assembly.is_empty() {
            return;
        }
        let dropped = {
            let mut state = lock(&self.connection.state);
            self.last_accepted = state.last_accepted;
            state.last_request = state.last_request.max(last_request);
            state.is_reading = true;
            state.n_readings += 1;
            self.reading.batch.set_aside(&mut state, last_request > 0, has_methods);
            std::mem::take(&mut state.dropped)
        };
        for key in dropped {
            self.assembly.drop_open(key);
        }
    }

    /// Handles the frames that are there. Whether one has ended.
    fn frames(&mut self, buffer: &mut BytesMut) -> Result<bool, Fatal> {
        let mut has_passed_one = false;
        loop {
            if self.assembly.n_left().is_some() {
                self.assembly.feed(buffer);
                if let Some(whole) = self.assembly.end_part() {
                    self.take_whole(whole)?;
                }
                if self.assembly.n_left().is_some() {
                    return Ok(has_passed_one);
                }
                has_passed_one = true;
            }
            let Some(header) = FrameHeader::decode(buffer)? else { return Ok(has_passed_one) };
            if header.frame_type == frame_type::PART {
                buffer.advance(HEADER_LEN);
                self.assembly.begin_part(header, self.last_request)?;
                continue;
            }
            let end = HEADER_LEN + header.payload_len;
            let Some(payload) = buffer.get(HEADER_LEN..end) else { return Ok(has_passed_one) };
            self.frame(header, payload)?;
            pass(buffer, end);
            has_passed_one = true;
        }
    }

    /// Lets go of what was gathered; more may follow, unless it is the last time. Answers of methods that ran here, pongs
    /// and credit leave together.
    fn settle(&mut self, settling: Settling) -> Result<(), Fatal> {
        self.reading.batch.credit = self.assembly.take_due_credit();
        if self.connection.settle(&mut self.reading.batch, settling) { Ok(()) } else { Err(NEVER_MADE) }
    }

    /// Polls the methods that wait here and were woken, also by answers that have come.
    fn poll_inline(&mut self) -> Result<(), Fatal> {
        if self.reading.inline.is_empty() {
            return Ok(());
        }
        let settled = if self.reading.batch.has_answered() { self.settle(Settling::Methods) } else { Ok(()) };
        self.reading.inline.poll_round(&self.connection, &mut self.reading.batch);
        settled
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        let connection = &self.connection;
        if header.frame_type != frame_type::REQUEST {
            self.reading.batch.forget_time();
        }
        match header.frame_type {
            frame_type::REQUEST => {
                self.note_call(header);
                self.request(header, payload)
            }
            frame_type::RESPONSE => {
                self.note_call(header);
                self.response(header, payload)
            }
            frame_type::WINDOW => {
                let bytes = decode_window(payload)?;
                lock(&connection.state).outgoing.add_credit(bytes);
                Ok(())
            }
            frame_type::CANCEL => {
                self.bear(|patience| &mut patience.cancels, "too many cancels")?;
                self.assembly.drop_open((false, header.id));
                let connection = &self.connection;
                if lock(&connection.state).outgoing.drop_bulk(header.id, true) {
                    connection.made_room();
                }
                connection.serving.cancel(header.id);
                Ok(())
            }
            frame_type::GOAWAY => {
                let goaway = GoAway::decode(payload)?;
                // Answers that came before it count.
                self.settle(Settling::Part)?;
                self.connection.went_away(&goaway);
                Ok(())
            }
            frame_type::PING => {
                self.count_ping()?;
                lock(&self.connection.state).outgoing.push(frame_type::PONG, 0, header.id, |_| {});
                Ok(())
            }
            frame_type::PONG => {
                let mut state = lock(&connection.state);
                // One that nobody asked for answers no later ping.
                if header.id < state.next_ping {
                    state.last_pong = state.last_pong.max(header.id);
                }
                drop(state);
                connection.progress.ring();
                Ok(())
            }
            frame_type::PEERS => {
                let records = decode_records(payload).map_err(|_| FrameError::BadPayload(frame_type::PEERS))?;
                if let Some(watcher) = connection.watcher.upgrade() {
                    watcher.on_peers(connection, records);
                }
                Ok(())
            }
            unknown if unknown < 0x80 => Ok(()),
            unknown => Err(FrameError::UnknownType(unknown).into()),
        }
    }

    /// A call or an answer has come, or its opening.
    fn note_call(&mut self, header: FrameHeader) {
        self.has_calls = true;
        if !header.has(frame_flag::MORE) {
            self.assembly.note_small();
        }
    }

    /// Takes one from a bucket of the peer's.
    fn bear(&self, bucket: fn(&mut Patience) -> &mut Bucket, message: &'static str) -> Result<(), Fatal> {
        let now = self.connection.clock.now();
        let is_borne = self.connection.serving.budget().patience(|patience| bucket(patience).take(now));
        if is_borne { Ok(()) } else { Err(Fatal::TooMuch(message)) }
    }

    fn count_ping(&mut self) -> Result<(), Fatal> {
        let now = self.connection.age_ms();
        if now.saturating_sub(self.pings.0) > PING_AFTER.as_millis() as u64 {
            self.pings = (now, 0);
        }
        self.pings.1 += 1;
        if self.pings.1 > MOST_PINGS { Err(Fatal::TooMuch("too many pings")) } else { Ok(()) }
    }

    fn request(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        if header.id <= self.last_request || header.id == u64::MAX {
            return Err(Fatal::Protocol("the ids of requests must count up"));
        }
        self.last_request = header.id;
        if header.id > self.last_accepted {
            // The peer was told before that this one will not be executed.
            return Ok(());
        }
        if header.has(frame_flag::MORE) {
            return self.open(header, payload, false);
        }
        match header.has(frame_flag::ATTACHMENTS) {
            false => self.take_request(header.id, Message::Borrowed(payload), None),
            true => self.take_request(header.id, or_nothing(whole(payload)), None),
        }
    }

    /// Hands a whole request on.
    fn take_request(&mut self, id: u64, message: Message<'_>, opened: Option<Opened>) -> Result<(), Fatal> {
        match self.connection.on_request(id, message, opened, &mut self.reading) {
            Ok(()) if self.reading.batch.is_worth_a_write() => self.settle(Settling::Part),
            Ok(()) => Ok(()),
            Err(_) => self.bear(|patience| &mut patience.bad_requests, "too many requests that cannot be read"),
        }
    }

    fn response(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        if self.assembly.is_open((true, header.id)) {
            return Err(Fatal::Protocol("a second answer to a call"));
        }
        if header.has(frame_flag::MORE) {
            // Its call may have an answer among those that were gathered.
            self.settle(Settling::Part)?;
            return self.open(header, payload, true);
        }
        match header.has(frame_flag::ATTACHMENTS) {
            false => self.take_response(header, Ok(Message::Borrowed(payload))),
            true => self.take_response(header, whole(payload)),
        }
    }

    fn take_response(&mut self, header: FrameHeader, message: Result<Message<'_>, ScanError>) -> Result<(), Fatal> {
        let is_exception = header.has(frame_flag::EXCEPTION);
        let response = message.and_then(|message| Response::decode(&message, is_exception));
        let is_readable = response.is_ok();
        let response = response.unwrap_or_else(|error| {
            Response::exception(Exception::new(Kind::ResponseDecode, format!("the answer cannot be read: {error}")))
        });
        if self.reading.batch.answered(header.id, response) {
            self.settle(Settling::Part)?;
        }
        if is_readable {
            return Ok(());
        }
        self.bear(|patience| &mut patience.bad_answers, "too many answers that cannot be read")
    }

    /// A message in parts begins.
    fn open(&mut self, header: FrameHeader, payload: &[u8], is_response: bool) -> Result<(), Fatal> {
        let connection = Arc::clone(&self.connection);
        self.assembly.open(header, payload, is_response, |first| peek_turn(&connection, header.flags, first))
    }

    /// A message is complete that came in parts.
    fn take_whole(&mut self, whole: Whole) -> Result<(), Fatal> {
        let Whole { key: (is_response, id), flags, bytes, turn, came_at, arriving } = whole;
        let message = Message::from_bytes(&bytes, flags & frame_flag::ATTACHMENTS != 0);
        if is_response {
            let header = FrameHeader::new(frame_type::RESPONSE, id, bytes.len()).with_flags(flags);
            return self.take_response(header, message);
        }
        if arriving.as_ref().is_some_and(|arriving| !arriving.claim()) {
            return Ok(());
        }
        // The connection counts as reading until the call counts as running.
        self.take_request(id, or_nothing(message), Some(Opened { at: came_at, turn }))
    }

    /// The peer sends nothing more.
    fn at_end(self) {
        self.connection.end(Ended::lost("the peer closed the connection"));
    }

    fn give_up(self, fatal: Fatal) {
        let connection = self.connection;
        // What came behind the culprit was not handled.
        lock(&connection.state).last_request = self.last_request;
        let peer = connection.peer_name();
        match fatal {
            Fatal::Frame(error) => {
                tracing::warn!(%peer, "closing the connection: {error}");
                connection.end_for(GoAwayReason::Protocol, &error.to_string());
            }
            Fatal::Protocol(message) => {
                tracing::warn!(%peer, "closing the connection: {message}");
                connection.end_for(GoAwayReason::Protocol, message);
            }
            Fatal::TooMuch(message) => {
                tracing::warn!(%peer, "closing the connection: {message}");
                connection.end_for(GoAwayReason::TooMuch, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rmi_core::frame::put_frame;

    use super::*;

    #[test]
    fn what_is_ahead_is_what_the_whole_frames_are() {
        use frame_type::{CANCEL, PART, PING, REQUEST, RESPONSE};
        let ahead = |frames: &[(u8, u8, u64)]| {
            let mut bytes = BytesMut::new();
            for (frame_type, flags, id) in frames {
                put_frame(&mut bytes, *frame_type, *flags, *id, |out| out.extend_from_slice(b"payload"));
            }
            let whole = Ahead::of(&bytes);
            // One that has not come yet, as a whole or in part, is not looked at.
            bytes.extend_from_slice(&[30, 0, 0, 0, REQUEST, 0, 99]);
            let Ahead { last_request, only_answers } = Ahead::of(&bytes);
            assert_eq!((last_request, only_answers), (whole.last_request, whole.only_answers));
            (last_request, only_answers)
        };
        assert_eq!(ahead(&[]), (0, true));
        assert_eq!(ahead(&[(RESPONSE, frame_flag::EXCEPTION, 3), (RESPONSE, 0, 2)]), (0, true));
        assert_eq!(ahead(&[(RESPONSE, 0, 3), (REQUEST, 0, 7), (REQUEST, 0, 5)]), (7, false));
        for other in [PING, PART, CANCEL] {
            assert_eq!(ahead(&[(RESPONSE, 0, 3), (other, 0, 2)]), (0, false));
        }
        assert_eq!(ahead(&[(RESPONSE, frame_flag::MORE, 3)]), (0, false));
    }
}
