//! What happens to the peers, as a stream without gaps, or one that says where a gap is.

use rmi_core::hello::InstanceId;
use tokio::sync::broadcast;

use super::PeerInfo;

/// Something that happened to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// The peers when the watch began: always the first event.
    View(Vec<PeerInfo>),
    /// A connection was made.
    Connected(PeerInfo),
    /// The last connection was lost. The peer is redialled if it listens.
    Lost(PeerInfo),
    /// It said goodbye.
    Left(PeerInfo),
    /// A new process has taken the place of one that was known.
    Restarted {
        /// The process that was.
        old: InstanceId,
        /// The peer now.
        new: PeerInfo,
    },
    /// Two live nodes have the same name. Both stay; `node.peer(name)` takes the newer one.
    NameConflict {
        /// The one that was known first.
        old: PeerInfo,
        /// The one that came.
        new: PeerInfo,
    },
    /// Events were missed because they were not fetched: these are the peers now.
    Resync(Vec<PeerInfo>),
}

/// The events of the peers of a node, from when it was asked for. Dropping it ends the watch.
#[derive(Debug)]
pub struct PeerEvents {
    first: Option<Vec<PeerInfo>>,
    receiver: broadcast::Receiver<PeerEvent>,
    node: std::sync::Weak<crate::node::NodeInner>,
}

impl PeerEvents {
    pub(crate) fn new(
        view: Vec<PeerInfo>,
        receiver: broadcast::Receiver<PeerEvent>,
        node: std::sync::Weak<crate::node::NodeInner>,
    ) -> Self {
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
