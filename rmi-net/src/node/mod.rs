//! A node: this process's endpoint in its cluster.
//!
//! [`Node`] is the handle that programs hold. [`NodeInner`] owns everything that lives as long as the node: the table of
//! peers, the host with its services, the seams. Its tasks (one for each listener, one that knocks) hold it weakly, so
//! that nothing but handles keeps a node alive. Connections belong to the table of peers.

mod builder;
mod inner;
mod knocking;
mod lookup;
mod view;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rmi_core::context::{CallContext, FromCall};
use rmi_core::hello::InstanceId;
use rmi_core::kind::Kind;
use rmi_core::rejection::Rejection;
use rmi_core::service::Service;

pub use self::builder::{NodeBuilder, Start, StartError};
pub(crate) use self::inner::{CallerLink, NodeInner};
pub use self::lookup::{LookupError, PeerLookup};
pub use self::view::{Peers, WaitError, WaitFor};
pub use self::watch::PeerEvents;
use crate::address::Address;
use crate::host::ServeError;
use crate::seam::BoxFuture;
use crate::snapshot::Snapshot;

/// This process's endpoint: it offers services, knows its peers, and calls them. Cheap to clone.
///
/// ```
/// # use rmi_net::Node;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let a = Node::builder().name("a").listen("tcp://127.0.0.1:0").start().await?;
/// let b = Node::builder().name("b").listen("tcp://127.0.0.1:0").seeds(a.addresses()).start().await?;
/// let peer = b.peer("a").await?;
/// peer.ping().await?;
/// # Ok(()) }
/// ```
///
/// # On drop
/// When the last handle is dropped the node says goodbye to its peers as best it can and stops: methods that run are
/// cancelled, and their callers are told (`Cancelled`); calls through the handles of its peers fail with
/// `LocalShutdown`. Use [`shutdown`](Self::shutdown) to end in peace.
#[derive(Clone)]
pub struct Node {
    inner: Arc<NodeInner>,
    /// `None` in the handle that a method gets: it does not keep the node alive.
    _alive: Option<Arc<StopOnDrop>>,
}

struct StopOnDrop(Arc<NodeInner>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop_soon();
    }
}

impl Node {
    pub(crate) fn new(inner: Arc<NodeInner>) -> Self {
        Self { _alive: Some(Arc::new(StopOnDrop(Arc::clone(&inner)))), inner }
    }

    pub(crate) fn inner(&self) -> &Arc<NodeInner> {
        &self.inner
    }

    /// Begins to describe a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The random number by which this process is known.
    pub fn instance(&self) -> InstanceId {
        self.inner.instance
    }

    /// The name of its cluster.
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// Where others reach it; empty for a client. Ports are the real ones, also where port 0 was asked for.
    pub fn addresses(&self) -> Vec<Address> {
        self.inner.addresses.clone()
    }

    /// The peers, as of now.
    pub fn peers(&self) -> Peers {
        Peers::new(Arc::clone(&self.inner))
    }

    /// A handle to the peer with this name. It waits until the peer is connected, 30 s unless told otherwise.
    ///
    /// The handle follows the name: after a restart of the peer it leads to the new process. Of two live nodes with one
    /// name it takes the newer. The node's own name leads to itself, without the network.
    ///
    /// # Errors
    /// [`LookupError`] if no such peer comes in time.
    pub fn peer(&self, name: impl Into<String>) -> PeerLookup {
        PeerLookup::new(Arc::clone(&self.inner), name.into())
    }

    /// What happens to the peers from now on, beginning with how they stand.
    pub fn watch(&self) -> PeerEvents {
        let (view, receiver) = self.inner.view_and_events();
        PeerEvents::new(view, receiver, Arc::downgrade(&self.inner))
    }

    /// Offers one more service. Peers that are connected learn of it with their next Hello; calls find it at once.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn serve<M: 'static>(&self, service: impl Service<M>) -> Result<(), ServeError> {
        self.inner.serve(None, Arc::new(service))
    }

    /// Offers one more service under this name.
    ///
    /// # Errors
    /// If the name is taken, or cannot be one.
    pub fn serve_as<M: 'static>(&self, name: &str, service: impl Service<M>) -> Result<(), ServeError> {
        self.inner.serve(Some(name), Arc::new(service))
    }

    /// Offers a service of which the program keeps a handle.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn serve_arc<M: 'static, S: Service<M>>(&self, service: Arc<S>) -> Result<(), ServeError> {
        self.inner.serve(None, service)
    }

    /// Takes a service away. Calls that run go on. Whether it was there.
    pub fn unserve(&self, name: &str) -> bool {
        self.inner.host.unserve(name)
    }

    /// What the node has in hand: its connections with their calls, methods and bytes, and what is in use of the node's
    /// limits. For people who look what it is at, and for tests; it costs nothing until somebody asks.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    /// Ends the node in peace: no new calls, the accepted ones end and are answered, then the connections close.
    ///
    /// What has not ended after `grace` is cancelled, and its callers are told. Await it, or
    /// [`wait`](Shutdown::wait) on a thread that is not async. Who shuts down a node that ends already waits for its end
    /// too; the grace of the first holds. An end that has begun goes on, also if nobody waits for it any more.
    pub fn shutdown(&self, grace: Duration) -> Shutdown {
        Shutdown { node: Arc::clone(&self.inner), grace }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name())
            .field("instance", &self.instance())
            .field("addresses", &self.inner.addresses)
            .finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl FromCall for Node {
    fn from_call(context: &CallContext) -> Result<Self, Rejection> {
        let node = context.link::<CallerLink>().and_then(|link| link.node());
        let inner = node.ok_or_else(|| {
            Rejection::new(
                Kind::BadArguments,
                "the method takes its `Node`, and this call has none: it was made by `Stub::local`",
            )
        })?;
        Ok(Self { inner, _alive: None })
    }
}

/// The end of a node: await it, or [`wait`](Self::wait).
#[derive(Debug)]
#[must_use = "the node goes on until this is awaited"]
pub struct Shutdown {
    node: Arc<NodeInner>,
    grace: Duration,
}

impl Shutdown {
    /// Blocks this thread until the node has ended. Does nothing but log an error on a thread of an async runtime.
    pub fn wait(self) {
        let node = Arc::clone(&self.node);
        if node.block_on(self.node.shut_down(self.grace)).is_none() {
            tracing::error!("`shutdown(..).wait()` on a thread of an async runtime does nothing: await it");
        }
    }
}

impl IntoFuture for Shutdown {
    type Output = ();
    type IntoFuture = BoxFuture<'static, ()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.node.shut_down(self.grace))
    }
}
