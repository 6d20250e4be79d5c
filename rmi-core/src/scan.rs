//! A look at MessagePack before serde sees it: bounded in depth, in values and by the bytes that are there.
//!
//! Decoders trust what a message declares: an array header of five bytes can make them reserve gigabytes, and deep
//! nesting overflows the stack, which aborts the process. So every message from the network passes this scanner
//! first. It does not recurse, allocates nothing, and refuses
//!
//! * nesting deeper than [`MAX_DEPTH`],
//! * more than [`MAX_VALUES`] values in one message,
//! * a declared length or count that the remaining bytes cannot hold (a map entry needs two),
//! * the byte 0xc1, which is never MessagePack, and text that is not UTF-8.
//!
//! [`Scanner::finish`] refuses what is left behind the last value.

/// The deepest nesting of arrays and maps. A level costs 3.7 KB of stack in a debug build, so 64 fit any thread.
pub const MAX_DEPTH: usize = 64;

/// The most values in one message. A decoded value costs up to a hundred times its byte on the wire.
pub const MAX_VALUES: usize = 1 << 20;

/// Why bytes are not an acceptable MessagePack document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The bytes end inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// An array or a map is nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("more than {MAX_VALUES} values in one message")]
    TooManyValues,
    /// A declared length or count is more than the bytes that are left can hold.
    #[error("a declared length is larger than the message")]
    LengthBeyondEnd,
    /// The byte 0xc1.
    #[error("the byte 0xc1 is not MessagePack")]
    ReservedMarker,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// There are bytes behind the last value.
    #[error("{0} bytes are left behind the value")]
    TrailingBytes(usize),
    /// Another type was needed here.
    #[error("expected {0}")]
    Expected(&'static str),
}

/// What the next marker says: how many bytes of its own and how many values inside follow.
enum Shape {
    Scalar { bytes: usize },
    Str { bytes: usize },
    Items { values: usize },
}

/// How many bytes a value with this marker has, where the marker alone says so and there is nothing inside of it; else 0.
/// Their bytes may be any, but for short strings.
const SIMPLE_LEN: [u8; 256] = {
    let mut lens = [0; 256];
    let mut marker = 0;
    while marker < 256 {
        lens[marker] = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xa0..=0xbf => 1 + (marker as u8 & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            _ => 0,
        };
        marker += 1;
    }
    lens
};

/// How many bytes the first of these values has. They have passed the scanner.
#[inline]
pub(crate) fn passed_len(values: &[u8]) -> Option<usize> {
    match usize::from(SIMPLE_LEN[usize::from(*values.first()?)]) {
        0 => Scanner::new(values).value().ok().map(<[u8]>::len),
        len => Some(len),
    }
}

/// Walks over a document, value by value. Cheap to clone: a clone looks ahead.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: 0, depth: 0 }
    }

    /// Starts behind the header of an array that stands in another one. So many values are behind.
    pub(crate) fn behind(bytes: &'a [u8], at: usize, values: usize) -> Self {
        Self { bytes, at, values, depth: 1 }
    }

    /// How many bytes are behind.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many values are behind, with all that is inside of them.
    pub fn n_values(&self) -> usize {
        self.values
    }

    /// Whether every byte is behind.
    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The bytes ahead.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`ScanError::TrailingBytes`] if something is.
    pub fn finish(&self) -> Result<(), ScanError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(ScanError::TrailingBytes(left)),
        }
    }

    /// Passes one whole value, with all that is inside, and returns its bytes.
    ///
    /// # Errors
    /// Any [`ScanError`]; the scanner is of no use after it.
    #[inline]
    pub fn value(&mut self) -> Result<&'a [u8], ScanError> {
        let start = self.at;
        match self.peek() {
            // Small numbers need no more than this.
            Some(marker) if SIMPLE_LEN[usize::from(marker)] == 1 => {
                self.at += 1;
                self.count(1)?;
            }
            _ => self.pass_value()?,
        }
        self.bytes.get(start..self.at).ok_or(ScanError::Truncated)
    }

    fn pass_value(&mut self) -> Result<(), ScanError> {
        match self.pass()? {
            Some(values) => self.pass_inside(values),
            None => Ok(()),
        }
    }

    /// Passes the values of an array or a map whose header is behind, and with it the check that there can be so many.
    #[inline(always)]
    fn pass_inside(&mut self, values: usize) -> Result<(), ScanError> {
        // What is flat is passed here.
        let n = self.pass_simple(values)?;
        if n < values || self.depth >= MAX_DEPTH {
            self.pass_nested(values - n)?;
        }
        Ok(())
    }

    /// Passes so many items of an array whose header is behind, and returns their bytes.
    #[inline]
    pub(crate) fn items(&mut self, n: usize) -> Result<&'a [u8], ScanError> {
        let start = self.at;
        self.inside(n)?;
        self.pass_inside(n)?;
        self.bytes.get(start..self.at).ok_or(ScanError::Truncated)
    }

    /// Passes one marker with its own bytes; gives back how many values are inside of it, if it is an array or a map.
    #[inline(always)]
    fn pass(&mut self) -> Result<Option<usize>, ScanError> {
        match self.peek() {
            // Most arrays and maps are small.
            Some(marker @ 0x80..=0x9f) => {
                self.at += 1;
                self.count(1)?;
                let items = usize::from(marker & 0x0f);
                self.inside(if marker < 0x90 { items * 2 } else { items }).map(Some)
            }
            _ => self.pass_other(),
        }
    }

    fn pass_other(&mut self) -> Result<Option<usize>, ScanError> {
        match self.shape()? {
            Shape::Scalar { bytes } => {
                self.take(bytes)?;
            }
            Shape::Str { bytes } => {
                let bytes = self.take(bytes)?;
                // Cheaper than the whole check, and mostly enough.
                if !bytes.is_ascii() {
                    text(bytes)?;
                }
            }
            Shape::Items { values } => return self.inside(values).map(Some),
        }
        Ok(None)
    }

    /// Passes the values inside of an array or a map, and what is inside of those.
    fn pass_nested(&mut self, values: usize) -> Result<(), ScanError> {
        // How many values are still to come on each open level.
        let mut open = [0usize; MAX_DEPTH];
        let mut level = 0;
        let allowed = MAX_DEPTH.saturating_sub(self.depth);
        *open.first_mut().filter(|_| allowed > 0).ok_or(ScanError::TooDeep)? = values;
        loop {
            while open[level] == 0 {
                if level == 0 {
                    return Ok(());
                }
                level -= 1;
            }
            open[level] -= self.pass_simple(open[level])?;
            if open[level] == 0 {
                continue;
            }
            open[level] -= 1;
            if let Some(values) = self.pass()? {
                level += 1;
                *open.get_mut(level).filter(|_| level < allowed).ok_or(ScanError::TooDeep)? = values;
            }
        }
    }

    /// Passes numbers and short ASCII strings, as far as they go and `most` of them: arrays of numbers and the names of
    /// fields are passed here. Gives back how many there were; what ends early is left to the closer look.
    #[inline(always)]
    fn pass_simple(&mut self, most: usize) -> Result<usize, ScanError> {
        let (mut ahead, mut n) = (self.rest(), 0);
        while n < most {
            let Some(&marker) = ahead.first() else { break };
            let len = usize::from(SIMPLE_LEN[usize::from(marker)]);
            let Some((_, behind)) = ahead.split_at_checked(len) else { break };
            if len == 0 || (marker & 0xe0 == 0xa0 && !is_short_ascii(ahead, len)) {
                break;
            }
            ahead = behind;
            n += 1;
            // Large numbers seldom come alone.
            if matches!(marker, 0xcb | 0xcf | 0xd3) {
                let (numbers, _) = ahead.as_chunks::<9>();
                let numbers = numbers.get(..most - n).unwrap_or(numbers);
                let run = numbers.iter().position(|number| number[0] != marker).unwrap_or(numbers.len());
                ahead = ahead.get(run * 9..).unwrap_or_default();
                n += run;
            }
        }
        self.at = self.bytes.len() - ahead.len();
        self.count(n)?;
        Ok(n)
    }

    /// Enters an array and returns how many values follow. Levels entered count towards [`MAX_DEPTH`].
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is no array, else any [`ScanError`].
    pub fn array(&mut self) -> Result<usize, ScanError> {
        match self.peek() {
            Some(0x90..=0x9f | 0xdc | 0xdd) => self.enter(),
            _ => Err(ScanError::Expected("an array")),
        }
    }

    /// Enters an array whose items need not be here yet, and returns how many are announced.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is no array, else any [`ScanError`].
    pub fn array_header(&mut self) -> Result<usize, ScanError> {
        let n_items = match self.peek() {
            Some(marker @ 0x90..=0x9f) => {
                self.at += 1;
                usize::from(marker & 0x0f)
            }
            Some(0xdc) => self.skip_marker().length(2)?,
            Some(0xdd) => self.skip_marker().length(4)?,
            _ => return Err(ScanError::Expected("an array")),
        };
        self.count(1)?;
        Ok(n_items)
    }

    fn skip_marker(&mut self) -> &mut Self {
        self.at += 1;
        self
    }

    /// Enters a map and returns how many entries follow.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is no map, else any [`ScanError`].
    pub fn map(&mut self) -> Result<usize, ScanError> {
        match self.peek() {
            Some(0x80..=0x8f | 0xde | 0xdf) => Ok(self.enter()? / 2),
            _ => Err(ScanError::Expected("a map")),
        }
    }

    /// Passes a string and returns its text.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is no string, else any [`ScanError`].
    pub fn str(&mut self) -> Result<&'a str, ScanError> {
        text(self.str_bytes()?)
    }

    /// Passes a string and returns its bytes, which may be no text.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is no string, else any [`ScanError`].
    pub(crate) fn str_bytes(&mut self) -> Result<&'a [u8], ScanError> {
        let bytes = match self.peek() {
            Some(marker @ 0xa0..=0xbf) => {
                self.at += 1;
                usize::from(marker & 0x1f)
            }
            Some(marker @ 0xd9..=0xdb) => self.skip_marker().length(1 << (marker - 0xd9))?,
            _ => return Err(ScanError::Expected("a string")),
        };
        self.count(1)?;
        self.take(bytes)
    }

    /// Passes bytes and returns them.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is something else, else any [`ScanError`].
    pub fn bin(&mut self) -> Result<&'a [u8], ScanError> {
        match self.peek() {
            Some(0xc4..=0xc6) => match self.shape()? {
                Shape::Scalar { bytes } => self.take(bytes),
                _ => Err(ScanError::Expected("bytes")),
            },
            _ => Err(ScanError::Expected("bytes")),
        }
    }

    /// Leaves the array or map that was entered last.
    #[must_use]
    pub fn left(mut self) -> Self {
        self.depth = self.depth.saturating_sub(1);
        self
    }

    /// Passes an unsigned integer, in any of its encodings.
    ///
    /// # Errors
    /// [`ScanError::Expected`] if the next value is something else or negative.
    pub fn uint(&mut self) -> Result<u64, ScanError> {
        let expected = ScanError::Expected("an unsigned integer");
        let width = match self.peek() {
            Some(marker @ 0x00..=0x7f) => {
                self.count(1)?;
                self.at += 1;
                return Ok(u64::from(marker));
            }
            Some(0xcc | 0xd0) => 1,
            Some(0xcd | 0xd1) => 2,
            Some(0xce | 0xd2) => 4,
            Some(0xcf | 0xd3) => 8,
            _ => return Err(expected),
        };
        let signed = self.peek().is_some_and(|marker| marker >= 0xd0);
        self.count(1)?;
        self.at += 1;
        let bytes = self.take(width)?;
        if signed && bytes.first().is_some_and(|first| *first >= 0x80) {
            return Err(expected);
        }
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Passes a nil if one is next.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.peek() == Some(0xc0);
        if is_nil {
            self.at += 1;
            self.values += 1;
        }
        is_nil
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn enter(&mut self) -> Result<usize, ScanError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ScanError::TooDeep);
        }
        self.pass()?.ok_or(ScanError::Expected("an array or a map"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], ScanError> {
        let end = self.at.checked_add(n).ok_or(ScanError::LengthBeyondEnd)?;
        let bytes = self.bytes.get(self.at..end).ok_or(ScanError::LengthBeyondEnd)?;
        self.at = end;
        Ok(bytes)
    }

    fn length(&mut self, width: usize) -> Result<usize, ScanError> {
        let end = self.at + width;
        let bytes = self.bytes.get(self.at..end).ok_or(ScanError::Truncated)?;
        self.at = end;
        // Four bytes at most, and usize has at least that many on every platform that tokio runs on.
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    #[inline(always)]
    fn count(&mut self, values: usize) -> Result<(), ScanError> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES { Err(ScanError::TooManyValues) } else { Ok(()) }
    }

    /// Checks that so many values can be inside of what is entered.
    fn inside(&self, values: usize) -> Result<usize, ScanError> {
        // Each value takes a byte at least, so more values than bytes is a lie.
        if values > self.bytes.len() - self.at { Err(ScanError::LengthBeyondEnd) } else { Ok(values) }
    }

    /// Reads a marker and the length behind it.
    fn shape(&mut self) -> Result<Shape, ScanError> {
        let marker = self.peek().ok_or(ScanError::Truncated)?;
        self.at += 1;
        self.count(1)?;
        let scalar = |bytes| Ok(Shape::Scalar { bytes });
        let items = |values| Ok(Shape::Items { values });
        match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => scalar(0),
            0x80..=0x8f => items(usize::from(marker & 0x0f) * 2),
            0x90..=0x9f => items(usize::from(marker & 0x0f)),
            0xa0..=0xbf => Ok(Shape::Str { bytes: usize::from(marker & 0x1f) }),
            0xc1 => Err(ScanError::ReservedMarker),
            0xc4 => self.length(1).and_then(scalar),
            0xc5 => self.length(2).and_then(scalar),
            0xc6 => self.length(4).and_then(scalar),
            // An extension has one byte of type before its data.
            0xc7 => self.length(1).and_then(|n| scalar(n + 1)),
            0xc8 => self.length(2).and_then(|n| scalar(n + 1)),
            0xc9 => self.length(4).and_then(|n| scalar(n.saturating_add(1))),
            0xca | 0xce | 0xd2 => scalar(4),
            0xcb | 0xcf | 0xd3 => scalar(8),
            0xcc | 0xd0 => scalar(1),
            0xcd | 0xd1 => scalar(2),
            0xd4 => scalar(2),
            0xd5 => scalar(3),
            0xd6 => scalar(5),
            0xd7 => scalar(9),
            0xd8 => scalar(17),
            0xd9 => Ok(Shape::Str { bytes: self.length(1)? }),
            0xda => Ok(Shape::Str { bytes: self.length(2)? }),
            0xdb => Ok(Shape::Str { bytes: self.length(4)? }),
            0xdc => self.length(2).and_then(items),
            0xdd => self.length(4).and_then(items),
            0xde => self.length(2).and_then(|n| items(n * 2)),
            0xdf => self.length(4).and_then(|n| items(n.saturating_mul(2))),
        }
    }
}

/// Whether a short string is ASCII. It begins `ahead` with its marker and has `len` bytes with it, which are there.
fn is_short_ascii(ahead: &[u8], len: usize) -> bool {
    match ahead.first_chunk() {
        // All at once. The marker's own high bit does not count.
        Some(word) if len <= 8 => {
            let high_bits = u64::from_le_bytes(*word) & 0x8080_8080_8080_8000;
            high_bits << (64 - 8 * len) == 0
        }
        _ => ahead.get(1..len).is_some_and(<[u8]>::is_ascii),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, ScanError> {
    std::str::from_utf8(bytes).map_err(|_| ScanError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<(), ScanError> {
        let mut scanner = Scanner::new(bytes);
        scanner.value()?;
        scanner.finish()
    }

    #[test]
    fn whole_values_pass_and_every_truncation_is_refused() {
        let documents: &[&[u8]] = &[
            &[0x00],
            &[0xff],
            &[0xc0],
            &[0xcc, 200],
            &[0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xa3, b'a', b'b', b'c'],
            &[0xd9, 1, b'x'],
            &[0xc4, 2, 1, 2],
            &[0xc7, 1, 5, 9],
            &[0xd6, 1, 0, 0, 0, 0],
            &[0x92, 0x01, 0x91, 0xc0],
            &[0x81, 0xa1, b'k', 0x93, 1, 2, 3],
            &[0x94, 0xcc, 200, 0xd1, 1, 2, 0xce, 1, 2, 3, 4, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x93, 0xca, 0, 0, 0, 0, 0xa1, b'x', 0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xdc, 0, 1, 0x01],
            &[0xde, 0, 1, 0x01, 0x02],
        ];
        for document in documents {
            assert_eq!(scan(document), Ok(()), "{document:x?}");
            assert_eq!(passed_len(&[document, &[0xff][..]].concat()), Some(document.len()), "{document:x?}");
            for end in 0..document.len() {
                assert!(scan(&document[..end]).is_err(), "{:x?}", &document[..end]);
            }
        }
    }

    #[test]
    fn depth_is_bounded_exactly() {
        let nested = |n: usize| [vec![0x91; n], vec![0xc0]].concat();
        assert_eq!(scan(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(scan(&nested(MAX_DEPTH + 1)), Err(ScanError::TooDeep));
        let entered = nested(MAX_DEPTH + 1);
        let mut scanner = Scanner::new(&entered);
        assert_eq!(scanner.array(), Ok(1));
        assert_eq!(scanner.value(), Err(ScanError::TooDeep));
    }

    #[test]
    fn number_of_values_is_bounded_exactly() {
        let many = |n: u32| [&[0xdd][..], &n.to_be_bytes(), &vec![0xc0; n as usize]].concat();
        assert_eq!(scan(&many(MAX_VALUES as u32 - 1)), Ok(()));
        assert_eq!(scan(&many(MAX_VALUES as u32)), Err(ScanError::TooManyValues));
    }

    #[test]
    fn declared_lengths_must_fit_the_bytes_that_are_there() {
        assert_eq!(scan(&[0xc6, 0xff, 0xff, 0xff, 0xff]), Err(ScanError::LengthBeyondEnd));
        assert_eq!(scan(&[0xc9, 0xff, 0xff, 0xff, 0xff, 1]), Err(ScanError::LengthBeyondEnd));
        assert_eq!(scan(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(ScanError::LengthBeyondEnd));
        assert_eq!(scan(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0]), Err(ScanError::LengthBeyondEnd));
        // Three bytes cannot hold two map entries.
        assert_eq!(scan(&[0x82, 1, 1, 1]), Err(ScanError::LengthBeyondEnd));
    }

    #[test]
    fn trailing_bytes_reserved_marker_and_bad_text_are_refused() {
        assert_eq!(scan(&[0x01, 0x02]), Err(ScanError::TrailingBytes(1)));
        assert_eq!(scan(&[0xc1]), Err(ScanError::ReservedMarker));
        assert_eq!(scan(&[0xa1, 0xff]), Err(ScanError::InvalidUtf8));
    }

    #[test]
    fn unsigned_integers_of_every_width() {
        for (bytes, value) in [
            (&[0x7f][..], 127),
            (&[0xcc, 0xff], 255),
            (&[0xcd, 1, 0], 256),
            (&[0xce, 0, 1, 0, 0], 65536),
            (&[0xcf, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
            (&[0xd0, 5], 5),
            (&[0xd3, 0, 0, 0, 0, 0, 0, 0, 9], 9),
        ] {
            assert_eq!(Scanner::new(bytes).uint(), Ok(value));
        }
        assert!(Scanner::new(&[0xff]).uint().is_err());
        assert!(Scanner::new(&[0xd0, 0xff]).uint().is_err());
        assert!(Scanner::new(&[0xa1, b'1']).uint().is_err());
    }
}
