//! The methods that a peer calls again and again, found without a look into the node's table.
//!
//! A service that is not offered any more is not kept by those who have called it: what is remembered holds nothing. Only
//! while the reader handles what it has read, the method of the last call is held for the next one.

use std::sync::{Arc, Weak};

use rmi_core::message::MAX_METHOD_NAME;
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
    /// Finds a method as the host does.
    pub(super) fn method(&mut self, host: &Host, name: &str) -> Result<&Arc<Method>, Rejection> {
        let generation = host.generation();
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let is_at_hand = |at_hand: &AtHand| self.methods.get(at_hand.idx).is_some_and(|(known, _)| **known == *name);
        let at_hand = match self.at_hand.take().filter(is_at_hand) {
            Some(at_hand) => at_hand,
            None => self.find(host, name)?,
        };
        Ok(&self.at_hand.insert(at_hand).method)
    }

    /// Holds no method any more.
    pub(super) fn let_go(&mut self) {
        self.at_hand = None;
    }

    fn find(&mut self, host: &Host, name: &str) -> Result<AtHand, Rejection> {
        let mut methods = self.methods.iter().enumerate();
        let known = methods.find_map(|(idx, (known, method))| (**known == *name).then_some((idx, method.upgrade()?)));
        if let Some((idx, method)) = known {
            return Ok(AtHand { idx, method });
        }
        let method = host.resolve(name)?;
        let idx = self.methods.len();
        if idx < MOST_KNOWN && name.len() <= MAX_METHOD_NAME {
            self.methods.push((name.into(), Arc::downgrade(&method)));
        }
        Ok(AtHand { idx, method })
    }
}
