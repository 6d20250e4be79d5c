//! The work that every system does, and how it is measured in the client's process.
//!
//! A workload is some *lanes* on some connections. A lane is a task that makes one kind of call again and again, one at
//! a time, until it is told to stop; 64 calls in flight are 64 lanes. What is measured is what happens between the end
//! of the warm-up and the end of the window: calls counted, latencies of those lanes whose latency matters, and the
//! processor time of both processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::process;

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const MIB: usize = 1 << 20;
/// How many connections are open before the memory of further ones is measured: the first ones pay for the allocator.
const FIRST_CONNECTIONS: usize = 100;
const IDLE_CONNECTIONS: usize = 1000;

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `add(i64, i64) -> i64`
    Add,
    /// A record there and back.
    EchoRecord,
    /// That many bytes there and back.
    EchoBlob(usize),
    /// The called side calls the caller's `add` before it answers.
    Nested,
    /// 1 ms of processor time, the way the system offers for such methods.
    BurnOffloaded,
    /// 1 ms of processor time in the middle of an `async` method, as it happens to people.
    BurnInTask,
}

/// Lanes of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What the figures of this group begin with.
    pub prefix: &'static str,
    pub op: Op,
    pub n_connections: usize,
    pub lanes_per_connection: usize,
    pub is_timed: bool,
}

/// A letter of `docs/performance.md`.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub id: &'static str,
    pub what: &'static str,
    /// All groups begin on the first connection.
    pub groups: &'static [Group],
}

const fn lanes(op: Op, n: usize) -> Group {
    Group { prefix: "", op, n_connections: 1, lanes_per_connection: n, is_timed: false }
}

const fn timed(op: Op, prefix: &'static str) -> Group {
    Group { prefix, op, n_connections: 1, lanes_per_connection: 1, is_timed: true }
}

pub const WORKLOADS: &[Workload] = &[
    Workload { id: "A", what: "`add(i64, i64)`, one call in flight", groups: &[timed(Op::Add, "")] },
    Workload { id: "B64", what: "`add`, 64 calls in flight on one connection", groups: &[lanes(Op::Add, 64)] },
    Workload { id: "B1024", what: "`add`, 1,024 calls in flight on one connection", groups: &[lanes(Op::Add, 1024)] },
    Workload { id: "C", what: "echo of a record, 64 in flight", groups: &[lanes(Op::EchoRecord, 64)] },
    Workload { id: "D1", what: "echo of 1 MiB, one in flight", groups: &[lanes(Op::EchoBlob(MIB), 1)] },
    Workload { id: "D64", what: "echo of 64 MiB, one in flight", groups: &[lanes(Op::EchoBlob(64 * MIB), 1)] },
    Workload {
        id: "E",
        what: "500 connections, one `add` in flight on each",
        groups: &[Group { prefix: "", op: Op::Add, n_connections: 500, lanes_per_connection: 1, is_timed: false }],
    },
    Workload { id: "Eidle", what: "the server's memory for each of 1,000 idle connections", groups: &[] },
    Workload {
        id: "F",
        what: "`add`, one in flight, on a connection that echoes 16 MiB blobs without pause",
        groups: &[timed(Op::Add, "small_"), Group { prefix: "bulk_", ..lanes(Op::EchoBlob(16 * MIB), 1) }],
    },
    Workload { id: "H", what: "nested: A calls B, which calls A, 64 in flight", groups: &[lanes(Op::Nested, 64)] },
    Workload {
        id: "I",
        what: "methods that burn 1 ms, 64 in flight, off the connections' tasks, and `add` beside them",
        groups: &[timed(Op::Add, "small_"), Group { prefix: "burn_", ..lanes(Op::BurnOffloaded, 64) }],
    },
    Workload {
        id: "Itask",
        what: "`async` methods that burn 1 ms, 64 in flight, and `add` beside them",
        groups: &[timed(Op::Add, "small_"), Group { prefix: "burn_", ..lanes(Op::BurnInTask, 64) }],
    },
];

pub fn workload(id: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.id.eq_ignore_ascii_case(id))
}

/// What workload C sends: the types that records of programs are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: u64,
    pub name: String,
    pub samples: Vec<f64>,
    pub note: Option<String>,
    pub counts: BTreeMap<String, u32>,
}

impl Record {
    pub fn example() -> Self {
        Self {
            id: 0x0123_4567_89ab_cdef,
            name: "0123456789abcdef0123456789abcdef".into(),
            samples: (0..32).map(|n| f64::from(n) * 0.37).collect(),
            note: Some("a remark".into()),
            counts: [("red", 3), ("green", 500), ("blue", 70_000)].map(|(name, n)| (name.into(), n)).into(),
        }
    }
}

/// Bytes of all values: some formats send small numbers cheaper than large ones.
pub fn blob(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8 ^ 0xa5).collect()
}

/// Uses a millisecond of this thread's processor time, however many others share its core.
pub fn burn() {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let begin = now();
    loop {
        let spent = now() - begin;
        if spent.tv_sec > 0 || spent.tv_nsec >= 1_000_000 {
            return;
        }
    }
}

/// The client's end of one connection.
///
/// The futures need not be `Send`: [`start`](Caller::start) is where a system says how it runs them.
#[allow(async_fn_in_trait)]
pub trait Caller: Clone + 'static {
    /// The system's own type for bytes, so that nobody copies what need not be copied.
    type Blob;

    fn blob(bytes: Vec<u8>) -> Self::Blob;
    async fn add(&self, a: i64, b: i64) -> Result<i64>;
    /// Sends [`Record::example`], and gives back the id of what comes back.
    async fn echo_record(&self) -> Result<u64>;
    async fn echo_blob(&self, blob: Self::Blob) -> Result<(Self::Blob, usize)>;

    /// The answer of `add(x, 1)`, for which the called side asks the caller.
    async fn nested(&self, x: i64) -> Result<i64> {
        Err(format!("cannot call back about {x}").into())
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Err("cannot offload".into())
    }

    async fn burn_in_task(&self) -> Result<()> {
        Err("cannot burn".into())
    }

    /// Starts the lanes, mostly by [`spawn_lanes!`].
    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>>;
}

/// Spawns a task for each lane.
#[macro_export]
macro_rules! spawn_lanes {
    ($caller:expr, $op:expr, $lanes:expr, $spawn:path) => {{
        let start = |lane| $spawn($crate::workload::run_lane($caller.clone(), $op, lane));
        $lanes.into_iter().map(start).collect()
    }};
    ($caller:expr, $op:expr, $lanes:expr) => {
        $crate::spawn_lanes!($caller, $op, $lanes, tokio::spawn)
    };
}

/// A system under test: what one process serves, and how another one connects to it.
#[allow(async_fn_in_trait)]
pub trait System {
    type Caller: Caller;

    /// What it cannot do, or nobody would.
    const SKIPS: &'static [&'static str] = &[];

    /// Serves until the process is killed. Calls `ready` with its address.
    async fn serve(ready: impl FnOnce(String)) -> Result<()>;

    async fn connect(address: &str) -> Result<Self::Caller>;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("no runtime can be started").block_on(future)
    }
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPING: u8 = 2;

/// What a lane counts, and how it is told to stop.
pub struct Lane {
    phase: Arc<AtomicU8>,
    count: Arc<Count>,
    is_timed: bool,
    nanos: Vec<u64>,
}

/// On a cache line of its own, so that lanes on different cores do not meet.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Lane {
    pub fn goes_on(&self) -> bool {
        self.phase.load(Ordering::Relaxed) < STOPPING
    }

    /// Calls have ended whose latency nobody wants to know.
    pub fn count(&self, n: u64) {
        self.count.0.fetch_add(n, Ordering::Relaxed);
    }

    /// When a call begins, if anybody wants to know.
    pub fn begin(&self) -> Option<Instant> {
        self.is_timed.then(Instant::now)
    }

    /// A call has ended.
    pub fn end(&mut self, begin: Option<Instant>) {
        if let Some(begin) = begin
            && self.phase.load(Ordering::Relaxed) == MEASURING
        {
            self.nanos.push(begin.elapsed().as_nanos() as u64);
        }
        self.count(1);
    }
}

/// Makes calls until it is told to stop.
pub async fn run_lane<C: Caller>(caller: C, op: Op, mut lane: Lane) -> Result<Lane> {
    let mut bytes = match op {
        Op::EchoBlob(len) => Some(C::blob(blob(len))),
        _ => None,
    };
    let mut x = 0;
    while lane.goes_on() {
        let begin = lane.begin();
        match op {
            Op::Add => check(caller.add(x, 1).await?, x + 1)?,
            Op::Nested => check(caller.nested(x).await?, x + 1)?,
            Op::EchoRecord => check(caller.echo_record().await?, 0x0123_4567_89ab_cdef)?,
            Op::EchoBlob(len) => {
                let sent = bytes.take().ok_or("the blob is gone")?;
                let (received, received_len) = caller.echo_blob(sent).await?;
                check(received_len, len)?;
                bytes = Some(received);
            }
            Op::BurnOffloaded => caller.burn_offloaded().await?,
            Op::BurnInTask => caller.burn_in_task().await?,
        }
        lane.end(begin);
        x += 1;
    }
    Ok(lane)
}

fn check<T: PartialEq + std::fmt::Debug>(got: T, expected: T) -> Result<()> {
    if got == expected { Ok(()) } else { Err(format!("expected {expected:?}, got {got:?}").into()) }
}

/// What was measured, by name.
pub type Figures = Vec<(String, f64)>;

/// Measures one workload.
pub async fn measure<S: System>(
    address: &str,
    server_pid: u32,
    workload: &Workload,
    window: Duration,
) -> Result<Figures> {
    if workload.groups.is_empty() {
        return idle_connections::<S>(address, server_pid).await;
    }
    let n_connections = workload.groups.iter().map(|group| group.n_connections).max().unwrap_or(1);
    let callers = connect_all::<S>(address, n_connections).await?;

    let phase = Arc::new(AtomicU8::new(WARMING));
    let mut running = Vec::new();
    for group in workload.groups {
        let mut counts = Vec::new();
        let mut tasks = Vec::new();
        for caller in &callers[..group.n_connections] {
            let new_lane = |_| {
                let count = Arc::new(Count::default());
                counts.push(Arc::clone(&count));
                Lane { phase: Arc::clone(&phase), count, is_timed: group.is_timed, nanos: Vec::new() }
            };
            let lanes = (0..group.lanes_per_connection).map(new_lane).collect();
            tasks.extend(caller.start(group.op, lanes));
        }
        running.push((group, counts, tasks));
    }
    let sum = |counts: &[Arc<Count>]| counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum::<u64>();

    // A lane ends early only by an error.
    let failed = |running: &[(_, _, Vec<JoinHandle<_>>)]| {
        running.iter().any(|(.., tasks)| tasks.iter().any(|t| t.is_finished()))
    };
    let warm_up_ends = Instant::now() + window / 3;
    // What is slow has made at least one call before it is measured.
    while Instant::now() < warm_up_ends || running.iter().any(|(_, counts, _)| sum(counts) == 0) {
        if failed(&running) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut begin_counts: Vec<u64> = running.iter().map(|(_, counts, _)| sum(counts)).collect();
    let mut begin_cpu = process::cpu_seconds(server_pid)? + process::cpu_seconds(std::process::id())?;
    let mut begin = Instant::now();
    phase.store(MEASURING, Ordering::Relaxed);
    let slow = running.iter().any(|(group, ..)| matches!(group.op, Op::EchoBlob(len) if len > 8 * MIB));
    if slow && workload.groups.len() == 1 {
        // A handful of calls in the window: measured from the end of one to the end of another.
        (begin_counts[0], begin) = next_call(&running[0].1, sum, begin_counts[0]).await;
        begin_cpu = process::cpu_seconds(server_pid)? + process::cpu_seconds(std::process::id())?;
    }
    // What is slow beside something else ends at least one call, too.
    let is_idle = |begin_counts: &[u64]| {
        begin.elapsed() < window * 20
            && running.iter().zip(begin_counts).any(|((_, counts, _), &before)| sum(counts) == before)
    };
    while (begin.elapsed() < window || is_idle(&begin_counts)) && !failed(&running) {
        let left = window.saturating_sub(begin.elapsed());
        tokio::time::sleep(left.clamp(Duration::from_millis(1), Duration::from_millis(50))).await;
    }
    if slow && workload.groups.len() == 1 {
        let now = sum(&running[0].1);
        next_call(&running[0].1, sum, now).await;
    }
    let end_counts: Vec<u64> = running.iter().map(|(_, counts, _)| sum(counts)).collect();
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = process::cpu_seconds(server_pid)? + process::cpu_seconds(std::process::id())? - begin_cpu;
    phase.store(STOPPING, Ordering::Relaxed);

    let mut figures = Figures::new();
    let mut n_all_calls = 0;
    for (((group, _, tasks), begin_count), end_count) in running.into_iter().zip(begin_counts).zip(end_counts) {
        let n_calls = end_count - begin_count;
        n_all_calls += n_calls;
        let mut nanos = Vec::new();
        for task in tasks {
            nanos.append(&mut task.await??.nanos);
        }
        let mut figure = |name: &str, value: f64| figures.push((format!("{}{name}", group.prefix), value));
        if group.is_timed {
            nanos.sort_unstable();
            figure("p50_us", percentile(&nanos, 0.5)?);
            figure("p99_us", percentile(&nanos, 0.99)?);
        }
        let rate = n_calls as f64 / seconds;
        match group.op {
            Op::EchoBlob(len) => figure("mib_per_s", rate * 2.0 * len as f64 / MIB as f64),
            _ => figure("calls_per_s", rate),
        }
    }
    if workload.groups.len() == 1 {
        figures.push(("cpu_us_per_call".into(), cpu * 1e6 / n_all_calls.max(1) as f64));
    }
    if matches!(workload.groups[0].op, Op::EchoBlob(_)) {
        figures.push(("server_peak_mib".into(), process::peak_memory_kib(server_pid)? / 1024.0));
    }
    Ok(figures)
}

/// Waits for the end of the next call.
async fn next_call(counts: &[Arc<Count>], sum: impl Fn(&[Arc<Count>]) -> u64, so_far: u64) -> (u64, Instant) {
    let longest = Instant::now() + Duration::from_secs(10);
    loop {
        let now = sum(counts);
        if now > so_far || Instant::now() > longest {
            return (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn percentile(sorted_nanos: &[u64], p: f64) -> Result<f64> {
    let idx = (sorted_nanos.len() as f64 * p) as usize;
    let nanos = sorted_nanos.get(idx).or(sorted_nanos.last()).ok_or("no call ended within the window")?;
    Ok(*nanos as f64 / 1000.0)
}

async fn connect_all<S: System>(address: &str, n: usize) -> Result<Vec<S::Caller>> {
    let mut callers = Vec::with_capacity(n);
    for _ in 0..n {
        let caller = S::connect(address).await?;
        check(caller.add(1, 2).await?, 3)?;
        callers.push(caller);
    }
    Ok(callers)
}

async fn idle_connections<S: System>(address: &str, server_pid: u32) -> Result<Figures> {
    let _first = connect_all::<S>(address, FIRST_CONNECTIONS).await?;
    let before = process::settled_memory_kib(server_pid).await?;
    let _idle = connect_all::<S>(address, IDLE_CONNECTIONS).await?;
    let after = process::settled_memory_kib(server_pid).await?;
    Ok(vec![("server_kib_per_connection".into(), (after - before) / IDLE_CONNECTIONS as f64)])
}
