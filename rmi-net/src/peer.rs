//! A peer: another node as seen from here, and the way of calls to it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;

use rmi_core::args::Args;
use rmi_core::context::{CallContext, FromCall};
use rmi_core::exception::CallError;
use rmi_core::hello::InstanceId;
use rmi_core::invocation::Invocation;
use rmi_core::kind::{Class, Kind};
use rmi_core::local::LOCAL;
use rmi_core::message::{Name, Request};
use rmi_core::rejection::Rejection;
use rmi_core::remote::Remote;
use rmi_core::transport::{Started, Transport};

use crate::Node;
use crate::cached::Cached;
use crate::connection::{Connection, Detour};
use crate::describe::NodeDescription;
use crate::host::BUILT_IN;
use crate::limits::DIAL_TIMEOUT;
use crate::node::{CallerLink, NodeInner};
use crate::peers::{DialError, PeerInfo, PeerState};

/// Another node as seen from here. Cheap to clone; make a stub of it, or call it by name.
///
/// A peer from `node.peer(name)` follows the name: after a restart its calls go to the new process. [`pinned`](Self::pinned)
/// and the peer that a method gets as its caller are bound to one process.
///
/// A handle does not keep the node alive, but for the one that [`connect`](crate::connect) gives. A call through a
/// handle whose node has ended fails with `LocalShutdown`.
#[derive(Clone)]
pub struct Peer {
    route: Arc<Route>,
    /// The node behind a peer from `connect`.
    _node: Option<Node>,
}

/// The way of calls to a peer.
struct Route {
    /// For calls that wait on a connection and may have to look for another.
    this: Weak<Route>,
    target: Target,
    name: Arc<str>,
    /// The connection of the last call.
    cached: Cached,
}

enum Target {
    /// Whoever has the name.
    Named(Arc<NodeInner>),
    /// One process.
    Pinned(Arc<NodeInner>, PeerInfo),
    /// The node itself.
    Itself(Arc<NodeInner>),
    /// The caller of a local stub: there is nobody to call back.
    Nobody,
}

impl Peer {
    fn of(target: Target, name: Arc<str>, cached: Weak<Connection>) -> Self {
        let route = Arc::new_cyclic(|this| Route { this: this.clone(), target, name, cached: Cached::new(cached) });
        Self { route, _node: None }
    }

    pub(crate) fn named(node: &Arc<NodeInner>, name: &str) -> Self {
        Self::of(Target::Named(Arc::clone(node)), name.into(), Weak::new())
    }

    pub(crate) fn pinned_to(node: &Arc<NodeInner>, info: &PeerInfo) -> Self {
        Self::of(Target::Pinned(Arc::clone(node), info.clone()), info.name().into(), Weak::new())
    }

    pub(crate) fn itself(node: &Arc<NodeInner>) -> Self {
        Self::of(Target::Itself(Arc::clone(node)), Arc::clone(&node.name), Weak::new())
    }

    /// The same, keeping `node` alive.
    pub(crate) fn keeping(self, node: Node) -> Self {
        Self { _node: Some(node), ..self }
    }

    /// The calling peer of a method that has taken its [`CallContext`] instead.
    ///
    /// # Errors
    /// If the node has ended meanwhile.
    pub fn of_call(context: &CallContext) -> Result<Self, Rejection> {
        Self::from_call(context)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.route.name
    }

    /// Its process, as far as it is known now.
    pub fn instance(&self) -> Option<InstanceId> {
        self.info().map(|info| info.instance())
    }

    /// What is known of it now; `None` if nobody of that name is known any more.
    pub fn info(&self) -> Option<PeerInfo> {
        match &self.route.target {
            Target::Named(node) => node.with_peers(|peers| peers.find(&self.route.name)),
            Target::Pinned(node, info) => {
                Some(node.with_peers(|peers| peers.get(info.instance())).unwrap_or_else(|| info.clone()))
            }
            Target::Itself(node) => Some(node.info()),
            Target::Nobody => None,
        }
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.info().is_some_and(|info| info.is_connected())
    }

    /// The same peer, bound to the process that it is now. After a restart its calls fail with `PeerRestarted`.
    #[must_use]
    pub fn pinned(&self) -> Self {
        match (&self.route.target, self.info()) {
            (Target::Named(node), Some(info)) => {
                // The last call may have gone to the process before this one.
                let cached = self.route.cached.get().filter(|link| link.instance() == info.instance());
                let cached = cached.map_or_else(Weak::new, |link| Arc::downgrade(&link));
                let pinned = Self::of(Target::Pinned(Arc::clone(node), info), Arc::clone(&self.route.name), cached);
                Self { _node: self._node.clone(), ..pinned }
            }
            _ => self.clone(),
        }
    }

    /// Calls a method by name: `"Service.method"`, or `"method"` where one service of the peer has it.
    ///
    /// The type of the result is inferred, or given by `invoke::<T>` or `returning::<T>()`; `rmi::Value` takes any.
    /// [`raising`](Invocation::raising) gives the type of the error.
    pub fn invoke<T>(&self, method: &str, args: Args) -> Invocation<T> {
        Remote::from(self).invoke(method, args)
    }

    /// What the node offers: services, methods, parameters, docs.
    pub fn describe(&self) -> Invocation<NodeDescription> {
        self.built_in().call("describe", Args::new())
    }

    /// A call that does nothing: whether the node answers, and how fast.
    pub fn ping(&self) -> Invocation<()> {
        self.built_in().call("ping", Args::new())
    }

    fn built_in(&self) -> Remote {
        Remote::from(self).with_service(Name::Static(BUILT_IN))
    }

    /// Closes the connections to it. Calls that are under way fail with `ConnectionLost`; a peer that listens is
    /// connected again, as after any loss.
    pub fn disconnect(&self) {
        let (Target::Named(node) | Target::Pinned(node, _)) = &self.route.target else { return };
        let Some(info) = self.info() else { return };
        let links = node.with_peers(|peers| peers.links());
        for link in links.iter().filter(|link| link.instance() == info.instance()) {
            link.end_lost("this node has closed the connection");
        }
    }
}

impl From<&Peer> for Remote {
    fn from(peer: &Peer) -> Self {
        match &peer._node {
            None => Remote::new(Arc::clone(&peer.route) as Arc<dyn Transport>),
            // The stub keeps the node alive as the peer does.
            Some(_) => Remote::new(Arc::new(Keeping(peer.clone()))),
        }
    }
}

impl From<Peer> for Remote {
    fn from(peer: Peer) -> Self {
        Self::from(&peer)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("name", &self.name()).field("instance", &self.instance()).finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl FromCall for Peer {
    fn from_call(context: &CallContext) -> Result<Self, Rejection> {
        let Some(link) = context.link::<CallerLink>() else {
            return Ok(Self::of(Target::Nobody, LOCAL.into(), Weak::new()));
        };
        let Some(node) = link.node() else {
            return Err(Rejection::new(Kind::GoingAway, "the node has ended"));
        };
        Ok(match link.connection() {
            None => Self::itself(&node),
            Some(connection) => {
                let name = context.caller_name().into();
                Self::of(Target::Pinned(node, link.info().clone()), name, Weak::clone(connection))
            }
        })
    }
}

/// The way to a peer that keeps its node alive.
#[derive(Debug)]
struct Keeping(Peer);

impl Transport for Keeping {
    fn start(&self, request: &mut Request, waker: Option<&Waker>) -> Started {
        self.0.route.start(request, waker)
    }

    fn peer_name(&self) -> Arc<str> {
        self.0.route.peer_name()
    }

    fn may_block(&self) -> bool {
        self.0.route.may_block()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Transport for Route {
    fn start(&self, request: &mut Request, waker: Option<&Waker>) -> Started {
        let started = self.cached.get().and_then(|link| link.start(request, waker, &self.this));
        started.unwrap_or_else(|| self.start_anew(request))
    }

    fn peer_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn may_block(&self) -> bool {
        match &self.target {
            Target::Named(node) | Target::Pinned(node, _) | Target::Itself(node) => node.may_block(),
            Target::Nobody => true,
        }
    }
}

impl Detour for Route {
    /// The connection of the last call is of no use: find another, or have one made.
    #[cold]
    fn start_anew(&self, request: &mut Request) -> Started {
        let (node, pinned) = match &self.target {
            Target::Named(node) => (node, None),
            Target::Pinned(node, info) => (node, Some(info.instance())),
            Target::Itself(node) if node.is_stopping() => {
                return refused(Kind::LocalShutdown, "this node has been shut down");
            }
            Target::Itself(node) => return node.here.start(request.take()),
            Target::Nobody => return refused(Kind::NotConnected, "the caller of a local stub cannot be called back"),
        };
        if node.is_stopping() && request.scope.is_none() {
            return refused(Kind::LocalShutdown, "this node has been shut down");
        }
        let now = node.seams.clock.now();
        let (info, n_ended) = loop {
            let (wanted, successor) = node.with_peers(|peers| {
                let named = peers.find(&self.name);
                (pinned.map_or_else(|| named.clone(), |instance| peers.get(instance)), named)
            });
            let Some(info) = wanted else { return Started::refused(gone(node, successor)) };
            while let Some(link) = node.with_peers(|peers| peers.link(info.instance())) {
                self.cached.set(Arc::downgrade(&link));
                if let Some(started) = Arc::clone(&link).start(request, None, &self.this) {
                    return started;
                }
                // It refused between the look and the start. What refuses once refuses for ever.
                if link.takes_calls() {
                    break;
                }
            }
            let (asked, state) = node.with_peers(|peers| {
                (peers.ask(info.instance(), now), peers.get(info.instance()).map(|info| info.state()))
            });
            match (asked, state) {
                (Some(n_ended), _) => break (info, n_ended),
                // It went out of the table meanwhile: who has the name now?
                (None, None) => {}
                (None, Some(PeerState::Left)) => return refused(Kind::GoingAway, "the peer is shutting down"),
                (None, Some(_)) => {
                    return refused(Kind::NotConnected, "the peer does not listen, so it cannot be dialled");
                }
            }
        };
        node.knock.notify_one();
        let deadline = request.deadline_at(now, node.default_timeout);
        request.begun_deadline = deadline;
        let (node, route) = (Arc::clone(node), Weak::clone(&self.this));
        Started::Later(Box::pin(start_when_connected(node, route, pinned.is_some(), info, n_ended, request.take())))
    }
}

/// Waits for the dial that is under way, and starts the call on the connection that it gives.
async fn start_when_connected(
    node: Arc<NodeInner>,
    route: Weak<Route>,
    is_pinned: bool,
    info: PeerInfo,
    n_ended: u64,
    mut request: Request,
) -> Started {
    enum Found {
        Link(Arc<Connection>),
        Failed(CallError),
        /// The process is not known any more; somebody else may have its name.
        Gone(Option<PeerInfo>),
    }
    let name = info.name();
    let now = node.seams.clock.now();
    // A dial ends by itself in this time; some more for one that had begun before, and for the addresses after the first.
    let longest = DIAL_TIMEOUT * (info.addresses().len() as u32 + 1);
    let left = request.begun_deadline.map(|deadline| deadline.saturating_duration_since(now));
    let timeout = left.map_or(longest, |left| left.min(longest));
    let look = |node: &Arc<NodeInner>| {
        node.with_peers(|peers| {
            let wanted = if is_pinned { peers.get(info.instance()) } else { peers.find(name) };
            let Some(wanted) = wanted else { return Some(Found::Gone(peers.find(name))) };
            if let Some(link) = peers.link(wanted.instance()) {
                return Some(Found::Link(link));
            }
            // Of a process that has come meanwhile every dial counts.
            let n_ended = if wanted.instance() == info.instance() { n_ended } else { 0 };
            let error = peers.dial_error(wanted.instance(), n_ended)?;
            Some(Found::Failed(cannot_connect(&error)))
        })
    };
    match node.wait_for(timeout, look).await {
        Ok(Found::Link(link)) => match (link.start(&mut request, None, &route), route.upgrade()) {
            (Some(started), _) => started,
            // It began to close between the look and the start.
            (None, Some(route)) => route.start_anew(&mut request),
            // Whoever waits for a call holds the way to its peer.
            (None, None) => refused(Kind::NotConnected, "the connection closed before the call could go out"),
        },
        Ok(Found::Failed(error)) => Started::refused(error),
        Ok(Found::Gone(successor)) => Started::refused(gone(&node, successor)),
        Err(_) if node.is_stopping() => refused(Kind::LocalShutdown, "this node has been shut down"),
        Err(_) if left.is_some_and(|left| left <= longest) => {
            refused(Kind::Timeout, "the time was over before there was a connection")
        }
        Err(_) => refused(Kind::ConnectFailed, "no connection came about in time"),
    }
}

/// The process that was called is not known any more, or nobody of its name is; `successor` has its name now.
fn gone(node: &NodeInner, successor: Option<PeerInfo>) -> CallError {
    if successor.is_some() {
        let error = CallError::new(Kind::PeerRestarted, "another process has the name now");
        return error.with_class(Class::NotExecuted);
    }
    let error = CallError::new(Kind::NotConnected, "it has shut down or was given up, and nobody has its name now");
    // A client knows no other way to it than its seed.
    match node.with_peers(|peers| peers.seed_errors()).pop() {
        Some(seed) => error.with_source(Arc::new(cannot_connect(&seed))),
        None => error,
    }
}

fn cannot_connect(error: &DialError) -> CallError {
    let message = format!("cannot connect to {}", error.address);
    CallError::new(Kind::ConnectFailed, message).with_source(Arc::clone(&error.source))
}

fn refused(kind: Kind, message: &str) -> Started {
    Started::refused(CallError::new(kind, message).with_class(Class::NotExecuted))
}
