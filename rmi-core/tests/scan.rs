//! The scanner against a walk that does it the plain way: one value at a time, calling itself for what is inside.

use proptest::collection::vec;
use proptest::prelude::*;
use rmi_core::scan::{MAX_DEPTH, Scanner};

/// What is behind the first value, and how many values it is; `None` if it cannot be passed.
fn walk(bytes: &[u8], depth: usize) -> Option<(&[u8], usize)> {
    let (&marker, rest) = bytes.split_first()?;
    let be =
        |n: usize| Some((rest.get(..n)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest.get(n..)?));
    let small = usize::from(marker & 0x0f);
    let ((n, rest), what) = match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => ((0, rest), 'b'),
        0xc1 => return None,
        0x80..=0x8f => ((small * 2, rest), 'v'),
        0x90..=0x9f => ((small, rest), 'v'),
        0xa0..=0xbf => ((usize::from(marker & 0x1f), rest), 's'),
        0xc4..=0xc6 => (be(1 << (marker - 0xc4))?, 'b'),
        0xc7..=0xc9 => (be(1 << (marker - 0xc7)).map(|(n, rest)| (n + 1, rest))?, 'b'),
        0xca | 0xcb => ((4 << (marker - 0xca), rest), 'b'),
        0xcc..=0xcf => ((1 << (marker - 0xcc), rest), 'b'),
        0xd0..=0xd3 => ((1 << (marker - 0xd0), rest), 'b'),
        0xd4..=0xd8 => ((1 + (1 << (marker - 0xd4)), rest), 'b'),
        0xd9..=0xdb => (be(1 << (marker - 0xd9))?, 's'),
        0xdc | 0xdd => (be(2 << (marker - 0xdc))?, 'v'),
        0xde | 0xdf => (be(2 << (marker - 0xde)).map(|(n, rest)| (n * 2, rest))?, 'v'),
    };
    if what != 'v' {
        let own = rest.get(..n)?;
        return (what != 's' || std::str::from_utf8(own).is_ok()).then_some((&rest[n..], 1));
    }
    if depth == MAX_DEPTH || n > rest.len() {
        return None;
    }
    (0..n).try_fold((rest, 1), |(rest, so_far), _| {
        let (rest, n) = walk(rest, depth + 1)?;
        Some((rest, so_far + n))
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut scanner = Scanner::new(bytes);
    let passed = scanner.value().ok().map(|value| (value.len(), scanner.n_values()));
    let expected = walk(bytes, 0).map(|(rest, n_values)| (bytes.len() - rest.len(), n_values));
    prop_assert_eq!(passed, expected, "{:02x?}", bytes);
    Ok(())
}

/// A value of any kind; mostly of the kinds that the scanner is quick with.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: String| match text.len() {
        len @ 0..32 => [&[0xa0 | len as u8][..], text.as_bytes()].concat(),
        len => [&[0xd9, len as u8][..], text.as_bytes()].concat(),
    };
    let leaf = prop_oneof![
        prop::sample::select(&SMALL[..]).prop_map(|small| vec![small]),
        any::<u64>().prop_map(|number| [&[0xcb][..], &number.to_be_bytes()].concat()),
        any::<u64>().prop_map(|number| [&[0xcf][..], &number.to_be_bytes()].concat()),
        any::<u16>().prop_map(|number| [&[0xcd][..], &number.to_be_bytes()].concat()),
        "[a-z]{0,9}".prop_map(text),
        "[a-zé]{0,40}".prop_map(text),
        Just(vec![0xc0]),
        vec(any::<u8>(), 0..5).prop_map(|bytes| [&[0xc4, bytes.len() as u8], &bytes[..]].concat()),
    ];
    leaf.prop_recursive(4, 64, 12, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(|items| [&[0x90 | items.len() as u8], &items.concat()[..]].concat()),
            vec(inner.clone(), 0..12).prop_map(|items| [&[0xdc, 0, items.len() as u8], &items.concat()[..]].concat()),
            vec((inner.clone(), inner), 0..6).prop_map(|entries| {
                let inside = entries.iter().flat_map(|(key, value)| [&key[..], value]).collect::<Vec<_>>().concat();
                [&[0x80 | entries.len() as u8], &inside[..]].concat()
            }),
        ]
    })
}

/// The markers of numbers without bytes of their own.
const SMALL: [u8; 5] = [0x00, 0x01, 0x7f, 0xe0, 0xff];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_passed_or_refused_as_by_the_plain_walk(bytes in vec(any::<u8>(), 0..64)) {
        check(&bytes)?;
    }

    #[test]
    fn documents_are_passed_cut_and_spoilt_as_by_the_plain_walk(
        bytes in document(),
        (cut, spoilt, with) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
        behind in vec(any::<u8>(), 0..12),
    ) {
        // What is behind a value is looked at with it, a word at a time, and says nothing about it.
        check(&[&bytes[..], &behind].concat())?;
        check(&bytes[..cut.index(bytes.len())])?;
        let mut bytes = bytes;
        let spoilt = spoilt.index(bytes.len());
        bytes[spoilt] = with;
        check(&bytes)?;
    }
}

#[test]
fn each_text_of_a_row_is_looked_at() {
    for len in 1..32usize {
        let good = [&[0xa0 | len as u8][..], &vec![b'x'; len]].concat();
        let bad = [&[0xa0 | len as u8][..], &vec![0xff; len]].concat();
        let row = [&[0x93][..], &good, &good, &bad].concat();
        assert!(Scanner::new(&row).value().is_err(), "{len}");
    }
}

#[test]
fn each_byte_of_a_short_text_is_looked_at() {
    for len in 1..32usize {
        for behind in [0, 1, 40] {
            for at in 0..len {
                let mut bytes = vec![0xa0 | len as u8];
                bytes.extend(std::iter::repeat_n(b'x', len));
                bytes.extend(std::iter::repeat_n(0xff, behind));
                check(&bytes).expect("good text");
                bytes[1 + at] = 0xff;
                check(&bytes).expect("bad text");
            }
        }
    }
}
