//! Processes die, stop and run out of descriptors; the others go on, are told at once, and are told the truth.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod link_down;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{rounds, until, until_quiet};
use rmi::{Class, InvocationException, Kind, Node, Peer, PeerEvent};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use worker::{Ledger, Plan, WorkStub, Worker, is_alive, now_ms};

#[test]
#[ignore = "the other tests start it, as a process of its own"]
fn a_process_of_its_own() {
    worker::run();
}

/// What came of a call.
#[derive(Debug)]
struct Outcome {
    key: u64,
    worker: usize,
    begun: Instant,
    ended: Instant,
    error: Option<(Kind, Class, String)>,
    /// By the clock of all processes.
    deadline_ms: Option<u64>,
}

/// Calls without pause, until it is stopped.
struct Load {
    is_stopped: Arc<AtomicBool>,
    n_done: Arc<Vec<AtomicU64>>,
    callers: Vec<JoinHandle<()>>,
    outcomes: mpsc::Receiver<Outcome>,
}

/// Outcomes that wait to be looked at, at most: more than any test has calls.
const OUTCOMES: usize = 4 << 20;

impl Load {
    /// Calls each of these so often, with this timeout or without one.
    fn start(peers: &[Peer], every: Duration, timeout: Option<Duration>) -> Self {
        let (sender, outcomes) = mpsc::channel(OUTCOMES);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let n_done: Arc<Vec<AtomicU64>> = Arc::new(peers.iter().map(|_| AtomicU64::new(0)).collect());
        let caller = |(worker, peer): (usize, &Peer)| {
            let (peer, sender, is_stopped, n_done) =
                (peer.clone(), sender.clone(), Arc::clone(&is_stopped), Arc::clone(&n_done));
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                for n in 0.. {
                    ticks.tick().await;
                    if is_stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let key = (worker as u64) << 40 | n;
                    // Half of them are under way for a while.
                    let call = WorkStub::new(&peer).work(key, if n % 2 == 0 { 0 } else { n % 40 });
                    let call = match timeout {
                        Some(timeout) => call.with_timeout(timeout),
                        None => call,
                    };
                    let (sender, n_done) = (sender.clone(), Arc::clone(&n_done));
                    tokio::spawn(async move {
                        let deadline_ms = timeout.map(|timeout| now_ms() + timeout.as_millis() as u64);
                        let begun = Instant::now();
                        let result = call.await;
                        let ended = Instant::now();
                        if result.is_ok() {
                            n_done[worker].fetch_add(1, Ordering::SeqCst);
                        }
                        let error = result.err().map(|error| (error.kind(), error.class(), format!("{error:?}")));
                        let outcome = Outcome { key, worker, begun, ended, error, deadline_ms };
                        sender.try_send(outcome).expect("there is room for all outcomes");
                    });
                }
            })
        };
        let callers = peers.iter().enumerate().map(caller).collect();
        Self { is_stopped, n_done, callers, outcomes }
    }

    /// Waits until so many more calls of a worker have been answered.
    async fn goes_on(&self, worker: usize, n: u64) {
        let wanted = self.n_done[worker].load(Ordering::SeqCst) + n;
        until("calls are answered", || self.n_done[worker].load(Ordering::SeqCst) >= wanted).await;
    }

    /// Stops, and waits until every call has ended.
    async fn stop(mut self) -> Vec<Outcome> {
        self.is_stopped.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let mut outcomes = Vec::new();
        // It ends with the last call.
        while let Some(outcome) = self.outcomes.recv().await {
            outcomes.push(outcome);
        }
        outcomes
    }
}

/// Checks that the class of each call is true.
fn check_classes(outcomes: &[Outcome], ledger: &Ledger) {
    let runs = ledger.runs();
    for outcome in outcomes {
        let n_runs = runs.get(&outcome.key).map_or(0, Vec::len);
        let is_true = match outcome.error.as_ref().map(|(_, class, _)| *class) {
            None | Some(Class::Executed) => n_runs == 1,
            Some(Class::NotExecuted) => n_runs == 0,
            Some(Class::MaybeExecuted) => n_runs <= 1,
        };
        assert!(is_true, "{n_runs} runs: {outcome:?}");
    }
}

/// A node that calls, some workers that it has found, and their handles.
struct Cluster {
    caller: Node,
    plans: Vec<Plan>,
    workers: Vec<Option<Worker>>,
    peers: Vec<Peer>,
    ledger: Ledger,
    /// All processes that there ever were.
    pids: Vec<u32>,
}

impl Cluster {
    async fn of(n: usize) -> Self {
        let ledger = Ledger::new();
        let caller = Node::builder().name("caller").listen("tcp://127.0.0.1:0").start().await.unwrap();
        let mut this =
            Self { plans: Vec::new(), workers: Vec::new(), peers: Vec::new(), ledger, pids: Vec::new(), caller };
        for worker in 0..n {
            this.plans.push(Plan {
                name: format!("worker-{worker}"),
                listen: "tcp://127.0.0.1:0".to_owned(),
                seed: Some(this.caller.addresses()[0].to_string()),
                ledger: this.ledger.path(),
                starter: Vec::new(),
            });
            this.workers.push(None);
            this.start(worker).await;
            // Restarted where it was.
            this.plans[worker].listen = this.workers[worker].as_ref().unwrap().address.clone();
            this.peers.push(this.caller.peer(format!("worker-{worker}")).await.unwrap());
        }
        this
    }

    async fn start(&mut self, worker: usize) {
        let plan = self.plans[worker].clone();
        let started = tokio::task::spawn_blocking(move || plan.start()).await.unwrap();
        self.pids.push(started.pid());
        self.workers[worker] = Some(started);
    }

    /// Waits until a worker can be called, and gives back how long that took.
    async fn callable(&self, worker: usize) -> Duration {
        let begun = Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while self.peers[worker].ping().with_timeout(Duration::from_secs(1)).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "worker {worker} does not come back");
            look.tick().await;
        }
        begun.elapsed()
    }

    /// Ends everything, and checks that nothing is left.
    async fn end(self) -> Ledger {
        until_quiet(&[&self.caller]).await;
        drop(self.workers);
        until("all processes are gone", || !self.pids.iter().any(|pid| is_alive(*pid))).await;
        self.caller.shutdown(Duration::from_secs(5)).await;
        self.ledger
    }
}

async fn within(seconds: u64, test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(seconds), test).await.expect("the test took too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_ends_its_calls_at_once_and_its_name_comes_back() {
    within(rounds(60, 900) as u64, async {
        let mut cluster = Cluster::of(5).await;
        // 2,000 calls a second in all.
        let load = Load::start(&cluster.peers, Duration::from_micros(2500), None);
        let mut random = fastrand::Rng::with_seed(8);
        let (mut kills, mut longest_back) = (Vec::new(), Duration::ZERO);
        let begun = Instant::now();
        for _ in 0..rounds(3, 100) {
            let worker = random.usize(..5);
            load.goes_on(worker, 50).await;
            let victim = cluster.workers[worker].take().unwrap();
            kills.push((worker, victim.kill()));
            let restarted = Instant::now();
            cluster.start(worker).await;
            cluster.callable(worker).await;
            let back = restarted.elapsed();
            assert!(back <= Duration::from_secs(5), "callable again after {back:?}");
            longest_back = longest_back.max(back);
        }
        let outcomes = load.stop().await;
        let seconds = begun.elapsed().as_secs_f64();
        let (mut n_sent, mut longest) = (0, Duration::ZERO);
        for (worker, killed) in &kills {
            let of_worker = outcomes.iter().filter(|outcome| outcome.worker == *worker);
            for outcome in of_worker.filter(|outcome| outcome.begun < *killed && outcome.ended > *killed) {
                let after = outcome.ended - *killed;
                assert!(after <= Duration::from_millis(500), "{after:?} after the kill: {outcome:?}");
                n_sent += 1;
                longest = longest.max(after);
            }
        }
        assert!(n_sent > 0, "no call was under way");
        let n_failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
        println!(
            "{} kills, {:.0} calls a second, {n_sent} under way at a kill, the last of which failed after {longest:?}; \
             {n_failed} of {} failed; callable again after {longest_back:?} at most",
            kills.len(),
            outcomes.len() as f64 / seconds,
            outcomes.len()
        );
        let ledger = cluster.end().await;
        check_classes(&outcomes, &ledger);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_leaves_no_call_in_doubt() {
    within(rounds(60, 900) as u64, async {
        let mut cluster = Cluster::of(3).await;
        let load = Load::start(&cluster.peers, Duration::from_millis(3), None);
        for round in 0..rounds(3, 30) {
            let worker = round % 3;
            load.goes_on(worker, 50).await;
            let old = cluster.workers[worker].take().unwrap();
            let begun = Instant::now();
            tokio::task::spawn_blocking(move || old.drain()).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
            cluster.start(worker).await;
            cluster.callable(worker).await;
        }
        let outcomes = load.stop().await;
        for outcome in &outcomes {
            let class = outcome.error.as_ref().map(|(_, class, _)| *class);
            assert!(matches!(class, None | Some(Class::NotExecuted)), "{outcome:?}");
        }
        let ledger = cluster.end().await;
        check_classes(&outcomes, &ledger);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_is_dead_until_it_goes_on_and_runs_nothing_late() {
    if rounds(0, 1) == 0 {
        return println!("skipped: it takes 40 s, and runs where RMI_FULL is set");
    }
    within(120, async {
        let cluster = Cluster::of(2).await;
        let timeout = Duration::from_secs(1);
        let load = Load::start(&cluster.peers, Duration::from_millis(5), Some(timeout));
        load.goes_on(0, 100).await;
        let mut events = cluster.caller.watch();
        events.next().await;
        let stopped = cluster.workers[0].as_ref().unwrap();
        stopped.signal("STOP");
        until("it stands still", || worker::state(stopped.pid()) == Some('T')).await;
        let at = Instant::now();
        let forever = tokio::spawn(WorkStub::new(&cluster.peers[0]).work(u64::MAX, 0).into_future());
        while !matches!(events.next().await, Some(PeerEvent::Lost(info)) if info.name() == "worker-0") {}
        let dead = at.elapsed();
        assert!(dead <= Duration::from_secs(21), "dead after {dead:?}");
        let error: InvocationException = forever.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ConnectionLost, Class::MaybeExecuted), "{error:?}");
        assert!(at.elapsed() <= Duration::from_secs(21), "{:?}", at.elapsed());
        // The other one is called as before.
        load.goes_on(1, 100).await;
        tokio::time::sleep_until((at + Duration::from_secs(30)).into()).await;
        stopped.signal("CONT");
        let back = cluster.callable(0).await;
        assert!(back <= Duration::from_secs(5), "back after {back:?}");
        load.goes_on(0, 100).await;
        let outcomes = load.stop().await;
        let of_other = outcomes.iter().filter(|outcome| outcome.worker == 1);
        assert_eq!(of_other.filter(|outcome| outcome.error.is_some()).count(), 0);
        let ledger = cluster.end().await;
        check_classes(&outcomes, &ledger);
        let runs = ledger.runs();
        let mut latest = i64::MIN;
        for outcome in &outcomes {
            let deadline_ms = outcome.deadline_ms.expect("each has one");
            for begun in runs.get(&outcome.key).into_iter().flatten() {
                let late = *begun as i64 - deadline_ms as i64;
                latest = latest.max(late);
                assert!(late <= 250, "begun {late} ms after its deadline: {outcome:?}");
            }
        }
        println!("dead after {dead:?}, back after {back:?}, a method began {latest} ms after its deadline at most");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_descriptors_goes_on_and_recovers() {
    within(60, async {
        let ledger = Ledger::new();
        let plan = Plan {
            name: "poor".to_owned(),
            listen: "tcp://127.0.0.1:0".to_owned(),
            seed: None,
            ledger: ledger.path(),
            starter: ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""].map(str::to_owned).to_vec(),
        };
        let worker = tokio::task::spawn_blocking(move || plan.start()).await.unwrap();
        let caller = Node::builder().name("caller").seed(worker.address.as_str()).start().await.unwrap();
        let stub = WorkStub::new(caller.peer("poor").await.unwrap());
        let host_port = worker.address.strip_prefix("tcp://").unwrap();
        let n_open = || std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).unwrap().count();
        let n_before = n_open();
        // Strangers who say nothing: some are let in, the others wait at the door.
        let mut strangers: JoinSet<()> = JoinSet::new();
        for _ in 0..1000 {
            let host_port = host_port.to_owned();
            strangers.spawn(async move {
                let _stranger = TcpStream::connect(host_port).await;
                std::future::pending().await
            });
        }
        until("descriptors are used up", || n_open() >= 64).await;
        let (begun, before) = (Instant::now(), worker.processor_time());
        let mut key = 0;
        // For as long as it takes to see how busy it is.
        while begun.elapsed() < Duration::from_secs(3) {
            key += 1;
            assert_eq!(stub.work(key, 0).with_timeout(Duration::from_secs(1)).await.unwrap(), key);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let used = (worker.processor_time() - before) / begun.elapsed().as_secs_f64();
        let released = Instant::now();
        strangers.shutdown().await;
        let again = loop {
            // Where the door is crowded the system tries again after a second: who knocks anew comes earlier.
            let connect = rmi::connect(worker.address.as_str()).with_timeout(Duration::from_millis(200));
            if let Ok(peer) = connect.await {
                break peer;
            }
        };
        again.ping().await.unwrap();
        let healthy = released.elapsed();
        println!("{:.1} % of a processor, healthy after {healthy:?}", used * 100.0);
        assert!(used <= 0.05, "{:.1} % of a processor", used * 100.0);
        assert!(healthy <= Duration::from_secs(1), "healthy after {healthy:?}");
        drop(again);
        until("what the strangers held is free", || n_open() <= n_before).await;
        assert_eq!(stub.work(0, 0).await.unwrap(), 0);
    })
    .await;
}
