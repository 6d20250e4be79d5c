//! The processes of the workers.
//!
//! Each has a pipe as its standard input, the other end of which lives in this process. When that end is closed, the
//! worker ends. The system closes it too when this process ends in any way, so no worker is ever left behind.

use std::future::poll_fn;
use std::io;
use std::process::Stdio;
use std::task::Poll;
use std::time::Duration;

use rmi::Address;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// How long a worker may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: u32,
    child: Child,
    /// Nothing is written to it; the worker waits for its end.
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts this same program once more, as a worker that knows one seed.
    pub(crate) fn start(name: String, seed: &Address) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--be-worker", &name, &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let lifeline = child.stdin.take();
        Ok(Self { name, pid, child, lifeline })
    }

    /// Kills it as `kill -9` does: it cannot do anything about it.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Tells it to end, and waits until it has. One that does not, because it hangs, is killed.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        drop(self.lifeline.take());
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => self.child.kill().await,
        }
    }
}

/// Waits for the first of the processes to end, and tells which it is.
pub(crate) async fn first_end(processes: &mut [Process]) -> String {
    let mut ends: Vec<_> = processes
        .iter_mut()
        .map(|process| {
            Box::pin(async {
                match process.child.wait().await {
                    Ok(status) => format!("{} has ended: {status}", process.name),
                    Err(error) => format!("{} cannot be waited for: {error}", process.name),
                }
            })
        })
        .collect();
    poll_fn(|context| {
        ends.iter_mut().map(|end| end.as_mut().poll(context)).find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}
