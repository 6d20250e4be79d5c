//! How a node is described and started.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rmi_core::frame::MAX_HELLO;
use rmi_core::hello::{Hello, InstanceId, NodeRecord, Role};
use rmi_core::service::{AnyService, Service, erase};
use tokio::runtime::Handle;

use super::inner::{NodeInner, Settings};
use super::knocking;
use crate::Node;
use crate::address::{Address, AddressError, IntoAddress};
use crate::host::ServeError;
use crate::limits::Limits;
use crate::seam::{BoxFuture, Listener, Seams, SystemClock, SystemRng};
use crate::transport::SystemNet;

/// The most bytes of a Hello without the names of services, for which the other half is left.
const MOST_OF_HELLO: usize = MAX_HELLO / 2;

/// Describes a node. Nothing happens before [`start`](Self::start); mistakes are told there, with what to do.
#[must_use = "a node is started by `start()`"]
pub struct NodeBuilder {
    name: Option<String>,
    cluster: String,
    node_type: String,
    labels: BTreeMap<String, String>,
    listen: Vec<Address>,
    advertise: Vec<Address>,
    seeds: Vec<Address>,
    services: Vec<(String, Arc<dyn AnyService>)>,
    limits: Limits,
    default_timeout: Option<Duration>,
    runtime: Option<Handle>,
    allows_plaintext: bool,
    seams: Option<Seams>,
    mistake: Option<AddressError>,
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("listen", &self.listen)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A text is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address that others can reach, without security.
    #[error(
        "{role} `{address}` leaves this machine, and nothing protects the connection: use a loopback address, `unix:///path`, or, in a network that you trust, call `danger_plaintext()`"
    )]
    NotLocal {
        /// What the address is for.
        role: &'static str,
        /// The address.
        address: Address,
    },
    /// A node that listens on all interfaces cannot know how others reach it.
    #[error(
        "`{0}` means all interfaces, and nobody can dial that: say with `advertise(..)` how others reach this node"
    )]
    Unspecified(Address),
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: {hint}")]
    Listen {
        /// The address.
        address: Address,
        /// What to do.
        hint: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A service cannot be offered.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The name or the cluster's name cannot be one.
    #[error(
        "`{0}` cannot be the name of a node, a cluster or a type: it must be 1 to 128 characters without control characters"
    )]
    BadName(String),
    /// Name, labels, addresses and services are too large for a Hello.
    #[error("name, labels and addresses have {0} bytes together and may have {MOST_OF_HELLO}: shorten the labels")]
    HelloTooLarge(usize),
    /// There is no runtime.
    #[error(
        "there is no tokio runtime here: await `start()` inside of one, name one with `runtime(handle)`, or call `start().wait()`"
    )]
    NoRuntime,
    /// The thread belongs to an async runtime.
    #[error("this thread belongs to an async runtime: write `.await` instead of `.wait()`")]
    WouldBlock,
    /// A runtime of its own could not be made.
    #[error("cannot make a runtime")]
    Runtime(#[source] io::Error),
}

impl NodeBuilder {
    pub(crate) fn new() -> Self {
        Self {
            name: None,
            cluster: "default".to_owned(),
            node_type: String::new(),
            labels: BTreeMap::new(),
            listen: Vec::new(),
            advertise: Vec::new(),
            seeds: Vec::new(),
            services: Vec::new(),
            limits: Limits::default(),
            default_timeout: None,
            runtime: None,
            allows_plaintext: false,
            seams: None,
            mistake: None,
        }
    }

    /// The node's name, by which others find it. Without one it is made of the host's name and the process's number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The cluster to which it belongs: `"default"`. Nodes of other clusters are refused.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// The kind of node, by which peers can be filtered.
    pub fn node_type(mut self, node_type: impl Into<String>) -> Self {
        self.node_type = node_type.into();
        self
    }

    /// Something that others may know about this node, by which peers can be filtered.
    pub fn label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Listens here: `tcp://host:port`, `unix:///path` or `mem://name`. Can be called several times.
    ///
    /// A TCP address without a port is port 5000 or, if that is taken, the next free one; port 0 is the system's choice.
    /// A node that does not listen is a client: it calls, and can be called back on the connections that it has made.
    pub fn listen(mut self, address: impl IntoAddress) -> Self {
        let address = self.address(address);
        self.listen.extend(address);
        self
    }

    /// The address at which others reach this node, where that is not the one on which it listens (in containers,
    /// behind NAT). It replaces all others in what peers are told.
    pub fn advertise(mut self, address: impl IntoAddress) -> Self {
        let address = self.address(address);
        self.advertise.extend(address);
        self
    }

    /// Where to begin to look for the cluster. A seed is knocked on for ever, and resolved anew each time.
    pub fn seed(mut self, address: impl IntoAddress) -> Self {
        let address = self.address(address);
        self.seeds.extend(address);
        self
    }

    /// Several [`seed`](Self::seed)s. A node may be among its own.
    pub fn seeds<A: IntoAddress>(self, addresses: impl IntoIterator<Item = A>) -> Self {
        addresses.into_iter().fold(self, Self::seed)
    }

    fn address(&mut self, address: impl IntoAddress) -> Option<Address> {
        match address.into_address() {
            Ok(address) => Some(address),
            Err(error) => {
                self.mistake.get_or_insert(error);
                None
            }
        }
    }

    /// Offers a service under its own name. `M` chooses an interface where the type has several:
    /// `.serve::<GreeterStub>(greeter)`.
    pub fn serve<M: 'static>(self, service: impl Service<M>) -> Self {
        self.serve_erased(None, erase(Arc::new(service)))
    }

    /// Offers a service under another name. Callers write `Stub::named(&peer, name)`.
    pub fn serve_as<M: 'static>(self, name: impl Into<String>, service: impl Service<M>) -> Self {
        self.serve_erased(Some(name.into()), erase(Arc::new(service)))
    }

    /// Offers a service of which the program keeps a handle.
    pub fn serve_arc<M: 'static, S: Service<M>>(self, service: Arc<S>) -> Self {
        self.serve_erased(None, erase(service))
    }

    fn serve_erased(mut self, name: Option<String>, service: Arc<dyn AnyService>) -> Self {
        let name = name.unwrap_or_else(|| service.descriptor().name().to_owned());
        self.services.push((name, service));
        self
    }

    /// What the node allows its peers and itself.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The timeout of calls that set none. Without it they wait for as long as the peer lives.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.default_timeout = Some(timeout);
        self
    }

    /// The runtime on which the node's connections and methods run; otherwise the one in which it is started.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Allows connections that leave this machine without any protection: everybody who reaches the port can call
    /// every method, and everybody on the way can read and change what is said. For networks that you trust.
    pub fn danger_plaintext(mut self) -> Self {
        self.allows_plaintext = true;
        self
    }

    /// Sockets, time and chance from elsewhere: for simulations.
    #[doc(hidden)]
    pub fn seams(mut self, seams: Seams) -> Self {
        self.seams = Some(seams);
        self
    }

    /// Starts the node: await it, or [`wait`](Start::wait) in a program that is not async.
    ///
    /// It does not wait for the seeds. What it needs is waited for by `node.peer(..)` and `node.peers().wait_for(..)`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left behind.
    pub fn start(self) -> Start {
        Start { builder: self }
    }

    async fn run(mut self) -> Result<Node, StartError> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake.into());
        }
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_| StartError::NoRuntime)?,
        };
        self.check()?;
        let seams = self.seams.take().unwrap_or_else(|| Seams {
            net: Arc::new(SystemNet),
            clock: Arc::new(SystemClock::new(runtime.clone())),
            rng: Arc::new(SystemRng::default()),
        });
        // Zero is nobody.
        let instance = InstanceId(seams.rng.next_u64().max(1));
        let machine = hostname::get().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned());
        let pid = std::process::id();
        let name = self.name.take().unwrap_or_else(|| format!("{machine}-{pid}-{:04x}", instance.0 & 0xffff));
        let mut listeners = Vec::new();
        for address in &self.listen {
            listeners.push(listen(&seams, &runtime, address).await?);
        }
        let (listeners, bound): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let addresses = if self.advertise.is_empty() { bound.clone() } else { std::mem::take(&mut self.advertise) };
        if let Some(address) = addresses.iter().find(|address| address.is_unspecified()) {
            return Err(StartError::Unspecified(address.clone()));
        }
        let mut record = NodeRecord::new(instance, name);
        record.node_type = std::mem::take(&mut self.node_type);
        record.role = if listeners.is_empty() { Role::Client } else { Role::Member };
        record.addresses = addresses.iter().map(Address::to_string).collect();
        record.machine = machine;
        record.pid = pid;
        record.labels = std::mem::take(&mut self.labels);
        let hello = Hello::new(self.cluster.clone(), record, self.limits.for_peers());
        let mut encoded = BytesMut::new();
        hello.encode(&mut encoded);
        if encoded.len() > MOST_OF_HELLO {
            return Err(StartError::HelloTooLarge(encoded.len()));
        }
        let inner = NodeInner::new(Settings {
            hello,
            addresses,
            bound,
            seeds: self.seeds,
            limits: self.limits,
            default_timeout: self.default_timeout,
            seams,
            runtime,
            allows_plaintext: self.allows_plaintext,
        });
        for (name, service) in self.services {
            inner.host.serve(&name, service)?;
        }
        knocking::run(&inner, listeners);
        Ok(Node::new(inner))
    }

    fn check(&self) -> Result<(), StartError> {
        let names = self.name.iter().chain([&self.cluster]).chain(Some(&self.node_type).filter(|t| !t.is_empty()));
        for name in names {
            if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
                return Err(StartError::BadName(name.clone()));
            }
        }
        let roles = [("the address", &self.listen), ("the seed", &self.seeds)];
        for (role, addresses) in roles {
            let far = addresses.iter().find(|address| !self.allows_plaintext && !address.is_local());
            if let Some(address) = far {
                return Err(StartError::NotLocal { role, address: address.clone() });
            }
        }
        Ok(())
    }
}

async fn listen(
    seams: &Seams,
    runtime: &Handle,
    address: &Address,
) -> Result<(Box<dyn Listener>, Address), StartError> {
    // Sockets belong to the runtime on which they are made.
    let listening = {
        let (net, address) = (Arc::clone(&seams.net), address.clone());
        runtime.spawn(async move { net.listen(&address).await })
    };
    let listening = listening.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    listening.map_err(|source| {
        let hint = match (source.kind(), address) {
            (io::ErrorKind::AddrInUse, Address::Tcp { .. }) => {
                "the port is in use: choose another, port 0 for any free one, or leave it out for the next free one from 5000 on"
            }
            (io::ErrorKind::AddrInUse, _) => "another node listens there: choose another name or path",
            (io::ErrorKind::PermissionDenied, _) => "this user may not: choose a port above 1023, or a path that it owns",
            (io::ErrorKind::AddrNotAvailable, _) => "this machine has no such address",
            (io::ErrorKind::AlreadyExists, _) => "the path is taken by something that is no socket: choose another, or remove it",
            (io::ErrorKind::NotFound, _) => "the directory does not exist: make it first",
            _ => "the system refuses",
        };
        StartError::Listen { address: address.clone(), hint, source }
    })
}

/// A node about to start: await it, or [`wait`](Self::wait).
#[derive(Debug)]
#[must_use = "the node starts when this is awaited"]
pub struct Start {
    builder: NodeBuilder,
}

impl Start {
    /// Starts the node from a program that is not async, and blocks this thread until it listens.
    ///
    /// Unless [`NodeBuilder::runtime`] named one, the node gets a runtime of its own, which ends with it.
    ///
    /// # Errors
    /// As when it is awaited, and [`StartError::WouldBlock`] on a thread of an async runtime.
    pub fn wait(self) -> Result<Node, StartError> {
        if Handle::try_current().is_ok() {
            return Err(StartError::WouldBlock);
        }
        if let Some(runtime) = self.builder.runtime.clone() {
            return runtime.block_on(self.builder.run());
        }
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.enable_all().thread_name("rmi-node").build().map_err(StartError::Runtime)?;
        match runtime.block_on(self.builder.run()) {
            Ok(node) => {
                node.inner().keep_runtime(runtime);
                Ok(node)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }
}

impl IntoFuture for Start {
    type Output = Result<Node, StartError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.builder.run())
    }
}
