//! How far it is, on standard error: a bar on a terminal, else a line for each quarter.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const WIDTH: u64 = 40;
const EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Progress {
    n_bytes: u64,
    n_done: u64,
    started: Instant,
    /// Not at all, where this is no terminal.
    drawn: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(n_bytes: u64) -> Self {
        let now = Instant::now();
        Self { n_bytes, n_done: 0, started: now, drawn: stderr().is_terminal().then_some(now) }
    }

    pub(crate) fn advance(&mut self, n_bytes: u64) {
        let before = self.share(4);
        self.n_done += n_bytes;
        let after = self.share(4);
        match self.drawn {
            Some(drawn) if drawn.elapsed() < EVERY && self.n_done < self.n_bytes => {}
            Some(_) => {
                let n_full = self.share(WIDTH) as usize;
                let bar = "#".repeat(n_full) + &" ".repeat(WIDTH as usize - n_full);
                eprint!("\r[{bar}] {}", self.tell());
                // Nothing is lost if it does not show.
                _ = stderr().flush();
                self.drawn = Some(Instant::now());
            }
            None if after > before => eprintln!("{}", self.tell()),
            None => {}
        }
    }

    /// Leaves the line of the bar, so that something else can be written.
    pub(crate) fn interrupt(&self) {
        if self.drawn.is_some() {
            eprintln!();
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether half of it is done.
    pub(crate) fn is_half(&self) -> bool {
        self.share(2) >= 1
    }

    /// How many of `n` parts are done.
    fn share(&self, n: u64) -> u64 {
        (self.n_done as u128 * n as u128).checked_div(self.n_bytes as u128).unwrap_or_default() as u64
    }

    fn tell(&self) -> String {
        let rate = megabytes(self.n_done) / self.elapsed().as_secs_f64();
        format!("{:3} % of {:.1} MB, {rate:.0} MB/s", self.share(100), megabytes(self.n_bytes))
    }
}

pub(crate) fn megabytes(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}
