//! How do several processes share work, and survive the loss of one of them?
//!
//! Counts the words of every text file below some folders, on worker processes that it starts:
//!
//! ```text
//! cargo run --release --example cluster [-- [OPTIONS] [PATH..]]
//! ```
//!
//! In reading order: `worker` (what a worker offers), `coordinator` (who gives the work away), `job` and `tally` (what is
//! given away and what has come back), `processes` (how workers begin and end), `text` (what a word is), `progress`.

mod coordinator;
mod job;
mod options;
mod processes;
mod progress;
mod tally;
mod text;
mod worker;

use std::error::Error;
use std::process::ExitCode;

use options::Command;

/// Any error: a program, unlike a library, only has to print it.
type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Count(options)) => coordinator::run(options).await,
        Ok(Command::Work { name, seed }) => worker::run(name, seed).await,
        Ok(Command::Help) => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with everything below it, a line each. What came from another node looks like any other error.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut lines = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        lines += &format!("\n  caused by: {error}");
        next = error.source();
    }
    lines
}
