//! Frames: the pieces in which messages travel on a connection. See `docs/wire.md`.
//!
//! ```text
//! u32 LE length of the rest | u8 type | u8 flags | u64 LE id | payload
//! ```
//!
//! This module knows bytes, not connections: it reads and writes headers and the payloads of the small control frames.

use bytes::{BufMut, BytesMut};

/// What each end sends first. The first byte is never MessagePack; the line end shows a channel that rewrites text.
pub const PREAMBLE: [u8; 8] = *b"\xc1RMI/1\r\n";

/// The oldest and the newest version of the protocol that this code speaks.
pub const VERSIONS: (u64, u64) = (1, 1);

/// Bytes in front of each payload.
pub const HEADER_LEN: usize = 14;

/// The largest payload of a frame. A message that is larger travels in parts.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// The most bytes of a message in the frame that opens it, if parts follow. They need no credit.
pub const MAX_OPENING: usize = 4 << 10;

/// The fewest bytes in a part that is not the last one.
pub const MIN_PART: usize = 4 << 10;

/// The largest Hello.
pub const MAX_HELLO: usize = 16 << 10;

/// Types of frames. Those below 0x80 are skipped when unknown, others end the connection.
pub mod frame_type {
    /// Means nothing: a request that was taken back before it went out.
    pub const PAD: u8 = 0x00;
    /// Whom the sender knows.
    pub const PEERS: u8 = 0x01;
    /// Reserved: membership gossip.
    pub const GOSSIP: u8 = 0x02;
    /// Who the sender is; the first frame in each direction.
    pub const HELLO: u8 = 0x80;
    /// A call, or the opening of one.
    pub const REQUEST: u8 = 0x81;
    /// The answer to a call, or the opening of one.
    pub const RESPONSE: u8 = 0x82;
    /// More of a message.
    pub const PART: u8 = 0x83;
    /// Credit for more bytes in parts.
    pub const WINDOW: u8 = 0x84;
    /// The caller does not want the answer any more.
    pub const CANCEL: u8 = 0x85;
    /// No new calls on this connection, or the reason why it closes.
    pub const GOAWAY: u8 = 0x86;
    /// Asks for a pong with the same id.
    pub const PING: u8 = 0x87;
    /// The answer to a ping.
    pub const PONG: u8 = 0x88;
    /// Reserved: an item of a stream, and 0x91 to 0x93 for its end, its credit and its reset.
    pub const STREAM_ITEM: u8 = 0x90;
}

/// Flags of frames. Unknown ones mean nothing.
pub mod frame_flag {
    /// Parts follow.
    pub const MORE: u8 = 0x01;
    /// On a part: it belongs to a response.
    pub const RESPONSE: u8 = 0x02;
    /// On a response: the body is an exception.
    pub const EXCEPTION: u8 = 0x04;
    /// On a request or a response: the message begins with the lengths of its attachments.
    pub const ATTACHMENTS: u8 = 0x08;
}

/// What stands in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub payload_len: usize,
    /// See [`frame_type`].
    pub frame_type: u8,
    /// See [`frame_flag`].
    pub flags: u8,
    /// The call, or what the type says.
    pub id: u64,
}

/// A frame that nobody may send: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is smaller than the header or larger than a frame may be.
    #[error("a frame of {0} bytes is not allowed")]
    BadLength(u32),
    /// A type that must be understood and is not.
    #[error("frame type {0:#04x} is unknown")]
    UnknownType(u8),
    /// The payload of a control frame is not what its type demands.
    #[error("the payload of a frame of type {0:#04x} is malformed")]
    BadPayload(u8),
}

impl FrameHeader {
    /// A header without flags.
    pub fn new(frame_type: u8, id: u64, payload_len: usize) -> Self {
        Self { payload_len, frame_type, flags: 0, id }
    }

    /// The same with flags.
    #[must_use]
    pub fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// Reads a header; `None` if there are too few bytes yet.
    ///
    /// # Errors
    /// [`FrameError::BadLength`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            // A length that cannot be is told before the rest of the header comes.
            if let Some((len, _)) = bytes.split_first_chunk::<4>() {
                Self::payload_len(u32::from_le_bytes(*len))?;
            }
            return Ok(None);
        };
        let [l0, l1, l2, l3, frame_type, flags, id @ ..] = *header;
        Ok(Some(Self {
            payload_len: Self::payload_len(u32::from_le_bytes([l0, l1, l2, l3]))?,
            frame_type,
            flags,
            id: u64::from_le_bytes(id),
        }))
    }

    fn payload_len(length: u32) -> Result<usize, FrameError> {
        let payload_len = (length as usize).checked_sub(HEADER_LEN - 4);
        payload_len.filter(|len| *len <= MAX_PAYLOAD).ok_or(FrameError::BadLength(length))
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&self.length());
        bytes[4] = self.frame_type;
        bytes[5] = self.flags;
        bytes[6..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// What it begins with: how many bytes follow.
    fn length(&self) -> [u8; 4] {
        // A payload is at most `MAX_PAYLOAD`.
        ((self.payload_len + HEADER_LEN - 4) as u32).to_le_bytes()
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame whose payload is written by `payload`; its length is filled in after that.
pub fn put_frame(out: &mut BytesMut, frame_type: u8, flags: u8, id: u64, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&FrameHeader { payload_len: 0, frame_type, flags, id }.encode());
    payload(out);
    let header = FrameHeader { payload_len: out.len() - start - HEADER_LEN, frame_type, flags, id };
    if let Some(length) = out[start..].first_chunk_mut() {
        *length = header.length();
    }
}

/// Writes a frame whose payload is there already.
#[inline]
pub fn put_whole_frame(out: &mut BytesMut, frame_type: u8, flags: u8, id: u64, payload: &[u8]) {
    out.reserve(HEADER_LEN + payload.len());
    out.put_slice(&FrameHeader { payload_len: payload.len(), frame_type, flags, id }.encode());
    out.put_slice(payload);
}

/// Why a peer takes no new calls, or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoAwayReason {
    /// The node shuts down. Calls up to the given id are answered.
    Shutdown,
    /// There is another connection between the two nodes; this one goes on until its calls have ended.
    Duplicate,
    /// The connection was idle.
    Idle,
    /// The peer broke the protocol.
    Protocol,
    /// The peer asks for more than it may.
    TooMuch,
    /// The two nodes belong to different clusters.
    ForeignCluster,
    /// The two ends are the same node.
    SelfConnect,
    /// No version of the protocol, or a feature that is needed, is missing.
    Version,
    /// A reason that this version does not know.
    Other(u64),
}

impl GoAwayReason {
    /// The number on the wire.
    pub fn code(self) -> u64 {
        match self {
            GoAwayReason::Shutdown => 0,
            GoAwayReason::Duplicate => 1,
            GoAwayReason::Idle => 2,
            GoAwayReason::Protocol => 3,
            GoAwayReason::TooMuch => 4,
            GoAwayReason::ForeignCluster => 5,
            GoAwayReason::SelfConnect => 6,
            GoAwayReason::Version => 7,
            GoAwayReason::Other(code) => code,
        }
    }

    /// The reason with this number.
    pub fn from_code(code: u64) -> Self {
        match code {
            0 => GoAwayReason::Shutdown,
            1 => GoAwayReason::Duplicate,
            2 => GoAwayReason::Idle,
            3 => GoAwayReason::Protocol,
            4 => GoAwayReason::TooMuch,
            5 => GoAwayReason::ForeignCluster,
            6 => GoAwayReason::SelfConnect,
            7 => GoAwayReason::Version,
            code => GoAwayReason::Other(code),
        }
    }
}

/// The payload of a goaway: a map with integer keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// Calls with greater ids were not and will not be executed.
    pub last_accepted: u64,
    /// For people.
    pub message: String,
}

impl GoAway {
    /// Writes the payload.
    pub fn encode(&self, out: &mut BytesMut) {
        use crate::pack;
        pack::map(out, 2 + usize::from(!self.message.is_empty()));
        pack::uint(out, 0);
        pack::uint(out, self.reason.code());
        pack::uint(out, 1);
        pack::uint(out, self.last_accepted);
        if !self.message.is_empty() {
            pack::uint(out, 2);
            pack::str(out, &self.message);
        }
    }

    /// Reads the payload. Unknown keys are skipped.
    ///
    /// # Errors
    /// [`FrameError::BadPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        use crate::scan::{ScanError, Scanner};
        let read = || {
            let mut goaway = Self { reason: GoAwayReason::Shutdown, last_accepted: u64::MAX, message: String::new() };
            let mut scanner = Scanner::new(payload);
            for _ in 0..scanner.map()? {
                match Scanner::new(scanner.value()?).uint() {
                    Ok(0) => goaway.reason = GoAwayReason::from_code(scanner.uint()?),
                    Ok(1) => goaway.last_accepted = scanner.uint()?,
                    Ok(2) => scanner.str()?.clone_into(&mut goaway.message),
                    _ => drop(scanner.value()?),
                }
            }
            scanner.finish()?;
            Ok::<_, ScanError>(goaway)
        };
        read().map_err(|_| FrameError::BadPayload(frame_type::GOAWAY))
    }
}

/// Reads the payload of a window: how many bytes of credit are given.
///
/// # Errors
/// [`FrameError::BadPayload`].
pub fn decode_window(payload: &[u8]) -> Result<u64, FrameError> {
    payload.try_into().map(u64::from_le_bytes).map_err(|_| FrameError::BadPayload(frame_type::WINDOW))
}

/// Takes the message's length off the payload of an opening.
///
/// # Errors
/// [`FrameError::BadPayload`] if it is missing, or no bytes of the message follow it, or too many, or all.
pub fn split_opening(payload: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    let (total, first) = payload.split_first_chunk().ok_or(FrameError::BadPayload(frame_type::REQUEST))?;
    let total = u64::from_le_bytes(*total);
    if first.is_empty() || first.len() > MAX_OPENING || first.len() as u64 >= total {
        return Err(FrameError::BadPayload(frame_type::REQUEST));
    }
    Ok((total, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_whose_payload_is_there_is_written_as_one_whose_payload_is_yet_to_be_written() {
        let (mut whole, mut other) = (BytesMut::new(), BytesMut::new());
        for len in [0, 1, 30, 255, 256, MAX_PAYLOAD] {
            let payload = vec![7; len];
            put_whole_frame(&mut whole, frame_type::RESPONSE, frame_flag::EXCEPTION, len as u64, &payload);
            put_frame(&mut other, frame_type::RESPONSE, frame_flag::EXCEPTION, len as u64, |out| {
                out.put_slice(&payload)
            });
            assert_eq!(whole, other);
        }
    }
}
