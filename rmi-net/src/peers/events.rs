//! What can happen to a peer.

use rmi_core::hello::InstanceId;

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
