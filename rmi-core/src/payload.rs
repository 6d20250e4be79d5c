//! One encoded value: the body in MessagePack, and the blobs beside it.
//!
//! How values are written is part of the wire format: structs as maps with field names, enum variants by name, byte
//! sequences as `bin`. So fields can be added, and other languages read what they expect.

use bytes::Bytes;
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob;
use crate::kept::{self, Kept};
use crate::scalar;
use crate::scan::{self, ScanError, Scanner};

thread_local! {
    /// Buffers of values that are done with, for the next ones.
    static KEPT: Kept<Vec<u8>> = const { Kept::new(Vec::new()) };
}

/// How many buffers a thread keeps, and how large they may be.
const MOST_KEPT: usize = 16;
const KEPT_CAPACITY: usize = 4 << 10;

/// Where values are encoded. Threads use the small ones again, so most values allocate nothing.
#[derive(Debug)]
pub(crate) struct Buffer(pub(crate) Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(kept::take(&KEPT).unwrap_or_default())
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = Self::new();
        buffer.0.extend_from_slice(bytes);
        buffer
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::from(&*self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if (1..=KEPT_CAPACITY).contains(&self.0.capacity()) {
            let mut buffer = std::mem::take(&mut self.0);
            buffer.clear();
            kept::keep(&KEPT, MOST_KEPT, |_| buffer);
        }
    }
}

/// A value could not be encoded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct EncodeError {
    message: String,
}

impl EncodeError {
    pub(crate) fn new(message: impl ToString) -> Self {
        Self { message: message.to_string() }
    }
}

/// Bytes could not be decoded as the type that was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    message: String,
}

impl From<ScanError> for DecodeError {
    fn from(error: ScanError) -> Self {
        Self { message: error.to_string() }
    }
}

impl DecodeError {
    pub(crate) fn new(message: impl ToString) -> Self {
        Self { message: message.to_string() }
    }
}

/// Bytes of a body that stand in the payload itself: as many as leave it at 32 bytes, for it is moved more often than
/// it is read.
const SHORT: usize = 30;

/// An encoded value with its attachments, on its way out or just arrived.
#[derive(Debug, Clone)]
pub struct Payload(Body);

#[derive(Debug, Clone)]
enum Body {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Buffer),
    Whole(Box<Whole>),
}

/// A body with attachments, or one that shares the buffer in which it came.
#[derive(Debug, Clone)]
struct Whole {
    body: Bytes,
    attachments: Vec<Bytes>,
}

impl Default for Payload {
    fn default() -> Self {
        Self(Body::Short { len: 0, bytes: [0; SHORT] })
    }
}

impl Payload {
    /// Encodes a value. Blobs inside become attachments.
    ///
    /// # Errors
    /// What the value's `Serialize` says.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut short = [0; SHORT];
        let mut rest = &mut short[..];
        if scalar::write(value, &mut rest) {
            let len = SHORT - rest.len();
            return Ok(Self(Body::Short { len: len as u8, bytes: short }));
        }
        let (mut buffer, mut attachments) = (Buffer::new(), Vec::new());
        encode(value, &mut buffer.0, &mut attachments)?;
        if attachments.is_empty() {
            return Ok(Self(Body::Long(buffer)));
        }
        Ok(Self::shared(std::mem::take(&mut buffer.0).into(), attachments))
    }

    /// Wraps a body that arrived, in bytes of its own, so that it does not pin the buffer it came in.
    pub fn copied(body: &[u8]) -> Self {
        match u8::try_from(body.len()) {
            Ok(len) if body.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..body.len()].copy_from_slice(body);
                Self(Body::Short { len, bytes })
            }
            _ => Self(Body::Long(body.into())),
        }
    }

    /// Wraps a body that arrived, with its attachments, without copying.
    pub fn shared(body: Bytes, attachments: Vec<Bytes>) -> Self {
        Self(Body::Whole(Box::new(Whole { body, attachments })))
    }

    /// The encoded body.
    pub fn body(&self) -> &[u8] {
        match &self.0 {
            // It is never longer.
            Body::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Body::Long(Buffer(bytes)) => bytes,
            Body::Whole(whole) => &whole.body,
        }
    }

    /// The body as bytes of its own; copies what does not share its buffer yet.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Body::Whole(whole) => whole.body.clone(),
            _ => Bytes::copy_from_slice(self.body()),
        }
    }

    /// The blobs beside the body.
    pub fn attachments(&self) -> &[Bytes] {
        match &self.0 {
            Body::Whole(whole) => &whole.attachments,
            _ => &[],
        }
    }

    /// Bytes on the wire, without framing.
    pub fn len(&self) -> usize {
        self.body().len() + self.attachments().iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.body().is_empty()
    }

    /// Decodes the value. The body must have passed the [`Scanner`].
    ///
    /// # Errors
    /// What the type's `Deserialize` says.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        decode(self.body(), self.attachments())
    }
}

/// Writes a value behind what is in `body`, and its blobs behind `attachments`. After an error or a panic there may be
/// a part of it.
///
/// # Errors
/// What the value's `Serialize` says.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    body: &mut Vec<u8>,
    attachments: &mut Vec<Bytes>,
) -> Result<(), EncodeError> {
    if scalar::write(value, body) {
        return Ok(());
    }
    blob::collecting(attachments, || {
        let mut serializer = rmp_serde::Serializer::new(body).with_struct_map().with_bytes(BytesMode::ForceIterables);
        value.serialize(&mut serializer)
    })
    .map_err(EncodeError::new)
}

/// Decodes one value that has passed the scanner. What is wrong is said in rmp-serde's words.
pub(crate) fn decode_raw<T: DeserializeOwned>(
    bytes: &[u8],
    attachments: &[Bytes],
) -> Result<T, rmp_serde::decode::Error> {
    if let Some(value) = scalar::read(bytes) {
        return Ok(value);
    }
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    // Each level of the document takes two of the decoder's; the scanner is the real bound.
    deserializer.set_max_depth(scan::MAX_DEPTH * 2 + 2);
    blob::lending(attachments, || T::deserialize(&mut deserializer))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], attachments: &[Bytes]) -> Result<T, DecodeError> {
    decode_raw(bytes, attachments)
        .map_err(|error| DecodeError::new(readable(&error, bytes, std::any::type_name::<T>())))
}

/// Why a value does not decode, in serde's words also where rmp-serde names a marker.
pub(crate) fn readable(error: &rmp_serde::decode::Error, value: &[u8], expected: &str) -> String {
    let rmp_serde::decode::Error::TypeMismatch(marker) = error else { return error.to_string() };
    let marker = marker.to_u8();
    let found = type_word(marker);
    // In an array or a map the culprit may be deeper in, and then the type as a whole is not what was expected there.
    if value.first() == Some(&marker) && !matches!(found, "sequence" | "map") {
        format!("invalid type: {found}, expected {expected}")
    } else {
        format!("invalid type: {found}")
    }
}

/// A MessagePack type in serde's words.
fn type_word(marker: u8) -> &'static str {
    match marker {
        0x00..=0x7f | 0xcc..=0xd3 | 0xe0..=0xff => "integer",
        0x80..=0x8f | 0xde | 0xdf => "map",
        0x90..=0x9f | 0xdc | 0xdd => "sequence",
        0xa0..=0xbf | 0xd9..=0xdb => "string",
        0xc0 => "nil",
        0xc1 => "reserved marker",
        0xc2 | 0xc3 => "boolean",
        0xc4..=0xc6 => "byte array",
        0xc7..=0xc9 | 0xd4..=0xd8 => "extension",
        0xca | 0xcb => "floating point",
    }
}

/// Decodes bytes from outside: scanned first, one value, nothing behind it.
///
/// # Errors
/// What the scanner or the type's `Deserialize` says.
pub fn decode_checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    pass(bytes)?;
    decode(bytes, &[])
}

/// Checks that bytes from outside are one value, with nothing behind it.
#[inline]
pub(crate) fn pass(bytes: &[u8]) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(bytes);
    scanner.value()?;
    scanner.finish()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Blob;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        id: u64,
        bytes: Vec<u8>,
        blob: Blob,
    }

    #[test]
    fn blobs_travel_beside_the_body_and_come_back_uncopied() {
        let record = Record { id: 7, bytes: vec![1, 2], blob: Blob::from(vec![9; 1000]) };
        let payload = Payload::encode(&record).unwrap();
        assert!(payload.body().len() < 40, "{}", payload.body().len());
        assert_eq!(payload.attachments().len(), 1);
        assert_eq!(payload.attachments()[0].as_ptr(), record.blob.as_ptr());
        let back: Record = payload.decode().unwrap();
        assert_eq!(back, record);
        assert_eq!(back.blob.as_ptr(), record.blob.as_ptr());
    }

    #[test]
    fn what_is_moved_for_each_call_is_small() {
        assert_eq!(size_of::<Payload>(), 32);
        assert_eq!(size_of::<crate::transport::Outcome>(), 32);
    }

    #[test]
    fn arrived_bodies_of_any_length_come_out_as_they_came() {
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, 1000] {
            let body: Vec<u8> = (0..len).map(|n| n as u8).collect();
            for payload in [Payload::copied(&body), Payload::shared(body.clone().into(), Vec::new())] {
                assert_eq!((payload.body(), payload.to_bytes()), (&*body, Bytes::from(body.clone())));
                assert_eq!((payload.len(), payload.is_empty(), payload.attachments()), (len, len == 0, &[][..]));
                assert_eq!(payload.clone().body(), body);
            }
        }
    }

    #[test]
    fn each_blob_of_a_sequence_travels_once() {
        let blobs = [1, 2].map(|byte| Blob::from(vec![byte; 100]));
        for blobs in [blobs.to_vec(), blobs[..1].to_vec(), Vec::new()] {
            let payload = Payload::encode(&vec![blobs.clone()]).unwrap();
            assert_eq!(payload.attachments().len(), blobs.len());
            assert_eq!(payload.decode::<Vec<Vec<Blob>>>().unwrap(), [blobs]);
        }
    }

    #[test]
    fn a_blob_that_is_not_there_is_an_error() {
        let payload = Payload::encode(&Blob::from(vec![1])).unwrap();
        let error = decode::<Blob>(payload.body(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "blob 0 is not there: the message has 0 attachments");
    }

    #[test]
    fn plain_bytes_are_a_blob_too() {
        let payload = Payload::encode(&vec![1u8, 2, 3]).unwrap();
        assert_eq!(payload.body(), [0xc4, 3, 1, 2, 3]);
        assert_eq!(payload.decode::<Blob>().unwrap(), Blob::from(vec![1, 2, 3]));
    }

    #[test]
    fn structs_are_maps_with_field_names() {
        #[derive(Serialize)]
        struct Point {
            x: u8,
        }
        assert_eq!(Payload::encode(&Point { x: 5 }).unwrap().body(), [0x81, 0xa1, b'x', 5]);
    }

    #[test]
    fn wrong_types_are_told_in_serdes_words() {
        let payload = Payload::encode("2").unwrap();
        assert_eq!(payload.decode::<i64>().unwrap_err().to_string(), "invalid type: string, expected i64");
    }

    #[test]
    fn deep_documents_decode_up_to_the_scanners_limit() {
        #[derive(Debug, Deserialize)]
        struct Nest(#[allow(dead_code)] Vec<Nest>);
        let bytes = [vec![0x91; 63], vec![0x90]].concat();
        decode_checked::<Nest>(&bytes).unwrap();
        let bytes = [vec![0x91; 64], vec![0x90]].concat();
        assert_eq!(decode_checked::<Nest>(&bytes).unwrap_err().to_string(), "nested deeper than 64 levels");
    }
}
