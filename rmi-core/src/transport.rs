//! The seam that the network layer fills: how an invocation gets to its peer and its answer back.
//!
//! [`Transport::start`] takes a request and gives back how it stands. In the ordinary case that is a [`Ticket`]: the
//! request is on its way, and the ticket is polled for the answer. Nothing in this path allocates. Dropping a ticket
//! that has no answer yet abandons the call.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::exception::CallError;
use crate::message::{Request, Response};

/// How a call ends: with the peer's response, or given up on this side.
pub type Outcome = Result<Response, CallError>;

/// A way to a peer.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Starts a call. Called once for each invocation, when it is first polled or sent.
    fn start(&self, request: Request) -> Started;

    /// The name of the peer, for errors.
    fn peer_name(&self) -> Arc<str>;

    /// Whether this thread may be blocked until an answer comes.
    fn may_block(&self) -> bool;
}

/// How a call stands.
pub enum Started {
    /// On its way.
    Sent(Ticket),
    /// It cannot go out yet: this future gets it going.
    Later(Pin<Box<dyn Future<Output = Started> + Send>>),
    /// Over.
    Ended(Outcome),
}

impl Started {
    /// A call that was given up before it went out.
    pub fn refused(error: CallError) -> Self {
        Self::Ended(Err(error))
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Started::Sent(_) => "Sent",
            Started::Later(_) => "Later",
            Started::Ended(_) => "Ended",
        })
    }
}

/// A connection, as far as a call that is under way needs it.
pub trait Link: Send + Sync + 'static {
    /// Whether the call has ended. Once it is ready, `id` must not be asked for again.
    fn poll_outcome(&self, id: u64, context: &mut Context<'_>) -> Poll<Outcome>;

    /// The caller does not want the answer any more.
    fn abandon(&self, id: u64);
}

/// A call that is under way. Dropping it abandons the call.
pub struct Ticket {
    link: Option<Arc<dyn Link>>,
    id: u64,
    /// Something that lives as long as the call: a tracing span.
    companion: Option<Box<dyn Any + Send>>,
}

impl Ticket {
    /// The call `id` on `link`.
    pub fn new(link: Arc<dyn Link>, id: u64) -> Self {
        Self { link: Some(link), id, companion: None }
    }

    /// The same with something that lives until the call has ended or is abandoned.
    #[must_use]
    pub fn with_companion(mut self, companion: Box<dyn Any + Send>) -> Self {
        self.companion = Some(companion);
        self
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        // A future is not polled again once it was ready, and the link is only given away then.
        let Some(link) = &self.link else { return Poll::Pending };
        let outcome = link.poll_outcome(self.id, context);
        if outcome.is_ready() {
            self.link = None;
            self.companion = None;
        }
        outcome
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.abandon(self.id);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}
