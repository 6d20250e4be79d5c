//! From the socket to calls: the reader task.
//!
//! It reads what is there, handles every whole frame of it, and awaits nothing but the socket. Its buffer grows with
//! the traffic and is small on an idle connection. A message in parts grows by the bytes that have come, never by what
//! it announces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use rmi_core::exception::Exception;
use rmi_core::frame::{
    FrameError, FrameHeader, GoAway, GoAwayReason, HEADER_LEN, MAX_PAYLOAD, MIN_PART, decode_window, frame_flag,
    frame_type, split_opening,
};
use rmi_core::hello::decode_records;
use rmi_core::kind::Kind;
use rmi_core::message::{Message, Response};
use rmi_core::scan::{ScanError, Scanner};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::batch::Batch;
use super::serving::Turn;
use super::{Connection, Ended, Halves, NO_FRAME};
use crate::budget::{Bucket, Patience};
use crate::limits::{DEAD_AFTER, LINGER, PING_AFTER};
use crate::mutant::{self, Mutant};
use crate::seam::Clock;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::tasks::spawn;

const LEAST_READ: usize = 2 << 10;
const MOST_READ: usize = 64 << 10;
/// More pings than this within the time after which one is due are an attack.
const MOST_PINGS: u32 = 10;

/// What the reader task owns.
struct Reader {
    connection: Arc<Connection>,
    /// Messages that come in parts, by whether they are responses and by id.
    open: HashMap<(bool, u64), Open>,
    n_open_requests: usize,
    /// Announced bytes of those of which a part has come.
    begun: u64,
    /// Bytes that the peer may still send in parts.
    credit: u64,
    /// Bytes taken in, for which credit is due.
    taken: u64,
    /// When the current count of pings began, in milliseconds of the connection's age, and the count.
    pings: (u64, u32),
    /// The greatest id of a request that was handled, and the greatest that is accepted.
    last_request: u64,
    last_accepted: u64,
    batch: Batch,
}

/// A message of which parts are missing.
struct Open {
    flags: u8,
    total: usize,
    bytes: Vec<u8>,
    is_begun: bool,
    /// Its place in the row of a serial service.
    turn: Option<Turn>,
    arriving: Option<Arriving>,
    /// When it began to come: a request's deadline counts from there.
    came_at: Instant,
}

/// A request of which parts are missing: it was accepted, so the connection waits for it when it winds down.
struct Arriving {
    connection: Arc<Connection>,
    id: u64,
}

impl Arriving {
    fn new(connection: &Arc<Connection>, id: u64) -> Self {
        lock(&connection.state).arriving.insert(id);
        Self { connection: Arc::clone(connection), id }
    }

    /// It is complete. Whether it is to be run: else its caller was told meanwhile that it will not be.
    fn is_wanted(&self) -> bool {
        lock(&self.connection.state).arriving.contains(&self.id)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        lock(&self.connection.state).arriving.remove(&self.id);
        self.connection.progress.notify_waiters();
    }
}

/// Why the connection cannot go on.
enum Fatal {
    Frame(FrameError),
    Protocol(&'static str),
    TooMuch(&'static str),
}

const NEVER_MADE: Fatal = Fatal::Protocol("an answer to a call that was never made");

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
    let Halves { mut reader, mut buffer } = halves;
    let credit = connection.limits.window() as u64;
    let mut this = Reader {
        connection: Arc::clone(&connection),
        open: HashMap::new(),
        n_open_requests: 0,
        begun: 0,
        credit,
        taken: 0,
        pings: (0, 0),
        last_request: 0,
        last_accepted: u64::MAX,
        batch: Batch::default(),
    };
    let mut want = LEAST_READ;
    loop {
        if let Err(fatal) = this.handle(&mut buffer) {
            this.give_up(fatal);
            // The end of the connection ends this task. Closing with unread input would throw the reason away.
            spawn(&connection.runtime, read_to_end(reader, Arc::clone(&connection.clock)));
            return;
        }
        if mutant::is(Mutant::HalfReadFrameLost) {
            buffer.clear();
        }
        if buffer.is_empty() && buffer.capacity() > MOST_READ {
            buffer = BytesMut::new();
        }
        buffer.reserve(want.max(frame_len(&buffer).saturating_sub(buffer.len())));
        #[cfg(mutants)]
        connection.await_room_in_the_queue().await;
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return this.at_end(),
            Ok(n) if n >= want => want = (want * 2).min(MOST_READ),
            Ok(n) if n < want / 4 => want = (want / 2).max(LEAST_READ),
            Ok(_) => {}
            Err(error) => return connection.end(Ended::io(error)),
        }
        let now = connection.age_ms();
        let heard_at = connection.heard_at.swap(now, Ordering::Relaxed);
        if now.saturating_sub(heard_at) >= DEAD_AFTER.as_millis() as u64 {
            // This process stood still, and its keeper with it. The peer has given up meanwhile what it sent before then,
            // and is told so by its own clock: none of that may begin to run now.
            return connection.end(Ended::silent());
        }
    }
}

/// Reads and drops what the peer still sends, for a while.
async fn read_to_end(mut reader: Box<dyn AsyncRead + Send + Unpin>, clock: Arc<dyn Clock>) {
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

/// The id of the last whole request in these bytes, as far as they are frames.
fn last_request(mut bytes: &[u8]) -> u64 {
    let mut last = 0;
    while let Ok(Some(header)) = FrameHeader::decode(bytes) {
        let Some(rest) = bytes.get(HEADER_LEN + header.payload_len..) else { break };
        if header.frame_type == frame_type::REQUEST {
            last = last.max(header.id);
        }
        bytes = rest;
    }
    last
}

/// A message in one frame. One with blobs gets a buffer of its own, which they share.
fn whole(payload: &[u8], has_attachments: bool) -> Result<Message<'_>, ScanError> {
    match has_attachments {
        true => Message::from_bytes(&Bytes::copy_from_slice(payload), true),
        false => Ok(Message::Borrowed(payload)),
    }
}

impl Reader {
    /// Handles every whole frame, and notes since when the one behind them has been coming.
    fn handle(&mut self, buffer: &mut BytesMut) -> Result<(), Fatal> {
        let n_bytes = buffer.len();
        self.begin(buffer);
        let handled = self.frames(buffer);
        // Also what came before something that ends the connection.
        let settled = self.settle(true);
        handled?;
        settled?;
        let since = &self.connection.frame_since;
        if buffer.is_empty() {
            since.store(NO_FRAME, Ordering::Relaxed);
        } else if buffer.len() < n_bytes || since.load(Ordering::Relaxed) == NO_FRAME {
            since.store(self.connection.age_ms(), Ordering::Relaxed);
        }
        // Answers of methods that ran here, pongs and credit leave together.
        self.give_credit();
        self.connection.flush(true);
        Ok(())
    }

    /// Begins with what has come: under one lock, the requests are accepted, room is set aside for their answers, and
    /// what has come of answers is dropped whose calls have ended meanwhile.
    fn begin(&mut self, buffer: &[u8]) {
        let last_request = last_request(buffer);
        let dropped = {
            let mut state = lock(&self.connection.state);
            self.last_accepted = state.last_accepted;
            state.last_request = state.last_request.max(last_request);
            state.is_reading = true;
            self.batch.begin(&mut state, last_request > 0);
            std::mem::take(&mut state.dropped_answers)
        };
        for id in dropped {
            self.close_open((true, id));
        }
    }

    fn frames(&mut self, buffer: &mut BytesMut) -> Result<(), Fatal> {
        while let Some(header) = FrameHeader::decode(buffer)? {
            let end = HEADER_LEN + header.payload_len;
            let Some(payload) = buffer.get(HEADER_LEN..end) else { break };
            self.frame(header, payload)?;
            buffer.advance(end);
        }
        Ok(())
    }

    /// Lets go of what was gathered; more may follow, unless it is the last time.
    fn settle(&mut self, is_last: bool) -> Result<(), Fatal> {
        if self.connection.settle(&mut self.batch, is_last) { Ok(()) } else { Err(NEVER_MADE) }
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        let connection = &self.connection;
        match header.frame_type {
            frame_type::REQUEST => self.request(header, payload),
            frame_type::RESPONSE => self.response(header, payload),
            frame_type::PART => self.part(header, payload),
            frame_type::WINDOW => {
                let bytes = decode_window(payload)?;
                lock(&connection.state).outgoing.add_credit(bytes);
                Ok(())
            }
            frame_type::CANCEL => {
                self.bear(|patience| &mut patience.cancels, "too many cancels")?;
                self.close_open((false, header.id));
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
                self.settle(false)?;
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
                connection.progress.notify_waiters();
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
        let has_attachments = header.has(frame_flag::ATTACHMENTS);
        self.take_request(header.id, whole(payload, has_attachments), None, None)
    }

    /// Hands a whole request on. What cannot be taken apart is refused like what cannot be read.
    fn take_request(
        &mut self,
        id: u64,
        message: Result<Message<'_>, ScanError>,
        turn: Option<Turn>,
        came_at: Option<Instant>,
    ) -> Result<(), Fatal> {
        let message = message.unwrap_or(Message::Borrowed(&[]));
        match self.connection.on_request(id, message, turn, came_at, &mut self.batch) {
            Ok(()) => Ok(()),
            Err(_) => self.bear(|patience| &mut patience.bad_requests, "too many requests that cannot be read"),
        }
    }

    fn response(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        if self.open.contains_key(&(true, header.id)) {
            return Err(Fatal::Protocol("a second answer to a call"));
        }
        if header.has(frame_flag::MORE) {
            return self.open(header, payload, true);
        }
        self.take_response(header, whole(payload, header.has(frame_flag::ATTACHMENTS)))
    }

    fn take_response(&mut self, header: FrameHeader, message: Result<Message<'_>, ScanError>) -> Result<(), Fatal> {
        let is_exception = header.has(frame_flag::EXCEPTION);
        let response = message.and_then(|message| Response::decode(&message, is_exception));
        let is_readable = response.is_ok();
        let response = response.unwrap_or_else(|error| {
            Response::exception(Exception::new(Kind::ResponseDecode, format!("the answer cannot be read: {error}")))
        });
        if self.batch.answered(header.id, response) {
            self.settle(false)?;
        }
        if is_readable {
            return Ok(());
        }
        self.bear(|patience| &mut patience.bad_answers, "too many answers that cannot be read")
    }

    /// A message in parts begins.
    fn open(&mut self, header: FrameHeader, payload: &[u8], is_response: bool) -> Result<(), Fatal> {
        let (total, first) = split_opening(payload)?;
        let total = usize::try_from(total).ok().filter(|total| *total <= self.connection.limits.message());
        let total = total.ok_or(Fatal::Protocol("a message is larger than this node takes"))?;
        if is_response {
            let pending = &mut lock(&self.connection.state).pending;
            if !pending.open_answer(header.id) {
                // Its caller is gone: its parts will be dropped.
                return if header.id <= pending.last_id() { Ok(()) } else { Err(NEVER_MADE) };
            }
        } else if self.n_open_requests >= self.connection.limits.calls_per_peer() {
            // Of answers there are never more than calls of this side.
            return Err(Fatal::TooMuch("more requests in parts at once than calls may run"));
        } else {
            self.n_open_requests += 1;
        }
        let turn = if is_response { None } else { self.peek_turn(header.flags, first) };
        let arriving = (!is_response).then(|| Arriving::new(&self.connection, header.id));
        let open = Open {
            flags: header.flags,
            total,
            bytes: first.to_vec(),
            is_begun: false,
            turn,
            came_at: self.connection.clock.now(),
            arriving,
        };
        self.open.insert((is_response, header.id), open);
        Ok(())
    }

    /// The place of a large request in the row of its service: the order is that of the first parts.
    fn peek_turn(&self, flags: u8, first: &[u8]) -> Option<Turn> {
        let mut scanner = Scanner::new(first);
        if flags & frame_flag::ATTACHMENTS != 0 {
            scanner.value().ok()?;
        }
        let mut body = Scanner::new(scanner.rest());
        body.array_header().ok()?;
        let method = self.connection.serving.host.resolve(body.str().ok()?).ok()?;
        self.connection.serving.turn(&method)
    }

    fn part(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fatal> {
        let len = payload.len() as u64;
        self.credit =
            self.credit.checked_sub(len).ok_or(Fatal::Protocol("more was sent in parts than there was credit"))?;
        self.taken += len;
        let has_more = header.has(frame_flag::MORE);
        if has_more && payload.len() < MIN_PART {
            return Err(Fatal::Protocol("a part is too small"));
        }
        let is_response = header.has(frame_flag::RESPONSE);
        let key = (is_response, header.id);
        let Some(open) = self.open.get_mut(&key) else {
            let state = lock(&self.connection.state);
            let last = if is_response { state.pending.last_id() } else { self.last_request };
            // Of a message that was cancelled or answered meanwhile.
            return if header.id <= last { Ok(()) } else { Err(Fatal::Protocol("a part of no message")) };
        };
        if !open.is_begun {
            open.is_begun = true;
            let reassembly = self.connection.limits.reassembly() as u64;
            if self.begun > 0 && self.begun + open.total as u64 > reassembly {
                return Err(Fatal::Protocol("more messages in parts at once than this node puts together"));
            }
            self.begun += open.total as u64;
        }
        let n = open.bytes.len() + payload.len();
        if n > open.total || (n == open.total) == has_more {
            return Err(Fatal::Protocol("a message has not the length that it announced"));
        }
        if open.bytes.capacity() < n {
            // By what has come, and never beyond what was announced.
            let capacity = (open.bytes.len() * 2).max(MAX_PAYLOAD * 2).clamp(n, open.total);
            open.bytes.reserve_exact(capacity - open.bytes.len());
        }
        open.bytes.extend_from_slice(payload);
        if has_more {
            return Ok(());
        }
        let Some(open) = self.close_open(key) else { return Ok(()) };
        let message = Message::from_bytes(&Bytes::from(open.bytes), open.flags & frame_flag::ATTACHMENTS != 0);
        if is_response {
            return self.take_response(FrameHeader { flags: open.flags, ..header }, message);
        }
        if open.arriving.as_ref().is_some_and(|arriving| !arriving.is_wanted()) {
            return Ok(());
        }
        // Still counted as arriving, until it counts as running.
        self.take_request(header.id, message, open.turn, Some(open.came_at))
    }

    fn close_open(&mut self, key: (bool, u64)) -> Option<Open> {
        let open = self.open.remove(&key)?;
        if let (false, _) = key {
            self.n_open_requests -= 1;
        }
        if open.is_begun {
            self.begun -= open.total as u64;
        }
        Some(open)
    }

    /// Gives credit for what was taken in, a quarter of the window at a time.
    fn give_credit(&mut self) {
        if self.taken * 4 >= self.connection.limits.window() as u64 {
            let taken = std::mem::take(&mut self.taken);
            self.credit += taken;
            let mut state = lock(&self.connection.state);
            state.outgoing.push(frame_type::WINDOW, 0, 0, |out| out.extend_from_slice(&taken.to_le_bytes()));
        }
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
