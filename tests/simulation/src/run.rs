//! A plan is carried out: a host of turmoil for each node, steps and faults at their times, then everything is healed,
//! and the cluster has to come to rest.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rmi::{InstanceId, Node, PeerEvents};
use rmi_net::seam::{Seams, SystemClock, SystemRng};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use turmoil::Sim;

use crate::check::{self, Violation};
use crate::ledger::{Call, Ledger, Process, Trouble};
use crate::net::{Conduct, SimulatedNet, host_name};
use crate::plan::{CallPlan, Fault, NONCES_PER_CALL, Plan, Step, What};
use crate::service::{Handles, Journal, Probe, make};

/// The port of every node.
const PORT: u16 = 5000;
/// How long a link may lead to nowhere after it was repaired: a stream that has lost bytes is noticed after 20 s.
const AFTERMATH: Duration = Duration::from_secs(25);
/// The same for a link that held back what it was given, but lost nothing.
const AFTERMATH_OF_HOLD: Duration = Duration::from_secs(5);
/// The same for a node that was started again: if its seeds are gone too it is found when the others dial next.
const AFTERMATH_OF_RESTART: Duration = Duration::from_secs(30);
/// How long a cluster may take to come to rest: 20 s until dead streams are noticed, 30 s until the next dial, and as
/// much again where that one fails.
const LONGEST_REST: Duration = Duration::from_secs(120);
/// How long it has to stay at rest.
const AT_REST: Duration = Duration::from_secs(3);
/// How long the calls of a cluster at rest may take, all together.
const LONGEST_CALM: Duration = Duration::from_secs(30);
/// How long the calls have that meet the goodbye of a node: all the time that they need.
const ENOUGH: Duration = Duration::from_secs(20);

/// What came of a plan.
#[derive(Debug)]
pub struct Report {
    /// The seed of the plan.
    pub seed: u64,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// The hash of all that happened.
    pub fingerprint: u64,
    /// The trace, line by line.
    pub lines: Vec<String>,
    /// The calls.
    pub calls: Vec<Call>,
    /// How many faults there were.
    pub n_faults: usize,
    /// How long the cluster took to come to rest.
    pub rest_after: Duration,
    /// How long it lasted in the simulation, and outside.
    pub time: (Duration, Duration),
}

impl Report {
    /// How many streams were dialled.
    pub fn n_dialled(&self) -> usize {
        self.lines.iter().filter(|line| line.contains(" dialled ")).count()
    }
}

/// Carries out the plan of this seed.
pub fn run_seed(seed: u64) -> Report {
    run(&Plan::from_seed(seed))
}

/// Carries out a plan.
pub fn run(plan: &Plan) -> Report {
    count_panics();
    let n_before = N_PANICS.get();
    let begin = Instant::now();
    let ledger = Arc::<Ledger>::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(plan, Arc::clone(&ledger));
        let violations = cluster.carry_out();
        (violations, cluster.rest_after, cluster.sim.elapsed())
    }));
    let (mut violations, rest_after, time) = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let violation = Violation::new("the simulation ends", text.unwrap_or("it panicked").to_owned());
        (vec![violation], Duration::ZERO, Duration::ZERO)
    });
    let n_panics = N_PANICS.get() - n_before;
    if n_panics > 0 {
        violations.push(Violation::new("I11: nothing panics", format!("{n_panics} panics, see above")));
    }
    violations.extend(check::all(&ledger.calls(), &ledger.troubles(), plan.is_tight));
    Report {
        seed: plan.seed,
        violations,
        fingerprint: ledger.fingerprint(),
        lines: ledger.lines(),
        calls: ledger.calls(),
        n_faults: plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fault(_))).count(),
        rest_after,
        time: (time, begin.elapsed()),
    }
}

thread_local! {
    /// Tasks of a runtime swallow their panics: they are counted where they happen.
    static N_PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            N_PANICS.set(N_PANICS.get() + 1);
            before(info);
        }));
    });
}

/// A host, over all of its lives.
struct Seat {
    node: usize,
    is_client: bool,
    seeds: Vec<usize>,
    start: Duration,
    plan_seed: u64,
    limits: rmi::Limits,
    ledger: Arc<Ledger>,
    conduct: Arc<Conduct>,
    state: Mutex<SeatState>,
    /// Told when there is something in the inbox.
    mail: Notify,
}

#[derive(Default)]
struct SeatState {
    n_lives: u32,
    inbox: VecDeque<Order>,
    /// The node that runs, and its runtime.
    running: Option<(Node, Handle)>,
    /// It said goodbye.
    has_left: bool,
    /// It was crashed and not started again.
    is_dead: bool,
    /// What it waits for when it is started.
    is_cut_off: bool,
}

/// What a host is told to do.
enum Order {
    Call(CallPlan),
    Leave(Duration),
    DialAnew(usize),
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, SeatState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, order: Order) {
        self.state().inbox.push_back(order);
        self.mail.notify_one();
    }

    async fn next(&self) -> Order {
        loop {
            let order = self.state().inbox.pop_front();
            match order {
                Some(order) => return order,
                None => self.mail.notified().await,
            }
        }
    }

    /// The node, if it runs and has not left.
    fn live(&self) -> Option<(Node, Handle)> {
        let state = self.state();
        state.running.clone().filter(|_| !state.has_left && !state.is_dead)
    }

    /// The software is about to be torn down: what is told to it goes nowhere.
    fn end(&self) {
        let running = {
            let mut state = self.state();
            state.inbox.clear();
            state.running.take()
        };
        drop(running);
    }
}

/// What runs on a host.
async fn software(seat: Arc<Seat>) -> turmoil::Result {
    let process = {
        let mut state = seat.state();
        state.n_lives += 1;
        (state.has_left, state.is_dead) = (false, false);
        Process { node: seat.node, life: state.n_lives }
    };
    if process.life == 1 {
        tokio::time::sleep(seat.start).await;
    }
    let ledger = Arc::clone(&seat.ledger);
    let net = SimulatedNet::new(process, Arc::clone(&seat.conduct), Arc::clone(&ledger));
    let chance = seat.plan_seed ^ ((seat.node as u64 + 1) << 32) ^ (u64::from(process.life) << 48);
    let seams = Seams {
        net: Arc::new(net),
        clock: Arc::new(SystemClock::new(Handle::current())),
        rng: Arc::new(SystemRng::seeded(chance)),
    };
    let address = |node: usize| format!("tcp://{}:{PORT}", host_name(node));
    let probe = || Probe::new(process, Arc::clone(&ledger));
    let mut builder = Node::builder()
        .name(host_name(seat.node))
        .seeds(seat.seeds.iter().map(|node| address(*node)))
        .limits(seat.limits.clone())
        .danger_plaintext()
        .seams(seams)
        .serve(probe())
        .serve(Journal(probe()));
    if !seat.is_client {
        builder = builder.listen(address(seat.node));
    }
    let node = builder.start().await?;
    ledger.note(Some(process), format_args!("started as {:?}", node.instance()));
    tokio::task::spawn_local(watch(Arc::clone(&ledger), process, node.watch()));
    seat.state().running = Some((node.clone(), Handle::current()));
    let handles = Handles::default();
    loop {
        match seat.next().await {
            Order::Call(plan) => {
                let (ledger, node, handles) = (Arc::clone(&ledger), node.clone(), handles.clone());
                tokio::task::spawn_local(make(ledger, process, node, handles, plan));
            }
            Order::Leave(grace) => {
                let (ledger, leave) = (Arc::clone(&ledger), node.shutdown(grace).into_future());
                tokio::task::spawn_local(async move {
                    leave.await;
                    ledger.note(Some(process), format_args!("has shut down"));
                });
            }
            Order::DialAnew(other) => {
                let found = node.peer(host_name(other)).with_timeout(Duration::ZERO).await;
                if let Ok(peer) = found {
                    peer.disconnect();
                    tokio::task::spawn_local(peer.ping().into_future());
                }
            }
        }
    }
}

/// Writes what happens to the peers into the trace.
async fn watch(ledger: Arc<Ledger>, process: Process, mut events: PeerEvents) {
    while let Some(event) = events.next().await {
        use rmi::PeerEvent::{Connected, Left, Lost, Restarted};
        match event {
            Connected(peer) => ledger.note(Some(process), format_args!("connected {}", peer.name())),
            Lost(peer) => ledger.note(Some(process), format_args!("lost {}", peer.name())),
            Left(peer) => ledger.note(Some(process), format_args!("left {}", peer.name())),
            Restarted { new, .. } => ledger.note(Some(process), format_args!("restarted {}", new.name())),
            other => ledger.absorb(format!("{other:?}").len()),
        }
    }
}

struct Cluster<'a> {
    plan: &'a Plan,
    ledger: Arc<Ledger>,
    seats: Vec<Arc<Seat>>,
    sim: Sim<'a>,
    /// Pairs that have just dialled each other at once.
    dialled_anew: BTreeSet<(usize, usize)>,
    healed_at: Duration,
    rest_after: Duration,
}

impl<'a> Cluster<'a> {
    fn new(plan: &'a Plan, ledger: Arc<Ledger>) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .tcp_capacity(256)
            .enable_random_order()
            .build();
        let seats: Vec<Arc<Seat>> = (0..plan.n_nodes)
            .map(|node| {
                Arc::new(Seat {
                    node,
                    is_client: plan.has_client && node == plan.n_nodes - 1,
                    seeds: plan.seeds[node].clone(),
                    start: plan.starts[node],
                    plan_seed: plan.seed,
                    limits: plan.limits.clone(),
                    ledger: Arc::clone(&ledger),
                    conduct: Arc::new(Conduct::new(plan.most_at_once)),
                    state: Mutex::default(),
                    mail: Notify::new(),
                })
            })
            .collect();
        for seat in &seats {
            let seat = Arc::clone(seat);
            sim.host(host_name(seat.node), move || software(Arc::clone(&seat)));
        }
        Self {
            plan,
            ledger,
            seats,
            sim,
            dialled_anew: BTreeSet::new(),
            healed_at: Duration::ZERO,
            rest_after: Duration::ZERO,
        }
    }

    fn carry_out(&mut self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (at, step) in self.plan.steps.iter().filter(|(at, _)| *at < self.plan.heal_at) {
            if let Err(violation) = self.run_until(*at) {
                return vec![violation];
            }
            match step {
                Step::Call(call) => self.seats[call.from].tell(Order::Call(call.clone())),
                Step::Fault(fault) => self.fault(*fault),
                // Two that did not know each other may still look for each other.
                Step::CheckPair(a, b) if self.dialled_anew.remove(&(*a, *b)) => {
                    violations.extend(self.check_pair(*a, *b).err());
                }
                Step::CheckPair(..) => {}
            }
        }
        if let Err(violation) = self.run_until(self.plan.heal_at) {
            return vec![violation];
        }
        self.heal();
        violations.extend(self.rest(Duration::ZERO).err());
        // Without faults the whole plan was calm.
        let has_faults = self.plan.steps.iter().any(|(_, step)| matches!(step, Step::Fault(_)));
        if violations.is_empty() && has_faults {
            // By then streams that have lost bytes were noticed.
            violations.extend(self.rest(AFTERMATH).and_then(|()| self.calm()).err());
        }
        violations
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.ledger.set_outside(None);
        let stepped = self.sim.step();
        self.ledger.set_outside(Some(self.sim.elapsed()));
        stepped.map(|_| ()).map_err(|error| Violation::new("the simulation ends", error.to_string()))
    }

    fn run_until(&mut self, time: Duration) -> Result<(), Violation> {
        while self.now() < time {
            self.step()?;
        }
        Ok(())
    }

    fn trouble(&self, node: usize, with: Option<usize>, time: Duration) {
        let from = self.now();
        self.ledger.trouble(Trouble { node, with, grace: None, from, until: from.saturating_add(time) });
    }

    fn fault(&mut self, fault: Fault) {
        self.ledger.set_outside(Some(self.now()));
        self.ledger.note(None, format_args!("{fault:?}"));
        let host = host_name;
        match fault {
            Fault::Cut { a, b } => {
                self.trouble(a, Some(b), Trouble::OPEN);
                self.sim.partition(host(a), host(b));
            }
            Fault::CutOneWay { from, to } => {
                self.trouble(from, Some(to), Trouble::OPEN);
                self.sim.partition_oneway(host(from), host(to));
            }
            Fault::Repair { a, b } => {
                self.sim.repair(host(a), host(b));
                self.ledger.over(a, Some(b), self.now() + AFTERMATH);
            }
            Fault::Hold { a, b } => {
                self.trouble(a, Some(b), Trouble::OPEN);
                self.sim.hold(host(a), host(b));
            }
            Fault::Release { a, b } => {
                self.sim.release(host(a), host(b));
                self.ledger.over(a, Some(b), self.now() + AFTERMATH_OF_HOLD);
            }
            Fault::Latency { a, b, ms } => self.sim.set_link_latency(host(a), host(b), Duration::from_millis(ms)),
            Fault::Crash { node } => self.crash(node),
            Fault::PowerLoss { node } => {
                for other in (0..self.plan.n_nodes).filter(|other| *other != node) {
                    self.sim.partition(host(node), host(other));
                }
                self.seats[node].state().is_cut_off = true;
                self.crash(node);
            }
            Fault::Restart { node } => self.restart(node),
            Fault::Goodbye { node, ms } => {
                let grace = Duration::from_millis(ms);
                let from = self.now();
                let until = Trouble::OPEN;
                self.ledger.trouble(Trouble { node, with: None, grace: Some(grace), from, until });
                self.seats[node].state().has_left = true;
                self.seats[node].tell(Order::Leave(grace));
            }
            Fault::SlowReader { node, ms } => {
                let time = Duration::from_millis(ms);
                self.trouble(node, None, time + AFTERMATH);
                self.seats[node].conduct.slow_until(self.now() + time);
            }
            Fault::DoubleDial { a, b } => {
                self.trouble(a, Some(b), Duration::from_secs(3));
                let was_linked = self.link_ends(a, b).is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
                if was_linked {
                    self.dialled_anew.insert((a, b));
                }
                self.seats[a].tell(Order::DialAnew(b));
                self.seats[b].tell(Order::DialAnew(a));
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.trouble(node, None, Trouble::OPEN);
        self.seats[node].end();
        self.sim.crash(host_name(node));
        self.seats[node].state().is_dead = true;
    }

    fn restart(&mut self, node: usize) {
        self.seats[node].end();
        let was_cut_off = std::mem::take(&mut self.seats[node].state().is_cut_off);
        self.ledger.over(node, None, self.now() + AFTERMATH_OF_RESTART);
        self.trouble(node, None, AFTERMATH_OF_RESTART);
        if was_cut_off {
            for other in (0..self.plan.n_nodes).filter(|other| *other != node) {
                self.sim.repair(host_name(node), host_name(other));
            }
        }
        self.sim.bounce(host_name(node));
    }

    /// Puts everything right: links, latencies, readers, and those that have ended are started again.
    fn heal(&mut self) {
        self.ledger.set_outside(Some(self.now()));
        self.ledger.note(None, format_args!("heal"));
        self.healed_at = self.now();
        for a in 0..self.plan.n_nodes {
            for b in a + 1..self.plan.n_nodes {
                self.sim.repair(host_name(a), host_name(b));
                self.sim.release(host_name(a), host_name(b));
                self.sim.set_link_latency(host_name(a), host_name(b), self.plan.latency.1 / 2);
            }
        }
        for node in 0..self.plan.n_nodes {
            self.seats[node].conduct.slow_until(Duration::ZERO);
            let is_gone = {
                let state = self.seats[node].state();
                state.is_dead || state.has_left
            };
            if is_gone {
                self.restart(node);
            }
        }
    }

    /// Waits until the cluster is at rest, and stays so, `after` its healing at the earliest.
    fn rest(&mut self, after: Duration) -> Result<(), Violation> {
        let healed_at = self.healed_at;
        self.run_until(healed_at + after)?;
        loop {
            if let Err(violation) = self.is_at_rest() {
                if self.now() > healed_at + LONGEST_REST {
                    return Err(violation);
                }
                self.run_until(self.now() + Duration::from_millis(100))?;
                continue;
            }
            let rest_after = self.now() - healed_at;
            self.ledger.note(None, format_args!("at rest"));
            self.run_until(self.now() + AT_REST)?;
            // A stream that has lost bytes before may be noticed only now: then it goes on.
            if self.is_at_rest().is_ok() {
                if after.is_zero() {
                    self.rest_after = rest_after;
                }
                return Ok(());
            }
        }
    }

    /// The cluster is at rest: from now on every call succeeds, and one that meets a goodbye is answered.
    fn calm(&mut self) -> Result<(), Violation> {
        self.ledger.set_outside(Some(self.now()));
        self.ledger.note(None, format_args!("calm"));
        self.ledger.all_over(self.now());
        self.run_until(self.now() + self.plan.tick)?;
        let n_before = self.ledger.n_planned();
        let n_nodes = self.plan.n_nodes;
        let pairs: Vec<_> =
            (0..n_nodes).flat_map(|a| (0..n_nodes).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        let calm_calls = calm_calls(self.plan, &pairs);
        let n_calls = calm_calls.len();
        let mut calls = calm_calls.into_iter();
        calls.by_ref().take(n_calls / 2).for_each(|call| self.seats[call.from].tell(Order::Call(call)));
        self.run_until_calls_end(n_before + n_calls / 2)?;
        let leaving = self.plan.seed as usize % n_nodes;
        calls.for_each(|call| self.seats[call.from].tell(Order::Call(call)));
        // While requests, methods and answers are on their way.
        self.run_until(self.now() + self.plan.latency.1 * 2)?;
        self.fault(Fault::Goodbye { node: leaving, ms: ENOUGH.as_millis() as u64 });
        self.run_until_calls_end(n_before + n_calls)
    }

    /// Waits until so many calls were made, and all have ended.
    fn run_until_calls_end(&mut self, n: usize) -> Result<(), Violation> {
        let by = self.now() + LONGEST_CALM;
        while (self.ledger.n_planned(), self.ledger.open()) != (n, (0, 0)) {
            if self.now() > by {
                let (n_made, open) = (self.ledger.n_planned(), self.ledger.open());
                let details = format!("{n_made} of {n} were made, {open:?} calls and methods are under way");
                return Err(Violation::new("calls of a cluster at rest are made and end", details));
            }
            self.run_until(self.now() + Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Whether every pair has one connection, and nothing is left of any call.
    fn is_at_rest(&self) -> Result<(), Violation> {
        let accounts = "I5: accounts return to the baseline";
        let (n_calls, n_runs) = self.ledger.open();
        if n_calls > 0 {
            return Err(Violation::new("I1: each call ends exactly once", format!("{n_calls} calls have not ended")));
        }
        if n_runs > 0 {
            return Err(Violation::new(accounts, format!("{n_runs} methods still run")));
        }
        if let Some(seat) = self.seats.iter().find(|seat| seat.live().is_none()) {
            return Err(Violation::new("every node starts again", format!("n{} has not started", seat.node)));
        }
        for a in 0..self.plan.n_nodes {
            for b in a + 1..self.plan.n_nodes {
                self.check_pair(a, b)?;
            }
        }
        for seat in &self.seats {
            let Some((node, runtime)) = seat.live() else { continue };
            let snapshot = node.snapshot();
            let is_idle = |c: &rmi::ConnectionSnapshot| {
                let calls = (c.pending_calls, c.waiting_calls, c.running_calls, c.methods.len());
                (calls, c.memory, c.queued_bytes, c.takes_calls) == ((0, 0, 0, 0), 0, 0, true)
            };
            let threads = (snapshot.blocking_threads, snapshot.compute_threads, snapshot.waiting_threads);
            let is_quiet = (snapshot.running_calls, snapshot.memory, threads) == (0, 0, (0, 0, 0));
            let n_others = self.seats.len() - 1;
            if !is_quiet || snapshot.connections.len() != n_others || !snapshot.connections.iter().all(is_idle) {
                return Err(Violation::new(accounts, format!("n{}: {snapshot:?}", seat.node)));
            }
            // One that knocks, one for the listener, and three for each connection.
            let expected = 1 + usize::from(!seat.is_client) + 3 * n_others;
            let n_tasks = runtime.metrics().num_alive_tasks();
            if n_tasks != expected {
                return Err(Violation::new(accounts, format!("n{}: {n_tasks} tasks, and not {expected}", seat.node)));
            }
        }
        Ok(())
    }

    /// The connections between two nodes that live, as each of them sees those that take calls: whether it has dialled.
    fn link_ends(&self, a: usize, b: usize) -> Option<(Vec<bool>, Vec<bool>)> {
        let (node_a, node_b) = (self.seats[a].live()?.0, self.seats[b].live()?.0);
        let ends = |node: &Node, other: InstanceId| -> Vec<bool> {
            let snapshot = node.snapshot();
            let links = snapshot.connections.iter().filter(|c| c.instance == other && c.takes_calls);
            links.map(|c| c.is_dialer).collect()
        };
        Some((ends(&node_a, node_b.instance()), ends(&node_b, node_a.instance())))
    }

    /// Two nodes that live have exactly one connection that takes calls, and it is the same one at both ends.
    fn check_pair(&self, a: usize, b: usize) -> Result<(), Violation> {
        let Some((of_a, of_b)) = self.link_ends(a, b) else { return Ok(()) };
        match (&of_a[..], &of_b[..]) {
            ([at_a], [at_b]) if at_a != at_b => Ok(()),
            _ => Err(Violation::new(
                "I7: each live pair has exactly one canonical connection",
                format!("n{a} has {of_a:?} with n{b}, which has {of_b:?} (who dialled)"),
            )),
        }
    }
}

/// Two calls in each direction between all nodes: one half first, the other after it.
fn calm_calls(plan: &Plan, pairs: &[(usize, usize)]) -> Vec<CallPlan> {
    let planned =
        plan.steps.iter().filter_map(|(_, step)| if let Step::Call(call) = step { Some(call.nonce) } else { None });
    let first = planned.max().unwrap_or(0) / NONCES_PER_CALL + 1;
    let call = |(n, (from, to)): (usize, &(usize, usize))| {
        let what = match n % 4 {
            0 => What::Relay { ms: 3, path: vec![*from, *to] },
            1 => What::Journal { ms: 5, request: 20_000 },
            2 => What::Echo { ms: 0, request: 70_000, answer: 90_000 },
            _ => What::Echo { ms: 100, request: 10, answer: 10 },
        };
        let nonce = (first + n as u64) * NONCES_PER_CALL;
        CallPlan { nonce, from: *from, to: *to, what, timeout: None, dropped_after: None, no_cancel: false }
    };
    pairs.iter().chain(pairs).enumerate().map(call).collect()
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Nodes end before the hosts on which they run.
        self.seats.iter().for_each(|seat| seat.end());
    }
}
