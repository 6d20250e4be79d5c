//! Bytes that travel beside a message instead of inside it.
//!
//! A [`Blob`] in an argument or a result is not copied into the encoded body. The body holds its number (a MessagePack
//! extension of type [`EXTENSION`]), and its bytes follow the body as an *attachment*. The receiver gets a slice of
//! the message's own buffer.
//!
//! Serde has no way to hand something around beside the serializer, so while a body is encoded or decoded its
//! attachments stand in a thread-local, see `collecting` and `lending`. Outside of RMI a blob is plain bytes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The type of the MessagePack extension that stands for a blob; its data is the number of the attachment, u32 LE.
pub const EXTENSION: i8 = 0x42;

/// Bytes of any size, cheap to clone, not copied on their way to the socket.
///
/// One that has arrived shares the buffer of its message, which is up to a quarter larger, and of which the next large
/// message makes use when the last blob in it is dropped. Who keeps little of it for long keeps a copy:
/// `Blob::from(&blob[..10])`.
///
/// ```
/// # use rmi_core::Blob;
/// let blob = Blob::from(vec![1, 2, 3]);
/// assert_eq!(&blob[1..], [2, 3]);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(Bytes);

impl Blob {
    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Blob> for Bytes {
    fn from(blob: Blob) -> Self {
        blob.0
    }
}

// Almost no body has blobs: what all of them touch are two cells that need no drop, and so cost next to nothing.
thread_local! {
    /// The number that the next blob will have in the body that is being encoded on this thread, or [`NONE`]; [`INNER`]
    /// besides where that is in the midst of another one.
    static NEXT: Cell<u64> = const { Cell::new(NONE) };
    /// What the other ones, the outermost first, have come to: their next number and the blobs that they have met.
    static OUTER: RefCell<Vec<(u64, Vec<Bytes>)>> = const { RefCell::new(Vec::new()) };
    /// The blobs that it has met.
    static COLLECTED: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
    /// Whether the body that is being decoded on this thread has blobs.
    static LENDS: Cell<bool> = const { Cell::new(false) };
    /// Its blobs.
    static LENT: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// No body is being encoded.
const NONE: u64 = u64::MAX;

/// A body is being encoded in the midst of another one.
const INNER: u64 = 1 << 32;

/// Runs `encode`; the blobs that it meets are appended to `attachments`.
#[inline]
pub(crate) fn collecting<R>(attachments: &mut Vec<Bytes>, encode: impl FnOnce() -> R) -> R {
    // No message has as many as that.
    let first = u64::from(u32::try_from(attachments.len()).unwrap_or(u32::MAX));
    if NEXT.get() == NONE {
        NEXT.set(first);
    } else {
        Collecting::set_aside(first);
    }
    let collecting = Collecting;
    let result = encode();
    if NEXT.get() == first {
        NEXT.set(NONE);
        std::mem::forget(collecting);
    } else {
        collecting.end(attachments);
    }
    result
}

/// A body is being encoded. Where user code panics, what it has met so far is of no use.
struct Collecting;

impl Collecting {
    /// Another one is, which goes on when this one ends, also by a panic.
    #[cold]
    fn set_aside(first: u64) {
        let outer = (NEXT.replace(first | INNER), COLLECTED.take());
        OUTER.with_borrow_mut(|all| all.push(outer));
    }

    /// What it has met is there, or it was in the midst of another one.
    #[inline(never)]
    fn end(self, attachments: &mut Vec<Bytes>) {
        attachments.append(&mut COLLECTED.take());
    }
}

impl Drop for Collecting {
    #[inline(never)]
    fn drop(&mut self) {
        let outer = if NEXT.get() & INNER == 0 { None } else { OUTER.with_borrow_mut(Vec::pop) };
        let (next, collected) = outer.unwrap_or((NONE, Vec::new()));
        NEXT.set(next);
        COLLECTED.replace(collected);
    }
}

/// Runs `decode`; the blobs that it meets are taken from `attachments`.
#[inline]
pub(crate) fn lending<R>(attachments: &[Bytes], decode: impl FnOnce() -> R) -> R {
    let _lent = if attachments.is_empty() && !LENDS.get() { None } else { Some(Lent::new(attachments)) };
    decode()
}

/// Puts back what stood there before, also when user code panics in between.
struct Lent(Box<(bool, Vec<Bytes>)>);

impl Lent {
    #[cold]
    fn new(attachments: &[Bytes]) -> Self {
        Self(Box::new((LENDS.replace(!attachments.is_empty()), LENT.replace(attachments.to_vec()))))
    }
}

impl Drop for Lent {
    #[cold]
    fn drop(&mut self) {
        let (lends, lent) = &mut *self.0;
        LENDS.set(*lends);
        LENT.replace(std::mem::take(lent));
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match NEXT.get() {
            NONE => serializer.serialize_bytes(&self.0),
            next => {
                let number = next as u32;
                if number == u32::MAX {
                    return Err(serde::ser::Error::custom("too many blobs"));
                }
                let raw = Raw(&number.to_le_bytes());
                let written =
                    serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &(EXTENSION, raw))?;
                // Not before it is written: it may be tried as something else first, and then tried again.
                NEXT.set(next + 1);
                COLLECTED.with_borrow_mut(|collected| collected.push(self.0.clone()));
                Ok(written)
            }
        }
    }
}

/// Four bytes that go out as bytes.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes or a blob")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob::from(bytes))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob::from(bytes))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
        Ok(Blob::from(text.as_bytes()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Blob, A::Error> {
        // Formats without bytes of their own, such as JSON, write them as numbers.
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob::from(bytes))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Blob, D::Error> {
        // rmp-serde hands out an extension as a newtype around (type, data).
        let (kind, Number(number)) = <(i8, Number)>::deserialize(deserializer)?;
        if kind != EXTENSION {
            return Err(D::Error::custom(format_args!("extension type {kind} is no blob")));
        }
        lent(&number)
    }
}

/// The blob whose number these bytes are, among the attachments of the body that is being decoded.
pub(crate) fn lent<E: serde::de::Error>(number: &[u8]) -> Result<Blob, E> {
    let number = number.try_into().map(u32::from_le_bytes).map_err(|_| E::custom("a blob's number has four bytes"))?;
    LENT.with_borrow(|lent| {
        let attachment = usize::try_from(number).ok().and_then(|number| lent.get(number));
        attachment.cloned().map(Blob).ok_or_else(|| {
            let n = lent.len();
            E::custom(format_args!("blob {number} is not there: the message has {n} attachments"))
        })
    })
}

/// The bytes of a blob's number.
struct Number(Vec<u8>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an attachment")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Number, E> {
                Ok(Number(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(NumberVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    /// Encodes a value of its own, and panics if told to, in the midst of a list of blobs.
    struct Nested(bool);

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let payload = Payload::encode(&[Blob::from(vec![7]), Blob::from(vec![8])]).unwrap();
            assert_eq!(payload.decode::<Vec<Blob>>().unwrap()[1], Blob::from(vec![8]));
            assert!(!self.0, "as told");
            serializer.serialize_u8(1)
        }
    }

    #[test]
    fn an_encoding_inside_of_another_has_its_own_blobs() {
        let blob = |n: u8| Blob::from(vec![n]);
        let payload = Payload::encode(&(blob(1), Nested(false), blob(2))).unwrap();
        assert_eq!(payload.attachments(), [blob(1).0, blob(2).0]);
        assert_eq!(payload.decode::<(Blob, u8, Blob)>().unwrap(), (blob(1), 1, blob(2)));
    }

    #[test]
    fn an_encoding_goes_on_where_one_inside_of_it_panicked() {
        struct Catches;

        impl Serialize for Catches {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let blob = Blob::from(vec![9]);
                std::panic::catch_unwind(|| Payload::encode(&(&blob, Nested(true)))).unwrap_err();
                serializer.serialize_u8(2)
            }
        }
        let blob = |n: u8| Blob::from(vec![n]);
        let payload = Payload::encode(&(blob(1), Catches, Nested(false), blob(2))).unwrap();
        assert_eq!(payload.attachments(), [blob(1).0, blob(2).0]);
        assert_eq!(payload.decode::<(Blob, u8, u8, Blob)>().unwrap(), (blob(1), 2, 1, blob(2)));
        assert_eq!((NEXT.get(), OUTER.take().len()), (NONE, 0));
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let blob = Blob::from(vec![1]);
        std::panic::catch_unwind(|| Payload::encode(&(&blob, Nested(true)))).unwrap_err();
        assert_eq!((NEXT.get(), COLLECTED.take().len(), OUTER.take().len()), (NONE, 0, 0));
        // Outside of an encoding a blob is plain bytes again.
        assert_eq!(rmp_serde::to_vec(&blob).unwrap(), [0xc4, 1, 1]);
        assert_eq!(Payload::encode(&blob).unwrap().decode::<Blob>().unwrap(), blob);
    }
}
