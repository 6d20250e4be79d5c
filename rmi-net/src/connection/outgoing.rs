//! What waits to be sent on a connection: small frames in their order, large messages in parts between them.
//!
//! Pure state: the writer takes bytes out, everybody else puts frames in. Small frames (calls, answers, cancels, pings)
//! stand in one buffer and leave in the order in which they came, so a cancel never overtakes its request. Messages
//! above [`MAX_PAYLOAD`] leave in parts, one part of each in turn, as far as the peer's credit goes.
//!
//! What waits is bounded, and nothing small waits for what is large: a quarter of the queue is for small frames alone.
//! Of large requests and of large answers one each goes in, however large it is. A large request whose body finds no
//! room takes its place in the order all the same: its opening leaves at once. Its body is held back, for its caller and
//! not as part of the queue, until those before it have left.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use rmi_core::frame::{FrameHeader, HEADER_LEN, MAX_OPENING, MAX_PAYLOAD, MIN_PART, frame_flag, frame_type, put_frame};

use crate::limits::Limits;
use crate::mutant::{self, Mutant};

/// So many bytes of small frames are worth a write of their own: the peer begins with them while this side goes on.
pub(super) const WORTH_A_WRITE: usize = 8 << 10;
/// Most parts that leave in one write: small frames wait for no more than that.
const PARTS_PER_WRITE: usize = 4;

/// A message that is sent in parts.
#[derive(Debug)]
struct Bulk {
    id: u64,
    is_response: bool,
    /// What is left of it.
    rest: VecDeque<Bytes>,
    n_left: u64,
    total: u64,
    /// A part of it was sent, so it counts towards what the peer puts together.
    is_begun: bool,
}

/// A large message whose last part has left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) id: u64,
    pub(super) is_response: bool,
}

/// See the module. What each small frame touches comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Outgoing {
    small: BytesMut,
    n_small: usize,
    /// How many bytes were taken out of `small` before its first one.
    base: u64,
    /// Small frames, and bytes, that were taken out by the last [`fill`](Self::fill) and are not known to be written.
    n_in_hand: usize,
    in_hand: InHand,
    /// Small frames and bytes that take up room before they are here.
    set_aside: (usize, u64),
    /// How much may wait.
    most_frames: usize,
    most_bytes: u64,
    /// What is left of the large requests and of the large answers.
    bulk_left: [u64; 2],
    /// How many writes' worth of small frames were seen by [`has_grown`](Self::has_grown).
    n_writes_seen: usize,
    /// Something waits that could not be written when it was last tried.
    is_stuck: bool,
    bulk: VecDeque<Bulk>,
    /// Bodies of large requests for which there was no room.
    held_back: VecDeque<Bulk>,
    credit: u64,
    /// Totals of the messages that are begun.
    begun: u64,
    reassembly: u64,
}

/// Bytes that were taken out and are not known to be written.
#[derive(Debug, Default)]
struct InHand {
    small: u64,
    parts: u64,
}

impl Outgoing {
    /// A queue within these limits, to a peer that gives this much credit at first and puts this much together.
    pub(super) fn new(limits: &Limits, credit: u64, reassembly: u64) -> Self {
        Self {
            small: BytesMut::new(),
            n_small: 0,
            base: 0,
            n_in_hand: 0,
            in_hand: InHand::default(),
            bulk: VecDeque::new(),
            bulk_left: [0; 2],
            held_back: VecDeque::new(),
            credit,
            begun: 0,
            reassembly,
            most_frames: limits.queue_frames(),
            most_bytes: limits.queue_bytes() as u64,
            set_aside: (0, 0),
            n_writes_seen: 0,
            is_stuck: false,
        }
    }

    /// Adds a small frame. Gives back where its bytes stand in the stream.
    pub(super) fn push(
        &mut self,
        frame_type: u8,
        flags: u8,
        id: u64,
        payload: impl FnOnce(&mut BytesMut),
    ) -> (u64, u64) {
        let start = self.end();
        self.n_small += 1;
        put_frame(&mut self.small, frame_type, flags, id, payload);
        (start, self.end())
    }

    /// Sets room aside for so many small frames, if there is. Who has it [appends](Self::append) them.
    pub(super) fn set_aside(&mut self, n_frames: usize, n_bytes: usize) -> bool {
        let has_room = self.small_fit(n_frames, n_bytes as u64);
        if has_room {
            self.set_aside = (n_frames, n_bytes as u64);
        }
        has_room
    }

    /// Adds whole small frames for which room was set aside, and leaves what held them empty. The room that they do not
    /// need is free again.
    pub(super) fn append(&mut self, frames: &mut BytesMut, n_frames: usize) {
        self.set_aside = (0, 0);
        self.n_small += n_frames;
        if self.small.is_empty() && !frames.is_empty() {
            std::mem::swap(&mut self.small, frames);
        } else {
            self.small.extend_from_slice(frames);
        }
        frames.clear();
    }

    /// Adds a message of any size: one frame if it fits, else its opening now and the rest in parts.
    ///
    /// Gives back where the frame's bytes stand in the stream, and whether parts follow.
    pub(super) fn push_message(
        &mut self,
        frame_type: u8,
        flags: u8,
        id: u64,
        head: BytesMut,
        attachments: &[Bytes],
    ) -> ((u64, u64), bool) {
        let total = head.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        let segments = std::iter::once(head.freeze()).chain(attachments.iter().cloned());
        if total <= MAX_PAYLOAD {
            let place =
                self.push(frame_type, flags, id, |out| segments.for_each(|bytes| out.extend_from_slice(&bytes)));
            return (place, false);
        }
        let mut rest: VecDeque<Bytes> = segments.filter(|bytes| !bytes.is_empty()).collect();
        let place = self.push(frame_type, flags | frame_flag::MORE, id, |out| {
            out.extend_from_slice(&(total as u64).to_le_bytes());
            take(&mut rest, MAX_OPENING, |bytes| out.extend_from_slice(&bytes));
        });
        let (n_left, total) = ((total - MAX_OPENING) as u64, total as u64);
        let is_response = frame_type == frame_type::RESPONSE;
        let bulk = Bulk { id, is_response, rest, n_left, total, is_begun: false };
        if is_response || self.held_back.is_empty() && self.has_room_for_large(n_left, false) {
            self.admit(bulk);
        } else {
            self.held_back.push_back(bulk);
        }
        (place, true)
    }

    /// Takes a small frame back that has not left yet. Whether it was still there.
    pub(super) fn take_back(&mut self, start: u64) -> bool {
        let Some(at) = start.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return false };
        // The type is the byte after the length. The frame stays where it is, and means nothing.
        match self.small.get_mut(at + 4) {
            Some(frame_type) => {
                *frame_type = frame_type::PAD;
                true
            }
            None => false,
        }
    }

    /// Drops what is left of a large message. Whether something was left.
    pub(super) fn drop_bulk(&mut self, id: u64, is_response: bool) -> bool {
        let begun = self.cut_bulk(id, is_response);
        self.release(begun.unwrap_or(0));
        begun.is_some()
    }

    /// The same for a message that the peer goes on to put together until it is told: so many bytes of what it can put
    /// together are to be [released](Self::release) then. `None` if nothing was left.
    pub(super) fn cut_bulk(&mut self, id: u64, is_response: bool) -> Option<u64> {
        let is_it = |bulk: &Bulk| bulk.id == id && bulk.is_response == is_response;
        if let Some(idx) = self.held_back.iter().position(is_it) {
            self.held_back.remove(idx);
            self.admit_held_back();
            return Some(0);
        }
        let idx = self.bulk.iter().position(is_it)?;
        let bulk = self.bulk.remove(idx)?;
        self.bulk_left[usize::from(is_response)] -= bulk.n_left;
        self.admit_held_back();
        self.is_stuck &= self.n_bytes() > 0;
        Some(if bulk.is_begun { bulk.total } else { 0 })
    }

    fn admit(&mut self, bulk: Bulk) {
        self.bulk_left[usize::from(bulk.is_response)] += bulk.n_left;
        self.bulk.push_back(bulk);
    }

    /// Takes in the bodies for which there is room by now.
    fn admit_held_back(&mut self) {
        while self.held_back.front().is_some_and(|bulk| self.has_room_for_large(bulk.n_left, false)) {
            let Some(bulk) = self.held_back.pop_front() else { return };
            self.admit(bulk);
        }
    }

    /// The peer does not put a message together any more.
    pub(super) fn release(&mut self, begun: u64) {
        self.begun = self.begun.saturating_sub(begun);
    }

    /// The peer has room for more.
    pub(super) fn add_credit(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes);
    }

    /// Bytes that wait, or are being written.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_small_bytes() + self.bulk_left.iter().sum::<u64>() + self.in_hand.small + self.in_hand.parts
    }

    /// The same with what was set aside.
    fn n_taken_bytes(&self) -> u64 {
        self.n_bytes() + self.set_aside.1
    }

    /// Small frames that wait, are being written, or have room set aside.
    fn n_small_frames(&self) -> usize {
        self.n_small + self.n_in_hand + self.set_aside.0
    }

    /// The same with large messages.
    fn n_frames(&self) -> usize {
        self.n_small_frames() + self.bulk.len()
    }

    /// Whether an answer of this size may be added.
    pub(super) fn has_room_for_answer(&self, n_bytes: usize) -> bool {
        match n_bytes {
            ..=MAX_PAYLOAD => self.has_room_for_small(n_bytes),
            _ => self.has_room_for_small(MAX_OPENING) && self.has_room_for_large(n_bytes as u64, true),
        }
    }

    /// Whether a request of this size may be added. The body of a large one waits apart if it has to, for its caller: a
    /// one-way call goes out without one.
    pub(super) fn has_room_for_request(&self, n_bytes: usize, one_way: bool) -> bool {
        if n_bytes <= MAX_PAYLOAD {
            return self.has_room_for_small(n_bytes);
        }
        let is_held_back = !self.held_back.is_empty() || !self.has_room_for_large(n_bytes as u64, false);
        self.has_room_for_small(MAX_OPENING) && !(one_way && is_held_back)
    }

    /// A single one may be larger than its share.
    fn has_room_for_small(&self, n_bytes: usize) -> bool {
        self.n_small_frames() == 0 || self.small_fit(1, n_bytes as u64)
    }

    /// Whether so much fits into the quarter for small frames, or into what is left of all.
    fn small_fit(&self, n_frames: usize, n_bytes: u64) -> bool {
        let bytes = self.n_small_bytes() + self.in_hand.small + self.set_aside.1;
        self.n_small_frames() + n_frames <= self.most_frames / 4 && bytes + n_bytes <= self.most_bytes / 4
            || self.n_frames() + n_frames <= self.most_frames && self.n_taken_bytes() + n_bytes <= self.most_bytes
    }

    /// A single one may be larger than all that may wait.
    fn has_room_for_large(&self, n_bytes: u64, is_response: bool) -> bool {
        let leaves_a_quarter = self.n_frames() < self.most_frames - self.most_frames / 4
            && self.n_taken_bytes() + n_bytes <= self.most_bytes - self.most_bytes / 4;
        self.bulk_left[usize::from(is_response)] == 0 || leaves_a_quarter
    }

    /// So many of the bytes that were taken out are written.
    pub(super) fn written(&mut self, n_small: usize, n_parts: usize) {
        self.in_hand.small = self.in_hand.small.saturating_sub(n_small as u64);
        self.in_hand.parts = self.in_hand.parts.saturating_sub(n_parts as u64);
        if self.in_hand.small == 0 {
            self.n_in_hand = 0;
        }
        self.admit_held_back();
    }

    /// Whether small frames that were taken out are all there is, and none was ever in the way of another.
    pub(super) fn is_in_hand(&self) -> bool {
        self.is_empty() && self.in_hand.parts == 0 && !self.is_stuck
    }

    /// What was taken out counts as written. How many small frames that were.
    pub(super) fn leave_hand(&mut self) -> usize {
        self.in_hand = InHand::default();
        std::mem::take(&mut self.n_in_hand)
    }

    /// Small frames that were taken out are not written after all.
    pub(super) fn take_in_hand(&mut self, n_frames: usize, n_bytes: usize) {
        self.n_in_hand = n_frames;
        self.in_hand.small = n_bytes as u64;
    }

    /// Bytes of small frames that wait.
    pub(super) fn n_small_bytes(&self) -> u64 {
        self.small.len() as u64
    }

    /// Whether small frames have come to wait since this was last asked that are [worth a write](WORTH_A_WRITE), and
    /// one has a chance.
    pub(super) fn has_grown(&mut self) -> bool {
        let n_writes = self.small.len() / WORTH_A_WRITE;
        n_writes > std::mem::replace(&mut self.n_writes_seen, n_writes) && !self.is_stuck
    }

    /// It was tried to write everything. Whether something waits now that did not before.
    pub(super) fn note_stuck(&mut self) -> bool {
        let is_stuck = self.n_bytes() > 0;
        let was_stuck = std::mem::replace(&mut self.is_stuck, is_stuck);
        is_stuck && !was_stuck
    }

    /// Whether something waits that could not be written when it was last tried.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Whether the writer could take something.
    pub(super) fn has_work(&self) -> bool {
        !self.small.is_empty() || (0..self.bulk.len()).any(|idx| self.part_len(idx).is_some())
    }

    /// Whether a large message waits, in whole or in part.
    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty() || !self.held_back.is_empty()
    }

    /// Whether nothing waits at all.
    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && !self.has_bulk()
    }

    /// Moves the small frames to `head` and the next parts to `tail`. What was taken out before must be written.
    pub(super) fn fill(&mut self, head: &mut BytesMut, tail: &mut VecDeque<Bytes>, finished: &mut Vec<Finished>) {
        self.base += self.small.len() as u64;
        self.n_in_hand = std::mem::take(&mut self.n_small);
        self.in_hand = InHand { small: self.small.len() as u64, parts: 0 };
        std::mem::swap(head, &mut self.small);
        self.small.clear();
        self.n_writes_seen = 0;
        let n_parts = if mutant::is(Mutant::GiantMessageInOneGo) { usize::MAX } else { PARTS_PER_WRITE };
        for _ in 0..n_parts {
            let Some((idx, len)) = (0..self.bulk.len()).find_map(|idx| Some((idx, self.part_len(idx)?))) else {
                return;
            };
            // The found one goes to the end of the row, behind those that cannot go on either.
            let Some(mut bulk) = self.bulk.remove(idx) else { return };
            if !bulk.is_begun {
                bulk.is_begun = true;
                self.begun += bulk.total;
            }
            bulk.n_left -= len as u64;
            self.bulk_left[usize::from(bulk.is_response)] -= len as u64;
            self.credit -= len as u64;
            self.in_hand.parts += (HEADER_LEN + len) as u64;
            let flags = if bulk.n_left > 0 { frame_flag::MORE } else { 0 }
                | if bulk.is_response { frame_flag::RESPONSE } else { 0 };
            let header = FrameHeader::new(frame_type::PART, bulk.id, len).with_flags(flags);
            tail.push_back(Bytes::copy_from_slice(&header.encode()));
            take(&mut bulk.rest, len, |bytes| tail.push_back(bytes));
            if bulk.n_left > 0 {
                self.bulk.push_back(bulk);
            } else {
                self.begun -= bulk.total;
                finished.push(Finished { id: bulk.id, is_response: bulk.is_response });
            }
        }
    }

    /// How long the next part of a message may be; `None` if it has to wait.
    fn part_len(&self, idx: usize) -> Option<usize> {
        let bulk = self.bulk.get(idx)?;
        let fits = bulk.is_begun || self.begun == 0 || self.begun + bulk.total <= self.reassembly;
        let len = bulk.n_left.min(MAX_PAYLOAD as u64).min(self.credit);
        let is_long_enough = len == bulk.n_left || len >= MIN_PART as u64;
        (fits && is_long_enough).then_some(len as usize)
    }

    fn end(&self) -> u64 {
        self.base + self.small.len() as u64
    }
}

/// Takes `n` bytes off the front of a row, without copying.
fn take(row: &mut VecDeque<Bytes>, mut n: usize, mut each: impl FnMut(Bytes)) {
    while n > 0 {
        let Some(front) = row.front_mut() else { return };
        let taken = front.split_to(n.min(front.len()));
        n -= taken.len();
        if !front.has_remaining() {
            row.pop_front();
        }
        each(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn ping(out: &mut Outgoing) {
        out.push(frame_type::PING, 0, 1, |_| {});
    }

    fn parts(tail: &VecDeque<Bytes>) -> Vec<FrameHeader> {
        let bytes: Vec<u8> = tail.iter().flatten().copied().collect();
        let mut at = 0;
        let mut headers = Vec::new();
        while at < bytes.len() {
            let header = FrameHeader::decode(&bytes[at..]).unwrap().unwrap();
            at += HEADER_LEN + header.payload_len;
            headers.push(header);
        }
        headers
    }

    fn new(credit: u64, reassembly: u64) -> Outgoing {
        Outgoing::new(&Limits::default(), credit, reassembly)
    }

    fn fill(out: &mut Outgoing) -> (BytesMut, Vec<FrameHeader>, Vec<Finished>) {
        let (mut head, mut tail, mut finished) = Default::default();
        out.fill(&mut head, &mut tail, &mut finished);
        (head, parts(&tail), finished)
    }

    fn message(len: usize) -> BytesMut {
        BytesMut::from(&vec![7; len][..])
    }

    #[test]
    fn a_message_that_fits_is_one_frame() {
        let mut out = new(0, 0);
        let ((start, end), in_parts) = out.push_message(frame_type::REQUEST, 0, 1, message(MAX_PAYLOAD), &[]);
        assert_eq!((start, end, in_parts), (0, (MAX_PAYLOAD + HEADER_LEN) as u64, false));
        assert!(out.push_message(frame_type::REQUEST, 0, 2, message(MAX_PAYLOAD + 1), &[]).1);
    }

    #[test]
    fn large_messages_take_turns_and_small_frames_go_first() {
        let mut out = new(u64::MAX, u64::MAX);
        for id in [1, 2] {
            out.push_message(frame_type::REQUEST, 0, id, message(10), &[Bytes::from(vec![1; 200 * KIB])]);
        }
        out.push(frame_type::PING, 0, 9, |_| {});
        let (head, parts, _) = fill(&mut out);
        assert_eq!(parts.iter().map(|part| part.id).collect::<Vec<_>>(), [1, 2, 1, 2]);
        assert_eq!(head.len(), 2 * (HEADER_LEN + 8 + MAX_OPENING) + HEADER_LEN);
        let (_, parts, finished) = fill(&mut out);
        assert_eq!(parts.iter().map(|part| part.id).collect::<Vec<_>>(), [1, 2, 1, 2]);
        assert_eq!(finished.len(), 2);
        assert!(!parts[3].has(frame_flag::MORE) && parts[0].has(frame_flag::MORE));
        assert!(out.is_empty());
    }

    #[test]
    fn parts_wait_for_credit_and_are_never_tiny() {
        let mut out = new(70 * KIB as u64, u64::MAX);
        out.push_message(frame_type::RESPONSE, 0, 1, message(200 * KIB), &[]);
        let (_, parts, _) = fill(&mut out);
        assert_eq!(parts.iter().map(|part| part.payload_len).collect::<Vec<_>>(), [64 * KIB, 6 * KIB]);
        assert!(!out.has_work());
        out.add_credit(MIN_PART as u64 - 1);
        assert!(!out.has_work());
        out.add_credit(1);
        assert!(out.has_work());
    }

    #[test]
    fn messages_that_the_peer_could_not_put_together_wait_for_their_turn() {
        let mut out = new(u64::MAX, 300 * KIB as u64);
        for id in [1, 2] {
            out.push_message(frame_type::REQUEST, 0, id, message(200 * KIB), &[]);
        }
        let (_, parts, finished) = fill(&mut out);
        assert_eq!(parts.iter().map(|part| part.id).collect::<Vec<_>>(), [1, 1, 1, 1]);
        assert_eq!(finished, [Finished { id: 1, is_response: false }]);
        out.drop_bulk(2, false);
        assert!(out.is_empty());
        // One that is larger than all of it goes alone.
        out.push_message(frame_type::REQUEST, 0, 3, message(400 * KIB), &[]);
        assert!(out.has_work());
    }

    #[test]
    fn there_is_room_until_as_much_waits_or_is_being_written_as_may() {
        let limits = Limits::default().with_queue_frames(3).with_queue_bytes(256 * KIB);
        let mut out = Outgoing::new(&limits, u64::MAX, u64::MAX);
        // In frames: two that are being written, and one that waits.
        ping(&mut out);
        ping(&mut out);
        fill(&mut out);
        assert!(out.has_room_for_request(10, false));
        ping(&mut out);
        assert!(!out.has_room_for_request(10, false));
        out.written(HEADER_LEN, 0);
        assert!(!out.has_room_for_request(10, false));
        out.written(HEADER_LEN, 0);
        assert!(out.has_room_for_request(10, false));
        assert_eq!((out.n_frames(), out.n_bytes()), (1, HEADER_LEN as u64));
        // In bytes.
        out.push_message(frame_type::REQUEST, 0, 2, message(60 * KIB), &[]);
        fill(&mut out);
        out.push_message(frame_type::REQUEST, 0, 3, message(60 * KIB), &[]);
        out.written(0, 0);
        assert!(out.n_bytes() >= 120 * KIB as u64, "{} bytes are known to wait", out.n_bytes());
    }

    #[test]
    fn what_is_large_leaves_room_for_what_is_small() {
        let limits = Limits::default().with_queue_bytes(256 * KIB);
        let mut out = Outgoing::new(&limits, u64::MAX, u64::MAX);
        // The first goes in, however large it is, and those behind it are held back.
        for id in 1..=3 {
            assert!(out.has_room_for_request(1000 * KIB, false));
            assert_eq!(out.has_room_for_request(1000 * KIB, true), id == 1);
            out.push_message(frame_type::REQUEST, 0, id, message(1000 * KIB), &[]);
        }
        assert_eq!((out.bulk.len(), out.held_back.len()), (1, 2));
        let queued = out.n_bytes();
        assert!(queued < 1020 * KIB as u64);
        // Small frames have a quarter to themselves, and no more.
        assert!(out.has_room_for_answer(40 * KIB) && !out.has_room_for_answer(60 * KIB));
        // So has the first large answer.
        assert!(out.has_room_for_answer(1000 * KIB));
        out.push_message(frame_type::RESPONSE, 0, 1, message(1000 * KIB), &[]);
        assert!(!out.has_room_for_answer(1000 * KIB));
        // Cut off, one makes room for the next; one that is held back leaves none behind.
        assert_eq!((out.cut_bulk(2, false), out.held_back.len()), (Some(0), 1));
        assert_eq!((out.cut_bulk(1, false), out.held_back.len()), (Some(0), 0));
        assert_eq!(out.bulk.iter().map(|bulk| bulk.id).collect::<Vec<_>>(), [1, 3]);
        out.push_message(frame_type::REQUEST, 0, 4, message(100 * KIB), &[]);
        // All of it leaves, and what was held back follows by itself.
        let mut finished = Vec::new();
        while !out.is_empty() {
            let (mut head, mut tail) = Default::default();
            out.fill(&mut head, &mut tail, &mut finished);
            out.written(head.len(), tail.iter().map(Bytes::len).sum());
        }
        assert_eq!(finished.iter().map(|finished| finished.id).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!((out.n_frames(), out.n_bytes(), out.begun), (0, 0, 0));
    }

    #[test]
    fn several_large_messages_take_turns_where_they_fit() {
        let limits = Limits::default().with_queue_bytes(1000 * KIB);
        let mut out = Outgoing::new(&limits, u64::MAX, u64::MAX);
        for id in 1..=8 {
            out.push_message(frame_type::REQUEST, 0, id, message(200 * KIB), &[]);
        }
        assert_eq!((out.bulk.len(), out.held_back.len()), (3, 5));
        let (_, parts, _) = fill(&mut out);
        assert_eq!(parts.iter().map(|part| part.id).collect::<Vec<_>>(), [1, 2, 3, 1]);
    }

    #[test]
    fn room_that_is_set_aside_is_taken_until_its_frames_are_there() {
        let limits = Limits::default().with_queue_frames(4).with_queue_bytes(128 * KIB);
        let mut out = Outgoing::new(&limits, u64::MAX, u64::MAX);
        assert!(!out.set_aside(5, 10) && !out.set_aside(1, 128 * KIB + 1));
        assert!(out.set_aside(3, 100 * KIB));
        assert!(out.has_room_for_answer(28 * KIB) && !out.has_room_for_answer(28 * KIB + 1));
        out.push(frame_type::PING, 0, 1, |_| {});
        assert!(!out.has_room_for_answer(10));
        let mut frames = BytesMut::new();
        put_frame(&mut frames, frame_type::PONG, 0, 1, |_| {});
        out.append(&mut frames, 1);
        assert_eq!((out.n_frames(), out.n_bytes(), frames.len()), (2, 2 * HEADER_LEN as u64, 0));
        assert!(out.has_room_for_answer(10));
    }

    #[test]
    fn what_has_not_left_can_be_taken_back() {
        let mut out = new(0, 0);
        let (first, _) = out.push(frame_type::REQUEST, 0, 1, |_| {});
        fill(&mut out);
        let (second, _) = out.push(frame_type::REQUEST, 0, 2, |_| {});
        assert!(!out.take_back(first));
        assert!(out.take_back(second));
        let (head, ..) = fill(&mut out);
        assert_eq!(head[4], frame_type::PAD);
    }

    #[test]
    fn what_counts_as_written_counts_as_waiting_again_if_it_was_not() {
        let mut out = new(u64::MAX, u64::MAX);
        ping(&mut out);
        assert!(!out.is_in_hand(), "something waits");
        ping(&mut out);
        fill(&mut out);
        assert!(out.is_in_hand());
        assert_eq!((out.n_frames(), out.n_bytes()), (2, 2 * HEADER_LEN as u64));
        assert_eq!(out.leave_hand(), 2);
        assert_eq!((out.n_frames(), out.n_bytes()), (0, 0));
        out.take_in_hand(2, 10);
        assert_eq!((out.n_frames(), out.n_bytes()), (2, 10));
        out.written(10, 0);
        assert_eq!((out.n_frames(), out.n_bytes()), (0, 0));
        // Parts are told of when they are written.
        out.push_message(frame_type::REQUEST, 0, 2, message(100 * KIB), &[]);
        fill(&mut out);
        assert!(out.is_empty() && !out.is_in_hand());
    }
}
