//! Processes of their own for the tests: this test binary, started once more.
//!
//! A [`Worker`] is killed when it is dropped, and ends by itself when its standard input does: none outlives its test,
//! however that ends. What its methods have run is in a [`Ledger`], a file that survives it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmi::{Node, rmi_node};

/// The test that is a process of its own, and where it finds what it is to be.
const TEST: &str = "a_process_of_its_own";
const VARIABLE: &str = "RMI_TEST_WORKER";

/// A process with a node.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    /// Where it listens.
    pub(crate) address: String,
}

/// What a worker is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) seed: Option<String>,
    pub(crate) ledger: PathBuf,
    /// A program with arguments that starts the worker, where that is not to be done as it is.
    pub(crate) starter: Vec<String>,
}

impl Plan {
    /// Starts the process, and waits until it listens.
    pub(crate) fn start(&self) -> Worker {
        let test = std::env::current_exe().expect("a test has a path").display().to_string();
        let words = [test.as_str(), "--exact", TEST, "--ignored", "--nocapture", "--test-threads=1"];
        let mut words = self.starter.iter().map(String::as_str).chain(words);
        let plan = [&*self.name, &*self.listen, self.seed.as_deref().unwrap_or(""), &self.ledger.display().to_string()];
        let mut child = Command::new(words.next().expect("there is a program"))
            .args(words)
            .env(VARIABLE, plan.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let stdin = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = lines.find_map(|line| Some(line.ok()?.split_once("listens on ")?.1.to_owned()));
        Worker { child, stdin, address: address.expect("the worker starts") }
    }
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, with no chance to say anything, and waits until it is gone.
    pub(crate) fn kill(mut self) -> std::time::Instant {
        let at = std::time::Instant::now();
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
        at
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(status.expect("there is the program `kill`").success());
    }

    /// Has it shut down in peace, and waits until it has ended.
    pub(crate) fn drain(mut self) {
        self.stdin.write_all(b"drain\n").expect("it reads");
        assert!(self.child.wait().expect("it can be waited for").success());
    }

    /// Seconds of the processor's time that it has used.
    pub(crate) fn processor_time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs, on Linux");
        let (_, fields) = stat.rsplit_once(") ").expect("its name ends");
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        ticks as f64 / 100.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process does, as Linux says it: `T` if it was stopped, `Z` if it has ended and nobody has asked how.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether this process still runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !['Z', 'X'].contains(&state))
}

/// What has run, and when, in all processes: a file to which each run adds its key and the time.
#[derive(Debug)]
pub(crate) struct Ledger(PathBuf);

impl Ledger {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ledger-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// When each key was run.
    pub(crate) fn runs(&self) -> HashMap<u64, Vec<u64>> {
        let mut runs: HashMap<u64, Vec<u64>> = HashMap::new();
        let bytes = std::fs::read(&self.0).expect("the ledger can be read");
        let (entries, rest) = bytes.as_chunks::<16>();
        assert!(rest.is_empty(), "an entry was cut");
        for entry in entries {
            let (key, at) = entry.split_at(8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            runs.entry(number(key)).or_default().push(number(at));
        }
        runs
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Milliseconds by a clock that all processes have.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis() as u64
}

/// What a worker does.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    ledger: Arc<File>,
}

#[rmi_node]
impl Work {
    /// Keeps account of the run, and answers after a while.
    pub(crate) async fn work(&self, key: u64, ms: u64) -> u64 {
        let entry = [key.to_le_bytes(), now_ms().to_le_bytes()].concat();
        // In one write, which appends all of it or nothing.
        (&*self.ledger).write_all(&entry).expect("the ledger can be written");
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        key
    }
}

/// What a process of its own does: it is a node until its standard input ends.
pub(crate) fn run() {
    let plan = std::env::var(VARIABLE).expect("the other tests start it");
    let [name, listen, seed, ledger] = plan.split('\n').collect::<Vec<_>>()[..] else { panic!("{plan}") };
    let ledger = Arc::new(File::options().create(true).append(true).open(ledger).expect("the ledger can be written"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builder = Node::builder().name(name).listen(listen).serve(Work { ledger }).danger_plaintext();
        let builder = if seed.is_empty() { builder } else { builder.seed(seed) };
        let node = builder.start().await.expect("it starts");
        println!("{name} listens on {}", node.addresses()[0]);
        let told = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        if told.await.expect("standard input is read").is_some() {
            node.shutdown(Duration::from_secs(10)).await;
        }
    });
    // Whatever still runs: nobody waits for it.
    std::process::exit(0);
}
