//! Answers to the peer's calls: encoded, bounded, and in the queue when it has room.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rmi_core::exception::Exception;
use rmi_core::frame::{GoAwayReason, MAX_PAYLOAD, frame_flag, frame_type};
use rmi_core::kind::Kind;
use rmi_core::message::{MAX_METHOD_NAME, Response};
use rmi_core::rejection::Rejection;

use super::Connection;
use super::outgoing::Outgoing;
use super::serving::RunningCall;
use crate::mutant::{self, Mutant};
use crate::sync::lock;

impl Connection {
    /// Refuses a call.
    pub(super) fn reject(self: &Arc<Self>, id: u64, method: &str, one_way: bool, rejection: Rejection) {
        let caller = self.peer_name();
        let method = method.get(..MAX_METHOD_NAME).unwrap_or(method);
        let method = if method.len() > MAX_METHOD_NAME { "" } else { method };
        tracing::debug!(%caller, method, kind = %rejection.kind(), "refused a call");
        if one_way {
            let message = rejection.into_exception().message;
            tracing::warn!(%caller, method, "a one-way call was refused: {message}");
            return;
        }
        self.respond(id, method, Response::exception(rejection.into_exception()), None);
    }

    /// Sends an answer, now if the queue has room, else when it has. The permit is held until then.
    pub(super) fn respond(self: &Arc<Self>, id: u64, method: &str, response: Response, permit: Option<RunningCall>) {
        let response = response.placed(self.serving.host.node(), method);
        let is_rejection = permit.is_none();
        let Some((message, permit)) = self.try_respond(id, self.encode(response, method), permit) else { return };
        if is_rejection {
            // No permit bounds these: only a peer that floods this node without reading gets here.
            return self.end_for(GoAwayReason::TooMuch, "answers are not read");
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut waiting = (message, permit);
            loop {
                let room = this.room.listen();
                match this.try_respond(id, waiting.0, waiting.1) {
                    None => return,
                    Some(still_waiting) => waiting = still_waiting,
                }
                room.rung().await;
            }
        });
    }

    /// Puts an answer in the queue, or gives it back if there is no room.
    fn try_respond(
        self: &Arc<Self>,
        id: u64,
        answer: EncodedResponse,
        permit: Option<RunningCall>,
    ) -> Option<(EncodedResponse, Option<RunningCall>)> {
        {
            let mut state = lock(&self.state);
            if state.ended.is_some() {
                return None;
            }
            let has_room = match permit {
                Some(_) => state.outgoing.has_room_for_answer(answer.len()),
                // Refusals are small, and leave before what is large: they wait for nobody.
                None => {
                    let small = state.outgoing.n_small_bytes();
                    small == 0 || small + answer.len() as u64 <= 2 * self.limits.queue_bytes() as u64
                }
            };
            if !has_room && !mutant::is(Mutant::UnboundedQueue) {
                return Some((answer, permit));
            }
            // Given back before the answer can leave: the caller may call again as soon as it has it.
            drop(permit);
            answer.push(&mut state.outgoing, id);
        }
        self.flush(false);
        None
    }

    fn encode(&self, response: Response, method: &str) -> EncodedResponse {
        let limit = self.message_limit();
        if response.attachments().is_empty() && response.len_at_most() as u64 <= limit.min(MAX_PAYLOAD as u64) {
            return EncodedResponse::Small(response);
        }
        let encoded = EncodedResponse::large(&response);
        let len = encoded.len() as u64;
        if len <= limit {
            return encoded;
        }
        if let Response::Exception(_) = response {
            return EncodedResponse::large(&response.shortened(limit as usize));
        }
        let message =
            format!("the result has {len} bytes and may have {limit}: raise `Limits::with_message` on both nodes");
        let exception = Exception::new(Kind::ResponseTooLarge, message);
        EncodedResponse::large(&Response::exception(exception).placed(self.serving.host.node(), method))
    }
}

/// An answer, but for its id.
enum EncodedResponse {
    /// One frame, for sure: encoded straight into the queue.
    Small(Response),
    /// Encoded, but for its attachments.
    Large { head: BytesMut, attachments: Vec<Bytes>, flags: u8 },
}

impl EncodedResponse {
    fn large(response: &Response) -> Self {
        let mut head = BytesMut::new();
        response.encode(&mut head);
        let attachments = response.attachments().to_vec();
        let flags = flags_of(response) | if attachments.is_empty() { 0 } else { frame_flag::ATTACHMENTS };
        Self::Large { head, attachments, flags }
    }

    fn len(&self) -> usize {
        match self {
            EncodedResponse::Small(response) => response.len_at_most(),
            EncodedResponse::Large { head, attachments, .. } => {
                head.len() + attachments.iter().map(Bytes::len).sum::<usize>()
            }
        }
    }

    fn push(self, outgoing: &mut Outgoing, id: u64) {
        match self {
            EncodedResponse::Small(response) => {
                outgoing.push(frame_type::RESPONSE, flags_of(&response), id, |out| response.encode(out));
            }
            EncodedResponse::Large { head, attachments, flags } => {
                outgoing.push_message(frame_type::RESPONSE, flags, id, head, &attachments);
            }
        }
    }
}

/// What the frame of an answer without attachments says of it.
pub(super) fn flags_of(response: &Response) -> u8 {
    if matches!(response, Response::Exception(_)) { frame_flag::EXCEPTION } else { 0 }
}
