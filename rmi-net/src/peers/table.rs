//! Who we know, whether we are connected to them, and whom to knock on next.
//!
//! Pure state: no sockets, no clock, no tasks. Whoever changes it gets back what happened, as events.
//!
//! One entry per instance. An entry outlives its connections: a lost peer stays here so that it can be redialled, unless
//! there is no room for it. What others tell (hearsay) only adds entries; it never changes one whose Hello we have seen.
//!
//! Invariants: an instance has at most one canonical connection, the first of its row; this node is never in the table;
//! each target is dialled by one task at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmi_core::frame::GoAwayReason;
use rmi_core::hello::{InstanceId, NodeRecord, Role};

use super::{PeerEvent, PeerInfo, PeerState};
use crate::address::Address;
use crate::connection::Connection;
use crate::limits::{FORGET_AFTER, SMALL_CLUSTER};
use crate::mutant::{self, Mutant};

/// The first wait after a dial that failed.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that lived this long makes the next wait the first again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// The node with the lesser instance leaves the other this long to dial, so that they seldom do both.
const POLITE_WAIT: Duration = Duration::from_millis(250);
/// A node that others told of, and that did not answer this often, is forgotten. Who knows it tells again.
const MOST_TRIES: u32 = 12;
/// How many such nodes are dialled at once: what a peer tells makes this node knock at few doors at a time.
const MOST_HEARSAY_DIALS: usize = 8;
/// The longest name of a node that others told of, in bytes. Nodes themselves have at most 128 characters.
const LONGEST_NAME: usize = 512;
/// The longest address of such a node, in bytes: as long as a path of a Unix socket and a name in the DNS can be.
const LONGEST_ADDRESS: usize = 512;
/// How many addresses of such a node are kept.
const MOST_ADDRESSES: usize = 16;

/// Whom a dial is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// An address that the program gave.
    Seed(Address),
    /// A node that was or should be connected.
    Peer(InstanceId),
}

/// When to dial, and what came of it.
#[derive(Debug, Default)]
struct Dialing {
    /// Attempts since the last stable connection.
    n_tries: u32,
    next_at: Option<Instant>,
    /// A call waits for the connection.
    is_asked: bool,
    is_running: bool,
    /// Attempts that have ended, ever.
    n_ended: u64,
    last_error: Option<Arc<DialError>>,
}

/// Why a node could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{address}")]
pub(crate) struct DialError {
    pub(crate) address: String,
    #[source]
    pub(crate) source: Arc<dyn std::error::Error + Send + Sync>,
}

#[derive(Debug)]
struct Seed {
    address: Address,
    dialing: Dialing,
    /// Whom it led to. It is not knocked on while that one is connected.
    leads_to: Option<InstanceId>,
}

#[derive(Debug)]
struct Entry {
    record: Arc<NodeRecord>,
    state: PeerState,
    /// Its Hello was seen: hearsay changes nothing any more.
    is_proven: bool,
    /// Grows with each new instance: of two with one name the greater is the newer.
    age: u64,
    /// The canonical one first; the others go on until their calls have ended.
    links: Vec<Arc<Connection>>,
    linked_at: Option<Instant>,
    lost_at: Option<Instant>,
    dialing: Dialing,
}

impl Entry {
    fn info(&self) -> PeerInfo {
        PeerInfo { record: Arc::clone(&self.record), state: self.state }
    }

    /// A connection that takes calls, the canonical one if it does.
    fn link(&self) -> Option<&Arc<Connection>> {
        self.links.iter().find(|link| link.takes_calls())
    }
}

/// What became of a new connection.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) events: Vec<PeerEvent>,
    /// Connections that have lost to the new one, and that this side is to wind down.
    pub(crate) lost: Vec<Arc<Connection>>,
    /// The connection that has won against the new one, if it still lives.
    pub(crate) established: Option<Arc<Connection>>,
    /// Connections of processes with the name and an address of the new one: it has taken the place of those that do
    /// not answer, see [`PeerTable::settle_namesakes`].
    pub(crate) doubted: Vec<Arc<Connection>>,
    /// The peer was not connected before.
    pub(crate) is_new: bool,
}

#[derive(Debug)]
pub(crate) struct PeerTable {
    ours: InstanceId,
    our_addresses: Vec<String>,
    entries: BTreeMap<InstanceId, Entry>,
    seeds: Vec<Seed>,
    next_age: u64,
    most_peers: usize,
}

impl PeerTable {
    pub(crate) fn new(ours: InstanceId, our_addresses: Vec<String>, seeds: Vec<Address>, most_peers: usize) -> Self {
        let mut table =
            Self { ours, our_addresses, entries: BTreeMap::new(), seeds: Vec::new(), next_age: 0, most_peers };
        for address in seeds {
            if table.seed(&address).is_none() {
                table.seeds.push(Seed { address, dialing: Dialing::default(), leads_to: None });
            }
        }
        table
    }

    fn seed(&mut self, address: &Address) -> Option<&mut Seed> {
        self.seeds.iter_mut().find(|seed| seed.address == *address)
    }

    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        self.entries.values().map(Entry::info).collect()
    }

    /// A connection to this instance that takes calls.
    pub(crate) fn link(&self, instance: InstanceId) -> Option<Arc<Connection>> {
        self.entries.get(&instance)?.link().cloned()
    }

    /// The newest node with this name, connected ones first.
    pub(crate) fn find(&self, name: &str) -> Option<PeerInfo> {
        let named = self.entries.values().filter(|entry| entry.record.name == name);
        let best =
            named.max_by_key(|entry| (entry.link().is_some(), !matches!(entry.state, PeerState::Left), entry.age));
        best.map(Entry::info)
    }

    pub(crate) fn get(&self, instance: InstanceId) -> Option<PeerInfo> {
        self.entries.get(&instance).map(Entry::info)
    }

    /// Every connection.
    pub(crate) fn links(&self) -> Vec<Arc<Connection>> {
        self.entries.values().flat_map(|entry| &entry.links).cloned().collect()
    }

    /// Whether the cluster is too large for a connection to each peer.
    pub(crate) fn is_large(&self) -> bool {
        self.entries.values().filter(|entry| entry.record.role == Role::Member).count() >= SMALL_CLUSTER
    }

    /// Connections that others have made.
    pub(crate) fn n_accepted(&self) -> usize {
        self.entries.values().flat_map(|entry| &entry.links).filter(|link| !link.is_dialer()).count()
    }

    /// Connections with one process.
    pub(crate) fn n_links(&self, instance: InstanceId) -> usize {
        self.entries.get(&instance).map_or(0, |entry| entry.links.len())
    }

    /// The members that are connected: what is told to others.
    pub(crate) fn told(&self) -> Vec<Arc<NodeRecord>> {
        let told = |entry: &&Entry| entry.state == PeerState::Connected && entry.record.role == Role::Member;
        self.entries.values().filter(told).map(|entry| Arc::clone(&entry.record)).collect()
    }

    /// Somebody tells of nodes. Whether one of them is new.
    pub(crate) fn hear(&mut self, records: Vec<NodeRecord>, now: Instant) -> bool {
        let mut is_new = false;
        for record in records.into_iter().filter(is_modest).map(hearsay) {
            let is_ours = record.instance == self.ours;
            let is_of_use = record.role == Role::Member && !record.addresses.is_empty();
            if is_ours || !is_of_use || self.entries.contains_key(&record.instance) {
                continue;
            }
            if self.entries.len() >= self.most_peers {
                break;
            }
            let wait = polite_wait(self.ours, record.instance);
            let dialing = Dialing { next_at: Some(now + wait), ..Dialing::default() };
            self.insert(record, PeerState::Known, dialing);
            is_new = true;
        }
        is_new
    }

    fn insert(&mut self, record: NodeRecord, state: PeerState, dialing: Dialing) -> &mut Entry {
        self.next_age += 1;
        let entry = Entry {
            state,
            is_proven: false,
            age: self.next_age,
            links: Vec::new(),
            linked_at: None,
            lost_at: None,
            dialing,
            record: Arc::new(record),
        };
        let instance = entry.record.instance;
        self.entries.insert(instance, entry);
        // It was inserted just now.
        self.entries.get_mut(&instance).unwrap_or_else(|| unreachable!("an entry that was inserted is not there"))
    }

    /// A connection was made, by this node or the other.
    pub(crate) fn admit(&mut self, link: &Arc<Connection>, now: Instant) -> Admitted {
        let instance = link.instance();
        let mut admitted =
            Admitted { events: Vec::new(), lost: Vec::new(), established: None, doubted: Vec::new(), is_new: false };
        if !self.entries.contains_key(&instance) {
            self.insert(link.peer().clone(), PeerState::Known, Dialing::default());
        }
        let ours = self.ours;
        let Some(entry) = self.entries.get_mut(&instance) else { return admitted };
        // What the node itself says counts, and its latest word.
        entry.record = Arc::new(link.peer().clone());
        let was_connected = entry.state == PeerState::Connected;
        let (is_proven, info) = (std::mem::replace(&mut entry.is_proven, true), {
            entry.state = PeerState::Connected;
            entry.linked_at = Some(now);
            entry.lost_at = None;
            entry.dialing.is_asked = false;
            entry.info()
        });
        match entry.link().cloned() {
            Some(established) if !is_canonical(ours, link, &established) => {
                entry.links.push(Arc::clone(link));
                admitted.established = Some(established);
            }
            _ => {
                // Of two that the other side has dialled it alone knows which is the newer.
                let is_judged_here = |lost: &&Arc<Connection>| lost.is_dialer() || link.is_dialer();
                admitted.lost = entry.links.iter().filter(is_judged_here).cloned().collect();
                entry.links.insert(0, Arc::clone(link));
            }
        }
        if was_connected {
            return admitted;
        }
        admitted.is_new = true;
        let namesakes = if is_proven { Vec::new() } else { self.namesakes(&info) };
        let mut is_restart = false;
        for (old, has_our_place) in namesakes {
            let Some(entry) = self.entries.get_mut(&old) else { continue };
            match entry.links.first() {
                None => {
                    self.entries.remove(&old);
                    is_restart = true;
                    admitted.events.push(PeerEvent::Restarted { old, new: info.clone() });
                }
                Some(link) if has_our_place => admitted.doubted.push(Arc::clone(link)),
                Some(_) => admitted.events.push(PeerEvent::NameConflict { old: entry.info(), new: info.clone() }),
            }
        }
        if !is_restart {
            admitted.events.push(PeerEvent::Connected(info));
        }
        admitted
    }

    /// It was asked whether `old` still lives, beside `new` which has its name and its address. Gives back the
    /// connections of one that does not.
    pub(crate) fn settle_namesakes(
        &mut self,
        old: InstanceId,
        new: InstanceId,
        is_alive: bool,
    ) -> (Option<PeerEvent>, Vec<Arc<Connection>>) {
        let (Some(before), Some(after)) = (self.get(old), self.get(new)) else { return (None, Vec::new()) };
        if is_alive {
            return (Some(PeerEvent::NameConflict { old: before, new: after }), Vec::new());
        }
        let links = self.entries.remove(&old).map(|entry| entry.links).unwrap_or_default();
        (Some(PeerEvent::Restarted { old, new: after }), links)
    }

    /// Other processes with the name of this one, and whether they had one of its addresses.
    fn namesakes(&self, info: &PeerInfo) -> Vec<(InstanceId, bool)> {
        let shares_address =
            |entry: &Entry| entry.record.addresses.iter().any(|address| info.addresses().contains(address));
        let others = self.entries.iter().filter(|(instance, entry)| {
            **instance != info.instance() && entry.record.name == info.name() && entry.is_proven
        });
        others.map(|(instance, entry)| (*instance, shares_address(entry))).collect()
    }

    /// The established connection is dead: another takes its place.
    pub(crate) fn promote(&mut self, link: &Arc<Connection>) {
        let Some(entry) = self.entries.get_mut(&link.instance()) else { return };
        if let Some(idx) = entry.links.iter().position(|other| Arc::ptr_eq(other, link)) {
            let link = entry.links.remove(idx);
            entry.links.insert(0, link);
        }
    }

    /// The peer takes no new calls on a connection.
    pub(crate) fn goaway(&mut self, instance: InstanceId, reason: GoAwayReason) -> Option<PeerEvent> {
        let entry = self.entries.get_mut(&instance).filter(|_| reason == GoAwayReason::Shutdown)?;
        let was_connected = std::mem::replace(&mut entry.state, PeerState::Left) == PeerState::Connected;
        was_connected.then(|| PeerEvent::Left(entry.info()))
    }

    /// A connection has ended.
    pub(crate) fn closed(&mut self, link: &Connection, now: Instant) -> Option<PeerEvent> {
        let entry = self.entries.get_mut(&link.instance())?;
        entry.links.retain(|other| !std::ptr::eq(&**other, link));
        if !entry.links.is_empty() {
            return None;
        }
        let is_client = entry.record.role == Role::Client;
        if entry.state == PeerState::Left {
            self.entries.remove(&link.instance());
            return None;
        }
        entry.state = PeerState::Lost;
        entry.lost_at = Some(now);
        let was_stable = entry.linked_at.is_some_and(|at| now.saturating_duration_since(at) >= STABLE_AFTER);
        if was_stable {
            entry.dialing.n_tries = 0;
        }
        let at = now + polite_wait(self.ours, link.instance());
        // One that comes and goes is waited for longer and longer.
        let next_at = entry.dialing.next_at.filter(|_| !was_stable).map_or(at, |next| next.max(at));
        entry.dialing.next_at = Some(next_at);
        let event = PeerEvent::Lost(entry.info());
        if is_client {
            // Nobody can dial it. It comes again by itself.
            self.entries.remove(&link.instance());
        }
        self.forget_surplus();
        Some(event)
    }

    /// Forgets nodes that are not connected until no more are left than may be remembered: first those that were never
    /// seen, of which whoever knows them tells again, then those that were lost longest ago; last those that are called.
    fn forget_surplus(&mut self) {
        while self.entries.len() > self.most_peers {
            let can_go = self.entries.iter().filter(|(_, entry)| entry.links.is_empty());
            // What was never seen was never lost, and so comes first.
            let first = can_go.min_by_key(|(_, entry)| (entry.dialing.is_asked, entry.lost_at));
            let Some(first) = first.map(|(instance, _)| *instance) else { return };
            self.entries.remove(&first);
        }
    }

    /// The dials that are due, each with its addresses, and the time of the next one. They count as running from now on.
    pub(crate) fn due(&mut self, now: Instant) -> (Vec<(Target, Vec<String>)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        let mut look = |dialing: &mut Dialing, target: Target, addresses: &[String]| {
            let at = dialing.next_at.unwrap_or(now);
            if at <= now {
                dialing.is_running = true;
                dialing.is_asked = false;
                due.push((target, addresses.to_vec()));
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        };
        let connected: Vec<InstanceId> =
            self.entries.iter().filter(|(_, e)| e.state == PeerState::Connected).map(|(id, _)| *id).collect();
        let reached: Vec<&String> = self
            .entries
            .values()
            .filter(|e| e.state == PeerState::Connected)
            .flat_map(|e| &e.record.addresses)
            .collect();
        for seed in &mut self.seeds {
            let text = seed.address.to_string();
            let is_ours = seed.leads_to == Some(self.ours) || self.our_addresses.contains(&text);
            let is_reached = seed.leads_to.is_some_and(|peer| connected.contains(&peer)) || reached.contains(&&text);
            if !seed.dialing.is_running && !is_ours && !is_reached {
                look(&mut seed.dialing, Target::Seed(seed.address.clone()), &[text]);
            }
        }
        self.entries.retain(|_, entry| {
            let is_stale = entry.lost_at.is_some_and(|at| now.saturating_duration_since(at) >= FORGET_AFTER);
            let is_hopeless = !entry.is_proven && entry.dialing.n_tries >= MOST_TRIES;
            entry.dialing.is_running || entry.state == PeerState::Connected || !(is_stale || is_hopeless)
        });
        // Larger clusters dial when there is something to call.
        let keeps_links = !self.is_large();
        let is_hearsay_dial = |entry: &&Entry| !entry.is_proven && entry.dialing.is_running;
        let mut n_left = MOST_HEARSAY_DIALS.saturating_sub(self.entries.values().filter(is_hearsay_dial).count());
        let mut entries: Vec<_> = self.entries.iter_mut().collect();
        // Whoever has waited longest is first.
        entries.sort_unstable_by_key(|(instance, entry)| (entry.dialing.next_at, **instance));
        for (instance, entry) in entries {
            let can_be = !entry.dialing.is_running && !entry.record.addresses.is_empty() && entry.link().is_none();
            let is_wanted = match entry.state {
                PeerState::Known | PeerState::Lost => keeps_links || entry.dialing.is_asked,
                // Its connection winds down, and mostly another is about to come.
                PeerState::Connected => entry.dialing.is_asked,
                PeerState::Left => false,
            };
            let is_hearsay = !entry.is_proven && !entry.dialing.is_asked;
            if is_hearsay && n_left == 0 && entry.dialing.next_at.is_none_or(|at| at <= now) {
                // It is looked at again when one of the others has ended.
                continue;
            }
            if can_be && is_wanted {
                look(&mut entry.dialing, Target::Peer(*instance), &entry.record.addresses);
                if is_hearsay && entry.dialing.is_running {
                    n_left -= 1;
                }
            }
        }
        (due, next)
    }

    /// A dial has ended. `jitter` is from 0 to 1.
    pub(crate) fn dialled(
        &mut self,
        target: &Target,
        outcome: Result<InstanceId, Arc<DialError>>,
        now: Instant,
        jitter: f64,
    ) {
        let dialing = match target {
            Target::Seed(address) => match self.seed(address) {
                Some(seed) => {
                    if let Ok(instance) = &outcome {
                        seed.leads_to = Some(*instance);
                    }
                    &mut seed.dialing
                }
                None => return,
            },
            Target::Peer(instance) => match self.entries.get_mut(instance) {
                Some(entry) => &mut entry.dialing,
                None => return,
            },
        };
        dialing.is_running = false;
        dialing.n_ended += 1;
        let longest = FIRST_WAIT.as_secs_f64() * 1.6f64.powi(dialing.n_tries.min(30) as i32);
        let wait = Duration::from_secs_f64(longest.min(LONGEST_WAIT.as_secs_f64()) * jitter);
        dialing.n_tries = dialing.n_tries.saturating_add(1);
        dialing.next_at = Some(now + wait);
        dialing.last_error = outcome.as_ref().err().cloned();
        // Another process answers where a lost one was: the lost one is gone.
        if let (Target::Peer(instance), Ok(found)) = (target, &outcome)
            && instance != found
            && self.entries.get(instance).is_some_and(|entry| entry.links.is_empty())
        {
            self.entries.remove(instance);
        }
    }

    /// A call wants a peer that is not connected: it is dialled at once, unless that is under way. Gives back how many
    /// dials have ended before.
    pub(crate) fn ask(&mut self, instance: InstanceId, now: Instant) -> Option<u64> {
        let entry = self.entries.get_mut(&instance)?;
        let can_be_dialled = !entry.record.addresses.is_empty() && entry.state != PeerState::Left;
        if !can_be_dialled {
            return None;
        }
        if !entry.dialing.is_running && !entry.dialing.is_asked {
            // The other side mostly winds down a connection because it has another, which will be here at once.
            let wait = if entry.links.is_empty() { Duration::ZERO } else { POLITE_WAIT };
            entry.dialing.is_asked = true;
            entry.dialing.next_at = Some(now + wait);
        }
        Some(entry.dialing.n_ended)
    }

    /// The error of the last dial, if more than `n_ended` have ended.
    pub(crate) fn dial_error(&self, instance: InstanceId, n_ended: u64) -> Option<Arc<DialError>> {
        let dialing = &self.entries.get(&instance)?.dialing;
        dialing.last_error.clone().filter(|_| dialing.n_ended > n_ended)
    }

    /// The last error of each seed that leads nowhere.
    pub(crate) fn seed_errors(&self) -> Vec<Arc<DialError>> {
        self.seeds.iter().filter_map(|seed| seed.dialing.last_error.clone()).collect()
    }

    /// Whether all seeds were knocked on and none answered, at least `n` times each.
    pub(crate) fn seeds_failed(&self, n: u64) -> bool {
        let failed = |seed: &Seed| seed.dialing.n_ended >= n && seed.dialing.last_error.is_some();
        !self.seeds.is_empty() && self.seeds.iter().all(failed)
    }

    /// Empties the table: the node ends. Gives back the connections.
    pub(crate) fn clear(&mut self) -> Vec<Arc<Connection>> {
        self.seeds.clear();
        std::mem::take(&mut self.entries).into_values().flat_map(|entry| entry.links).collect()
    }
}

/// Whether the names in a record that others have told are as short as names are.
fn is_modest(record: &NodeRecord) -> bool {
    record.name.len() <= LONGEST_NAME && record.node_type.len() <= LONGEST_NAME
}

/// What is kept of a record that others have told: enough to dial the node, which says the rest itself.
fn hearsay(told: NodeRecord) -> NodeRecord {
    let mut record = NodeRecord::new(told.instance, told.name);
    record.role = told.role;
    record.node_type = told.node_type;
    record.addresses = told.addresses.into_iter().filter(|text| text.len() <= LONGEST_ADDRESS).collect();
    record.addresses.truncate(MOST_ADDRESSES);
    record.addresses.shrink_to_fit();
    record
}

/// How long this node leaves it to the other to dial: the one with the greater instance goes first.
fn polite_wait(ours: InstanceId, theirs: InstanceId) -> Duration {
    if ours > theirs { Duration::ZERO } else { POLITE_WAIT }
}

/// Which of two connections between the same processes is canonical: the same on both ends, whatever order they came in.
///
/// The one that the greater instance has dialled; of two that the same has dialled the newer, for it would not have
/// dialled again if the older was any good. (Erlang's distribution decides by the greater name.)
fn is_canonical(ours: InstanceId, new: &Connection, established: &Connection) -> bool {
    let dialer = |link: &Connection| if link.is_dialer() { ours } else { link.instance() };
    if mutant::is(Mutant::EachEndKeepsItsOwn) {
        return new.is_dialer();
    }
    dialer(new) >= dialer(established)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PeerTable {
        PeerTable::new(InstanceId(1), Vec::new(), Vec::new(), 4096)
    }

    fn record(instance: u64) -> NodeRecord {
        let mut record = NodeRecord::new(InstanceId(instance), format!("node-{instance}"));
        record.role = Role::Member;
        record.addresses = vec![format!("tcp://127.0.0.1:{instance}")];
        record
    }

    #[test]
    fn of_hearsay_no_more_is_kept_than_is_needed_to_dial() {
        let mut table = table();
        let mut told = record(2);
        told.services = vec!["Service".to_owned(); 1000];
        told.labels.insert("label".to_owned(), "value".repeat(1000));
        told.addresses = (0..1000).map(|n| format!("tcp://127.0.0.1:{n}")).collect();
        told.addresses[0] = format!("tcp://{}", "a".repeat(10_000));
        let mut long = record(3);
        long.name = "n".repeat(10_000);
        assert!(table.hear(vec![told, long], Instant::now()));
        let infos = table.infos();
        assert_eq!(infos.len(), 1, "{infos:?}");
        let info = &infos[0];
        assert_eq!((info.name(), info.services().len(), info.labels().len()), ("node-2", 0, 0));
        assert_eq!((info.addresses().len(), info.addresses()[0].as_str()), (MOST_ADDRESSES, "tcp://127.0.0.1:1"));
    }

    #[test]
    fn few_of_whom_others_tell_are_dialled_at_once() {
        let (mut table, now) = (table(), Instant::now());
        assert!(table.hear((2..22).map(record).collect(), now));
        let later = now + POLITE_WAIT;
        let mut seen = std::collections::BTreeSet::new();
        let mut running = Vec::new();
        while seen.len() < 20 {
            let (due, next) = table.due(later);
            running.extend(due.into_iter().map(|(target, _)| target));
            assert_eq!(running.len(), MOST_HEARSAY_DIALS.min(20 - seen.len()));
            // Nobody is waited for who is not dialled for want of room.
            assert!(next.is_none_or(|next| next > later));
            let target = running.remove(0);
            let failed = DialError { address: String::new(), source: Arc::from(Box::from("nobody is there")) };
            table.dialled(&target, Err(Arc::new(failed)), later, 1.0);
            assert!(seen.insert(target));
        }
        // Whom the program calls is dialled all the same.
        assert!(table.hear((30..40).map(record).collect(), now));
        assert_eq!(table.due(later).0.len(), MOST_HEARSAY_DIALS);
        let asked = table.entries.values().find(|entry| !entry.dialing.is_running && entry.dialing.n_ended == 0);
        let asked = asked.unwrap().record.instance;
        assert!(table.ask(asked, later).is_some());
        assert_eq!(table.due(later).0[0].0, Target::Peer(asked));
    }

    #[test]
    fn in_a_large_cluster_only_who_is_called_is_dialled() {
        let (mut table, now) = (table(), Instant::now());
        let n = SMALL_CLUSTER as u64;
        assert!(table.hear((2..=n).map(record).collect(), now));
        assert!(!table.is_large());
        assert!(table.hear(vec![record(n + 1)], now));
        assert!(table.is_large());
        let later = now + Duration::from_secs(60);
        assert_eq!(table.due(later), (Vec::new(), None));
        assert_eq!(table.ask(InstanceId(7), later), Some(0));
        let wanted = (Target::Peer(InstanceId(7)), record(7).addresses);
        assert_eq!(table.due(later), (vec![wanted], None));
        let failed = DialError { address: String::new(), source: Arc::from(Box::from("nobody is there")) };
        table.dialled(&Target::Peer(InstanceId(7)), Err(Arc::new(failed)), later, 0.5);
        assert_eq!(table.due(later + Duration::from_secs(60)), (Vec::new(), None));
    }
}
