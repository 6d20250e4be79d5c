//! Who is there: the other nodes as data, and the table that this node keeps of them.

mod events;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use rmi_core::hello::{InstanceId, NodeRecord, Role};

pub use self::events::PeerEvent;
pub(crate) use self::table::{DialError, PeerTable, Target};

/// How a peer stands to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerState {
    /// Others have told of it; there has been no connection yet.
    Known,
    /// There is a connection.
    Connected,
    /// The connection was lost; it is redialled.
    Lost,
    /// It said goodbye.
    Left,
}

/// A peer as this node knows it: data, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub(crate) record: Arc<NodeRecord>,
    pub(crate) state: PeerState,
}

impl PeerInfo {
    /// Its name. Two nodes can have the same.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its process: a restart gives another one.
    pub fn instance(&self) -> InstanceId {
        self.record.instance
    }

    /// The kind of node, as its program calls it; empty if it does not.
    pub fn node_type(&self) -> &str {
        &self.record.node_type
    }

    /// Whether it listens, or is only a client.
    pub fn role(&self) -> Role {
        self.record.role
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> &[String] {
        &self.record.addresses
    }

    /// The name of its host.
    pub fn machine(&self) -> &str {
        &self.record.machine
    }

    /// Its process's number on that host.
    pub fn pid(&self) -> u32 {
        self.record.pid
    }

    /// The names of its services, as of its last Hello.
    pub fn services(&self) -> &[String] {
        &self.record.services
    }

    /// What its program says about it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.labels
    }

    /// How it stands to this node.
    pub fn state(&self) -> PeerState {
        self.state
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.state == PeerState::Connected
    }
}
