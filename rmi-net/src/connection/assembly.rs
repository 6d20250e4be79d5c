//! Messages that come in parts, put together.
//!
//! Bytes of a part go straight to where their message grows: [`Assembly::target`] is what the socket is read into while
//! a part is coming. A message takes the buffer of an earlier one, if there is one that suits ([`Spares`]). Else it grows
//! by what has come of it, never by what it announces alone: it has room for 256 KiB when its first part comes, and then
//! for four times what is there, as far as it goes. What may be open, and how much of it, is bounded; a peer that goes
//! beyond breaks the protocol.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use rmi_core::frame::{FrameHeader, HEADER_LEN, MAX_PAYLOAD, MIN_PART, frame_flag, split_opening};

use super::Connection;
use super::reader::{Fatal, NEVER_MADE};
use super::serving::Turn;
use super::window::Window;
use crate::spare::Spares;
use crate::sync::lock;

/// What is put together, by whether it is a response and by id.
pub(super) type Key = (bool, u64);

/// See the module. Owned by the reader.
#[repr(C)]
pub(super) struct Assembly {
    /// The part that is coming.
    coming: Option<Coming>,
    open: BTreeMap<Key, Open>,
    /// What the peer may send in parts.
    window: Window,
    connection: Arc<Connection>,
    n_open_requests: usize,
    /// Announced bytes of those of which a part has come.
    begun: u64,
    /// Buffers of earlier messages, of this connection and of others.
    spares: Arc<Spares>,
}

/// A message of which parts are missing.
struct Open {
    flags: u8,
    total: usize,
    bytes: Vec<u8>,
    is_begun: bool,
    turn: Option<Turn>,
    arriving: Option<Arriving>,
    came_at: Instant,
}

/// A part whose header was read.
struct Coming {
    key: Key,
    len: usize,
    n_left: usize,
    is_last: bool,
}

/// A message that is complete.
pub(super) struct Whole {
    pub(super) key: Key,
    pub(super) flags: u8,
    pub(super) bytes: Bytes,
    /// Its place in the row of a serial service.
    pub(super) turn: Option<Turn>,
    /// When it began to come: a request's deadline counts from there.
    pub(super) came_at: Instant,
    /// There for a request: to be claimed before it is run.
    pub(super) arriving: Option<Arriving>,
}

/// A request of which parts are missing: it was accepted, so the connection waits for it when it winds down.
pub(super) struct Arriving {
    connection: Arc<Connection>,
    id: u64,
}

impl Arriving {
    fn new(connection: &Arc<Connection>, id: u64) -> Self {
        lock(&connection.state).arriving.insert(id);
        Self { connection: Arc::clone(connection), id }
    }

    /// It is complete. Whether it is to be run, for nobody can refuse it any more: else its caller was told meanwhile that
    /// it will not be.
    pub(super) fn claim(&self) -> bool {
        lock(&self.connection.state).arriving.remove(&self.id)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        lock(&self.connection.state).arriving.remove(&self.id);
        self.connection.progress.ring();
    }
}

impl Assembly {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self {
            connection: Arc::clone(connection),
            open: BTreeMap::new(),
            n_open_requests: 0,
            begun: 0,
            window: Window::new(connection.limits.window(), connection.limits.reassembly()),
            coming: None,
            spares: connection.serving.host.spares(),
        }
    }

    pub(super) fn is_open(&self, key: Key) -> bool {
        self.open.contains_key(&key)
    }

    /// A message in parts begins. `turn` finds the place of a request in the row of its service, from its first bytes.
    pub(super) fn open(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        is_response: bool,
        turn: impl FnOnce(&[u8]) -> Option<Turn>,
    ) -> Result<(), Fatal> {
        let (total, first) = split_opening(payload)?;
        let total = usize::try_from(total).ok().filter(|total| *total <= self.connection.limits.message());
        let total = total.ok_or(Fatal::Protocol("a message is larger than this node takes"))?;
        if is_response {
            let pending = &mut lock(&self.connection.state).pending;
            if !pending.open_answer(header.id) {
                // Its caller is gone: its parts will be dropped.
                return if header.id <= pending.last_id() { Ok(()) } else { Err(NEVER_MADE) };
            }
        } else if self.n_open_requests >= self.connection.limits.calls_per_peer() {
            // Of answers there are never more than calls of this side.
            return Err(Fatal::TooMuch("more requests in parts at once than calls may run"));
        } else {
            self.n_open_requests += 1;
        }
        let open = Open {
            flags: header.flags,
            total,
            bytes: first.to_vec(),
            is_begun: false,
            turn: if is_response { None } else { turn(first) },
            came_at: self.connection.clock.now(),
            arriving: (!is_response).then(|| Arriving::new(&self.connection, header.id)),
        };
        self.open.insert((is_response, header.id), open);
        Ok(())
    }

    /// A part begins to come. `last_request` is the greatest id of a request so far.
    pub(super) fn begin_part(&mut self, header: FrameHeader, last_request: u64) -> Result<(), Fatal> {
        let len = header.payload_len;
        if !self.window.spend(len as u64, || self.connection.clock.now()) {
            return Err(Fatal::Protocol("more was sent in parts than there was credit"));
        }
        let has_more = header.has(frame_flag::MORE);
        if has_more && len < MIN_PART {
            return Err(Fatal::Protocol("a part is too small"));
        }
        let is_response = header.has(frame_flag::RESPONSE);
        let key = (is_response, header.id);
        self.coming = Some(Coming { key, len, n_left: len, is_last: !has_more });
        let Some(open) = self.open.get_mut(&key) else {
            let last = if is_response { lock(&self.connection.state).pending.last_id() } else { last_request };
            // Of a message that was cancelled or answered meanwhile: it is dropped.
            return if header.id <= last { Ok(()) } else { Err(Fatal::Protocol("a part of no message")) };
        };
        if !open.is_begun {
            open.is_begun = true;
            let reassembly = self.connection.limits.reassembly() as u64;
            if self.begun > 0 && self.begun + open.total as u64 > reassembly {
                return Err(Fatal::Protocol("more messages in parts at once than this node puts together"));
            }
            self.begun += open.total as u64;
        }
        let n = open.bytes.len() + len;
        if n > open.total || (n == open.total) == has_more {
            return Err(Fatal::Protocol("a message has not the length that it announced"));
        }
        // Room for the header behind the part too: one read takes both.
        if open.bytes.capacity() < n + HEADER_LEN {
            // It is looked for each time: one that was in use can come back while the message grows.
            match self.spares.take(open.total.saturating_add(HEADER_LEN)) {
                Some(mut spare) => {
                    spare.extend_from_slice(&open.bytes);
                    self.spares.give(std::mem::replace(&mut open.bytes, spare));
                }
                None => {
                    let capacity = (n * 4).max(MAX_PAYLOAD * 4).min(open.total) + HEADER_LEN;
                    open.bytes.reserve_exact(capacity - open.bytes.len());
                }
            }
        }
        Ok(())
    }

    /// Whether no message is coming in parts.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.coming.is_none()
    }

    /// Bytes that are missing of the part that is coming.
    pub(super) fn n_left(&self) -> Option<usize> {
        self.coming.as_ref().map(|coming| coming.n_left)
    }

    /// Where the missing bytes are to be read to, and those of the next header. `None` if no part is coming, or nobody
    /// wants it.
    pub(super) fn target(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let coming = self.coming.as_ref()?;
        let open = self.open.get_mut(&coming.key)?;
        Some((&mut open.bytes).limit(coming.n_left + HEADER_LEN))
    }

    /// So many bytes were read into the [`target`](Self::target). What is beyond the part goes to `buffer`.
    pub(super) fn filled(&mut self, n: usize, buffer: &mut BytesMut) {
        let Some(coming) = &mut self.coming else { return };
        let Some(open) = self.open.get_mut(&coming.key) else { return };
        let n_beyond = n.saturating_sub(coming.n_left);
        coming.n_left -= n - n_beyond;
        let end = open.bytes.len() - n_beyond;
        buffer.extend_from_slice(&open.bytes[end..]);
        open.bytes.truncate(end);
    }

    /// Takes the missing bytes off the front of what has come, as far as they are there.
    pub(super) fn feed(&mut self, buffer: &mut BytesMut) {
        let Some(coming) = &mut self.coming else { return };
        let bytes = buffer.split_to(coming.n_left.min(buffer.len()));
        coming.n_left -= bytes.len();
        if let Some(open) = self.open.get_mut(&coming.key) {
            open.bytes.extend_from_slice(&bytes);
        }
    }

    /// The end of a part that has come: the message, if it was its last.
    pub(super) fn end_part(&mut self) -> Option<Whole> {
        let Coming { key, len, is_last, .. } = self.coming.take_if(|coming| coming.n_left == 0)?;
        self.window.take(len as u64);
        if !is_last {
            return None;
        }
        let Open { flags, bytes, turn, came_at, arriving, .. } = self.close(key)?;
        Some(Whole { key, flags, bytes: self.spares.lend(bytes), turn, came_at, arriving })
    }

    /// Drops what has come of a message.
    pub(super) fn drop_open(&mut self, key: Key) {
        if let Some(open) = self.close(key) {
            self.spares.give(open.bytes);
        }
    }

    fn close(&mut self, key: Key) -> Option<Open> {
        let Entry::Occupied(entry) = self.open.entry(key) else { return None };
        let open = entry.remove();
        if let (false, _) = key {
            self.n_open_requests -= 1;
        }
        if open.is_begun {
            self.begun -= open.total as u64;
        }
        Some(open)
    }

    /// A call or an answer has come that is not large.
    pub(super) fn note_small(&mut self) {
        self.window.note_small();
    }

    /// The credit that is due to the peer.
    pub(super) fn take_due_credit(&mut self) -> Option<u64> {
        self.window.take_due(|| self.connection.clock.now())
    }
}
