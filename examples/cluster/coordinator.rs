//! Who starts the workers, gives the work away, and says what came of it.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmi::{Blob, InvocationException, Kind, Node};
use tokio::task::{self, JoinSet};

use crate::job::Job;
use crate::options::Options;
use crate::processes::{Process, first_end};
use crate::progress::{Progress, megabytes};
use crate::tally::Tally;
use crate::text::{self, Counts, Found, TextError};
use crate::worker::{Counted, Piece, WordCounterStub};
use crate::{AnyError, chain};

/// Calls that a worker has at a time: one that it counts, and one that is there when it has done so.
const IN_FLIGHT: usize = 2;
const N_TOP_WORDS: usize = 10;

struct Worker {
    process: Process,
    stub: WordCounterStub,
    n_out: usize,
    n_jobs: usize,
    n_bytes: u64,
    is_lost: bool,
}

pub(crate) async fn run(options: Options) -> Result<(), AnyError> {
    let mut unreadable = Vec::new();
    let files = Arc::new(text::walk(&options.paths, &mut unreadable)?);
    let node = Node::builder().name("coordinator").listen("tcp://127.0.0.1:0").start().await?;
    let mut workers = start(&node, options.n_workers).await?;

    let began = Instant::now();
    let tally = count(&options, &files, &mut workers).await?;
    let took = began.elapsed();

    report(&files, &unreadable, &tally, &workers, took);
    for worker in workers {
        worker.process.end().await?;
    }
    node.shutdown(Duration::ZERO).await;
    if options.checks {
        check(&files, &tally)?;
    }
    Ok(())
}

/// Starts the workers, and waits until all nodes have found each other.
async fn start(node: &Node, n_workers: usize) -> Result<Vec<Worker>, AnyError> {
    let seed = &node.addresses()[0];
    let mut processes = Vec::new();
    for n in 1..=n_workers {
        processes.push(Process::start(format!("worker-{n}"), seed)?);
    }
    let all_here = node.peers().wait_for(move |peers| peers.connected() == n_workers);
    tokio::select! {
        all_here = all_here => drop(all_here?),
        ended = first_end(&mut processes) => return Err(ended.into()),
    }
    let mut workers = Vec::new();
    for process in processes {
        let stub = WordCounterStub::new(node.peer(&process.name).await?);
        // The other workers, and this node.
        let names = stub.meet(n_workers).await?;
        println!("{} (process {}) is connected to {}", process.name, process.pid, names.join(", "));
        workers.push(Worker { process, stub, n_out: 0, n_jobs: 0, n_bytes: 0, is_lost: false });
    }
    Ok(workers)
}

/// Has the files counted. One task keeps all accounts; only the calls run beside it.
async fn count(options: &Options, files: &Arc<Vec<Found>>, workers: &mut [Worker]) -> Result<Tally, AnyError> {
    let mut jobs = Job::plan(files, workers.len());
    let mut tally = Tally::default();
    tally.expect(&jobs);
    let mut progress = Progress::new(n_bytes(files));
    let mut kills_one = options.kills_one;
    // Who can take a call: each worker as many times as it can take one.
    let mut free: VecDeque<usize> = (0..workers.len() * IN_FLIGHT).map(|n| n % workers.len()).collect();
    let mut calls = JoinSet::new();
    loop {
        free.retain(|worker_idx| !workers[*worker_idx].is_lost);
        for _ in 0..free.len().min(jobs.len()) {
            let (Some(worker_idx), Some(job)) = (free.pop_front(), jobs.pop_front()) else { break };
            let (files, stub, sends_text) = (Arc::clone(files), workers[worker_idx].stub.clone(), options.sends_text);
            workers[worker_idx].n_out += 1;
            calls.spawn(async move { (worker_idx, call(&stub, &files, &job, sends_text).await, job) });
        }
        let Some(called) = calls.join_next().await else { break };
        let (worker_idx, counted, job) = called?;
        let worker = &mut workers[worker_idx];
        worker.n_out -= 1;
        if let Err(error) = &counted
            && is_lost(&**error)
        {
            progress.interrupt();
            eprintln!("a job of {} goes to another worker: {}", worker.process.name, chain(&**error));
            worker.is_lost = true;
            jobs.push_front(job);
            continue;
        }
        let n_bytes = job.n_bytes(files);
        let again = tally.take(job, files, counted);
        let n_bytes = n_bytes - again.iter().map(|job| job.n_bytes(files)).sum::<u64>();
        jobs.extend(again);
        worker.n_jobs += 1;
        worker.n_bytes += n_bytes;
        progress.advance(n_bytes);
        free.push_back(worker_idx);
        if kills_one && progress.is_half() {
            kills_one = false;
            progress.interrupt();
            kill_busiest(workers).await?;
        }
    }
    match jobs.len() {
        0 => Ok(tally),
        n_jobs => Err(format!("all workers are gone, and {n_jobs} jobs are not done").into()),
    }
}

/// Has one job done by one worker.
async fn call(stub: &WordCounterStub, files: &[Found], job: &Job, sends_text: bool) -> Result<Counted, AnyError> {
    match job {
        Job::Files(idxs) => {
            let pieces = idxs.iter().map(|idx| piece(&files[*idx], 0..files[*idx].size, sends_text));
            // Reading a file keeps a thread waiting.
            let pieces: Vec<_> = task::block_in_place(|| pieces.collect::<Result<_, _>>())?;
            Ok(stub.count_all(pieces).await?)
        }
        Job::Part(file_idx, range) => {
            let piece = task::block_in_place(|| piece(&files[*file_idx], range.clone(), sends_text))?;
            let counts = stub.count(piece).await.map_err(InvocationException::erase)?;
            Ok(Counted { counts, left_out: Vec::new() })
        }
    }
}

/// What a worker is told: where to find the text, or else the text itself, which goes out as it was read.
fn piece(file: &Found, range: Range<u64>, sends_text: bool) -> Result<Piece, TextError> {
    // A path travels as text, so one that is not UTF-8 cannot.
    if !sends_text && file.path.to_str().is_some() {
        return Ok(Piece::At { path: file.path.clone(), range });
    }
    let (begin, bytes) = text::read_part(&file.path, &range)?;
    Ok(Piece::Text { begin, text: Blob::from(bytes) })
}

/// Whether it is the worker that failed, not the call. To count twice does no harm, so it does not matter how far it got.
fn is_lost(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let kind = error.downcast_ref::<InvocationException>().map(InvocationException::kind);
    matches!(
        kind,
        Some(Kind::ConnectionLost | Kind::NotConnected | Kind::ConnectFailed | Kind::PeerRestarted | Kind::GoingAway)
    )
}

async fn kill_busiest(workers: &mut [Worker]) -> Result<(), AnyError> {
    let Some(worker) = workers.iter_mut().max_by_key(|worker| worker.n_out) else { return Ok(()) };
    worker.process.kill().await?;
    eprintln!("killed {} with {} calls under way", worker.process.name, worker.n_out);
    Ok(())
}

fn report(files: &[Found], unreadable: &[(PathBuf, TextError)], tally: &Tally, workers: &[Worker], took: Duration) {
    for (folder, error) in unreadable {
        println!("{}: {}", folder.display(), chain(error));
    }
    let mut failed: Vec<_> = tally.failed.iter().collect();
    failed.sort_by_key(|(file_idx, _)| **file_idx);
    for (file_idx, (_, error)) in failed {
        println!("{}: {}", files[*file_idx].path.display(), chain(&**error));
    }

    let mut words: Vec<_> = tally.words.iter().collect();
    words.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    println!("\n     count  word");
    for (word, n) in words.iter().take(N_TOP_WORDS) {
        println!("{n:10}  {word}");
    }

    println!("\nworker       process   jobs        MB  share");
    let total = n_bytes(files);
    for Worker { process, n_jobs, n_bytes, is_lost, .. } in workers {
        let share = 100.0 * *n_bytes as f64 / total.max(1) as f64;
        let lost = if *is_lost { "  lost" } else { "" };
        println!(
            "{:<10} {:>9} {n_jobs:>6} {:>9.1} {share:>4.0} %{lost}",
            process.name,
            process.pid,
            megabytes(*n_bytes)
        );
    }

    println!(
        "\n{} words, {} different, in {} files ({} could not be read as text)",
        words.iter().map(|(_, n)| **n).sum::<u64>(),
        words.len(),
        files.len() - tally.failed.len(),
        tally.failed.len(),
    );
    println!(
        "{:.1} MB in {:.2} s: {:.0} MB/s",
        megabytes(total),
        took.as_secs_f64(),
        megabytes(total) / took.as_secs_f64()
    );
}

/// Counts the same files once more, alone, and compares.
fn check(files: &[Found], tally: &Tally) -> Result<(), AnyError> {
    let began = Instant::now();
    let mut alone = Counts::new();
    for (file_idx, file) in files.iter().enumerate() {
        let counted = fs::read(&file.path).map_err(TextError::from).and_then(|text| text::count(0, &text, &mut alone));
        if counted.is_err() != tally.failed.contains_key(&file_idx) {
            return Err(format!("check: a single process is of another opinion about {}", file.path.display()).into());
        }
    }
    let differs = |word: &&String| alone.get(*word) != tally.words.get(*word);
    if let Some(word) = alone.keys().chain(tally.words.keys()).find(differs) {
        let (alone, together) = (alone.get(word), tally.words.get(word));
        return Err(format!("check: a single process counts `{word}` {alone:?} times, not {together:?}").into());
    }
    println!("check: a single process counts the same, in {:.2} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn n_bytes(files: &[Found]) -> u64 {
    files.iter().map(|file| file.size).sum()
}
