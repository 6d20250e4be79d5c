//! A scenario, made from a seed: the cluster, its calls and its faults, all of it known before it begins.
//!
//! Faults of one link, and of one node, follow each other and do not overlap: what turmoil does with a held link that is
//! cut is nothing that a network does.

use std::time::Duration;

use fastrand::Rng;
use rmi::Limits;

use crate::ledger::{Callable, Work};

/// Nonces that one planned call may use: its own, and those of the calls that it leads to.
pub(crate) const NONCES_PER_CALL: u64 = 16;

/// Everything that will be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// How many nodes there are.
    pub n_nodes: usize,
    /// Whether the last one is a client: it does not listen.
    pub has_client: bool,
    /// The seeds of each node, by number.
    pub seeds: Vec<Vec<usize>>,
    /// When each node is started.
    pub starts: Vec<Duration>,
    /// The step of the simulation.
    pub tick: Duration,
    /// The least and the greatest latency of a link.
    pub latency: (Duration, Duration),
    /// The limits of all nodes.
    pub limits: Limits,
    /// Whether the limits are so small that calm calls may be refused.
    pub is_tight: bool,
    /// The most bytes that a stream moves at once; 0 for any number.
    pub most_at_once: usize,
    /// What is done when, in this order.
    pub steps: Vec<(Duration, Step)>,
    /// When everything is healed.
    pub heal_at: Duration,
}

/// Something that is done at one moment.
#[derive(Debug, Clone)]
pub enum Step {
    /// A call begins.
    Call(CallPlan),
    /// A fault begins or ends.
    Fault(Fault),
    /// Two nodes must have exactly one connection now.
    CheckPair(usize, usize),
}

/// One call.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// Its number.
    pub nonce: u64,
    /// Who calls.
    pub from: usize,
    /// Whom.
    pub to: usize,
    /// What.
    pub what: What,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// When its future is dropped, if it has not ended by then.
    pub dropped_after: Option<Duration>,
    /// Whether its method runs on when nobody wants the answer.
    pub no_cancel: bool,
}

/// What is called. Methods take `ms` milliseconds.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the arguments of the methods")]
pub enum What {
    Echo { ms: u64, request: usize, answer: usize },
    Fail { ms: u64 },
    Relay { ms: u64, path: Vec<usize> },
    Note { ms: u64 },
    Journal { ms: u64, request: usize },
}

impl What {
    pub(crate) fn callable(&self) -> Callable {
        match self {
            What::Echo { .. } | What::Fail { .. } => Callable::Echo,
            What::Relay { .. } => Callable::Relay,
            What::Note { .. } => Callable::Note,
            What::Journal { .. } => Callable::Journal,
        }
    }

    pub(crate) fn work(&self) -> Work {
        let (ms, bytes) = match self {
            What::Echo { ms, request, answer } => (*ms, request + answer),
            What::Fail { ms } | What::Note { ms } => (*ms, 0),
            What::Relay { ms, path } => (ms * (path.len() as u64 + 1), 0),
            What::Journal { ms, request } => (*ms, *request),
        };
        Work { time: Duration::from_millis(ms), bytes }
    }
}

/// What goes wrong, or is put right. Links are between two nodes, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the nodes")]
pub enum Fault {
    /// Nothing passes any more, and what was under way is lost. Streams do not recover from it.
    Cut { a: usize, b: usize },
    /// As above, in one direction.
    CutOneWay { from: usize, to: usize },
    /// The end of both. New streams can be made.
    Repair { a: usize, b: usize },
    /// Everything is held back.
    Hold { a: usize, b: usize },
    /// And let go.
    Release { a: usize, b: usize },
    /// The link becomes this slow.
    Latency { a: usize, b: usize, ms: u64 },
    /// The process ends; the system closes its streams.
    Crash { node: usize },
    /// The machine ends: nobody is told.
    PowerLoss { node: usize },
    /// The process is started again, with another instance at the same address.
    Restart { node: usize },
    /// The node shuts down in peace, and gives its calls this long.
    Goodbye { node: usize, ms: u64 },
    /// The node reads nothing for this long.
    SlowReader { node: usize, ms: u64 },
    /// Both drop their connections and dial each other at the same moment.
    DoubleDial { a: usize, b: usize },
}

/// What is going on while a plan is made.
struct Maker {
    rng: Rng,
    n_nodes: usize,
    has_client: bool,
    is_patient: bool,
    /// Until when each link and each node has a fault.
    links: Vec<Vec<u64>>,
    nodes: Vec<u64>,
    steps: Vec<(u64, Step)>,
    n_calls: u64,
}

impl Plan {
    /// The scenario of this seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let n_nodes = match rng.u32(..100) {
            0..75 => rng.usize(2..=4),
            75..97 => rng.usize(5..=7),
            _ => rng.usize(8..=16),
        };
        let has_client = n_nodes > 2 && rng.u32(..100) < 15;
        let seeds = seeds(&mut rng, n_nodes);
        // All at once, or one after the other.
        let longest_start = [1, 20, 2_000][rng.usize(..3)];
        let starts = (0..n_nodes).map(|_| Duration::from_millis(rng.u64(..longest_start))).collect();
        let tick = Duration::from_millis([1, 1, 2, 5][rng.usize(..4)]);
        let least = rng.u64(0..5);
        let latency = (Duration::from_millis(least), Duration::from_millis(least + rng.u64(1..60)));
        let is_tight = rng.u32(..100) < 25;
        let limits = match is_tight {
            true => Limits::default()
                .with_calls_per_peer(rng.usize(1..8))
                .with_running_calls(rng.usize(4..16))
                .with_waiting_calls(rng.usize(0..6))
                .with_window(64 << 10)
                .with_queue_bytes(64 << 10)
                .with_message(rng.usize(100 << 10..600 << 10))
                .with_memory_per_peer(rng.usize(64 << 10..1 << 20)),
            false => Limits::default(),
        };
        let most_at_once = if rng.u32(..100) < 25 { rng.usize(200..8192) } else { 0 };
        let heal_at = rng.u64(4_000..25_000);
        let is_patient = rng.u32(..100) < 30;
        let mut maker = Maker {
            n_nodes,
            has_client,
            is_patient,
            links: vec![vec![0; n_nodes]; n_nodes],
            nodes: vec![0; n_nodes],
            steps: Vec::new(),
            n_calls: 0,
            rng,
        };
        maker.calls(heal_at);
        maker.faults(heal_at);
        let mut steps = maker.steps;
        steps.sort_by_key(|(at, _)| *at);
        let steps = steps.into_iter().map(|(at, step)| (Duration::from_millis(at), step)).collect();
        let heal_at = Duration::from_millis(heal_at);
        Self { seed, n_nodes, has_client, seeds, starts, tick, latency, limits, is_tight, most_at_once, steps, heal_at }
    }

    /// Two nodes that dial each other as soon as they start, at about the same time, and call each other meanwhile.
    pub fn double_dial(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let heal_at = 400;
        let ms = Duration::from_millis;
        let least = rng.u64(..20);
        let mut steps: Vec<_> = (1..60)
            .map(|n| {
                let from = rng.usize(..2);
                let request = if rng.u32(..100) < 10 { rng.usize(60 << 10..200 << 10) } else { rng.usize(..300) };
                let what = match rng.u32(..10) {
                    0..6 => What::Echo { ms: rng.u64(..60), request, answer: rng.usize(..300) },
                    6..8 => What::Relay { ms: 1, path: vec![from, 1 - from] },
                    _ => What::Journal { ms: 0, request },
                };
                let nonce = n * NONCES_PER_CALL;
                let (timeout, dropped_after) = (None, None);
                let call = CallPlan { nonce, from, to: 1 - from, what, timeout, dropped_after, no_cancel: false };
                (ms(rng.u64(..heal_at)), Step::Call(call))
            })
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            n_nodes: 2,
            has_client: false,
            seeds: vec![vec![1], vec![0]],
            starts: vec![ms(rng.u64(..30)), ms(rng.u64(..30))],
            tick: ms(1),
            latency: (ms(least), ms(least + rng.u64(1..60))),
            limits: Limits::default(),
            is_tight: false,
            most_at_once: 0,
            steps,
            heal_at: ms(heal_at),
        }
    }
}

/// Whom each node knocks on: the first, the one before, everybody, or some that lead to the first.
fn seeds(rng: &mut Rng, n_nodes: usize) -> Vec<Vec<usize>> {
    let shape = rng.u32(..4);
    let seeds_of = |node: usize| match shape {
        0 => vec![0],
        1 => vec![node.checked_sub(1).unwrap_or(n_nodes - 1)],
        2 => (0..n_nodes).collect(),
        _ => vec![rng.usize(..node.max(1))],
    };
    (0..n_nodes).map(seeds_of).collect()
}

impl Maker {
    fn two(&mut self) -> (usize, usize) {
        let a = self.rng.usize(..self.n_nodes);
        let b = (a + self.rng.usize(1..self.n_nodes)) % self.n_nodes;
        (a, b)
    }

    fn calls(&mut self, until: u64) {
        // Some scenarios have few calls, so that faults meet idle connections, and some have many.
        let mean = [20, 60, 200, 800][self.rng.usize(..4)];
        let mut at = 0;
        while at < until {
            at += self.rng.u64(..mean * 2) + 1;
            // Now and then many at once.
            let n = if self.rng.u32(..100) < 4 { self.rng.usize(2..25) } else { 1 };
            let (from, to) = self.two();
            for _ in 0..n {
                let call = self.call(from, to);
                self.steps.push((at, Step::Call(call)));
            }
        }
    }

    fn call(&mut self, from: usize, to: usize) -> CallPlan {
        let rng = &mut self.rng;
        self.n_calls += 1;
        let to = if rng.u32(..100) < 3 { from } else { to };
        let size = |rng: &mut Rng| match rng.u32(..100) {
            0..85 => rng.usize(..300),
            85..97 => rng.usize(60 << 10..300 << 10),
            _ => rng.usize(300 << 10..900 << 10),
        };
        let ms = if rng.bool() { 0 } else { rng.u64(..400) };
        let what = match rng.u32(..100) {
            0..50 => What::Echo { ms, request: size(rng), answer: size(rng) },
            50..57 => What::Fail { ms },
            57..75 => {
                let n = rng.usize(..6);
                // Back and forth, or anywhere.
                let back_and_forth = rng.bool();
                let n_nodes = self.n_nodes;
                let path = (0..n).map(|hop| match (back_and_forth, hop % 2) {
                    (true, 0) => from,
                    (true, _) => to,
                    _ => rng.usize(..n_nodes),
                });
                What::Relay { ms: ms / 4, path: path.collect() }
            }
            75..85 => What::Note { ms },
            _ => What::Journal { ms: ms / 4, request: size(rng) },
        };
        let mut timeout = (rng.u32(..100) < 35).then(|| Duration::from_millis(rng.u64(..3_000)));
        let dropped_after = (rng.u32(..100) < 20).then(|| Duration::from_millis(rng.u64(..600)));
        let mut what = what;
        if let What::Echo { ms, .. } = &mut what
            && rng.u32(..100) < 4
        {
            // A method that does not end by itself.
            *ms = 3_600_000;
            timeout.get_or_insert(Duration::from_millis(2_000));
        }
        let is_endless = matches!(what, What::Echo { ms: 3_600_000, .. });
        let no_cancel = !is_endless && rng.u32(..100) < 5;
        CallPlan { nonce: self.n_calls * NONCES_PER_CALL, from, to, what, timeout, dropped_after, no_cancel }
    }

    fn faults(&mut self, until: u64) {
        let mut at = 0;
        loop {
            at += self.rng.u64(1..2_000);
            if at >= until {
                return;
            }
            self.fault(at);
        }
    }

    fn push(&mut self, at: u64, fault: Fault) {
        self.steps.push((at, Step::Fault(fault)));
    }

    /// Whether a link and its ends have no fault; then they have one until `until`.
    fn take_link(&mut self, a: usize, b: usize, at: u64, until: u64) -> bool {
        let (a, b) = (a.min(b), a.max(b));
        let is_free = self.links[a][b] <= at && self.nodes[a] <= at && self.nodes[b] <= at;
        if is_free {
            self.links[a][b] = until + 1;
        }
        is_free
    }

    /// The same for a node and all of its links.
    fn take_node(&mut self, node: usize, at: u64, until: u64) -> bool {
        let links = |node: usize, n: usize| (0..n).map(move |other| (node.min(other), node.max(other)));
        let is_free = self.nodes[node] <= at && links(node, self.n_nodes).all(|(a, b)| self.links[a][b] <= at);
        if is_free {
            self.nodes[node] = until + 1;
        }
        is_free
    }

    fn fault(&mut self, at: u64) {
        let (a, b) = self.two();
        // Short ones are over before anybody notices; of long ones everybody does.
        let span = if self.is_patient { self.rng.u64(1..25_000) } else { self.rng.u64(1..4_000) };
        let until = at + span;
        match self.rng.u32(..100) {
            0..12 => self.link_fault(at, until, a, b, Fault::Cut { a, b }, Fault::Repair { a, b }),
            12..20 => self.link_fault(at, until, a, b, Fault::CutOneWay { from: a, to: b }, Fault::Repair { a, b }),
            20..26 => self.split(at, until),
            26..36 => self.link_fault(at, until, a, b, Fault::Hold { a, b }, Fault::Release { a, b }),
            36..50 => {
                let slow = Fault::Latency { a, b, ms: self.rng.u64(20..500) };
                let normal = Fault::Latency { a, b, ms: self.rng.u64(..20) };
                self.link_fault(at, until, a, b, slow, normal);
            }
            50..64 => self.node_fault(at, until, a, Fault::Crash { node: a }),
            64..70 => self.node_fault(at, at, a, Fault::Crash { node: a }),
            70..77 => self.node_fault(at, until, a, Fault::PowerLoss { node: a }),
            77..86 => {
                let ms = if self.rng.bool() { 10_000 } else { self.rng.u64(..300) };
                // Mostly it has ended long before its grace is over.
                let until = at + ms.min(2_500) + 500 + span / 4;
                self.node_fault(at, until, a, Fault::Goodbye { node: a, ms });
            }
            86..92 => {
                if self.take_node(a, at, until) {
                    self.push(at, Fault::SlowReader { node: a, ms: span });
                }
            }
            _ => {
                let is_between_members = !self.has_client || a.max(b) < self.n_nodes - 1;
                if is_between_members && self.take_link(a, b, at, at + 3_000) {
                    self.push(at, Fault::DoubleDial { a, b });
                    self.steps.push((at + 3_000, Step::CheckPair(a, b)));
                }
            }
        }
    }

    fn link_fault(&mut self, at: u64, until: u64, a: usize, b: usize, begin: Fault, end: Fault) {
        if self.take_link(a, b, at, until) {
            self.push(at, begin);
            self.push(until, end);
        }
    }

    fn node_fault(&mut self, at: u64, until: u64, node: usize, begin: Fault) {
        if self.take_node(node, at, until) {
            self.push(at, begin);
            self.push(until, Fault::Restart { node });
        }
    }

    /// Cuts the cluster in two.
    fn split(&mut self, at: u64, until: u64) {
        let side: Vec<bool> = (0..self.n_nodes).map(|_| self.rng.bool()).collect();
        for a in 0..self.n_nodes {
            for b in a + 1..self.n_nodes {
                if side[a] != side[b] {
                    self.link_fault(at, until, a, b, Fault::Cut { a, b }, Fault::Repair { a, b });
                }
            }
        }
    }
}
