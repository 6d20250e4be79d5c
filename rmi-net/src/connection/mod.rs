//! One full-duplex connection between two nodes: it carries the calls of both directions.
//!
//! ```text
//! callers ──start──▶ State { outgoing, pending } ──▶ Io ──▶ socket          (inline when alone, else the writer task)
//! callers ◀─outcome─ Completion ◀─ pending ◀─────── reader task ◀── socket
//! methods ◀─dispatch─ serving ◀──────────────────── reader task
//! methods ──respond─▶ State.outgoing
//!                     keeper task: deadlines, pings, death
//! ```
//!
//! Who owns what: [`State`] has the frames that wait and the calls that wait for an answer, behind one lock, so that
//! ids leave in their order. `Io` has the socket's writing half and what is half written, behind another. What a call
//! waits for stands in its `Completion`, behind a lock of its own. The reader task has the reading half and messages
//! that are being put together. The table of running methods is [`Serving`]'s.
//!
//! What must stay true: the reader awaits nothing but the socket and its turn. Nobody awaits under a lock, and no user
//! code runs under one. A call ends exactly once: by its answer, its deadline, the end of the connection, or because its
//! caller is gone. The lock of `Io` is taken before the lock of `State`; after it, it is only tried. Under that of a
//! completion no other is taken.

mod accounts;
mod answering;
mod assembly;
mod batch;
mod calling;
mod completion;
mod handshake;
mod inline;
mod keeper;
mod known;
#[cfg(all(test, rmi_loom))]
mod loom_tests;
mod outgoing;
mod pending;
mod reader;
mod row;
mod running;
mod serving;
#[cfg(test)]
mod wake_count;
mod winding_down;
mod window;
mod writer;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rmi_core::context::Caller;
use rmi_core::exception::CallError;
use rmi_core::frame::{GoAway, GoAwayReason, frame_type};
use rmi_core::hello::{Hello, InstanceId, NodeRecord, PeerLimits};
use rmi_core::kind::{Class, Kind};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::assembly::Key;
pub(crate) use self::calling::Detour;
pub use self::handshake::HandshakeError;
pub(crate) use self::handshake::{Greeting, Refusal, greet};
use self::outgoing::Outgoing;
use self::pending::{EndedCall, Pending, PendingCall, Progress};
use self::row::Row;
use self::serving::Serving;
use self::writer::Io;
use crate::budget::Bucket;
use crate::host::Host;
use crate::limits::{DEAD_AFTER, Limits, PING_AFTER};
use crate::mutant::{self, Mutant};
use crate::seam::{Clock, ReadHalf, Stream};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Bell, Mutex, Notify, TriedMutex, lock, lock_tried, prefetch};
use crate::tasks::spawn;

/// No frame has come in part.
const NO_FRAME: u64 = u64::MAX;
/// How many cancels this side sends at once, and in each second from then on. Half of what peers put up with, and less:
/// two connections can cancel at the same time, and what was sent evenly can arrive in heaps.
const MOST_CANCELS: u32 = 5_000;
const CANCELS_PER_SECOND: u32 = 1_800;

/// What a connection tells its node.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// The peer says whom it knows.
    fn on_peers(&self, connection: &Arc<Connection>, records: Vec<NodeRecord>);
    /// The peer takes no new calls on this connection.
    fn on_goaway(self: Arc<Self>, connection: &Arc<Connection>, reason: GoAwayReason);
    /// The connection has ended; its calls were told.
    fn on_closed(&self, connection: &Connection);
    /// The connections of the node.
    fn connections(&self) -> Vec<Arc<Connection>>;
}

/// A connection whose two ends know each other.
///
/// What each call touches stands together, here and in what is inside: where many connections have few calls each, none of
/// it is near at hand when a call comes.
#[repr(C)]
pub(crate) struct Connection {
    serving: Serving,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    default_timeout: Option<Duration>,
    /// What the peer can take.
    peer_limits: PeerLimits,
    /// The largest message that may be sent.
    message_limit: u64,
    state: Mutex<State>,
    io: TriedMutex<Io>,
    /// Bytes of small frames that the system has taken.
    written: AtomicU64,
    /// How many calls wait in the row, so that nobody looks who has only made room.
    n_in_row: AtomicUsize,
    opened: Instant,
    /// Milliseconds after `opened` at which the last byte came.
    heard_at: AtomicU64,
    /// The same for the first byte of the frame that has come in part; [`NO_FRAME`] if none has.
    frame_since: AtomicU64,
    /// Told when a call has ended, a goaway came, or the connection ends.
    progress: Bell,
    /// Told when bytes have left the queue, or when the connection ends.
    room: Bell,
    runtime: Handle,
    /// Told when the keeper has to look earlier than it meant to.
    keeper: Notify,
    /// The time at which the peer last took something of what is stuck, or it was stuck, as `heard_at`.
    took_at: AtomicU64,
    /// Who is at the other end.
    peer: NodeRecord,
    peer_name: Arc<str>,
    /// Whether this side has dialled.
    is_dialer: bool,
    remote: String,
    watcher: Weak<dyn Watcher>,
    /// The connection's tasks, to be ended with it.
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What is shared between those who send and the tasks of the connection. In the order of [`Connection`].
#[repr(C)]
struct State {
    /// The writer task runs or was woken: nobody else needs to.
    is_writer_awake: bool,
    /// The reader handles what it has read: accepted requests may not run yet, and answers not stand in the queue.
    is_reading: bool,
    /// The writing half is to be shut down when all is written.
    is_finishing: bool,
    /// The peer takes no new calls.
    goaway: Option<GoAwayReason>,
    /// This side has said that it takes no new calls, for this reason.
    said_goaway: Option<GoAwayReason>,
    ended: Option<Box<Ended>>,
    /// The writer task's waker, once it has started.
    writer: Option<Waker>,
    outgoing: Outgoing,
    pending: Pending,
    /// Calls that wait for room.
    row: Row,
    /// Requests after this one are not executed.
    last_accepted: u64,
    /// The greatest id of a request that came.
    last_request: u64,
    /// How often the reader has begun to handle what it has read.
    n_readings: u64,
    /// Messages that come in parts and that nobody wants any more: the reader drops what it has of them.
    dropped: Vec<Key>,
    /// Cancels that the peer would take for a flood: they leave when it takes more. The peer is still at these calls.
    held_cancels: VecDeque<HeldCancel>,
    /// One-way calls in the queue: where they end, and their ids.
    one_way: VecDeque<(u64, u64)>,
    /// When the keeper will look next.
    keeper_at: Option<Instant>,
    /// Requests that have come in part and are to be run.
    arriving: BTreeSet<u64>,
    /// How many cancels may leave.
    cancels: Bucket,
    /// Pongs that somebody waits for: the next id, and the ids that came back.
    next_ping: u64,
    last_pong: u64,
    /// Since when it has been seen without a call, and a mark that changes with every call.
    idle: Option<(u64, Instant)>,
    /// When the peer was last heard before the last ping that asked whether it lives, in milliseconds as `heard_at`.
    pinged_for: Option<u64>,
    /// If the reader was at it when that ping was sent, how often it had begun then.
    pinged_reading: Option<u64>,
}

/// A cancel that the peer is not told of yet.
#[derive(Debug, Clone, Copy)]
struct HeldCancel {
    id: u64,
    /// Bytes of what the peer can put together that the request takes until then.
    begun: u64,
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    kind: Kind,
    message: String,
    source: Option<Arc<std::io::Error>>,
}

impl Ended {
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self { kind: Kind::ConnectionLost, message: message.into(), source: None }
    }

    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    fn silent() -> Self {
        Self::lost(format!("nothing was heard of the peer for {} s", DEAD_AFTER.as_secs()))
    }

    /// Where requests are read, a method has kept the thread.
    fn held_up() -> Self {
        let seconds = (DEAD_AFTER - PING_AFTER).as_secs();
        Self::lost(format!(
            "a method of this node has kept the connection from being read for {seconds} s: one that may block its thread \
             needs `#[rmi(spawn)]` if it is `async`, and must not be `direct`"
        ))
    }

    fn io(error: std::io::Error) -> Self {
        Self { source: Some(Arc::new(error)), ..Self::lost("the network failed") }
    }

    fn error(&self, class: Class) -> CallError {
        let error = CallError::new(self.kind, self.message.clone()).with_class(class);
        match &self.source {
            Some(source) => error.with_source(source.clone()),
            None => error,
        }
    }
}

/// What a connection needs from its node.
pub(crate) struct Parts {
    pub(crate) greeting: Greeting,
    pub(crate) is_dialer: bool,
    pub(crate) host: Arc<Host>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Handle,
    pub(crate) watcher: Weak<dyn Watcher>,
    /// What injected parameters are made from, given the connection that is being made.
    pub(crate) caller: MakeCaller,
}

/// Makes the caller of a connection's calls, from the connection and the name of its peer.
pub(crate) type MakeCaller = Box<dyn FnOnce(&Weak<Connection>, &Arc<str>) -> Caller + Send>;

impl Connection {
    /// A connection after its handshake. Nothing moves before [`run`](Self::run).
    pub(crate) fn new(parts: Parts) -> (Arc<Self>, Halves) {
        let Parts { greeting, is_dialer, host, limits, default_timeout, clock, runtime, watcher, caller } = parts;
        let Greeting { hello: Hello { node: peer, limits: peer_limits, .. }, stream, buffer } = greeting;
        let Stream { reader, writer, remote } = stream;
        let peer_name: Arc<str> = peer.name.as_str().into();
        let opened = clock.now();
        let connection = Arc::new_cyclic(|weak| Self {
            state: Mutex::new(State {
                outgoing: Outgoing::new(&limits, peer_limits.window, peer_limits.reassembly),
                pending: Pending::default(),
                row: Row::default(),
                one_way: Default::default(),
                keeper_at: None,
                writer: None,
                is_writer_awake: false,
                goaway: None,
                said_goaway: None,
                last_accepted: u64::MAX,
                last_request: 0,
                arriving: BTreeSet::new(),
                is_reading: false,
                is_finishing: false,
                held_cancels: VecDeque::new(),
                cancels: Bucket::new(MOST_CANCELS, CANCELS_PER_SECOND),
                dropped: Vec::new(),
                next_ping: 1,
                last_pong: 0,
                idle: None,
                pinged_for: None,
                n_readings: 0,
                pinged_reading: None,
                ended: None,
            }),
            io: TriedMutex::new(Io::new(writer)),
            written: AtomicU64::new(0),
            serving: Serving::new(host, caller(weak, &peer_name), peer.instance),
            n_in_row: AtomicUsize::new(0),
            room: Bell::new(),
            progress: Bell::new(),
            keeper: Notify::new(),
            heard_at: AtomicU64::new(0),
            took_at: AtomicU64::new(0),
            frame_since: AtomicU64::new(NO_FRAME),
            opened,
            tasks: Mutex::new(Vec::new()),
            peer,
            message_limit: peer_limits.message.min(limits.message() as u64),
            peer_limits,
            peer_name,
            is_dialer,
            remote,
            limits,
            default_timeout,
            clock,
            runtime,
            watcher,
        });
        (connection, Halves { reader, buffer })
    }

    /// Has the processor fetch what the next call touches, as far as that is reached without a lock: many lines of memory at
    /// once, where it would wait for one after the other as each is come to. Saves 1 to 2 % of a call where hundreds of
    /// connections take turns (`taskset -c 1 target/release/speed E`).
    #[inline(always)]
    fn prefetch(&self) {
        // Plain or relaxed loads, so none has to wait for another; what stands side by side comes with one of them.
        self.serving.prefetch();
        black_box(self.message_limit);
        prefetch(&self.state);
        prefetch(&self.io);
        black_box(self.heard_at.load(Ordering::Relaxed));
        black_box(self.progress.is_heard());
    }

    /// Starts the connection's tasks.
    pub(crate) fn run(self: &Arc<Self>, halves: Halves) {
        let tasks = [
            spawn(&self.runtime, reader::run(Arc::clone(self), halves)),
            spawn(&self.runtime, writer::run(Arc::clone(self))),
            spawn(&self.runtime, keeper::run(Arc::clone(self))),
        ];
        lock(&self.tasks).extend(tasks.map(|task| task.abort_handle()));
        // It may have ended before its tasks were known.
        if self.has_ended() {
            self.abort_tasks();
        }
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &NodeRecord {
        &self.peer
    }

    pub(crate) fn peer_name(&self) -> &Arc<str> {
        &self.peer_name
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.peer.instance
    }

    /// Whether this side has dialled.
    pub(crate) fn is_dialer(&self) -> bool {
        self.is_dialer
    }

    /// The other end's address, for people.
    pub(crate) fn remote(&self) -> &str {
        &self.remote
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).ended.is_some()
    }

    /// Whether new calls can go out on it.
    pub(crate) fn takes_calls(&self) -> bool {
        let state = lock(&self.state);
        // While this node shuts down, methods that still run may call.
        let is_open = matches!(state.said_goaway, None | Some(GoAwayReason::Shutdown));
        state.ended.is_none() && state.goaway.is_none() && is_open
    }

    /// Ends the connection because its process is no more: another has its place.
    pub(crate) fn end_restarted(&self) {
        self.end(Ended::new(Kind::PeerRestarted, "another process has taken the place of the peer"));
    }

    /// Ends the connection without ceremony.
    pub(crate) fn end_lost(&self, message: &str) {
        self.end(Ended::lost(message));
    }

    /// Tells that room was made in the queue without anything being written.
    fn made_room(&self) {
        self.room.ring();
        self.wake_first_in_row();
        self.progress.ring();
    }

    /// There may be room for one more call. Whoever has made it held the lock of the state for that, and so did the call
    /// that found none and joined the row: one of the two sees the other.
    fn wake_first_in_row(&self) {
        if self.n_in_row.load(Ordering::Relaxed) > 0 {
            let first = lock(&self.state).row.first();
            if let Some(waker) = first {
                waker.wake();
            }
        }
    }

    /// Nothing more goes out: those that wait in the row are told.
    fn wake_row(&self) {
        let all = lock(&self.state).row.all();
        all.into_iter().for_each(Waker::wake);
    }

    /// Wakes the callers of calls that have ended, and whoever waits for their places.
    fn tell(&self, ended: impl IntoIterator<Item = EndedCall>) {
        let mut any = false;
        for call in ended {
            any = true;
            call.tell();
            self.wake_first_in_row();
        }
        if any {
            self.progress.ring();
        }
    }

    /// Ends the connection: every call is told, every task ends, every method that runs for the peer is cancelled.
    pub(crate) fn end(&self, reason: Ended) {
        let mut told = Vec::new();
        {
            // Nobody writes meanwhile: what has not been counted as written has not left.
            let mut io = lock_tried(&self.io);
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            if state.ended.is_some() {
                return;
            }
            let written = self.written.load(Ordering::Acquire);
            for id in state.pending.ids(|_, _| true) {
                let progress = state.pending.get_mut(id).map(|call| call.progress);
                let class = match progress {
                    _ if mutant::is(Mutant::SentCallSaidNotExecuted) => Class::NotExecuted,
                    Some(Progress::Queued { end, .. }) if end > written => Class::NotExecuted,
                    Some(Progress::InParts) if state.outgoing.drop_bulk(id, false) => Class::NotExecuted,
                    _ => Class::MaybeExecuted,
                };
                told.extend(state.pending.end(id, Err(reason.error(class))));
            }
            state.outgoing = Outgoing::new(&self.limits, 0, 0);
            state.one_way.clear();
            state.held_cancels.clear();
            state.ended = Some(Box::new(reason));
            io.close();
        }
        self.tell(told);
        self.serving.cancel_all();
        self.wake_row();
        self.room.ring();
        self.progress.ring();
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.on_closed(self);
        }
        self.abort_tasks();
    }

    fn abort_tasks(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    /// Ends the connection because the peer did what it may not, and says so to it.
    fn end_for(&self, reason: GoAwayReason, message: &str) {
        {
            let mut state = lock(&self.state);
            state.last_accepted = state.last_accepted.min(state.last_request);
        }
        self.say_goaway(reason, message);
        self.write_last();
        self.end(Ended::lost(format!("the connection was closed: {message}")));
    }

    /// Tells the peer to make no new calls.
    fn say_goaway(&self, reason: GoAwayReason, message: &str) {
        let mut state = lock(&self.state);
        state.said_goaway = Some(reason);
        let goaway = GoAway { reason, last_accepted: state.last_accepted, message: message.to_owned() };
        state.outgoing.push(frame_type::GOAWAY, 0, 0, |out| goaway.encode(out));
    }

    /// The peer takes no new calls; those after the last that it accepted have not run.
    fn went_away(self: &Arc<Self>, goaway: &GoAway) {
        let mut told = Vec::new();
        {
            let mut state = lock(&self.state);
            state.goaway = Some(goaway.reason);
            for id in state.pending.ids(|id, _| id > goaway.last_accepted) {
                // What is left of it would be dropped there.
                state.outgoing.drop_bulk(id, false);
                let error = CallError::new(Kind::GoingAway, "the peer shut down before it took the call");
                told.extend(state.pending.end(id, Err(error.with_class(Class::NotExecuted))));
            }
        }
        self.tell(told);
        self.room.ring();
        self.flush(false);
        // Those that wait for room wait in vain.
        self.wake_row();
        self.progress.ring();
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.on_goaway(self, goaway.reason);
        }
    }

    /// Tells the peer whom this node knows.
    pub(crate) fn send_peers<'a>(&self, records: impl ExactSizeIterator<Item = &'a NodeRecord>) {
        {
            let mut state = lock(&self.state);
            if state.outgoing.n_bytes() > self.limits.queue_bytes() as u64 {
                // Hearsay waits for nobody: who does not read is told with the next connection.
                return;
            }
            // As many as fit a frame; the rest follows in the next ones.
            let records: Vec<&NodeRecord> = records.collect();
            let mut rest = &records[..];
            loop {
                let mut n_written = 0;
                state.outgoing.push(frame_type::PEERS, 0, 0, |out| {
                    n_written = rmi_core::hello::encode_records(rest.iter().copied(), out);
                });
                rest = rest.get(n_written.max(1)..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
            }
        }
        self.flush(false);
    }

    /// Sends a ping and waits for its pong.
    pub(crate) async fn ping(&self) -> Result<(), CallError> {
        let id = {
            let mut state = lock(&self.state);
            let id = state.next_ping;
            state.next_ping += 1;
            state.outgoing.push(frame_type::PING, 0, id, |_| {});
            id
        };
        self.flush(true);
        self.wait_until(|state| (state.last_pong >= id).then_some(())).await
    }

    /// Waits for a condition on the state.
    ///
    /// # Errors
    /// If the connection ends first.
    async fn wait_until<T>(&self, mut condition: impl FnMut(&mut State) -> Option<T>) -> Result<T, CallError> {
        loop {
            let progress = self.progress.listen();
            {
                let mut state = lock(&self.state);
                if let Some(value) = condition(&mut state) {
                    return Ok(value);
                }
                if let Some(ended) = &state.ended {
                    return Err(ended.error(Class::MaybeExecuted));
                }
            }
            progress.rung().await;
        }
    }

    /// Waits until the queue is at most half full: a mistake, where a reader does it.
    #[cfg(mutants)]
    async fn await_room_in_the_queue(&self) {
        if !mutant::is(Mutant::ReaderAwaitsAFullQueue) {
            return;
        }
        let is_full = |state: &State| state.outgoing.n_bytes() * 2 > self.limits.queue_bytes() as u64;
        // The end of the connection ends the wait, and the reader.
        let _ = self.wait_until(|state| (!is_full(state)).then_some(())).await;
    }

    /// Milliseconds since the connection was opened.
    fn age_ms(&self) -> u64 {
        self.age_ms_at(self.clock.now())
    }

    fn age_ms_at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.opened).as_millis() as u64
    }
}

impl State {
    /// Why no call can go out, if none can.
    fn refusal(&self, is_nested: bool) -> Option<CallError> {
        if let Some(ended) = &self.ended {
            return Some(ended.error(Class::NotExecuted));
        }
        let error = |kind, message: &str| Some(CallError::new(kind, message).with_class(Class::NotExecuted));
        match (self.said_goaway, self.goaway) {
            // Methods that still run may need their peers.
            (Some(GoAwayReason::Shutdown), None) if is_nested => None,
            (Some(GoAwayReason::Shutdown), _) => error(Kind::LocalShutdown, "this node is shutting down"),
            (_, Some(GoAwayReason::Shutdown)) => error(Kind::GoingAway, "the peer takes no new calls"),
            (_, Some(_)) | (Some(_), _) => error(Kind::ConnectionLost, "the connection is closing"),
            (None, None) => None,
        }
    }
}

/// The halves of the connection that its tasks own.
pub(crate) struct Halves {
    reader: ReadHalf,
    buffer: BytesMut,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer_name)
            .field("instance", &self.instance())
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// Takes the first `n` bytes off. If those are all, the next ones come to where these were, which is near at hand.
fn pass(buffer: &mut BytesMut, n: usize) {
    if n == buffer.len() {
        buffer.clear();
    } else {
        buffer.advance(n);
    }
}

/// The value of a call without one.
fn nil() -> rmi_core::payload::Payload {
    rmi_core::payload::Payload::copied(&[0xc0])
}
