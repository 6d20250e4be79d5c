//! What happens to the peers, as a stream without gaps, or one that says where a gap is.

use std::sync::Weak;

use tokio::sync::broadcast;

use super::inner::NodeInner;
use crate::peers::{PeerEvent, PeerInfo};

/// The events of the peers of a node, from when it was asked for. Dropping it ends the watch.
#[derive(Debug)]
pub struct PeerEvents {
    first: Option<Vec<PeerInfo>>,
    receiver: broadcast::Receiver<PeerEvent>,
    node: Weak<NodeInner>,
}

impl PeerEvents {
    pub(crate) fn new(view: Vec<PeerInfo>, receiver: broadcast::Receiver<PeerEvent>, node: Weak<NodeInner>) -> Self {
        Self { first: Some(view), receiver, node }
    }

    /// The next event; `None` when the node was shut down.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        if let Some(view) = self.first.take() {
            return Some(PeerEvent::View(view));
        }
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let node = self.node.upgrade()?;
                let (view, receiver) = node.view_and_events();
                self.receiver = receiver;
                Some(PeerEvent::Resync(view))
            }
        }
    }
}
