//! What happened in a simulation: the calls, the runs of methods, the streams, the faults, and the trace of it all.
//!
//! Everybody writes into it while the simulation runs, on one thread; the [checks](crate::check) read it afterwards.
//! Nothing that is under test reads it. The trace is what two runs of one seed are compared by: every line goes into its
//! hash, and so does every read and write of every stream, which has no line.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmi::{Class, Kind};

use crate::plan::NONCES_PER_CALL;

/// One process of the cluster: a node, and how often it was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Its number in the plan.
    pub node: usize,
    /// 1 for the first.
    pub life: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.node)?;
        if self.life > 1 { write!(f, "/{}", self.life) } else { Ok(()) }
    }
}

/// One call, from its first poll to its end, with every run of its method.
#[derive(Debug, Clone)]
pub struct Call {
    /// The number that travels with it and comes back in its answer.
    pub nonce: u64,
    /// Who made it.
    pub caller: Process,
    /// The node that was called.
    pub callee: usize,
    /// What was called.
    pub what: Callable,
    /// When it was first polled.
    pub began: Duration,
    /// Its own timeout.
    pub timeout: Option<Duration>,
    /// How long its method takes and how many bytes travel, as far as is known: for the check of calm calls.
    pub work: Work,
    /// Every end that was seen.
    pub ends: Vec<(Duration, End)>,
    /// Every start of its method.
    pub runs: Vec<Run>,
    /// When it was made, in the order of all events, and the state of the network then.
    pub order: u64,
    /// The stream between the two nodes, if it was the only one.
    pub stream: Option<u64>,
}

impl Call {
    /// Whether a method has made it, and so it may have inherited a deadline.
    pub fn is_nested(&self) -> bool {
        !self.nonce.is_multiple_of(NONCES_PER_CALL)
    }
}

/// Kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callable {
    /// One request, one answer.
    Echo,
    /// A method that calls further nodes.
    Relay,
    /// A one-way call: it ends when it is written.
    Note,
    /// A method of a service that runs one call of each peer at a time, in their order.
    Journal,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// How long the method takes.
    pub time: Duration,
    /// Bytes in both directions.
    pub bytes: usize,
}

/// How a call ended for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an answer that carries this nonce.
    Answered(u64),
    /// With an error.
    Failed(Kind, Class),
    /// Its future was dropped, by its caller, with a method that was cancelled, or by a crash.
    Dropped,
}

/// One start of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where.
    pub process: Process,
    /// When.
    pub began: Duration,
    /// In the order of all events.
    pub order: u64,
    /// The stream between the two nodes, if it was the only one.
    pub stream: Option<u64>,
}

/// A time in which calls between two nodes may fail, because of a fault or of what it leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The node.
    pub node: usize,
    /// The other end of the link; `None` if it is the node itself that is in trouble.
    pub with: Option<usize>,
    /// Where the node only says goodbye: how long it waits for what it has accepted.
    pub grace: Option<Duration>,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
}

impl Trouble {
    /// The end of one that has none yet.
    pub const OPEN: Duration = Duration::MAX;

    /// Whether it concerns calls between these two.
    pub fn concerns(&self, a: usize, b: usize) -> bool {
        match self.with {
            None => self.node == a || self.node == b,
            Some(with) => (self.node, with) == (a, b) || (self.node, with) == (b, a),
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// The time while no host runs.
    outside: Option<Duration>,
    next_order: u64,
    calls: BTreeMap<u64, Call>,
    /// Methods that run now, by node.
    running: BTreeMap<usize, usize>,
    /// Streams between two nodes: how many ends are open, and a number that changes with each that opens or closes.
    streams: BTreeMap<(usize, usize), Streams>,
    troubles: Vec<Trouble>,
    hasher: DefaultHasher,
    lines: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Streams {
    n_dialled: usize,
    n_accepted: usize,
    n_changes: u64,
}

impl Streams {
    fn only(&self) -> Option<u64> {
        ((self.n_dialled, self.n_accepted) == (1, 1)).then_some(self.n_changes)
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that is recorded while no host runs, or while one is torn down: then its clock means nothing.
    pub fn set_outside(&self, time: Option<Duration>) {
        self.books().outside = time;
    }

    /// Writes a line.
    pub fn note(&self, process: Option<Process>, text: fmt::Arguments<'_>) {
        let mut books = self.books();
        let time = books.now();
        let who = process.map_or("-".to_owned(), |process| process.to_string());
        let line = format!("{:10.3} {who:5} {text}", time.as_secs_f64());
        line.hash(&mut books.hasher);
        books.lines.push(line);
    }

    /// Takes something into the hash that is not worth a line.
    pub fn absorb(&self, what: impl Hash) {
        let mut books = self.books();
        let time = books.now();
        (time, what).hash(&mut books.hasher);
    }

    /// A call begins. Its end is told to the guard, or by dropping it.
    pub fn begin(
        self: &Arc<Self>,
        caller: Process,
        nonce: u64,
        callee: usize,
        what: Callable,
        timeout: Option<Duration>,
        work: Work,
    ) -> OpenCall {
        self.note(Some(caller), format_args!("call {nonce} {what:?} -> n{callee}, {work:?}, timeout {timeout:?}"));
        let mut books = self.books();
        let (began, order) = (books.now(), books.order());
        let stream = books.streams.get(&pair(caller.node, callee)).and_then(Streams::only);
        let call = Call {
            nonce,
            caller,
            callee,
            what,
            began,
            timeout,
            work,
            ends: Vec::new(),
            runs: Vec::new(),
            order,
            stream,
        };
        let before = books.calls.insert(nonce, call);
        assert!(before.is_none(), "nonce {nonce} was used before");
        OpenCall { ledger: Arc::clone(self), caller, nonce, is_ended: false }
    }

    /// A method starts.
    pub fn run(self: &Arc<Self>, process: Process, caller: usize, nonce: u64) -> OpenRun {
        self.note(Some(process), format_args!("run {nonce}"));
        let mut books = self.books();
        let (began, order) = (books.now(), books.order());
        let stream = books.streams.get(&pair(caller, process.node)).and_then(Streams::only);
        // A method that nobody has called is found by the checks: its call has no beginning.
        if let Some(call) = books.calls.get_mut(&nonce) {
            call.runs.push(Run { process, began, order, stream });
        }
        *books.running.entry(process.node).or_default() += 1;
        OpenRun { ledger: Arc::clone(self), process, nonce }
    }

    /// A stream opens at one end.
    pub fn opened(&self, process: Process, other: usize, is_dialer: bool) {
        self.note(Some(process), format_args!("{} n{other}", if is_dialer { "dialled" } else { "accepted" }));
        let mut books = self.books();
        let streams = books.streams.entry(pair(process.node, other)).or_default();
        *(if is_dialer { &mut streams.n_dialled } else { &mut streams.n_accepted }) += 1;
        streams.n_changes += 1;
    }

    /// A stream is dropped at one end.
    pub fn closed(&self, process: Process, other: usize, is_dialer: bool) {
        self.note(Some(process), format_args!("closed its stream with n{other}"));
        let mut books = self.books();
        let streams = books.streams.entry(pair(process.node, other)).or_default();
        *(if is_dialer { &mut streams.n_dialled } else { &mut streams.n_accepted }) -= 1;
        streams.n_changes += 1;
    }

    /// Calls may fail for a while.
    pub fn trouble(&self, trouble: Trouble) {
        self.books().troubles.push(trouble);
    }

    /// What is wrong with a node, or with the link between two, has come to its end, and leaves nothing behind from
    /// `until` on. What has ended before keeps the aftermath of its own.
    pub fn over(&self, node: usize, with: Option<usize>, until: Duration) {
        let is_it = |t: &&mut Trouble| (t.node, t.with) == (node, with) || (t.with, Some(t.node)) == (Some(node), with);
        let mut books = self.books();
        let open = books.troubles.iter_mut().filter(|trouble| trouble.until == Trouble::OPEN);
        open.filter(is_it).for_each(|trouble| trouble.until = until);
    }

    /// Nothing is wrong any more.
    pub fn all_over(&self, until: Duration) {
        self.books().troubles.iter_mut().for_each(|trouble| trouble.until = trouble.until.min(until));
    }

    /// What is left to do: calls that have not ended, and methods that run.
    pub fn open(&self) -> (usize, usize) {
        let books = self.books();
        let n_calls = books.calls.values().filter(|call| call.ends.is_empty()).count();
        (n_calls, books.running.values().sum())
    }

    /// How many calls were made, but for those that methods have made.
    pub fn n_planned(&self) -> usize {
        self.books().calls.values().filter(|call| !call.is_nested()).count()
    }

    /// All calls, ordered by nonce.
    pub fn calls(&self) -> Vec<Call> {
        self.books().calls.values().cloned().collect()
    }

    /// All troubles.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.books().troubles.clone()
    }

    /// The lines of the trace.
    pub fn lines(&self) -> Vec<String> {
        self.books().lines.clone()
    }

    /// The hash of all that happened.
    pub fn fingerprint(&self) -> u64 {
        self.books().hasher.finish()
    }
}

impl Books {
    fn now(&self) -> Duration {
        self.outside.or_else(turmoil::sim_elapsed).unwrap_or_default()
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}

/// A call that has not ended.
#[derive(Debug)]
#[must_use = "dropping it records the call as dropped"]
pub struct OpenCall {
    ledger: Arc<Ledger>,
    caller: Process,
    nonce: u64,
    is_ended: bool,
}

impl OpenCall {
    /// The call has ended.
    pub fn end(mut self, end: End) {
        self.record(end);
    }

    fn record(&mut self, end: End) {
        self.is_ended = true;
        self.ledger.note(Some(self.caller), format_args!("end {} {end:?}", self.nonce));
        let mut books = self.ledger.books();
        let now = books.now();
        if let Some(call) = books.calls.get_mut(&self.nonce) {
            call.ends.push((now, end));
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.is_ended {
            self.record(End::Dropped);
        }
    }
}

/// A method that runs.
#[derive(Debug)]
#[must_use = "dropping it records the end of the method"]
pub struct OpenRun {
    ledger: Arc<Ledger>,
    process: Process,
    nonce: u64,
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        self.ledger.note(Some(self.process), format_args!("done {}", self.nonce));
        if let Some(n) = self.ledger.books().running.get_mut(&self.process.node) {
            *n -= 1;
        }
    }
}
