//! A clock that can be stopped, so that where a method runs does not depend on how slow the machine is.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rmi_net::seam::{BoxFuture, Clock, Seams, SystemRng};
use rmi_net::transport::SystemNet;

/// To be stopped once the nodes know each other. Under a tool that counts, or on a busy machine, methods would be found
/// too slow to run where their requests are read.
#[derive(Debug, Clone, Default)]
pub struct StoppedClock(Arc<OnceLock<Instant>>);

impl StoppedClock {
    /// From here on it is always now.
    pub fn stop(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// What a node has of it, with real sockets and chance.
    pub fn seams(&self) -> Seams {
        Seams { net: Arc::new(SystemNet), clock: Arc::new(self.clone()), rng: Arc::new(SystemRng::default()) }
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Instant {
        self.0.get().copied().unwrap_or_else(Instant::now)
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.saturating_duration_since(self.now())))
    }
}
