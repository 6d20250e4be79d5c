//! Scalars (integers, `f64`, `bool`, `()`), written and read without serde: many arguments and results are one.
//!
//! `add` has three of them, and their way through the layers of serde and rmp-serde was a tenth of all instructions of that
//! call (`benches/instructions.sh`, `pipelined`, with and without this module).
//!
//! Invariant: what is written here is what rmp-serde writes, and what is read here it reads as the same. All else is left
//! to it: every other type, every other way to write a number, and every error.

use std::mem::needs_drop;

use bytes::BufMut;
use castaway::cast;

use crate::pack;

/// Writes a value if it is a scalar.
#[inline(always)]
pub(crate) fn write<T: ?Sized>(value: &T, out: &mut impl BufMut) -> bool {
    // Of most other types nothing of what follows is compiled: builds without optimization are much smaller.
    if const { needs_drop::<T>() || size_of::<&T>() > size_of::<&()>() } {
        return false;
    }
    macro_rules! integers {
        ($write:ident as $wide:ty: $($integer:ty),*) => {
            $(if let Ok(value) = cast!(value, &$integer) {
                pack::$write(out, *value as $wide);
                return true;
            })*
        };
    }
    integers!(uint as u64: u8, u16, u32, u64, usize);
    integers!(int as i64: i8, i16, i32, i64, isize);
    if let Ok(value) = cast!(value, &f64) {
        out.put_u8(0xcb);
        out.put_f64(*value);
        return true;
    }
    if let Ok(value) = cast!(value, &bool) {
        out.put_u8(if *value { 0xc3 } else { 0xc2 });
        return true;
    }
    if cast!(value, &()).is_ok() {
        out.put_u8(0xc0);
        return true;
    }
    false
}

/// Reads a scalar. `None` also for one that is written as another type.
#[inline(always)]
pub(crate) fn read<T>(bytes: &[u8]) -> Option<T> {
    // As above.
    if const { needs_drop::<T>() || size_of::<T>() > size_of::<u64>() } {
        return None;
    }
    let mut read = None;
    macro_rules! integers {
        ($($integer:ty),*) => {
            $(if let Ok(read) = cast!(&mut read, &mut Option<$integer>) {
                *read = integer(bytes);
            })*
        };
    }
    integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
    if let Ok(read) = cast!(&mut read, &mut Option<f64>) {
        *read = match bytes {
            [0xcb, bits @ ..] => bits.try_into().ok().map(f64::from_be_bytes),
            _ => None,
        };
    }
    if let Ok(read) = cast!(&mut read, &mut Option<bool>) {
        *read = match bytes {
            [0xc2] => Some(false),
            [0xc3] => Some(true),
            _ => None,
        };
    }
    if let Ok(read) = cast!(&mut read, &mut Option<()>) {
        *read = (bytes == [0xc0]).then_some(());
    }
    read
}

/// One integer, as rmp-serde and others write them.
#[inline(always)]
fn integer<N: TryFrom<i64> + TryFrom<u64>>(bytes: &[u8]) -> Option<N> {
    match bytes {
        [small] if (*small as i8) >= -32 => N::try_from(i64::from(*small as i8)).ok(),
        _ => long_integer(bytes),
    }
}

fn long_integer<N: TryFrom<i64> + TryFrom<u64>>(bytes: &[u8]) -> Option<N> {
    let (marker, bytes) = bytes.split_first()?;
    let signed = match (marker, bytes.len()) {
        (0xcc, 1) | (0xcd, 2) | (0xce, 4) | (0xcf, 8) => false,
        (0xd0, 1) | (0xd1, 2) | (0xd2, 4) | (0xd3, 8) => true,
        _ => return None,
    };
    let bits = bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    if signed {
        let unused = 64 - 8 * bytes.len() as u32;
        N::try_from((bits << unused) as i64 >> unused).ok()
    } else {
        N::try_from(bits).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Written and read as by rmp-serde, which has to read more.
    fn check_value<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let expected = rmp_serde::to_vec(value).unwrap();
        let mut written = vec![7];
        assert!(write(value, &mut written));
        assert_eq!(written[1..], expected, "{value:?}");
        assert_eq!(read::<T>(&expected).as_ref(), Some(value));
        check_bytes::<T>(&expected);
    }

    /// Read as by rmp-serde, or left to it.
    fn check_bytes<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
        if let Some(value) = read::<T>(bytes) {
            let mut rest = bytes;
            let expected: T = rmp_serde::from_read(&mut rest).unwrap();
            // Not the values: one that is no number is not equal to itself.
            let to_bytes = |value: &T| rmp_serde::to_vec(value).unwrap();
            assert_eq!(to_bytes(&expected), to_bytes(&value), "{bytes:02x?}");
            assert!(rest.is_empty(), "{bytes:02x?}");
        }
    }

    macro_rules! for_each_integer {
        ($check:ident $arguments:tt) => {
            for_each_integer!($check $arguments: u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
        };
        ($check:ident $arguments:tt: $($integer:ty)*) => {
            $($check::<$integer> $arguments;)*
        };
    }

    /// Around every border between two ways to write one.
    fn numbers() -> Vec<i128> {
        let borders = (0..=64).flat_map(|bits| [1i128 << bits, -(1i128 << bits)]).chain([0, -32]);
        borders.flat_map(|border| [border - 1, border, border + 1]).collect()
    }

    #[test]
    fn numbers_are_written_and_read_as_rmp_serde_does() {
        fn check_all<N: TryFrom<i128> + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>() {
            numbers().into_iter().filter_map(|number| N::try_from(number).ok()).for_each(|number| check_value(&number));
        }
        for_each_integer!(check_all());
        [0.0, -0.0, 1.5, f64::MIN, f64::MAX, f64::INFINITY, f64::MIN_POSITIVE].iter().for_each(check_value);
        [false, true].iter().for_each(check_value);
        check_value(&());
    }

    #[test]
    fn all_else_is_left_to_it() {
        let mut out = Vec::new();
        assert!(!write("1", &mut out) && !write(&1.5f32, &mut out) && !write(&1i128, &mut out));
        assert!(!write(&Some(1), &mut out) && !write(&[1], &mut out) && !write(&&1, &mut out));
        assert!(out.is_empty());
        assert_eq!(
            (read::<String>(&[0xa0]), read::<Option<u8>>(&[1]), read::<[u8; 1]>(&[0x91, 1])),
            (None, None, None)
        );
    }

    #[test]
    fn numbers_of_every_length_are_read_as_every_type() {
        for marker in 0..=255 {
            for len in 0..=9 {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let bytes = [vec![marker], vec![byte; len]].concat();
                    for_each_integer!(check_bytes(&bytes));
                    check_bytes::<f64>(&bytes);
                    check_bytes::<bool>(&bytes);
                    check_bytes::<()>(&bytes);
                }
            }
        }
        assert_eq!(
            (read::<u8>(&[]), read::<u8>(&[1, 1]), read::<u8>(&[0xff]), read::<()>(&[])),
            (None, None, None, None)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_by_rmp_serde(bytes in proptest::collection::vec(any::<u8>(), 0..11)) {
            for_each_integer!(check_bytes(&bytes));
        }
    }
}
