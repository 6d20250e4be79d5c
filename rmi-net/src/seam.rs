//! Sockets, time and chance: everything that a node gets from outside comes through here.
//!
//! A node in a program uses [`SystemNet`](crate::transport::SystemNet), [`SystemClock`] and [`SystemRng`]. A
//! simulation puts its own in their place (`NodeBuilder::seams`), and then whole clusters run in virtual time, from a
//! seed.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::address::Address;
use crate::sync::{Mutex, lock};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection of the network below, in two halves that are used by different tasks.
pub struct Stream {
    /// What the other end sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes to the other end. Shutting it down ends the stream in this direction only.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The other end, for logs.
    pub remote: String,
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
        Box::pin(tokio::time::sleep_until(at.into()))
    }
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
