//! A peer with no node to set up.

use std::sync::Arc;
use std::time::Duration;

use crate::address::IntoAddress;
use crate::node::{NodeBuilder, NodeInner, StartError};
use crate::seam::BoxFuture;
use crate::{Node, Peer};

/// How long a connection is tried for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the node at this address, as a client: for programs that only call.
///
/// ```
/// # use rmi_net::{Node, connect};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").start().await?;
/// # let address = server.addresses().remove(0);
/// let peer = connect(address).await?;
/// assert_eq!(peer.name(), "server");
/// # Ok(()) }
/// ```
///
/// The peer, its clones and its stubs keep the client alive; when the last is dropped it says goodbye. After a loss the
/// address is dialled again.
///
/// # Errors
/// [`ConnectError`], at once if nobody listens there.
pub fn connect(address: impl IntoAddress) -> Connect {
    Connect { builder: NodeBuilder::new().seed(address), timeout: CONNECT_TIMEOUT }
}

/// A connection about to be made: await it, or [`wait`](Self::wait).
#[derive(Debug)]
#[must_use = "nothing is connected until this is awaited"]
pub struct Connect {
    builder: NodeBuilder,
    timeout: Duration,
}

/// Why there is no connection.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nobody answers at the address, or not as a node.
    #[error("cannot connect to {address}")]
    Failed {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("no connection came about within {} s", timeout.as_secs_f32())]
    TimedOut {
        /// How long was tried.
        timeout: Duration,
    },
}

impl Connect {
    /// The name by which the client is known to the node.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { builder: self.builder.name(name), ..self }
    }

    /// The cluster of the node: `"default"`.
    pub fn cluster(self, cluster: impl Into<String>) -> Self {
        Self { builder: self.builder.cluster(cluster), ..self }
    }

    /// Tries for this long instead of 10 s.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// See [`NodeBuilder::danger_plaintext`].
    pub fn danger_plaintext(self) -> Self {
        Self { builder: self.builder.danger_plaintext(), ..self }
    }

    /// Blocks this thread until there is a connection. The client gets a runtime of its own.
    ///
    /// # Errors
    /// As when it is awaited, and [`StartError::WouldBlock`] on a thread of an async runtime.
    pub fn wait(self) -> Result<Peer, ConnectError> {
        let node = self.builder.start().wait()?;
        let inner = Arc::clone(node.inner());
        let found = inner.block_on(find(node, self.timeout));
        found.ok_or(ConnectError::Start(StartError::WouldBlock))?
    }
}

impl IntoFuture for Connect {
    type Output = Result<Peer, ConnectError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { find(self.builder.start().await?, self.timeout).await })
    }
}

async fn find(node: Node, timeout: Duration) -> Result<Peer, ConnectError> {
    enum Found {
        Peer(Peer),
        Failed(ConnectError),
    }
    let look = |node: &Arc<NodeInner>| {
        if let Some(link) = node.with_peers(|peers| peers.links()).into_iter().find(|link| link.is_dialer()) {
            return Some(Found::Peer(Peer::named(node, link.peer_name())));
        }
        node.with_peers(|peers| {
            if !peers.seeds_failed(1) {
                return None;
            }
            let error = peers.seed_errors().pop()?;
            Some(Found::Failed(ConnectError::Failed {
                address: error.address.clone(),
                source: Box::new(Arc::clone(&error.source)),
            }))
        })
    };
    let inner = Arc::clone(node.inner());
    match inner.wait_for(timeout, look).await {
        Ok(Found::Peer(peer)) => Ok(peer.keeping(node)),
        Ok(Found::Failed(error)) => Err(error),
        Err(_) => Err(ConnectError::TimedOut { timeout }),
    }
}
