//! The positional arguments of a call that came: counted, and read one after the other.

use crate::scan::{self, ScanError, Scanner};

/// Positional arguments that have passed the [`Scanner`]: how many are left, and their bytes, one behind the other.
///
/// Values are found when it is their turn. That is a second look at each but the last, which is all that is left then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positional<'a> {
    n: usize,
    values: &'a [u8],
}

impl<'a> Positional<'a> {
    /// No arguments.
    pub const NONE: Self = Self { n: 0, values: &[] };

    /// Reads one array with nothing behind it.
    ///
    /// # Errors
    /// If it is no array, or does not pass the scanner.
    pub fn read(array: &'a [u8]) -> Result<Self, ScanError> {
        let mut scanner = Scanner::new(array);
        let args = Self::pass(&mut scanner)?;
        scanner.finish()?;
        Ok(args)
    }

    /// Passes so many arguments, which are next: the header of their array is behind.
    #[inline]
    pub(crate) fn pass_items(scanner: &mut Scanner<'a>, n: usize) -> Result<Self, ScanError> {
        Ok(Self { n, values: scanner.items(n)? })
    }

    /// Passes the array that is next.
    pub(crate) fn pass(scanner: &mut Scanner<'a>) -> Result<Self, ScanError> {
        let mut array = Scanner::new(scanner.value()?);
        let n = array.array_header()?;
        Ok(Self { n, values: array.rest() })
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The bytes of the next one.
    #[inline]
    pub fn take(&mut self) -> Option<&'a [u8]> {
        let len = match self.n {
            0 => return None,
            1 => self.values.len(),
            // All of them have passed the scanner, so none is refused here.
            _ => {
                let len = scan::passed_len(self.values);
                debug_assert!(len.is_some(), "arguments that have not passed the scanner");
                len?
            }
        };
        let (value, behind) = self.values.split_at_checked(len)?;
        self.n -= 1;
        self.values = behind;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_one_after_the_other_with_what_is_inside() {
        let mut args = Positional::read(&[0x93, 1, 0x91, 2, 0xa1, b'x']).unwrap();
        assert_eq!(args.len(), 3);
        assert_eq!([args.take(), args.take()], [Some(&[1][..]), Some(&[0x91, 2][..])]);
        assert_eq!([args.take(), args.take()], [Some(&[0xa1, b'x'][..]), None]);
        assert!(args.is_empty());
        assert_eq!(Positional::read(&[0xdc, 0, 1, 7]).unwrap().take(), Some(&[7][..]));
        assert_eq!(Positional::read(&[0x90]), Ok(Positional::NONE));
    }

    #[test]
    fn bytes_that_are_no_arguments_are_refused() {
        assert_eq!(Positional::read(&[]), Err(ScanError::Truncated));
        assert_eq!(Positional::read(&[0x80]), Err(ScanError::Expected("an array")));
        assert_eq!(Positional::read(&[0x92, 1]), Err(ScanError::LengthBeyondEnd));
        assert_eq!(Positional::read(&[0x92, 1, 0xc1]), Err(ScanError::ReservedMarker));
        assert_eq!(Positional::read(&[0x92, 1, 2, 3]), Err(ScanError::TrailingBytes(1)));
    }
}
