//! Of two connections that two nodes dial at once, both keep the same one, and no call fails because of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmi_simulation::plan::Plan;
use rmi_simulation::run::run;

/// How long it may take until there is exactly one.
const LONGEST: Duration = Duration::from_secs(3);

#[test]
fn nodes_that_dial_each_other_at_once_keep_one_connection_and_lose_no_call() {
    let n_rounds = if std::env::var_os("RMI_FULL").is_some() { 10_000 } else { 40 };
    let (next, n_double, bad) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let n_threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= n_rounds {
                        return;
                    }
                    let report = run(&Plan::double_dial(seed));
                    n_double.fetch_add(u64::from(report.n_dialled() > 1), Ordering::Relaxed);
                    if !report.violations.is_empty() || report.rest_after > LONGEST {
                        let lines = report.lines.join("\n");
                        let text = format!("{lines}\nround {seed}: {:?}, {:?}", report.violations, report.rest_after);
                        bad.lock().expect("a thread panicked").push(text);
                    }
                }
            });
        }
    });
    let n_double = n_double.into_inner();
    println!("{n_double} double dials in {n_rounds} rounds");
    let bad = bad.into_inner().expect("a thread panicked");
    assert!(bad.is_empty(), "{} of {n_rounds} rounds went wrong, the first:\n{}", bad.len(), bad[0]);
    // Else the rounds would show nothing.
    assert!(n_double >= n_rounds / 2, "only {n_double} of {n_rounds} rounds had more than one connection");
}
