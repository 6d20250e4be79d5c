//! How a request began: the next one of the same caller mostly begins with the same bytes.
//!
//! Up to its first argument a request says which method is called, with how many arguments, and whether there is
//! something behind them. Who has read that once compares it the next time. All else is looked at each time.
//!
//! Invariant: what a [`Head`] reads or refuses is read or refused by [`IncomingRequest::decode`] in the same way.

use std::ops::Range;

use smallvec::SmallVec;

use crate::message::IncomingRequest;
use crate::positional::Positional;
use crate::scan::{ScanError, Scanner};

/// What a request begins with, up to its first argument.
#[derive(Debug, Clone)]
pub struct Head {
    /// Here, not on the heap, if they are not many: who compares them has not been here for long.
    bytes: SmallVec<[u8; 48]>,
    /// The fewest bytes that can hold as many elements as are announced.
    least_len: usize,
    n_elements: usize,
    /// Where the name of the method stands.
    method: Range<usize>,
    n_args: usize,
    /// How many values begin in it.
    n_values: usize,
}

impl Head {
    /// How a body begins that is a request.
    pub fn of(body: &[u8]) -> Option<Self> {
        let mut scanner = Scanner::new(body);
        let n_elements = scanner.array_header().ok().filter(|n| *n > 0)?;
        let least_len = scanner.position() + n_elements;
        let name = scanner.str_bytes().ok()?;
        let method = scanner.position() - name.len()..scanner.position();
        let has_args = n_elements > 1 && !scanner.nil();
        let n_args = if has_args { scanner.array_header().ok()? } else { 0 };
        let bytes = body.get(..scanner.position())?.into();
        Some(Self { bytes, least_len, n_elements, method, n_args, n_values: scanner.n_values() })
    }

    /// The first byte.
    #[inline]
    pub fn first(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// Whether a body begins in this way.
    #[inline]
    pub fn begins(&self, body: &[u8]) -> bool {
        body.starts_with(&self.bytes) && body.len() >= self.least_len
    }

    /// Reads a body that [begins](Self::begins) in this way.
    ///
    /// # Errors
    /// As [`IncomingRequest::decode`].
    #[inline]
    pub fn read<'a>(&self, body: &'a [u8]) -> Result<IncomingRequest<'a>, ScanError> {
        let mut scanner = Scanner::behind(body, self.bytes.len(), self.n_values);
        let method_bytes = body.get(self.method.clone()).unwrap_or_default();
        let args = Positional::pass_items(&mut scanner, self.n_args)?;
        IncomingRequest::ending(scanner, self.n_elements, method_bytes, args)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::scan::{MAX_DEPTH, MAX_VALUES};

    /// The head of the first body reads both as they are read without it, each if it begins in the same way.
    fn check(first: &[u8], second: &[u8]) -> Result<(), TestCaseError> {
        if IncomingRequest::decode(first).is_err() {
            return Ok(());
        }
        let head = Head::of(first).expect("a request has a head");
        prop_assert!(head.begins(first));
        for body in [first, second].into_iter().filter(|body| head.begins(body)) {
            prop_assert_eq!(head.read(body), IncomingRequest::decode(body), "{:02x?} after {:02x?}", body, first);
        }
        Ok(())
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte & 0x7f]),
            any::<u64>().prop_map(|number| [&[0xcf][..], &number.to_be_bytes()].concat()),
            "[a-zé]{0,12}".prop_map(|text| [&[0xa0 | text.len() as u8], text.as_bytes()].concat()),
            Just(vec![0xc0]),
            vec(any::<u8>(), 1..4),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(|items| array(&items)))
    }

    fn array(items: &[Vec<u8>]) -> Vec<u8> {
        [&[0x90 | items.len() as u8], &items.concat()[..]].concat()
    }

    /// An array header that is longer than it must be.
    fn long_array(items: &[Vec<u8>]) -> Vec<u8> {
        [&[0xdc, 0, items.len() as u8], &items.concat()[..]].concat()
    }

    /// A request with all that one may have.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let name = prop_oneof![
            Just(b"\xa5S.add".to_vec()),
            Just(b"\xa1m".to_vec()),
            Just(b"\xd9\x01m".to_vec()),
            Just(b"\xa1\xff".to_vec()),
            Just(b"\xa0".to_vec()),
        ];
        let args = prop_oneof![
            4 => vec(value(), 0..5).prop_map(|items| array(&items)),
            1 => vec(value(), 0..5).prop_map(|items| long_array(&items)),
            1 => Just(vec![0xc0]),
        ];
        let options = prop_oneof![
            4 => Just(Vec::new()),
            1 => Just(vec![vec![0xc0]]),
            1 => Just(vec![vec![0x81, 0xa1, b'k', 1], vec![7]]),
            1 => vec(value(), 0..3),
        ];
        (name, prop::option::weighted(0.9, args), options, prop::bool::weighted(0.1)).prop_map(
            |(name, args, options, is_long)| {
                let options = if args.is_some() { options } else { Vec::new() };
                let elements: Vec<_> = [name].into_iter().chain(args).chain(options).collect();
                if is_long { long_array(&elements) } else { array(&elements) }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn requests_are_read_as_without_a_head(
            first in body(),
            second in body(),
            (at, with) in (any::<Index>(), any::<u8>()),
            (behind, bytes) in (vec(any::<u8>(), 1..4), vec(any::<u8>(), 0..24)),
        ) {
            check(&first, &second)?;
            check(&first, &bytes)?;
            check(&first, &first[..at.index(first.len())])?;
            check(&first, &[&first[..], &behind].concat())?;
            let mut spoilt = first.clone();
            spoilt[at.index(first.len())] = with;
            check(&first, &spoilt)?;
            check(&spoilt, &first)?;
            // The same head with anything behind it.
            if let Some(head) = Head::of(&first) {
                check(&first, &[&head.bytes[..], &bytes].concat())?;
            }
        }
    }

    /// `[m, [value]]`
    fn one_argument(value: &[u8]) -> Vec<u8> {
        [&[0x92, 0xa1, b'm', 0x91], value].concat()
    }

    #[test]
    fn what_is_no_request_has_no_head() {
        for body in [&b"\x90\xa1m"[..], b"", b"\x81\xa1m", b"\x91\x01", b"\x92\xa1m"] {
            assert!(IncomingRequest::decode(body).is_err() && Head::of(body).is_none(), "{body:02x?}");
        }
    }

    #[test]
    fn depth_is_bounded_as_without_a_head() {
        // Two levels are those of the request and of its arguments.
        for n in MAX_DEPTH - 4..MAX_DEPTH + 2 {
            for end in [&[0x90][..], &[0xc0], &[0x91, 0xc0]] {
                let body = one_argument(&[&vec![0x91; n], end].concat());
                check(&one_argument(&[1]), &body).unwrap();
                check(&body, &body).unwrap();
            }
        }
    }

    #[test]
    fn number_of_values_is_bounded_as_without_a_head() {
        for n in MAX_VALUES - 6..MAX_VALUES {
            let array = [&[0xdd][..], &(n as u32).to_be_bytes(), &vec![0xc0; n]].concat();
            check(&one_argument(&[1]), &one_argument(&array)).unwrap();
            let body = [&[0x92, 0xa1, b'm'][..], &array].concat();
            check(&body, &body).unwrap();
        }
    }
}
