//! The workloads of a day's work, between two processes over loopback TCP: ours beside bare tokio.
//!
//! ```sh
//! cargo build --release -p rmi-benches
//! taskset -c 1 target/release/speed            # one core: repeats within some per cent
//! target/release/speed A B64 F                 # some of them
//! target/release/speed A rmi                   # without bare tokio
//! SPEED_TIMER=1 target/release/speed A         # with a timer in each program's runtime
//! ```
//!
//! A: `add`, one call in flight. B64, B1024: the same with so many. C: a record, 64 in flight. D1, D64: echo of 1 MiB
//! and 64 MiB. E: 500 connections with one `add` in flight each. Eidle: memory of an idle connection. F: `add` beside
//! echoes of 16 MiB. H: methods that call back. I: methods that compute for 1 ms, 64 in flight, and `add` beside them.
//!
//! CPU is that of both processes. The comparison with other systems is `benches/comparisons`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rmi::{Blob, Node, Peer};
use rmi_benches::process::{cpu_ns, memory_kib};
use rmi_benches::raw;
use rmi_benches::service::{BenchStub, Record, client, server};
use tokio::net::{TcpListener, TcpStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

const SYSTEMS: [&str; 2] = ["raw", "rmi"];
const ALL: [&str; 13] = ["A", "B64", "B1024", "C", "D1", "D64", "E", "Eidle", "F", "H", "I", "I-cpu", "I-alone"];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os("SPEED_TIMER").is_some() {
        // Both ends: the server inherits it.
        tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
    }
    match arguments.first().map(String::as_str) {
        Some("--serve") => return serve(arguments.get(1).is_some_and(|system| system == "raw")).await,
        Some("--help") => {
            println!("speed [{}]... [{}]", ALL.join("|"), SYSTEMS.join("|"));
            return Ok(());
        }
        _ => {}
    }
    let is_known = |argument: &&String| SYSTEMS.contains(&argument.as_str()) || ALL.contains(&argument.as_str());
    if let Some(unknown) = arguments.iter().find(|argument| !is_known(argument)) {
        return Err(format!("`{unknown}` is neither a workload nor a system: see --help").into());
    }
    // Those that are named, or all if none is.
    let wanted = |all: &[&'static str]| {
        let named: Vec<_> =
            all.iter().copied().filter(|name| arguments.iter().any(|argument| argument == name)).collect();
        if named.is_empty() { all.to_vec() } else { named }
    };
    let systems = wanted(&SYSTEMS);
    for name in wanted(&ALL) {
        // Servers of their own, so that peaks of memory are those of the workload.
        for &system in &systems {
            let mut server = Server::start(system)?;
            let done = tokio::spawn(run(name, system == "raw", server.address.clone(), server.child.id())).await;
            server.end()?;
            if let Some(line) = done?? {
                println!("{name:<8} {system:<4} {line}");
            }
        }
    }
    Ok(())
}

/// The process that answers: prints its address, and ends with its input.
async fn serve(is_raw: bool) -> Result<(), Error> {
    let stdin = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    if is_raw {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        tokio::spawn(raw::serve(listener));
        drop(stdin.await?);
    } else {
        let node = server("tcp://127.0.0.1:0").await;
        println!("{}", node.addresses()[0]);
        drop(stdin.await?);
    }
    std::process::exit(0);
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(system: &str) -> Result<Self, Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", system])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    fn end(&mut self) -> Result<(), Error> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

async fn run(name: &'static str, is_raw: bool, address: String, server: u32) -> Result<Option<String>, Error> {
    if is_raw { run_raw(name, &address, server).await } else { run_rmi(name, &address, server).await.map(Some) }
}

/// Measures `round` over about a second, in rounds that grow.
struct Meter {
    server: u32,
    n_calls: usize,
    elapsed: Duration,
    cpu_ns: u64,
}

impl Meter {
    async fn run<F: Future<Output = Result<(), Error>>>(
        server: u32,
        first: usize,
        mut round: impl FnMut(usize) -> F,
    ) -> Result<Self, Error> {
        let cpu = || cpu_ns(server) + cpu_ns(std::process::id());
        let mut n_calls = first;
        loop {
            let (begin, begin_cpu) = (Instant::now(), cpu());
            round(n_calls).await?;
            let meter = Self { server, n_calls, elapsed: begin.elapsed(), cpu_ns: cpu() - begin_cpu };
            if meter.elapsed > Duration::from_millis(700) {
                return Ok(meter);
            }
            n_calls *= if meter.elapsed < Duration::from_millis(70) { 8 } else { 2 };
        }
    }

    fn calls(&self) -> String {
        let per_call = self.cpu_ns as f64 / self.n_calls as f64 / 1e3;
        let rate = self.n_calls as f64 / self.elapsed.as_secs_f64();
        let wall = self.elapsed.as_secs_f64() * 1e6 / self.n_calls as f64;
        format!("{per_call:7.3} us CPU/call  {rate:9.0} calls/s  {wall:7.3} us/call")
    }

    fn bytes(&self, n_bytes: usize) -> String {
        let mib = 2.0 * (self.n_calls * n_bytes) as f64 / f64::from(1 << 20);
        let rate = mib / self.elapsed.as_secs_f64();
        let cpu = self.cpu_ns as f64 / self.n_calls as f64 / 1e6;
        let peak = memory_kib(self.server, "VmHWM") >> 10;
        format!("{rate:7.0} MiB/s  {cpu:7.3} ms CPU/echo  server peak {peak} MiB")
    }
}

async fn run_raw(name: &'static str, address: &str, server: u32) -> Result<Option<String>, Error> {
    if name == "E" {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            streams.push(Arc::new(tokio::sync::Mutex::new(stream)));
        }
        let each = |stream: &Arc<tokio::sync::Mutex<TcpStream>>, n_calls| {
            let stream = Arc::clone(stream);
            async move { Ok(raw::calls(&mut *stream.lock().await, &[1; raw::ADD], n_calls, 1).await?) }
        };
        return Ok(Some(Meter::run(server, 5000, |n_calls| on_all(&streams, n_calls, each)).await?.calls()));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (len, in_flight) = match name {
        "A" => (raw::ADD, 1),
        "B64" => (raw::ADD, 64),
        "B1024" => (raw::ADD, 1024),
        "C" => (400, 64),
        "D1" => (1 << 20, 1),
        "D64" => (64 << 20, 1),
        "F" => return Ok(Some(beside_raw(stream, address).await?)),
        _ => return Ok(None),
    };
    let body = vec![1; len];
    let stream = tokio::sync::Mutex::new(stream);
    let first = if len >= 1 << 20 { 4 } else { 1000 };
    let meter = Meter::run(server, first, |n_calls| {
        let (stream, body) = (&stream, &body);
        async move { Ok(raw::calls(&mut *stream.lock().await, body, n_calls, in_flight).await?) }
    })
    .await?;
    Ok(Some(if len >= 1 << 20 { meter.bytes(len) } else { meter.calls() }))
}

async fn run_rmi(name: &'static str, address: &str, server: u32) -> Result<String, Error> {
    match name {
        "Eidle" => return idle(address, server).await,
        "E" => {
            let mut clients = Vec::new();
            for n in 0..CONNECTIONS {
                clients.push(client(&format!("client-{n}"), address).await);
            }
            let each = |(_, peer): &(Node, Peer), n_calls| {
                let stub = BenchStub::new(peer);
                async move {
                    for _ in 0..n_calls {
                        stub.add(1, 2).await?;
                    }
                    Ok(())
                }
            };
            return Ok(Meter::run(server, 5000, |n_calls| on_all(&clients, n_calls, each)).await?.calls());
        }
        _ => {}
    }
    let (_node, peer) = client("client", address).await;
    // The first calls find their way, and let the methods be known.
    many(&peer, 2000, 4, |stub| async move { Ok(stub.add(1, 2).await?) }).await?;
    let calls = match name {
        "A" => Meter::run(server, 1000, |n| adds(&peer, n, 1)).await?.calls(),
        "B64" => Meter::run(server, 10_000, |n| adds(&peer, n, 64)).await?.calls(),
        "B1024" => Meter::run(server, 10_000, |n| adds(&peer, n, 1024)).await?.calls(),
        "C" => {
            let record = Record::sample();
            let echo = |n| {
                let record = record.clone();
                many(&peer, n, 64, move |stub| {
                    let record = record.clone();
                    async move { Ok(stub.echo(record).await?) }
                })
            };
            Meter::run(server, 10_000, echo).await?.calls()
        }
        "D1" => blobs(&peer, server, 1 << 20).await?,
        "D64" => blobs(&peer, server, 64 << 20).await?,
        "F" => beside_rmi(&peer).await?,
        "H" => {
            let back = |n| many(&peer, n, 64, |stub| async move { Ok(stub.add_back(1, 2).await?) });
            Meter::run(server, 10_000, back).await?.calls()
        }
        "I-alone" => heavy(&peer, 0, |stub| async move { Ok(stub.add(1, 2).await?) }).await?,
        "I" => heavy(&peer, 64, |stub| async move { Ok(stub.burn(1000).await?) }).await?,
        _ => heavy(&peer, 64, |stub| async move { Ok(stub.compute(1000).await?) }).await?,
    };
    Ok(calls)
}

/// How many connections there are in E.
const CONNECTIONS: usize = 500;

/// So many calls in all, by a task for each connection.
async fn on_all<T, F: Future<Output = Result<(), Error>> + Send + 'static>(
    connections: &[T],
    n_calls: usize,
    each: impl Fn(&T, usize) -> F,
) -> Result<(), Error> {
    let n_each = n_calls / connections.len();
    let tasks: Vec<_> = connections.iter().map(|connection| tokio::spawn(each(connection, n_each))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// So many calls by so many tasks.
async fn many<T, F: Future<Output = Result<T, Error>> + Send + 'static>(
    peer: &Peer,
    n_calls: usize,
    in_flight: usize,
    call: impl Fn(BenchStub) -> F + Clone + Send + 'static,
) -> Result<(), Error> {
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (stub, call) = (BenchStub::new(peer), call.clone());
            tokio::spawn(async move {
                for _ in 0..n_calls / in_flight {
                    call(stub.clone()).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn adds(peer: &Peer, n_calls: usize, in_flight: usize) -> Result<(), Error> {
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let stub = BenchStub::new(peer);
            tokio::spawn(async move {
                for n in 0..n_calls / in_flight {
                    stub.add(n as i64, 2).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn blobs(peer: &Peer, server: u32, len: usize) -> Result<String, Error> {
    let (stub, blob) = (BenchStub::new(peer), Blob::from(vec![1; len]));
    let meter = Meter::run(server, 4, |n_calls| {
        let (stub, blob) = (stub.clone(), blob.clone());
        async move {
            for _ in 0..n_calls {
                let back = stub.echo_blob(blob.clone()).await?;
                assert_eq!(back.len(), len);
            }
            Ok(())
        }
    })
    .await?;
    Ok(meter.bytes(len))
}

/// What a server keeps for a connection that does nothing. Compared: 1,000 connections with 100.
async fn idle(address: &str, server: u32) -> Result<String, Error> {
    let mut clients = Vec::new();
    let mut at = [(0, 0); 2];
    for (n_clients, at) in [100, 1000].into_iter().zip(&mut at) {
        while clients.len() < n_clients {
            clients.push(client(&format!("client-{}", clients.len()), address).await);
            let stub = BenchStub::new(&clients[clients.len() - 1].1);
            stub.add(1, 2).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        *at = (n_clients as u64, memory_kib(server, "VmRSS"));
    }
    let [(n_few, few), (n_many, many)] = at;
    Ok(format!("{:7.2} KiB/connection (a node with {n_many} peers)", (many - few) as f64 / (n_many - n_few) as f64))
}

const SMALL_CALLS: usize = 5000;
const BESIDE: usize = 16 << 20;

async fn beside_rmi(peer: &Peer) -> Result<String, Error> {
    let (is_over, n_echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let bulk = tokio::spawn({
        let (stub, is_over, n_echoes) = (BenchStub::new(peer), Arc::clone(&is_over), Arc::clone(&n_echoes));
        async move {
            let blob = Blob::from(vec![1; BESIDE]);
            while !is_over.load(Ordering::Relaxed) {
                stub.echo_blob(blob.clone()).await?;
                n_echoes.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        }
    });
    let stub = BenchStub::new(peer);
    let result = small_calls(&n_echoes, || async { Ok(stub.add(1, 2).await?) }).await?;
    is_over.store(true, Ordering::Relaxed);
    bulk.await??;
    Ok(result)
}

async fn beside_raw(mut small: TcpStream, address: &str) -> Result<String, Error> {
    let (is_over, n_echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut bulk_stream = TcpStream::connect(address).await?;
    bulk_stream.set_nodelay(true)?;
    let bulk = tokio::spawn({
        let (is_over, n_echoes) = (Arc::clone(&is_over), Arc::clone(&n_echoes));
        async move {
            let blob = vec![1; BESIDE];
            while !is_over.load(Ordering::Relaxed) {
                raw::calls(&mut bulk_stream, &blob, 1, 1).await?;
                n_echoes.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        }
    });
    let small = tokio::sync::Mutex::new(&mut small);
    let call = || async { Ok(raw::calls(&mut **small.lock().await, &[1; raw::ADD], 1, 1).await?) };
    let result = small_calls(&n_echoes, call).await?;
    is_over.store(true, Ordering::Relaxed);
    bulk.await??;
    Ok(result)
}

/// Latencies of small calls, one after the other, and what else moved meanwhile.
async fn small_calls<T, F: Future<Output = Result<T, Error>>>(
    n_echoes: &AtomicUsize,
    call: impl Fn() -> F,
) -> Result<String, Error> {
    while n_echoes.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (begin, n_before) = (Instant::now(), n_echoes.load(Ordering::Relaxed));
    let mut took = Vec::new();
    while took.len() < SMALL_CALLS || begin.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        call().await?;
        took.push(start.elapsed());
    }
    let n_echoes = n_echoes.load(Ordering::Relaxed) - n_before;
    let rate = (2 * n_echoes * BESIDE) as f64 / f64::from(1 << 20) / begin.elapsed().as_secs_f64();
    Ok(format!("add {}, bulk {rate:.0} MiB/s", percentiles(&mut took)))
}

/// Methods that compute, and what `add` and pings on the same connection take beside them.
async fn heavy<T: Send, F: Future<Output = Result<T, Error>> + Send + 'static>(
    peer: &Peer,
    in_flight: usize,
    call: impl Fn(BenchStub) -> F + Clone + Send + 'static,
) -> Result<String, Error> {
    let is_over = Arc::new(AtomicBool::new(false));
    let n_done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (stub, call) = (BenchStub::new(peer), call.clone());
            let (is_over, n_done) = (Arc::clone(&is_over), Arc::clone(&n_done));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    call(stub.clone()).await?;
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (begin, n_before) = (Instant::now(), n_done.load(Ordering::Relaxed));
    let (stub, mut took, mut pings) = (BenchStub::new(peer), Vec::new(), Vec::new());
    while begin.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        stub.add(1, 2).await?;
        took.push(start.elapsed());
        let start = Instant::now();
        peer.ping().await?;
        pings.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = (n_done.load(Ordering::Relaxed) - n_before) as f64 / begin.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let (add, ping) = (percentiles(&mut took), percentiles(&mut pings));
    Ok(format!("add {add}; ping {ping}; {rate:.0} heavy calls/s"))
}

fn percentiles(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    format!("p50 {:.1} us, p99 {:.1} us", at(0.5), at(0.99))
}
