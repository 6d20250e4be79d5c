//! What [`Node::snapshot`](crate::Node::snapshot) tells: plain values, as of one moment.
//!
//! Nothing is counted or kept for it that is not needed anyway; who asks pays for the answer.

use std::time::Duration;

use rmi_core::hello::InstanceId;

/// What a node has in hand, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The connections, ordered by the name of the peer.
    pub connections: Vec<ConnectionSnapshot>,
    /// Methods that run, for whatever peer, of [`Limits::with_running_calls`](crate::Limits::with_running_calls); one that
    /// begins where its request is read counts when it waits. They count until they have ended, cancelled or not, also where their connection has ended before.
    pub running_calls: usize,
    /// Bytes of memory that their requests hold, of
    /// [`Limits::with_memory_per_node`](crate::Limits::with_memory_per_node).
    pub memory: usize,
    /// Places of plain methods that are in use, of
    /// [`Limits::with_blocking_threads`](crate::Limits::with_blocking_threads).
    pub blocking_threads: usize,
    /// Places of `#[rmi(cpu)]` methods that are in use, of
    /// [`Limits::with_compute_threads`](crate::Limits::with_compute_threads).
    pub compute_threads: usize,
    /// Threads of methods that wait for calls of their own, of
    /// [`Limits::with_waiting_threads`](crate::Limits::with_waiting_threads).
    pub waiting_threads: usize,
}

/// What a connection has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// The peer's name.
    pub peer: String,
    /// The peer's process.
    pub instance: InstanceId,
    /// Whether this node has dialled.
    pub is_dialer: bool,
    /// Whether new calls go out on it.
    pub takes_calls: bool,
    /// Calls of this node that have not been answered, or whose answers were not fetched.
    pub pending_calls: usize,
    /// Calls of this node that wait for room: for a place at the peer, or in the queue to it.
    pub waiting_calls: usize,
    /// Methods that run for the peer, cancelled or not; one that begins where its request is read counts when it waits.
    pub running_calls: usize,
    /// Those of them whose answer is still wanted, in the order in which their requests were begun.
    pub methods: Vec<MethodSnapshot>,
    /// Bytes of memory that the requests of the peer hold, over all of its connections, of
    /// [`Limits::with_memory_per_peer`](crate::Limits::with_memory_per_peer).
    pub memory: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
}

/// A method that runs for a peer, or waits for its turn or its thread.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodSnapshot {
    /// Its name: `"Service.method"`.
    pub method: String,
    /// The name of the peer that has called it.
    pub caller: String,
    /// How long ago its request was complete.
    pub age: Duration,
    /// How long it may still take, if it has a deadline.
    pub remaining: Option<Duration>,
}
