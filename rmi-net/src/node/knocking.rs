//! Who comes, and whom to go to: the tasks that accept and dial.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rmi_core::frame::GoAwayReason;
use rmi_core::hello::{Hello, InstanceId};

use super::inner::NodeInner;
use crate::address::Address;
use crate::connection::{HandshakeError, Refusal, greet};
use crate::limits::{CONNECTIONS_PER_PEER, DIAL_TIMEOUT, IDLE_AFTER, SMALL_CLUSTER};
use crate::peers::{DialError, Target};
use crate::seam::{Listener, Stream};
use crate::sync::{Mutex, lock};
use crate::tasks::spawn;

/// How long an accept that failed is waited for: it fails where descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often idle connections are looked for, and a peer is told again whom this node knows.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Starts the node's tasks.
pub(super) fn run(node: &Arc<NodeInner>, listeners: Vec<Box<dyn Listener>>) {
    let listen = |listener| spawn(&node.runtime, accept(Arc::downgrade(node), listener));
    lock(&node.listening).extend(listeners.into_iter().map(listen));
    spawn(&node.runtime, knock(Arc::downgrade(node)));
}

/// Accepts connections until the node ends.
async fn accept(node: Weak<NodeInner>, mut listener: Box<dyn Listener>) {
    let mut failures = 0u32;
    loop {
        let Some(this) = node.upgrade() else { return };
        // While there are enough strangers at the door, the next ones wait in the backlog.
        let handshakes = Arc::clone(&this.handshakes);
        let accepted = {
            let stopping = this.stopping.notified();
            tokio::pin!(stopping);
            stopping.as_mut().enable();
            if this.is_stopping() {
                return;
            }
            tokio::select! {
                biased;
                accepted = async {
                    let permit = handshakes.acquire_owned().await;
                    (listener.accept().await, permit)
                } => accepted,
                () = stopping => return,
            }
        };
        match accepted {
            (Ok(stream), permit) => {
                failures = 0;
                let node = Weak::clone(&node);
                let Some(visit) = Visit::begin(&this.visits, &stream.remote, this.limits.handshakes()) else {
                    tracing::debug!(node = %this.name, remote = stream.remote, "too many handshakes with one host");
                    continue;
                };
                spawn(&this.runtime, welcome(node, stream, (permit, visit)));
            }
            (Err(error), _) => {
                failures += 1;
                // One line each second at most, however long it lasts.
                if failures % 10 == 1 {
                    tracing::warn!(node = %this.name, "cannot accept a connection: {error}");
                }
                let clock = Arc::clone(&this.seams.clock);
                drop(this);
                clock.sleep_until(clock.now() + ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Exchanges Hellos with somebody who came. `place` is held until it is known who that is.
async fn welcome(node: Weak<NodeInner>, stream: Stream, place: impl Send) {
    let Some(this) = node.upgrade() else { return };
    let remote = stream.remote.clone();
    let hello = this.hello();
    let (clock, name) = (Arc::clone(&this.seams.clock), Arc::clone(&this.name));
    let farewells = Arc::clone(&this.farewells);
    drop(this);
    let is_welcome = |hello: &Hello| match node.upgrade() {
        Some(node) if !node.is_stopping() => {
            let (n_accepted, n_links) =
                node.with_peers(|peers| (peers.n_accepted(), peers.n_links(hello.node.instance)));
            match () {
                () if n_links >= CONNECTIONS_PER_PEER => Err(HandshakeError::TooManyConnections),
                () if n_accepted >= node.limits.connections() => Err(HandshakeError::Full),
                () => Ok(()),
            }
        }
        _ => Err(HandshakeError::Stopping),
    };
    let greeting = tokio::select! {
        biased;
        greeting = greet(stream, &hello, false, is_welcome) => greeting,
        () = clock.sleep_until(clock.now() + DIAL_TIMEOUT) => {
            return tracing::info!(node = %name, remote, "refused a connection: {}", HandshakeError::TimedOut);
        }
    };
    drop(place);
    match greeting {
        Ok(greeting) => {
            if let Some(node) = node.upgrade() {
                node.admit(greeting, false);
            }
        }
        Err(refusal) => {
            // Nodes that know their own addresses meet themselves now and then.
            if !matches!(refusal.error, HandshakeError::SelfConnect) {
                tracing::info!(node = %name, remote, "refused a connection: {}", refusal.error);
            }
            // Who comes when many are being told why not is not told.
            if let Ok(_permit) = farewells.try_acquire() {
                refusal.farewell.say(clock).await;
            }
        }
    }
}

/// The hosts with which handshakes go on, one entry for each handshake.
pub(super) type Visits = Mutex<Vec<IpAddr>>;

/// One handshake with a host; it counts until it is dropped.
struct Visit {
    visits: Arc<Visits>,
    /// `None` for this machine, where everybody has the same address, and for what has no IP address.
    host: Option<IpAddr>,
}

impl Visit {
    /// `None` if half of the `most` handshakes that may go on at once are with this host already.
    fn begin(visits: &Arc<Visits>, remote: &str, most: usize) -> Option<Self> {
        let host = remote.parse().ok().map(|remote: SocketAddr| host_of(remote.ip()));
        let host = host.filter(|host| !host.is_loopback());
        if let Some(host) = host {
            let mut visits = lock(visits);
            if visits.iter().filter(|other| **other == host).count() >= most.div_ceil(2) {
                return None;
            }
            visits.push(host);
        }
        Some(Self { visits: Arc::clone(visits), host })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(host) = self.host else { return };
        let mut visits = lock(&self.visits);
        if let Some(idx) = visits.iter().position(|other| *other == host) {
            visits.swap_remove(idx);
        }
    }
}

/// The address of a host; of IPv6 the first half, for the second is the host's choice.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        ip => ip,
    }
}

/// Dials whom the table of peers wants dialled, until the node ends.
async fn knock(node: Weak<NodeInner>) {
    let mut reminders = Reminders::default();
    loop {
        let Some(this) = node.upgrade() else { return };
        if this.is_stopping() {
            return;
        }
        let clock = Arc::clone(&this.seams.clock);
        let now = clock.now();
        let (due, next) = this.with_peers(|peers| peers.due(now));
        for (target, addresses) in due {
            spawn(&this.runtime, dial(Weak::clone(&node), target, addresses));
        }
        close_idle(&this, now);
        reminders.send(&this, now);
        let next = next.unwrap_or(now + SWEEP_EVERY).min(now + SWEEP_EVERY);
        let knock = this.knock.notified();
        tokio::select! {
            biased;
            () = knock => {}
            () = clock.sleep_until(next) => {}
        }
    }
}

/// Knocks at one door.
async fn dial(node: Weak<NodeInner>, target: Target, addresses: Vec<String>) {
    let mut outcome = Err(Arc::new(DialError {
        address: "nowhere".to_owned(),
        source: Arc::from(Box::from("the node has no address that this node can dial")),
    }));
    for text in addresses {
        let Some(this) = node.upgrade() else { return };
        let hello = this.hello();
        let is_refused = matches!(target, Target::Peer(_))
            && text.parse::<Address>().is_ok_and(|address| !this.may_be_told(&address));
        let (net, clock, runtime) = (Arc::clone(&this.seams.net), Arc::clone(&this.seams.clock), this.runtime.clone());
        drop(this);
        // The other end may call as soon as it has our Hello: if this node ends, it has to learn that nothing runs.
        let is_welcome = |_: &_| match node.upgrade() {
            Some(node) if !node.is_stopping() => Ok(()),
            _ => Err(HandshakeError::Stopping),
        };
        let greeting = async {
            let address: Address = text.parse().map_err(Failure::from)?;
            if is_refused {
                return Err(NotDialled.into());
            }
            let stream = net.dial(&address).await.map_err(Failure::from)?;
            greet(stream, &hello, true, is_welcome).await.map_err(|Refusal { error, farewell }| {
                spawn(&runtime, farewell.say(Arc::clone(&clock)));
                Failure::from(error)
            })
        };
        #[cfg(mutants)]
        let _locked = crate::mutant::lock_while_dialling().await;
        let greeting: Result<_, Failure> = tokio::select! {
            biased;
            greeting = greeting => greeting,
            () = clock.sleep_until(clock.now() + DIAL_TIMEOUT) => Err(HandshakeError::TimedOut.into()),
        };
        let Some(this) = node.upgrade() else { return };
        outcome = match greeting {
            Ok(greeting) => Ok(this.admit(greeting, true)),
            // It leads to somebody: to us.
            Err(failure) if failure.is_self => Ok(this.instance),
            Err(failure) => {
                tracing::debug!(node = %this.name, address = text, "cannot connect: {}", failure.source);
                Err(Arc::new(DialError { address: text, source: failure.source.into() }))
            }
        };
        // Where another node answers, the one that is meant may still be at the next address.
        let is_found = match (&target, &outcome) {
            (Target::Peer(wanted), Ok(found)) => wanted == found,
            (Target::Seed(_), found) => found.is_ok(),
            _ => false,
        };
        if is_found {
            break;
        }
    }
    let Some(this) = node.upgrade() else { return };
    let now = this.seams.clock.now();
    let jitter = this.seams.rng.next_u64() as f64 / u64::MAX as f64;
    this.with_peers(|peers| peers.dialled(&target, outcome, now, jitter));
    this.changed();
    this.knock.notify_one();
}

/// The address of a peer is of a kind that this node does not dial on its word.
#[derive(Debug, thiserror::Error)]
#[error("this node does not dial such an address because a peer says so: make it a seed")]
struct NotDialled;

/// Why a dial failed.
struct Failure {
    source: Box<dyn std::error::Error + Send + Sync>,
    is_self: bool,
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        let is_self = matches!(
            error.downcast_ref(),
            Some(HandshakeError::SelfConnect | HandshakeError::Refused { reason: GoAwayReason::SelfConnect, .. })
        );
        Self { source: error, is_self }
    }
}

/// Tells one peer after the other whom this node is connected to, so that nodes that have missed each other, or have given
/// each other up, hear of each other again.
#[derive(Default)]
struct Reminders {
    next_at: Option<Instant>,
    last: Option<InstanceId>,
}

impl Reminders {
    fn send(&mut self, node: &Arc<NodeInner>, now: Instant) {
        if self.next_at.is_some_and(|at| now < at) {
            return;
        }
        let is_first = self.next_at.replace(now + SWEEP_EVERY).is_none();
        let (links, told) = node.with_peers(|peers| (peers.links(), peers.told()));
        // The links are ordered by instance.
        let next = links.iter().find(|link| Some(link.instance()) > self.last).or(links.first());
        if let Some(link) = next.filter(|_| !is_first) {
            self.last = Some(link.instance());
            node.tell_peers(link, &told);
        }
    }
}

/// Closes connections on which nothing has happened for a long time, where there are many.
fn close_idle(node: &Arc<NodeInner>, now: Instant) {
    let (links, is_large) = node.with_peers(|peers| (peers.links(), peers.is_large()));
    if !is_large || links.len() <= SMALL_CLUSTER {
        return;
    }
    for link in links.into_iter().filter(|link| link.is_dialer()) {
        if link.idle_for(now) >= IDLE_AFTER {
            spawn(&node.runtime, link.wind_down(GoAwayReason::Idle, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_half_of_the_handshakes_at_most() {
        let visits = Arc::default();
        let mut begun: Vec<_> = (0..2).map(|_| Visit::begin(&visits, "192.0.2.1:7", 4).unwrap()).collect();
        assert!(Visit::begin(&visits, "192.0.2.1:8", 4).is_none());
        assert!(Visit::begin(&visits, "[::ffff:192.0.2.1]:8", 4).is_none());
        begun.push(Visit::begin(&visits, "192.0.2.2:7", 4).unwrap());
        begun.extend((0..2).map(|n| Visit::begin(&visits, &format!("[2001:db8::{n}]:7"), 4).unwrap()));
        assert!(Visit::begin(&visits, "[2001:db8::9]:7", 4).is_none());
        for here in ["127.0.0.1:7", "[::1]:7", "/path/of/a/socket"] {
            begun.extend((0..9).map(|_| Visit::begin(&visits, here, 4).unwrap()));
        }
        drop(begun);
        assert!(lock(&visits).is_empty());
        assert!(Visit::begin(&visits, "192.0.2.1:8", 1).is_some());
    }
}
