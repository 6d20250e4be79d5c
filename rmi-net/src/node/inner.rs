//! What lives as long as a node.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rmi_core::context::Caller;
use rmi_core::frame::GoAwayReason;
use rmi_core::hello::{Hello, InstanceId, NodeRecord, Role};
use rmi_core::scope::Scope;
use rmi_core::service::{Service, erase};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::task::JoinHandle;

use super::knocking::Visits;
use crate::address::Address;
use crate::connection::{Connection, Greeting, Parts, Watcher};
use crate::describe::BuiltIn;
use crate::here::Here;
use crate::host::{Host, ServeError};
use crate::limits::{ALIVE_CHECK, DIAL_TIMEOUT, Limits};
use crate::peers::{PeerEvent, PeerInfo, PeerState, PeerTable};
use crate::seam::{Clock, Seams};
use crate::snapshot::{ConnectionSnapshot, Snapshot};
use crate::sync::{Mutex, lock};
use crate::tasks::spawn;

/// Events that may wait for a slow watcher before it is told that it missed some.
const EVENT_BACKLOG: usize = 1024;

pub(crate) struct NodeInner {
    pub(crate) name: Arc<str>,
    pub(crate) cluster: String,
    pub(crate) instance: InstanceId,
    pub(crate) addresses: Vec<Address>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) seams: Seams,
    pub(crate) runtime: Handle,
    pub(crate) allows_plaintext: bool,
    /// The kinds of local addresses that the program itself has named: `unix://` and `mem://`.
    local_kinds: (bool, bool),
    pub(crate) host: Arc<Host>,
    /// This node as its own peer.
    pub(crate) here: Arc<Here>,
    /// Without the names of the services, which come and go.
    hello: Hello,
    peers: Mutex<PeerTable>,
    /// Told when the table of peers has changed, and when the node begins to end.
    changes: Notify,
    /// `None` once the node has ended.
    events: Mutex<Option<broadcast::Sender<PeerEvent>>>,
    /// Told when there may be somebody to dial earlier than was thought, and when the node ends.
    pub(crate) knock: Notify,
    /// Handshakes that may go on at once.
    pub(super) handshakes: Arc<Semaphore>,
    /// The hosts with which they go on.
    pub(super) visits: Arc<Visits>,
    /// Handshakes that came to nothing, and whose other ends are being told why.
    pub(super) farewells: Arc<Semaphore>,
    is_stopping: AtomicBool,
    /// Once the node has begun to end: a channel whose other end the task holds that ends it.
    ending: Mutex<Option<watch::Receiver<()>>>,
    /// Told when the node begins to end.
    pub(super) stopping: Notify,
    /// The tasks that have the listeners.
    pub(super) listening: Mutex<Vec<JoinHandle<()>>>,
    owned_runtime: Mutex<Option<Runtime>>,
}

/// Why something that was waited for was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSeen {
    TimedOut,
    Shutdown,
}

/// What a builder has found out.
pub(super) struct Settings {
    pub(super) hello: Hello,
    pub(super) addresses: Vec<Address>,
    /// Where it listens, whatever peers are told.
    pub(super) bound: Vec<Address>,
    pub(super) seeds: Vec<Address>,
    pub(super) limits: Limits,
    pub(super) default_timeout: Option<Duration>,
    pub(super) seams: Seams,
    pub(super) runtime: Handle,
    pub(super) allows_plaintext: bool,
}

/// What a connection knows of its caller for injected parameters.
pub(crate) struct CallerLink {
    node: Weak<NodeInner>,
    /// `None` for the node's calls of itself.
    connection: Option<Weak<Connection>>,
    info: PeerInfo,
}

impl CallerLink {
    pub(crate) fn node(&self) -> Option<Arc<NodeInner>> {
        self.node.upgrade()
    }

    pub(crate) fn connection(&self) -> Option<&Weak<Connection>> {
        self.connection.as_ref()
    }

    pub(crate) fn info(&self) -> &PeerInfo {
        &self.info
    }
}

impl NodeInner {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let Settings { hello, addresses, bound, seeds, limits, default_timeout, seams, runtime, allows_plaintext } =
            settings;
        let name: Arc<str> = hello.node.name.as_str().into();
        let (instance, limits) = (hello.node.instance, Arc::new(limits));
        let host = Arc::new(Host::new(Arc::clone(&name), Arc::clone(&limits)));
        BuiltIn::offer(&host);
        let named = || bound.iter().chain(&addresses).chain(&seeds);
        let local_kinds = (
            named().any(|address| matches!(address, Address::Unix(_))),
            named().any(|address| matches!(address, Address::Mem(_))),
        );
        let peers = PeerTable::new(instance, hello.node.addresses.clone(), seeds, limits.known_peers());
        Arc::new_cyclic(|node| {
            let info = PeerInfo { record: Arc::new(hello.node.clone()), state: PeerState::Connected };
            let link = CallerLink { node: node.clone(), connection: None, info };
            let here = Here {
                host: Arc::clone(&host),
                caller: Caller::new(Arc::clone(&name)).with_link(Arc::new(link)),
                default_timeout,
                runtime: Some((runtime.clone(), Arc::clone(&seams.clock))),
            };
            Self {
                name,
                cluster: hello.cluster.clone(),
                instance,
                addresses,
                default_timeout,
                seams,
                runtime,
                allows_plaintext,
                local_kinds,
                host,
                here: Arc::new(here),
                hello,
                peers: Mutex::new(peers),
                changes: Notify::new(),
                events: Mutex::new(Some(broadcast::Sender::new(EVENT_BACKLOG))),
                knock: Notify::new(),
                handshakes: Arc::new(Semaphore::new(limits.handshakes())),
                visits: Arc::default(),
                farewells: Arc::new(Semaphore::new(limits.handshakes())),
                is_stopping: AtomicBool::new(false),
                ending: Mutex::default(),
                stopping: Notify::new(),
                listening: Mutex::default(),
                owned_runtime: Mutex::new(None),
                limits,
            }
        })
    }

    /// Gives the node its runtime, which ends with it.
    pub(super) fn keep_runtime(&self, runtime: Runtime) {
        *lock(&self.owned_runtime) = Some(runtime);
    }

    /// The Hello as of now.
    pub(super) fn hello(&self) -> Hello {
        let mut hello = self.hello.clone();
        let mut left = rmi_core::frame::MAX_HELLO / 2;
        for (name, _) in self.host.services() {
            // As many as fit: they are for filters only, calls ask the node itself.
            left = left.saturating_sub(name.len() + 5);
            if left > 0 {
                hello.node.services.push(name);
            }
        }
        hello
    }

    /// This node as a peer of itself.
    pub(crate) fn info(&self) -> PeerInfo {
        PeerInfo { record: Arc::new(self.hello().node), state: PeerState::Connected }
    }

    /// Whether the cluster is too large for a connection to each peer.
    pub(super) fn is_large(&self) -> bool {
        self.with_peers(|peers| peers.is_large())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub(super) fn serve<M: 'static>(
        &self,
        name: Option<&str>,
        service: Arc<impl Service<M>>,
    ) -> Result<(), ServeError> {
        let service = erase(service);
        self.host.serve(name.unwrap_or(service.descriptor().name()), service)
    }

    /// Looks at or changes the table of peers.
    pub(crate) fn with_peers<T>(&self, f: impl FnOnce(&mut PeerTable) -> T) -> T {
        f(&mut lock(&self.peers))
    }

    /// Whether this node dials such an address because a peer says so. What would be refused as a seed is not dialled on
    /// hearsay either; and a peer does not choose the sockets of this machine to which this node speaks, unless the
    /// program uses that kind of address.
    pub(super) fn may_be_told(&self, address: &Address) -> bool {
        match address {
            Address::Tcp { .. } => self.allows_plaintext || address.is_local(),
            Address::Unix(_) => self.local_kinds.0,
            Address::Mem(_) => self.local_kinds.1,
        }
    }

    /// The peers, as data.
    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        self.with_peers(|peers| peers.infos())
    }

    /// The peers now, and their events from now on.
    pub(crate) fn view_and_events(&self) -> (Vec<PeerInfo>, broadcast::Receiver<PeerEvent>) {
        // Events are sent under the lock of the table: there is no gap between the two.
        let peers = lock(&self.peers);
        let receiver = match &*lock(&self.events) {
            Some(events) => events.subscribe(),
            // A channel that has ended.
            None => broadcast::Sender::new(1).subscribe(),
        };
        (peers.infos(), receiver)
    }

    /// Sends events that belong to a change of the table, which is still locked.
    fn announce(&self, events: impl IntoIterator<Item = PeerEvent>) {
        if let Some(sender) = &*lock(&self.events) {
            for event in events {
                tracing::debug!(node = %self.name, ?event, "peers");
                // Nobody may be watching.
                let _ = sender.send(event);
            }
        }
    }

    /// Tells whoever waits for a change of the table.
    pub(super) fn changed(&self) {
        self.changes.notify_waiters();
    }

    /// Waits until the node gives what is looked for.
    pub(crate) async fn wait_for<T>(
        self: &Arc<Self>,
        timeout: Duration,
        mut look: impl FnMut(&Arc<Self>) -> Option<T>,
    ) -> Result<T, NotSeen> {
        let until = self.seams.clock.now().checked_add(timeout);
        let over = async {
            match until {
                Some(until) => self.seams.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let changed = self.changes.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if self.is_stopping() {
                return Err(NotSeen::Shutdown);
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = &mut over => return Err(NotSeen::TimedOut),
            }
        }
    }

    /// Who is there, for people who look for somebody else.
    pub(super) fn describe_peers(&self) -> String {
        let peers = self.infos();
        let mut text = if peers.is_empty() {
            format!("node `{}` knows no peer", self.name)
        } else {
            let names: Vec<String> =
                peers.iter().map(|peer| format!("`{}` ({:?})", peer.name(), peer.state())).collect();
            format!("node `{}` knows {}", self.name, names.join(", "))
        };
        for error in self.with_peers(|peers| peers.seed_errors()) {
            let seed: &dyn std::error::Error = &*error;
            let reasons: Vec<String> =
                std::iter::successors(seed.source(), |error| (*error).source()).map(ToString::to_string).collect();
            text += &format!("; seed {error} does not answer: {}", reasons.join(": "));
        }
        text
    }

    /// Runs a future on this thread; `None` if the thread belongs to an async runtime.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        self.may_block().then(|| self.runtime.block_on(future))
    }

    /// Whether this thread may be blocked.
    pub(crate) fn may_block(&self) -> bool {
        Handle::try_current().is_err() || Scope::current().is_some_and(|scope| scope.may_block())
    }

    /// A connection whose two ends know each other. Gives back whose it is.
    pub(super) fn admit(self: &Arc<Self>, greeting: Greeting, is_dialer: bool) -> InstanceId {
        let node = Arc::downgrade(self);
        let info = PeerInfo { record: Arc::new(greeting.hello.node.clone()), state: PeerState::Connected };
        let watcher: Weak<dyn Watcher> = node.clone();
        let (connection, halves) = Connection::new(Parts {
            greeting,
            is_dialer,
            host: Arc::clone(&self.host),
            limits: Arc::clone(&self.limits),
            default_timeout: self.default_timeout,
            clock: Arc::clone(&self.seams.clock),
            runtime: self.runtime.clone(),
            watcher,
            caller: Box::new(move |connection, name| {
                let link = CallerLink { node, connection: Some(connection.clone()), info };
                Caller::new(Arc::clone(name)).with_link(Arc::new(link))
            }),
        });
        let instance = connection.instance();
        let now = self.seams.clock.now();
        let (admitted, told, others) = {
            let mut peers = lock(&self.peers);
            if self.is_stopping() {
                return instance;
            }
            let mut admitted = peers.admit(&connection, now);
            self.announce(std::mem::take(&mut admitted.events));
            let others = if admitted.is_new { peers.links() } else { Vec::new() };
            (admitted, peers.told(), others)
        };
        connection.run(halves);
        tracing::debug!(node = %self.name, peer = %connection.peer_name(), remote = connection.remote(), is_dialer, "connected");
        self.tell_peers(&connection, &told);
        if connection.peer().role == Role::Member {
            let record = [connection.peer()];
            for other in others.iter().filter(|other| other.instance() != instance) {
                other.send_peers(record.into_iter());
            }
        }
        for old in admitted.doubted {
            spawn(&self.runtime, settle_namesakes(Arc::downgrade(self), old, instance));
        }
        for lost in admitted.lost {
            spawn(&self.runtime, lost.wind_down_once(GoAwayReason::Duplicate));
        }
        if let Some(established) = admitted.established {
            spawn(&self.runtime, settle(Arc::downgrade(self), established, connection));
        }
        self.changed();
        instance
    }

    /// Tells a peer whom this node is connected to.
    pub(super) fn tell_peers(&self, connection: &Connection, told: &[Arc<NodeRecord>]) {
        let others: Vec<&NodeRecord> =
            told.iter().map(|record| &**record).filter(|record| record.instance != connection.instance()).collect();
        connection.send_peers(others.into_iter());
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let links = self.with_peers(|peers| peers.links());
        let mut connections: Vec<ConnectionSnapshot> = links.iter().map(|link| link.snapshot()).collect();
        connections.sort_unstable_by(|a, b| (&a.peer, a.instance).cmp(&(&b.peer, b.instance)));
        self.host.snapshot(connections)
    }

    /// Ends the node, or waits for the end that has begun already.
    pub(super) async fn shut_down(self: Arc<Self>, grace: Duration) {
        let mut ending = self.begin_to_end(grace);
        // The other end is gone when the node has ended, or its runtime has, and with it the node.
        while ending.changed().await.is_ok() {}
    }

    /// Starts the task that ends the node, unless it was started before: it goes on whether somebody waits for it or not.
    fn begin_to_end(self: &Arc<Self>, grace: Duration) -> watch::Receiver<()> {
        let mut ending = lock(&self.ending);
        if let Some(ending) = &*ending {
            return ending.clone();
        }
        let (ended, receiver) = watch::channel(());
        *ending = Some(receiver.clone());
        self.is_stopping.store(true, Ordering::Release);
        let node = Arc::clone(self);
        spawn(&self.runtime, async move {
            node.end(grace).await;
            drop(ended);
        });
        receiver
    }

    async fn end(&self, grace: Duration) {
        self.stopping.notify_waiters();
        self.knock.notify_one();
        self.changed();
        let until = self.seams.clock.now().checked_add(grace);
        let links = self.with_peers(|peers| peers.links());
        let ends: Vec<_> =
            links.into_iter().map(|link| spawn(&self.runtime, link.wind_down(GoAwayReason::Shutdown, until))).collect();
        // The addresses are free when the node has ended.
        let listening = std::mem::take(&mut *lock(&self.listening));
        for end in listening.into_iter().chain(ends) {
            // Fails only if the runtime is shut down, and then it has ended.
            let _ = end.await;
        }
        self.with_peers(|peers| peers.clear());
        lock(&self.events).take();
        self.changed();
        if let Some(runtime) = lock(&self.owned_runtime).take() {
            runtime.shutdown_background();
        }
    }

    /// Ends the node without waiting.
    pub(super) fn stop_soon(self: &Arc<Self>) {
        if !self.is_stopping() {
            self.begin_to_end(Duration::ZERO);
        }
    }
}

/// A new connection has lost against an established one: if that does not answer, the new one takes its place.
async fn settle(node: Weak<NodeInner>, established: Arc<Connection>, new: Arc<Connection>) {
    let Some(clock) = node.upgrade().map(|node| Arc::clone(&node.seams.clock)) else { return };
    if is_alive(&established, &*clock).await {
        return new.wind_down_once(GoAwayReason::Duplicate).await;
    }
    if let Some(node) = node.upgrade() {
        node.with_peers(|peers| peers.promote(&new));
    }
    established.end_lost("the peer has made a new connection and does not answer on this one");
}

/// A process has come that has the name and the address of one that is connected: that one has ended, or both live and
/// their programs have given them the same.
async fn settle_namesakes(node: Weak<NodeInner>, old: Arc<Connection>, new: InstanceId) {
    let Some(clock) = node.upgrade().map(|node| Arc::clone(&node.seams.clock)) else { return };
    let is_alive = is_alive(&old, &*clock).await;
    let Some(node) = node.upgrade() else { return };
    let ended = {
        let mut peers = lock(&node.peers);
        let (event, ended) = peers.settle_namesakes(old.instance(), new, is_alive);
        node.announce(event);
        ended
    };
    for link in ended {
        link.end_restarted();
    }
    node.changed();
}

/// Whether a ping is answered in time.
async fn is_alive(connection: &Connection, clock: &dyn Clock) -> bool {
    tokio::select! {
        biased;
        pong = connection.ping() => pong.is_ok(),
        () = clock.sleep_until(clock.now() + ALIVE_CHECK) => false,
    }
}

/// The peer has another connection that it likes better, and may know of it earlier than this side: until that one is
/// here too, this one stays. So nobody is lost between the two.
async fn give_way(node: Arc<NodeInner>, connection: Arc<Connection>) {
    let instance = connection.instance();
    let other = |node: &Arc<NodeInner>| {
        (connection.has_ended() || node.with_peers(|peers| peers.link(instance)).is_some()).then_some(())
    };
    // If it does not come, it was lost unnoticed: when this one has closed the peer is dialled again.
    let _ = node.wait_for(DIAL_TIMEOUT, other).await;
    drop(node);
    connection.wind_down_once(GoAwayReason::Duplicate).await;
}

impl Watcher for NodeInner {
    fn on_peers(&self, _: &Arc<Connection>, mut records: Vec<NodeRecord>) {
        for record in &mut records {
            record.addresses.retain(|text| text.parse().is_ok_and(|address| self.may_be_told(&address)));
        }
        let now = self.seams.clock.now();
        if self.with_peers(|peers| peers.hear(records, now)) {
            self.knock.notify_one();
            self.changed();
        }
    }

    fn on_goaway(self: Arc<Self>, connection: &Arc<Connection>, reason: GoAwayReason) {
        {
            let mut peers = lock(&self.peers);
            let event = peers.goaway(connection.instance(), reason);
            self.announce(event);
        }
        self.changed();
        let runtime = self.runtime.clone();
        if reason == GoAwayReason::Duplicate {
            spawn(&runtime, give_way(self, Arc::clone(connection)));
        } else if reason == GoAwayReason::Idle {
            spawn(&runtime, Arc::clone(connection).wind_down_once(reason));
        }
    }

    fn on_closed(&self, connection: &Connection) {
        let now = self.seams.clock.now();
        {
            let mut peers = lock(&self.peers);
            let event = peers.closed(connection, now);
            self.announce(event);
        }
        self.changed();
        self.knock.notify_one();
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.with_peers(|peers| peers.links())
    }
}

impl Drop for NodeInner {
    fn drop(&mut self) {
        // The last handle may be dropped where blocking is not allowed.
        if let Some(runtime) = lock(&self.owned_runtime).take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for NodeInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeInner").field("name", &self.name).field("instance", &self.instance).finish_non_exhaustive()
    }
}
