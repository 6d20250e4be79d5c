//! Runs seeds: one with its trace, or a range of them on all cores.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rmi_simulation::ledger::End;
use rmi_simulation::replay_command;
use rmi_simulation::run::{Report, run_seed};

fn main() -> ExitCode {
    let Some(seeds) = std::env::args().nth(1) else {
        eprintln!("say which seed, or which ones: `{}` or `.. 0..300`", replay_command(1234));
        return ExitCode::FAILURE;
    };
    let is_good = match seeds.split_once("..") {
        None => seeds.parse().ok().map(one),
        Some((first, end)) => match (first.parse(), end.parse()) {
            (Ok(first), Ok(end)) => Some(many(first, end)),
            _ => None,
        },
    };
    match is_good {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("`{seeds}` is neither a seed nor a range of seeds");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed, and prints all that happens.
fn one(seed: u64) -> bool {
    let report = run_seed(seed);
    for line in &report.lines {
        println!("{line}");
    }
    println!("trace {:016x}, at rest after {:?}", report.fingerprint, report.rest_after);
    tell(&report)
}

/// Prints what is wrong. Whether nothing is.
fn tell(report: &Report) -> bool {
    for violation in &report.violations {
        println!("seed {}: {violation}", report.seed);
    }
    if !report.violations.is_empty() {
        println!("    {}", replay_command(report.seed));
    }
    report.violations.is_empty()
}

/// What many runs have in common.
#[derive(Default)]
struct Sum {
    n_seeds: u64,
    n_bad: u64,
    n_faults: usize,
    n_calls: usize,
    n_answered: usize,
    n_failed: usize,
    n_dropped: usize,
    n_runs: usize,
    longest_rest: Duration,
    simulated: Duration,
    slowest: (Duration, u64),
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.n_seeds += 1;
        self.n_bad += u64::from(!report.violations.is_empty());
        self.n_faults += report.n_faults;
        self.n_calls += report.calls.len();
        for (_, end) in report.calls.iter().filter_map(|call| call.ends.first()) {
            *match end {
                End::Answered(_) => &mut self.n_answered,
                End::Failed(..) => &mut self.n_failed,
                End::Dropped => &mut self.n_dropped,
            } += 1;
        }
        self.n_runs += report.calls.iter().map(|call| call.runs.len()).sum::<usize>();
        self.longest_rest = self.longest_rest.max(report.rest_after);
        self.simulated += report.time.0;
        self.slowest = self.slowest.max((report.time.1, report.seed));
    }
}

/// Runs seeds on all cores, and prints a summary.
fn many(first: u64, end: u64) -> bool {
    let begin = Instant::now();
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    let n_threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run_seed(seed);
                    if let Ok(mut sum) = sum.lock() {
                        tell(&report);
                        sum.add(&report);
                    }
                }
            });
        }
    });
    let Ok(sum) = sum.into_inner() else { return false };
    println!(
        "{} seeds, {} violated; {} faults, {} calls ({} answered, {} failed, {} dropped), {} runs; at rest after {:.1} s \
         at most; {:.0} s simulated in {:.1} s, the slowest seed {} in {:.1} s",
        sum.n_seeds,
        sum.n_bad,
        sum.n_faults,
        sum.n_calls,
        sum.n_answered,
        sum.n_failed,
        sum.n_dropped,
        sum.n_runs,
        sum.longest_rest.as_secs_f64(),
        sum.simulated.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        sum.slowest.1,
        sum.slowest.0.as_secs_f64(),
    );
    sum.n_bad == 0
}
