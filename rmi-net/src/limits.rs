//! What a node allows its peers and itself, and the table of times.

use std::time::Duration;

use rmi_core::hello::PeerLimits;

/// Silence after which a connection is pinged.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(10);
/// Silence after which a connection is dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(20);
/// How long data may wait to be taken by the other end.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(20);
/// How long a frame may take from its first byte to its last.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// How many connections one process may have with this node at a time. Two nodes need one, and a few while they find out
/// which one it is.
pub(crate) const CONNECTIONS_PER_PEER: usize = 8;
/// How long a connection without calls stays open where there are more than [`SMALL_CLUSTER`].
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(300);
/// Up to this many nodes keep a connection to each other.
pub(crate) const SMALL_CLUSTER: usize = 32;
/// For connecting and for the Hellos together.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closing connection is read to its end.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// How long an established connection may take to prove that it lives when another one wants its place.
pub(crate) const ALIVE_CHECK: Duration = Duration::from_secs(1);
/// How long `node.peer(..)` and `wait_for` wait.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a lost peer is redialled before it is forgotten.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a node allows, with defaults that suit most.
///
/// ```
/// # use rmi_net::Limits;
/// let limits = Limits::default().with_message(64 << 20).with_calls_per_peer(4096);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    message: usize,
    calls_per_peer: usize,
    running_calls: usize,
    waiting_calls: usize,
    window: usize,
    reassembly: usize,
    queue_frames: usize,
    queue_bytes: usize,
    memory_per_peer: usize,
    memory_per_node: usize,
    connections: usize,
    handshakes: usize,
    known_peers: usize,
    blocking_threads: usize,
    compute_threads: usize,
    waiting_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 8 << 20,
            calls_per_peer: 1024,
            running_calls: 8192,
            waiting_calls: 1024,
            window: 512 << 10,
            reassembly: 64 << 20,
            queue_frames: 16_384,
            queue_bytes: 4 << 20,
            memory_per_peer: 64 << 20,
            memory_per_node: 512 << 20,
            connections: 1024,
            handshakes: 128,
            known_peers: 4096,
            blocking_threads: 64,
            waiting_threads: 256,
            compute_threads: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident, $with:ident, $least:literal;)+) => {
        impl Limits {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self) -> usize {
                    self.$name
                }

                $(#[doc = $doc])+
                #[must_use]
                pub fn $with(mut self, $name: usize) -> Self {
                    self.$name = $name.max($least);
                    self
                }
            )+
        }
    };
}

limits! {
    /// The largest message in bytes, in both directions: 8 MiB. For some seconds a node keeps buffers of large messages for
    /// the next ones, as many bytes in all. At least 64 KiB.
    message, with_message, 65_536;
    /// The most calls of one peer that run at once: 1,024. The next one is refused with `Busy`. A peer with several
    /// connections has twice as many at most.
    calls_per_peer, with_calls_per_peer, 1;
    /// The most calls of all peers that run at once: 8,192. Quick methods that begin at the same time on several connections
    /// may exceed it, and what a peer or a node may hold of memory, by one call for each thread.
    running_calls, with_running_calls, 1;
    /// The most calls that wait on this side for a peer that is at its limit: 1,024. The next one is `Overloaded`.
    waiting_calls, with_waiting_calls, 0;
    /// The bytes of large messages that a peer may send before this node has taken them in: 512 KiB to begin with. On a long
    /// way it widens by itself, to 16 MiB and to a quarter of `reassembly` at most. Less lets small calls pass sooner. At
    /// least 64 KiB.
    window, with_window, 65_536;
    /// The bytes of large messages of one peer that are put together at once: 64 MiB. A single message may be larger.
    reassembly, with_reassembly, 1_048_576;
    /// The calls and answers that wait to be sent to one peer: 16,384. Further ones wait for room. Mostly the calls in
    /// flight are fewer.
    queue_frames, with_queue_frames, 1;
    /// The bytes that wait to be sent to one peer: 4 MiB. Calls and answers wait for room. A quarter is for messages up to
    /// 64 KiB, so they never wait for larger ones; a single large request or answer may be larger than all of it. Further
    /// large requests stay with their callers, and do not count.
    queue_bytes, with_queue_bytes, 65_536;
    /// The memory that the requests of one peer may hold until their methods have ended: 64 MiB.
    memory_per_peer, with_memory_per_peer, 65_536;
    /// The memory that all requests may hold until their methods have ended: 512 MiB.
    memory_per_node, with_memory_per_node, 65_536;
    /// The most connections that others have made to this node: 1,024.
    connections, with_connections, 1;
    /// The most connections that have not said who they are yet: 128. Further ones wait.
    handshakes, with_handshakes, 1;
    /// The most nodes that this node remembers: 4,096.
    known_peers, with_known_peers, 1;
    /// How many plain methods run at once: 64.
    blocking_threads, with_blocking_threads, 1;
    /// How many `#[rmi(cpu)]` methods run at once: one for each core.
    compute_threads, with_compute_threads, 1;
    /// How many plain methods, beside those that run, wait for calls of their own: 256. The call of one more is
    /// `Overloaded`. Each has its thread meanwhile, and a runtime, with all of its nodes, has 512 of them unless told
    /// otherwise.
    waiting_threads, with_waiting_threads, 1;
}

impl Limits {
    /// What the peers have to know.
    pub(crate) fn for_peers(&self) -> PeerLimits {
        PeerLimits {
            message: self.message as u64,
            in_flight: self.calls_per_peer as u64,
            window: self.window as u64,
            reassembly: self.reassembly as u64,
        }
    }
}
