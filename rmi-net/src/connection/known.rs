//! The methods that a peer calls again and again, found without a look into the node's table.
//!
//! The same peer mostly calls the same method in the same way, so how such a call began is remembered too: see [`Head`].
//!
//! A service that is not offered any more is not kept by those who have called it: what is remembered holds nothing. Only
//! while the reader handles what it has read, the method of the last call is held for the next one.

use std::hint::black_box;
use std::sync::{Arc, Weak};

use rmi_core::head::Head;
use rmi_core::message::{IncomingRequest, MAX_METHOD_NAME};
use rmi_core::rejection::Rejection;
use rmi_core::scan::ScanError;

use crate::host::{Host, Method};

/// Methods that are remembered.
const MOST_KNOWN: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    methods: Vec<KnownMethod>,
    /// Where that of the last call stands, if it is known.
    last: usize,
    /// The [generation](Host::generation) of the node's services in which they were found.
    generation: u64,
    at_hand: Option<AtHand>,
}

/// What each call touches comes first.
#[repr(C)]
struct KnownMethod {
    method: Weak<Method>,
    /// How the last call of it began that was read as a whole.
    head: Option<Head>,
    name: Box<str>,
}

/// A method that is held, and where its name stands among those that are known.
struct AtHand {
    idx: usize,
    method: Arc<Method>,
}

impl Known {
    /// Reads a request, and finds where its name stands, if it is known. The name is text.
    ///
    /// # Errors
    /// As [`IncomingRequest::decode`] and [`IncomingRequest::method`].
    pub(super) fn read<'a>(&mut self, body: &'a [u8]) -> Result<(IncomingRequest<'a>, Option<usize>), ScanError> {
        if let Some(KnownMethod { head: Some(head), .. }) = self.methods.get(self.last)
            && head.begins(body)
        {
            return Ok((head.read(body)?, Some(self.last)));
        }
        self.read_whole(body)
    }

    #[inline(never)]
    fn read_whole<'a>(&mut self, body: &'a [u8]) -> Result<(IncomingRequest<'a>, Option<usize>), ScanError> {
        let request = IncomingRequest::decode(body)?;
        let position = self.position(&request);
        let Some(known) = position.and_then(|idx| self.methods.get_mut(idx)) else {
            request.method()?;
            return Ok((request, None));
        };
        // Who calls several methods in turn does not change the heads of all of them each time.
        if position == Some(self.last) || known.head.is_none() {
            known.head = Head::of(body);
        }
        self.last = position.unwrap_or_default();
        Ok((request, position))
    }

    fn position(&self, request: &IncomingRequest<'_>) -> Option<usize> {
        let is_name = |known: &KnownMethod| known.name.as_bytes() == request.method_bytes;
        let is_last = self.methods.get(self.last).is_some_and(is_name);
        if is_last { Some(self.last) } else { self.methods.iter().position(is_name) }
    }

    /// Finds the method of a request as the host does. Its name is text, and stands at this position: see
    /// [`read`](Self::read).
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
            _ => {
                match position.and_then(|idx| Some(AtHand { idx, method: self.methods.get(idx)?.method.upgrade()? })) {
                    Some(at_hand) => at_hand,
                    None => self.find(host, request.method().unwrap_or_default())?,
                }
            }
        };
        Ok(&self.at_hand.insert(at_hand).method)
    }

    /// See [`Connection::prefetch`](super::Connection::prefetch).
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        if let Some(known) = self.methods.get(self.last) {
            black_box(known.head.as_ref().map(Head::first));
            black_box(known.method.strong_count());
        }
    }

    /// Holds no method any more.
    pub(super) fn let_go(&mut self) {
        self.at_hand = None;
    }

    fn find(&mut self, host: &Host, name: &str) -> Result<AtHand, Rejection> {
        let method = host.resolve(name)?;
        let idx = self.methods.len();
        if idx < MOST_KNOWN && name.len() <= MAX_METHOD_NAME {
            // Most peers call few methods, and there may be many peers.
            self.methods.reserve_exact(1);
            self.methods.push(KnownMethod { name: name.into(), method: Arc::downgrade(&method), head: None });
        }
        Ok(AtHand { idx, method })
    }
}

#[cfg(test)]
mod tests {
    use rmi_core::descriptor::{Execution, MethodDescriptor, ServiceDescriptor};
    use rmi_core::service::{AnyService, Call, Dispatch};

    use super::*;
    use crate::limits::Limits;

    struct Empty;

    static METHODS: [MethodDescriptor; 2] = [
        MethodDescriptor::new("add", "", &[], "()", Execution::Async),
        MethodDescriptor::new("get", "", &[], "()", Execution::Async),
    ];
    static DESCRIPTOR: ServiceDescriptor = ServiceDescriptor::new("S", "", &METHODS);

    impl AnyService for Empty {
        fn descriptor(&self) -> &'static ServiceDescriptor {
            &DESCRIPTOR
        }

        fn dispatch(&self, call: &Call<'_>) -> Result<Dispatch, Rejection> {
            Err(Rejection::new(rmi_core::kind::Kind::NoSuchMethod, call.method()))
        }
    }

    fn host() -> Host {
        let host = Host::new("node".into(), Limits::default());
        host.serve("S", Arc::new(Empty)).unwrap();
        host
    }

    /// Calls with and without arguments, keywords, options and known methods, and one that cannot be read.
    const BODIES: [&[u8]; 9] = [
        b"\x92\xa5S.add\x92\x01\x02",
        b"\x92\xa5S.add\x91\xa1x",
        b"\x93\xa5S.add\x92\x01\x02\x81\xa1k\x03",
        b"\x94\xa5S.add\x92\x01\x02\xc0\x05",
        b"\x92\xa5S.get\x92\x01\x02",
        b"\x91\xa5S.get",
        b"\x91\xa3get",
        b"\x92\xa5S.put\x92\x01\x02",
        b"\x92\xa5S.add\x92\x01\xc1",
    ];

    #[test]
    fn calls_are_read_and_found_as_if_each_were_the_first() {
        let host = host();
        // Every body behind every other, again and again.
        let mut known = Known::default();
        let len = BODIES.len();
        for (n, place) in (0..3 * len.pow(3)).map(|n| (n / 3, len.pow(n as u32 % 3))) {
            let body = BODIES[n / place % len];
            let expected = IncomingRequest::decode(body);
            match known.read(body) {
                Ok((request, position)) => {
                    let found = known.method(&host, &request, position).map(|method| method.full_name.to_string());
                    let expected_method = host.resolve(request.method().unwrap());
                    let expected_method = expected_method.map(|method| method.full_name.to_string());
                    assert_eq!(found.ok(), expected_method.ok());
                    assert_eq!(Ok(request), expected);
                }
                Err(error) => assert_eq!(Err(error), expected),
            }
            if n % 7 == 0 {
                known.let_go();
            }
        }
        assert_eq!(known.read(b"\x91\xa1\xff"), Err(ScanError::InvalidUtf8));
    }

    #[test]
    fn a_call_in_the_same_way_is_not_read_as_a_whole() {
        let host = host();
        let mut known = Known::default();
        // Found, then known; from then on by its head.
        for n in 0..4 {
            let is_by_head = known.methods.get(known.last).is_some_and(|known| known.head.is_some());
            assert_eq!(is_by_head, n > 1);
            let (request, position) = known.read(BODIES[0]).unwrap();
            assert_eq!(position, (n > 0).then_some(0));
            known.method(&host, &request, position).unwrap();
        }
    }

    #[test]
    fn a_service_that_was_taken_away_is_not_found_by_how_its_calls_began() {
        let host = host();
        let mut known = Known::default();
        for round in 0..3 {
            for _ in 0..3 {
                let (request, position) = known.read(BODIES[0]).unwrap();
                let method = known.method(&host, &request, position).unwrap();
                assert!(Arc::ptr_eq(method, &host.resolve("S.add").unwrap()), "{round}");
            }
            host.unserve("S");
            let (request, position) = known.read(BODIES[0]).unwrap();
            assert!(known.method(&host, &request, position).is_err());
            host.serve("S", Arc::new(Empty)).unwrap();
        }
    }
}
