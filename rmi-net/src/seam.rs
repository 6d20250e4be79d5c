//! Sockets, time and chance: everything that a node gets from outside comes through here.
//!
//! A node in a program uses [`SystemNet`](crate::transport::SystemNet), [`SystemClock`] and [`SystemRng`]. A
//! simulation puts its own in their place (`NodeBuilder::seams`), and then whole clusters run in virtual time, from a
//! seed.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::address::Address;
pub use crate::halves::{ReadHalf, WriteHalf};
use crate::sync::{Mutex, lock};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection of the network below, in two halves that are used by different tasks.
pub struct Stream {
    /// What the other end sends.
    pub reader: ReadHalf,
    /// What goes to the other end. Shutting it down ends the stream in this direction only.
    pub writer: WriteHalf,
    /// The other end, for logs.
    pub remote: String,
}

impl Stream {
    /// A stream of any kind.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        remote: String,
    ) -> Self {
        Self { reader: ReadHalf::Other(Box::new(reader)), writer: WriteHalf::Other(Box::new(writer)), remote }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Sockets.
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// Connects. Names are resolved anew each time. The caller bounds the time.
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>>;

    /// Listens, and says at which address.
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>>;
}

/// A socket that accepts connections. Dropping it frees the address.
pub trait Listener: Send + 'static {
    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;
}

/// Monotonic time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Instant;

    /// Ready at `at`. Can be polled on any thread.
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()>;
}

/// Chance.
pub trait Rng: fmt::Debug + Send + Sync + 'static {
    /// The next number.
    fn next_u64(&self) -> u64;
}

/// The clock of a tokio runtime. Its time stands still where tokio's is paused.
///
/// What sleeps is no timer of that runtime: one that has a timer looks at the clock twice more, and has the system start and
/// stop a timer, each time that it has nothing to do, which is twice in each call that is alone. So one thread of the process,
/// `rmi-timers`, keeps the time of all nodes. Only where time is paused the timers are the runtime's own.
#[derive(Debug)]
pub struct SystemClock {
    runtime: Handle,
}

impl SystemClock {
    /// The clock of this runtime.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        // A sleep belongs to the runtime in which it is made, wherever it is polled.
        let _entered = self.runtime.enter();
        let _entered = if is_time_real() { timers().map(Handle::enter) } else { None };
        Box::pin(tokio::time::sleep_until(at.into()))
    }
}

/// Whether the time of the current runtime is that of the system: neither paused, nor ever moved.
fn is_time_real() -> bool {
    let before = Instant::now();
    let now = tokio::time::Instant::now().into_std();
    before <= now && now <= Instant::now()
}

/// The runtime of the process's timers. `None` if there can be no thread for it.
fn timers() -> Option<&'static Handle> {
    static TIMERS: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("rmi-timers".to_owned()).spawn(run).ok()?;
        Some(handle)
    };
    TIMERS.get_or_init(start).as_ref()
}

/// Numbers from a generator that the system has seeded.
#[derive(Debug)]
pub struct SystemRng(Mutex<fastrand::Rng>);

impl Default for SystemRng {
    fn default() -> Self {
        Self(Mutex::new(fastrand::Rng::new()))
    }
}

impl SystemRng {
    /// Numbers from this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        lock(&self.0).u64(..)
    }
}

/// All three.
#[derive(Debug, Clone)]
pub struct Seams {
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn what_sleeps_is_no_timer_of_its_runtime() {
        // One without timers panics where it is asked for one.
        let runtime = Builder::new_current_thread().build().unwrap();
        let clock = SystemClock::new(runtime.handle().clone());
        let begun = Instant::now();
        runtime.block_on(clock.sleep_until(begun + Duration::from_millis(5)));
        assert!(begun.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn paused_time_stands_still_for_what_sleeps() {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let begun = Instant::now();
        runtime.block_on(async {
            let clock = SystemClock::new(Handle::current());
            clock.sleep_until(clock.now() + Duration::from_secs(3600)).await;
        });
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
