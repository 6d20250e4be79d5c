//! Waiting for a peer by its name.

use std::sync::Arc;
use std::time::Duration;

use super::inner::{NodeInner, NotSeen};
use crate::Peer;
use crate::limits::WAIT_TIMEOUT;
use crate::peers::PeerState;
use crate::seam::BoxFuture;

/// A peer that is waited for: await it, or [`wait`](Self::wait) on a thread that is not async.
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct PeerLookup {
    node: Arc<NodeInner>,
    name: String,
    timeout: Duration,
}

/// A peer was not found.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// It did not come in time.
    #[error("no peer named `{name}` was connected within {} s; {seen}", timeout.as_secs_f32())]
    TimedOut {
        /// Its name.
        name: String,
        /// How long was waited.
        timeout: Duration,
        /// Who is there instead, and which seeds do not answer, for people.
        seen: String,
    },
    /// The node was shut down.
    #[error("the node was shut down while it waited for peer `{name}`")]
    Shutdown {
        /// The peer's name.
        name: String,
    },
    /// The thread belongs to an async runtime.
    #[error("this thread belongs to an async runtime: write `.await` instead of `.wait()`")]
    WouldBlock,
}

impl PeerLookup {
    pub(super) fn new(node: Arc<NodeInner>, name: String) -> Self {
        Self { node, name, timeout: WAIT_TIMEOUT }
    }

    /// Waits for this long instead of 30 s. With zero it only looks.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Blocks this thread until the peer is connected.
    ///
    /// # Errors
    /// As when it is awaited, and [`LookupError::WouldBlock`] on a thread of an async runtime.
    pub fn wait(self) -> Result<Peer, LookupError> {
        let node = Arc::clone(&self.node);
        node.block_on(self.run()).ok_or(LookupError::WouldBlock)?
    }

    async fn run(self) -> Result<Peer, LookupError> {
        let Self { node, name, timeout } = self;
        if *name == *node.name {
            return Ok(Peer::itself(&node));
        }
        let look = |node: &Arc<NodeInner>| {
            let info = node.with_peers(|peers| peers.find(&name))?;
            // Larger clusters connect on the first call.
            let is_silent = matches!(info.state(), PeerState::Known | PeerState::Lost);
            let is_there = info.state() == PeerState::Connected || is_silent && node.is_large();
            is_there.then(|| Peer::named(node, &name))
        };
        node.wait_for(timeout, look).await.map_err(|error| match error {
            NotSeen::Shutdown => LookupError::Shutdown { name: name.clone() },
            NotSeen::TimedOut => LookupError::TimedOut { name: name.clone(), timeout, seen: node.describe_peers() },
        })
    }
}

impl IntoFuture for PeerLookup {
    type Output = Result<Peer, LookupError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
