//! What a node offers: its services by name, the pools on which methods run, and the budgets that bound them.
//!
//! One per node, shared by its connections. A name is looked up once, as a whole (`"Service.method"`); a bare method
//! name resolves where exactly one service has it. Services come and go at run time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use rmi_core::descriptor::{Execution, MethodDescriptor, ServiceDescriptor};
use rmi_core::frame::HEADER_LEN;
use rmi_core::kind::Kind;
use rmi_core::message::MAX_METHOD_NAME;
use rmi_core::rejection::Rejection;
use rmi_core::scope::Slot;
use rmi_core::service::AnyService;
use rmi_core::suggest;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::PeerBudgets;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::snapshot::{ConnectionSnapshot, Snapshot};
use crate::spare::Spares;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Bell, Mutex, lock};

/// The name of the service that each node has.
pub(crate) const BUILT_IN: &str = "rmi";

/// Memory that a decoded value needs beyond its bytes on the wire.
pub(crate) const BYTES_PER_VALUE: usize = 64;

#[derive(Debug)]
pub(crate) struct Host {
    node: Arc<str>,
    services: RwLock<Services>,
    /// Changes with the services: what was found before may be found anew.
    generation: AtomicU64,
    /// Methods that run.
    n_running: AtomicUsize,
    /// Bytes that the requests of running methods hold.
    memory: AtomicUsize,
    /// What each peer uses.
    pub(crate) budgets: PeerBudgets,
    limits: Arc<Limits>,
    blocking: Arc<Semaphore>,
    compute: Arc<Semaphore>,
    /// Methods that have given their place in a pool back while they wait.
    waiting: Arc<Semaphore>,
    /// Told when the last method that ran has ended.
    idle: Bell,
    /// Owned by the readers of the connections.
    spares: Mutex<Weak<Spares>>,
}

#[derive(Default)]
struct Services {
    by_name: BTreeMap<String, Arc<dyn AnyService>>,
    /// By `"Service.method"`.
    methods: HashMap<String, Arc<Method>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

/// A method that is offered.
pub(crate) struct Method {
    pub(crate) service: Arc<dyn AnyService>,
    service_descriptor: &'static ServiceDescriptor,
    pub(crate) descriptor: &'static MethodDescriptor,
    /// `"Service.method"`.
    pub(crate) full_name: Arc<str>,
    /// How long it keeps a thread, as far as it has shown.
    pub(crate) pace: Pace,
    /// What each call looks at, of the two descriptors.
    pub(crate) execution: Execution,
    pub(crate) is_no_cancel: bool,
    pub(crate) is_serial: bool,
    /// Needs no role.
    is_for_all: bool,
}

impl Method {
    fn new(
        service: Arc<dyn AnyService>,
        service_descriptor: &'static ServiceDescriptor,
        descriptor: &'static MethodDescriptor,
        full_name: Arc<str>,
    ) -> Self {
        Self {
            execution: descriptor.execution(),
            is_no_cancel: descriptor.is_no_cancel(),
            is_serial: service_descriptor.is_serial(),
            is_for_all: service_descriptor.allowed_role().is_none() && descriptor.allowed_role().is_none(),
            service,
            service_descriptor,
            descriptor,
            full_name,
            pace: Pace::default(),
        }
    }

    /// The name under which the service is offered here.
    pub(crate) fn service_name(&self) -> &str {
        self.full_name.rsplit_once('.').map_or("", |(service, _)| service)
    }

    /// Whether a caller with these roles may call it.
    pub(crate) fn allows(&self, roles: &[String]) -> bool {
        let has = |role: Option<&str>| role.is_none_or(|role| roles.iter().any(|held| held == role));
        self.is_for_all || has(self.service_descriptor.allowed_role()) && has(self.descriptor.allowed_role())
    }
}

/// Why a service cannot be offered.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The name is taken.
    #[error("a service named `{0}` is offered already: `unserve` it first, or use `serve_as` with another name")]
    NameTaken(String),
    /// The name is not allowed.
    #[error(
        "`{0}` cannot be the name of a service: it must be 1 to 128 characters without blanks, and not begin with `rmi`"
    )]
    BadName(String),
}

impl Host {
    pub(crate) fn new(node: Arc<str>, limits: impl Into<Arc<Limits>>) -> Self {
        let limits = limits.into();
        Self {
            node,
            services: RwLock::default(),
            generation: AtomicU64::new(0),
            n_running: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            budgets: PeerBudgets::default(),
            blocking: Arc::new(Semaphore::new(limits.blocking_threads())),
            compute: Arc::new(Semaphore::new(limits.compute_threads())),
            waiting: Arc::new(Semaphore::new(limits.waiting_threads())),
            idle: Bell::new(),
            spares: Mutex::default(),
            limits,
        }
    }

    /// The name of the node.
    pub(crate) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Offers a service.
    pub(crate) fn serve(&self, name: &str, service: Arc<dyn AnyService>) -> Result<(), ServeError> {
        let is_bad = name.is_empty() || name.len() > 128 || name.chars().any(char::is_whitespace);
        if is_bad || name.starts_with(BUILT_IN) {
            return Err(ServeError::BadName(name.to_owned()));
        }
        self.serve_any(name, service)
    }

    /// Offers a service under any name.
    pub(crate) fn serve_any(&self, name: &str, service: Arc<dyn AnyService>) -> Result<(), ServeError> {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.by_name.contains_key(name) {
            return Err(ServeError::NameTaken(name.to_owned()));
        }
        let service_descriptor = service.descriptor();
        for descriptor in service_descriptor.methods() {
            let full_name: Arc<str> = format!("{name}.{}", descriptor.name()).into();
            let key = full_name.to_string();
            let method = Method::new(Arc::clone(&service), service_descriptor, descriptor, full_name);
            services.methods.insert(key, Arc::new(method));
        }
        services.by_name.insert(name.to_owned(), service);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Takes a service away; calls that run go on. Whether it was there.
    pub(crate) fn unserve(&self, name: &str) -> bool {
        if name == BUILT_IN {
            return false;
        }
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        let was_there = services.by_name.remove(name).is_some();
        services.methods.retain(|_, method| method.service_name() != name);
        self.generation.fetch_add(1, Ordering::AcqRel);
        was_there
    }

    /// The services, by name, without the built-in one.
    pub(crate) fn services(&self) -> Vec<(String, &'static ServiceDescriptor)> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let offered = services.by_name.iter().filter(|(name, _)| *name != BUILT_IN);
        offered.map(|(name, service)| (name.clone(), service.descriptor())).collect()
    }

    /// A number that has changed if the services have.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds a method by its whole name, or by its bare name where that is unique.
    pub(crate) fn resolve(&self, name: &str) -> Result<Arc<Method>, Rejection> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = services.methods.get(name) {
            return Ok(Arc::clone(method));
        }
        let not_found = |message| Err(Rejection::new(Kind::NoSuchMethod, message));
        if name.len() > MAX_METHOD_NAME {
            return not_found("the name of the method is too long".to_owned());
        }
        match name.rsplit_once('.') {
            Some((service, method)) => not_found(self.explain(&services, service, method)),
            None => {
                let mut found: Vec<&Arc<Method>> = services
                    .methods
                    .values()
                    .filter(|method| method.descriptor.name() == name && method.service_name() != BUILT_IN)
                    .collect();
                found.sort_unstable_by(|a, b| a.full_name.cmp(&b.full_name));
                match found.as_slice() {
                    [] => {
                        let methods = services.methods.values();
                        let names = methods.filter(|m| m.service_name() != BUILT_IN).map(|m| m.descriptor.name());
                        let hint = did_you_mean(suggest::closest(name, names));
                        not_found(format!("no service of node `{}` has a method `{name}`{hint}", self.node))
                    }
                    [method] => Ok(Arc::clone(method)),
                    several => {
                        let names: Vec<_> = several.iter().map(|method| format!("`{}`", method.full_name)).collect();
                        not_found(format!("`{name}` is not unique: write {}", names.join(" or ")))
                    }
                }
            }
        }
    }

    fn explain(&self, services: &Services, service: &str, method: &str) -> String {
        match services.by_name.get(service) {
            Some(found) => {
                let names = found.descriptor().methods().iter().map(|method| method.name());
                let hint = did_you_mean(suggest::closest(method, names));
                format!("service `{service}` has no method `{method}`{hint}")
            }
            None => {
                let names = services.by_name.keys().map(String::as_str);
                let hint = did_you_mean(suggest::closest(service, names));
                format!("node `{}` has no service `{service}`{hint}", self.node)
            }
        }
    }

    /// Takes what a call needs, or says that the node is busy.
    pub(crate) fn admit(self: &Arc<Self>, memory: usize) -> Result<Admission, Rejection> {
        self.take(memory)?;
        Ok(Admission { host: Arc::clone(self), memory })
    }

    /// Whether there is what a call needs, or that the node is busy.
    pub(crate) fn look(&self, memory: usize) -> Result<(), Rejection> {
        self.check(self.n_running.load(Ordering::Acquire), self.memory.load(Ordering::Acquire), memory)
    }

    /// As [`admit`](Self::admit), for who [gives it back](Self::give_back) without being reminded.
    pub(crate) fn take(&self, memory: usize) -> Result<(), Rejection> {
        let held = self.memory.fetch_add(memory, Ordering::AcqRel);
        let n_running = self.n_running.fetch_add(1, Ordering::AcqRel);
        self.check(n_running, held, memory).inspect_err(|_| self.give_back(memory))
    }

    /// The same for a call that has begun already, when there [was](Self::look) enough: others may have taken it since.
    pub(crate) fn take_begun(&self, memory: usize) {
        self.memory.fetch_add(memory, Ordering::AcqRel);
        self.n_running.fetch_add(1, Ordering::AcqRel);
    }

    fn check(&self, n_running: usize, held: usize, memory: usize) -> Result<(), Rejection> {
        let busy = |message| Err(Rejection::new(Kind::Busy, message));
        if n_running >= self.limits.running_calls() {
            return busy(format!(
                "{n_running} calls run on node `{}`: try again later, or raise `Limits::with_running_calls` there",
                self.node
            ));
        }
        // One message always fits an empty budget.
        if held > 0 && held.saturating_add(memory) > self.limits.memory_per_node() {
            return busy(format!(
                "the requests on node `{}` hold {held} bytes: try again later, or raise `Limits::with_memory_per_node` \
                 there",
                self.node
            ));
        }
        Ok(())
    }

    /// Gives back what a call has taken, once.
    pub(crate) fn give_back(&self, memory: usize) {
        self.memory.fetch_sub(memory, Ordering::AcqRel);
        if self.n_running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.ring();
        }
    }

    /// Buffers that are kept for large messages, for the reader of a connection: as many bytes as the largest message
    /// needs, with room for the header behind its last part.
    pub(crate) fn spares(&self) -> Arc<Spares> {
        let mut spares = lock(&self.spares);
        spares.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Spares::new(self.limits.message().saturating_add(HEADER_LEN)));
            *spares = Arc::downgrade(&new);
            new
        })
    }

    /// Lets go of buffers that no message has taken for a while. When to look again, for who was the first to see one.
    pub(crate) fn expire_spares(&self, now: Instant) -> Option<Instant> {
        let spares = lock(&self.spares).upgrade();
        spares?.expire(now)
    }

    /// What is in use of the node's limits, beside its connections.
    pub(crate) fn snapshot(&self, connections: Vec<ConnectionSnapshot>) -> Snapshot {
        let in_use = |places: &Semaphore, limit: usize| limit.saturating_sub(places.available_permits());
        Snapshot {
            connections,
            running_calls: self.n_running.load(Ordering::Acquire),
            memory: self.memory.load(Ordering::Acquire),
            blocking_threads: in_use(&self.blocking, self.limits.blocking_threads()),
            compute_threads: in_use(&self.compute, self.limits.compute_threads()),
            waiting_threads: in_use(&self.waiting, self.limits.waiting_threads()),
        }
    }

    /// Waits until no method runs.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.listen();
            if self.n_running.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.rung().await;
        }
    }

    /// Waits for a thread's place in the pool for methods of this kind, if they run on one.
    pub(crate) async fn slot(&self, execution: Execution, runtime: &Handle) -> Option<Arc<dyn Slot>> {
        let pool = match execution {
            Execution::Blocking => &self.blocking,
            Execution::Compute => &self.compute,
            _ => return None,
        };
        // The pool is never closed.
        let permit = Arc::clone(pool).acquire_owned().await.ok()?;
        Some(Arc::new(PoolSlot {
            pool: Arc::clone(pool),
            waiting: Arc::clone(&self.waiting),
            permit: Mutex::new(Some(permit)),
            runtime: runtime.clone(),
        }))
    }
}

fn did_you_mean(candidate: Option<&str>) -> String {
    candidate.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// A running call's part of the node's budgets. Lives as long as the method.
#[derive(Debug)]
pub(crate) struct Admission {
    host: Arc<Host>,
    pub(crate) memory: usize,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.host.give_back(self.memory);
    }
}

/// A thread's place in a pool.
///
/// While a method waits for a call it gives its place to another, which may be the one that it waits for; its thread it
/// cannot give. So that threads do not run out, there is an end to those that wait.
#[derive(Debug)]
struct PoolSlot {
    pool: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    runtime: Handle,
}

impl Slot for PoolSlot {
    fn give_back(&self) -> bool {
        let Ok(waiting) = self.waiting.try_acquire() else { return false };
        // Until it has its place again.
        waiting.forget();
        drop(lock(&self.permit).take());
        true
    }

    fn take_again(&self) {
        // The pool is never closed. Without a permit the method goes on all the same: it is one thread too many.
        let permit = self.runtime.block_on(Arc::clone(&self.pool).acquire_owned()).ok();
        *lock(&self.permit) = permit;
        self.waiting.add_permits(1);
    }
}
