//! The peers as a program sees them: the table as of now, and waiting until it is as wanted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rmi_core::hello::Role;

use super::inner::{NodeInner, NotSeen};
use crate::limits::WAIT_TIMEOUT;
use crate::peers::PeerInfo;

/// The peers as of one moment, ordered by name. Clients are not among them; see [`Peers::clients`].
///
/// ```no_run
/// # async fn f(node: rmi_net::Node) -> Result<(), Box<dyn std::error::Error>> {
/// let workers = node.peers().filter(|peer| peer.node_type() == "worker");
/// println!("{} of {} are connected", workers.connected(), workers.len());
/// node.peers().wait_for(|peers| peers.of_type("worker").connected() >= 3).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Peers {
    node: Arc<NodeInner>,
    members: Vec<PeerInfo>,
    clients: Vec<PeerInfo>,
}

impl Peers {
    pub(crate) fn new(node: Arc<NodeInner>) -> Self {
        let (mut members, mut clients) = (Vec::new(), Vec::new());
        for info in node.infos() {
            match info.role() {
                Role::Client => clients.push(info),
                _ => members.push(info),
            }
        }
        let by_name = |a: &PeerInfo, b: &PeerInfo| (a.name(), a.instance()).cmp(&(b.name(), b.instance()));
        members.sort_unstable_by(by_name);
        clients.sort_unstable_by(by_name);
        Self { node, members, clients }
    }

    /// How many there are; this node is not counted.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.members.iter().filter(|peer| peer.is_connected()).count()
    }

    /// The peers, ordered by name.
    pub fn iter(&self) -> std::slice::Iter<'_, PeerInfo> {
        self.members.iter()
    }

    /// The clients that are connected to this node.
    pub fn clients(&self) -> &[PeerInfo] {
        &self.clients
    }

    /// Those for which `wanted` holds.
    #[must_use]
    pub fn filter(&self, mut wanted: impl FnMut(&PeerInfo) -> bool) -> Self {
        let mut keep = |peers: &[PeerInfo]| peers.iter().filter(|peer| wanted(peer)).cloned().collect();
        Self { members: keep(&self.members), clients: keep(&self.clients), node: Arc::clone(&self.node) }
    }

    /// Those with this name: more than one if two nodes have the same.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.filter(|peer| peer.name() == name)
    }

    /// Those of this type.
    #[must_use]
    pub fn of_type(&self, node_type: &str) -> Self {
        self.filter(|peer| peer.node_type() == node_type)
    }

    /// Those on this host.
    #[must_use]
    pub fn on_machine(&self, machine: &str) -> Self {
        self.filter(|peer| peer.machine() == machine)
    }

    /// Those that offer this service.
    #[must_use]
    pub fn with_service(&self, service: &str) -> Self {
        self.filter(|peer| peer.services().iter().any(|offered| offered == service))
    }

    /// Those with this label.
    #[must_use]
    pub fn with_label(&self, label: &str, value: &str) -> Self {
        self.filter(|peer| peer.labels().get(label).is_some_and(|found| found == value))
    }

    /// Handles to call them, each bound to its instance.
    pub fn to_peers(&self) -> Vec<crate::Peer> {
        self.members.iter().map(|info| crate::Peer::pinned_to(&self.node, info)).collect()
    }

    /// Waits until the table of the node satisfies `condition`, 30 s at most.
    ///
    /// The condition sees the whole table, as `node.peers()` gives it, each time something changes.
    ///
    /// # Errors
    /// If that does not happen in time, or the node is shut down.
    pub fn wait_for<F: FnMut(&Peers) -> bool>(self, condition: F) -> WaitFor<F> {
        WaitFor { node: self.node, condition, timeout: WAIT_TIMEOUT }
    }
}

impl<'a> IntoIterator for &'a Peers {
    type Item = &'a PeerInfo;
    type IntoIter = std::slice::Iter<'a, PeerInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("members", &self.members).field("clients", &self.clients).finish()
    }
}

/// A condition on the peers that is waited for: await it, or [`wait`](Self::wait) on a thread that is not async.
#[must_use = "nothing is waited for until it is awaited"]
pub struct WaitFor<F> {
    node: Arc<NodeInner>,
    condition: F,
    timeout: Duration,
}

/// What was waited for did not come.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was over.
    #[error("nothing of the kind came within {} s; {seen}", timeout.as_secs_f32())]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
        /// What was there instead, for people.
        seen: String,
    },
    /// The node was shut down.
    #[error("the node was shut down")]
    Shutdown,
    /// The thread belongs to an async runtime.
    #[error("this thread belongs to an async runtime: write `.await` instead of `.wait()`")]
    WouldBlock,
}

impl<F: FnMut(&Peers) -> bool> WaitFor<F> {
    /// Waits for this long instead of 30 s.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    async fn run(mut self) -> Result<Peers, WaitError> {
        let (node, timeout) = (Arc::clone(&self.node), self.timeout);
        let look = |node: &Arc<NodeInner>| {
            let peers = Peers::new(Arc::clone(node));
            (self.condition)(&peers).then_some(peers)
        };
        node.wait_for(timeout, look).await.map_err(|error| match error {
            NotSeen::TimedOut => WaitError::TimedOut { timeout, seen: node.describe_peers() },
            NotSeen::Shutdown => WaitError::Shutdown,
        })
    }

    /// Blocks this thread until it is so.
    ///
    /// # Errors
    /// As when it is awaited, and [`WaitError::WouldBlock`] on a thread of an async runtime.
    pub fn wait(self) -> Result<Peers, WaitError> {
        let node = Arc::clone(&self.node);
        node.block_on(self.run()).ok_or(WaitError::WouldBlock)?
    }
}

impl<F: FnMut(&Peers) -> bool + Send + 'static> IntoFuture for WaitFor<F> {
    type Output = Result<Peers, WaitError>;
    type IntoFuture = crate::seam::BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<F> fmt::Debug for WaitFor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
