//! RMI beside what else one could use, and beside the bare socket, on the same work.
//!
//! `cargo run --release --manifest-path benches/comparisons/Cargo.toml -- --help` says what can be chosen. This one
//! binary is the [runner], and also every server and every client: it starts itself for each measurement, twice.

mod chart;
mod gates;
mod process;
mod report;
mod runner;
mod systems;
mod workload;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::workload::{Result, System};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["server", system] => process::raise_file_limit().and_then(|()| systems::serve(system)),
        ["client", systems::erlang::NAME, workload, address, server_pid, millis] => {
            systems::erlang::measure(workload, address, server_pid, millis)
        }
        ["client", system, workload, address, server_pid, millis] => {
            client(system, workload, address, server_pid, millis)
        }
        _ => runner::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves, and tells the runner where.
fn serve<S: System>() -> Result<()> {
    S::block_on(S::serve(|address| {
        println!("ready {address}");
        // Nobody reads a pipe that was not flushed; if the runner is gone, so will this process be.
        let _ = std::io::stdout().flush();
    }))
}

fn client(system: &str, workload: &str, address: &str, server_pid: &str, millis: &str) -> Result<()> {
    process::raise_file_limit()?;
    let workload = workload::workload(workload).ok_or("unknown workload")?;
    let window = Duration::from_millis(millis.parse()?);
    let figures = systems::measure(system, address, server_pid.parse()?, workload, window)?;
    for (name, value) in figures {
        println!("{name} {value}");
    }
    Ok(())
}
