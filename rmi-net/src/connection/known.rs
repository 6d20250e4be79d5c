//! The methods that a peer calls again and again, found without a look into the node's table.
//!
//! A service that is not offered any more is not kept by those who have called it: what is remembered holds nothing. Only
//! while the reader handles what it has read, the method of the last call is held for the next one.

use std::sync::{Arc, Weak};

use rmi_core::message::{IncomingRequest, MAX_METHOD_NAME};
use rmi_core::rejection::Rejection;

use crate::host::{Host, Method};

/// Methods that are remembered.
const MOST_KNOWN: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    methods: Vec<(Box<str>, Weak<Method>)>,
    /// The [generation](Host::generation) of the node's services in which they were found.
    generation: u64,
    at_hand: Option<AtHand>,
}

/// A method that is held, and where its name stands among those that are known.
struct AtHand {
    idx: usize,
    method: Arc<Method>,
}

impl Known {
    /// Where the name of a request stands, if it is known: then it is text.
    pub(super) fn position(&self, request: &IncomingRequest<'_>) -> Option<usize> {
        let is_name = |(name, _): &(Box<str>, _)| name.as_bytes() == request.method_bytes;
        let last = self.at_hand.as_ref().map(|at_hand| at_hand.idx);
        let is_last = last.and_then(|idx| self.methods.get(idx)).is_some_and(is_name);
        if is_last { last } else { self.methods.iter().position(is_name) }
    }

    /// Finds the method of a request as the host does. Its name is text, and stands at this
    /// [position](Self::position).
    pub(super) fn method(
        &mut self,
        host: &Host,
        request: &IncomingRequest<'_>,
        position: Option<usize>,
    ) -> Result<&Arc<Method>, Rejection> {
        let generation = host.generation();
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let at_hand = match self.at_hand.take() {
            Some(at_hand) if position == Some(at_hand.idx) => at_hand,
            _ => match position.and_then(|idx| Some(AtHand { idx, method: self.methods.get(idx)?.1.upgrade()? })) {
                Some(at_hand) => at_hand,
                None => self.find(host, request.method().unwrap_or_default())?,
            },
        };
        Ok(&self.at_hand.insert(at_hand).method)
    }

    /// Holds no method any more.
    pub(super) fn let_go(&mut self) {
        self.at_hand = None;
    }

    fn find(&mut self, host: &Host, name: &str) -> Result<AtHand, Rejection> {
        let method = host.resolve(name)?;
        let idx = self.methods.len();
        if idx < MOST_KNOWN && name.len() <= MAX_METHOD_NAME {
            self.methods.push((name.into(), Arc::downgrade(&method)));
        }
        Ok(AtHand { idx, method })
    }
}
