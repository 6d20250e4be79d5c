//! What the nodes of a simulation offer each other, and the calls that they make: each writes itself into the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmi::{Blob, InvocationException, Node, Peer, RemoteCause, rmi_node};

use crate::ledger::{Callable, End, Ledger, OpenRun, Process, Work};
use crate::net::{host_name, node_number};
use crate::plan::{CallPlan, What};

/// How long a call waits for a peer to be found before it is given up without being made.
const PATIENCE: Duration = Duration::from_secs(2);

/// The methods of each node.
#[derive(Debug)]
pub(crate) struct Probe {
    process: Process,
    ledger: Arc<Ledger>,
}

impl Probe {
    pub(crate) fn new(process: Process, ledger: Arc<Ledger>) -> Self {
        Self { process, ledger }
    }

    fn run(&self, caller: &Peer, nonce: u64) -> OpenRun {
        self.ledger.run(self.process, node_number(caller.name()).unwrap_or(usize::MAX), nonce)
    }
}

#[rmi_node]
impl Probe {
    /// Gives the nonce back after some time, with as many bytes as are wanted.
    pub(crate) async fn echo(&self, caller: &Peer, nonce: u64, ms: u64, bytes: Blob, wanted: usize) -> (u64, Blob) {
        let _run = self.run(caller, nonce);
        pass(ms).await;
        drop(bytes);
        (nonce, vec![0; wanted].into())
    }

    /// Raises an error after some time.
    pub(crate) async fn fail(&self, caller: &Peer, nonce: u64, ms: u64) -> rmi::Result<u64> {
        let _run = self.run(caller, nonce);
        pass(ms).await;
        Err(rmi::Failure::msg("as was asked for"))
    }

    /// Calls on along a path, and gives the nonce back when all have answered.
    pub(crate) async fn relay(
        &self,
        caller: &Peer,
        node: Node,
        nonce: u64,
        ms: u64,
        path: Vec<usize>,
    ) -> rmi::Result<u64> {
        let _run = self.run(caller, nonce);
        pass(ms).await;
        if let [next, rest @ ..] = &path[..] {
            // The caller is called back on its own connection, everybody else by name.
            let peer = match node_number(caller.name()) == Some(*next) {
                true => caller.clone(),
                false => node.peer(host_name(*next)).with_timeout(PATIENCE).await?,
            };
            let work = Work { time: Duration::from_millis(ms), bytes: 0 };
            let call = self.ledger.begin(self.process, nonce + 1, *next, Callable::Relay, None, work);
            let result = ProbeStub::new(&peer).relay(nonce + 1, ms, rest.to_vec()).await;
            call.end(end_of(&result, |nonce| *nonce));
            result?;
        }
        Ok(nonce)
    }

    /// A one-way call.
    #[rmi(oneway)]
    pub(crate) async fn note(&self, caller: &Peer, nonce: u64, ms: u64) {
        let _run = self.run(caller, nonce);
        pass(ms).await;
    }
}

/// A service that runs one call of each peer at a time.
#[derive(Debug)]
pub(crate) struct Journal(pub(crate) Probe);

#[rmi_node(serial)]
impl Journal {
    /// Gives the nonce back after some time.
    pub(crate) async fn write(&self, caller: &Peer, nonce: u64, ms: u64, bytes: Blob) -> u64 {
        let _run = self.0.run(caller, nonce);
        pass(ms).await;
        drop(bytes);
        nonce
    }
}

async fn pass(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn end_of<T, E: RemoteCause>(result: &Result<T, InvocationException<E>>, nonce: impl Fn(&T) -> u64) -> End {
    match result {
        Ok(answer) => End::Answered(nonce(answer)),
        Err(error) => End::Failed(error.kind(), error.class()),
    }
}

/// The peers that a node has called, so that later calls take the handles that are there.
#[derive(Debug, Default, Clone)]
pub(crate) struct Handles(Arc<std::sync::Mutex<BTreeMap<usize, Peer>>>);

impl Handles {
    async fn find(&self, node: &Node, other: usize) -> Option<Peer> {
        let found = self.0.lock().ok()?.get(&other).cloned();
        if found.is_some() {
            return found;
        }
        let peer = node.peer(host_name(other)).with_timeout(PATIENCE).await.ok()?;
        self.0.lock().ok()?.insert(other, peer.clone());
        Some(peer)
    }
}

/// Makes a call of the plan.
pub(crate) async fn make(ledger: Arc<Ledger>, process: Process, node: Node, handles: Handles, plan: CallPlan) {
    let Some(peer) = handles.find(&node, plan.to).await else {
        return ledger.note(Some(process), format_args!("no n{} for call {}", plan.to, plan.nonce));
    };
    drop(node);
    let (what, work) = (plan.what.callable(), plan.what.work());
    let call = ledger.begin(process, plan.nonce, plan.to, what, plan.timeout, work);
    let answer = async {
        let (probe, journal) = (ProbeStub::new(&peer), JournalStub::new(&peer));
        let nonce = plan.nonce;
        macro_rules! end {
            ($invocation:expr, $nonce:expr) => {{
                let mut invocation = $invocation;
                if let Some(timeout) = plan.timeout {
                    invocation = invocation.with_timeout(timeout);
                }
                if plan.no_cancel {
                    invocation = invocation.no_cancel();
                }
                end_of(&invocation.await, $nonce)
            }};
        }
        match plan.what.clone() {
            What::Echo { ms, request, answer } => {
                let right = |(nonce, bytes): &(u64, Blob)| if bytes.len() == answer { *nonce } else { u64::MAX };
                end!(probe.echo(nonce, ms, vec![0; request].into(), answer), right)
            }
            What::Fail { ms } => end!(probe.fail(nonce, ms), |nonce| *nonce),
            What::Relay { ms, path } => end!(probe.relay(nonce, ms, path), |nonce| *nonce),
            What::Note { ms } => end!(probe.note(nonce, ms), |()| nonce),
            What::Journal { ms, request } => end!(journal.write(nonce, ms, vec![0; request].into()), |nonce| *nonce),
        }
    };
    let over = async {
        match plan.dropped_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        end = answer => call.end(end),
        () = over => drop(call),
    }
}
