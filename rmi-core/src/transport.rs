//! The seam that the network layer fills: how an invocation gets to its peer and its answer back.
//!
//! [`Transport::start`] takes a request and gives back how it stands. In the ordinary case that is a [`Ticket`]: the
//! request is on its way, and the ticket is the future of the answer. Nothing in this path allocates. Dropping a ticket
//! that has no answer yet abandons the call.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::exception::CallError;
use crate::message::{Request, Response};

/// How a call ends: with the peer's response, or given up on this side.
pub type Outcome = Result<Response, CallError>;

/// A way to a peer.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Starts a call. Called once for each invocation, when it is first polled or sent; `waker` is that of who polls.
    ///
    /// The request is lent, for moving it costs more than encoding it: who needs it for longer [takes](Request::take) it.
    fn start(&self, request: &mut Request, waker: Option<&Waker>) -> Started;

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
    /// The caller does not want the answer any more.
    fn abandon(&self, id: u64);
}

/// Where the outcome of one call is handed over.
pub trait Handover: Send + Sync + 'static {
    /// The outcome, once, if it is there; else whom to wake when it is.
    fn poll_outcome(&self, context: &mut Context<'_>) -> Poll<Outcome>;

    /// The outcome was taken: nobody will ask again.
    fn release(self: Arc<Self>);
}

/// A call that is under way: the future of its outcome. Dropping it abandons the call.
pub struct Ticket {
    link: Arc<dyn Link>,
    /// `None` once the outcome was taken.
    handover: Option<Arc<dyn Handover>>,
    id: u64,
    /// The waker of who polls for the first time is known.
    is_watched: bool,
    /// Something that lives as long as the call: a tracing span.
    companion: Option<Box<dyn Any + Send>>,
}

impl Ticket {
    /// The call `id` on `link`. `is_watched`: it was started by who polls it, whose waker `handover` has.
    pub fn new(link: Arc<dyn Link>, id: u64, handover: Arc<dyn Handover>, is_watched: bool) -> Self {
        Self { link, handover: Some(handover), id, is_watched, companion: None }
    }

    /// Whether who has started the call need not poll it now: asked once.
    #[inline]
    pub(crate) fn take_watched(&mut self) -> bool {
        std::mem::take(&mut self.is_watched)
    }

    /// The same with something that lives until the call has ended or is abandoned.
    #[must_use]
    pub fn with_companion(mut self, companion: Box<dyn Any + Send>) -> Self {
        self.companion = Some(companion);
        self
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.take_watched() {
            return Poll::Pending;
        }
        // A future is not polled again once it was ready.
        let Some(handover) = &self.handover else { return Poll::Pending };
        let outcome = ready!(handover.poll_outcome(context));
        if let Some(handover) = self.handover.take() {
            handover.release();
        }
        self.companion = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.handover.is_some() {
            self.link.abandon(self.id);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}
