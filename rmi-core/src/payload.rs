//! One encoded value: the body in MessagePack, and the blobs beside it.
//!
//! How values are written is part of the wire format: structs as maps with field names, enum variants by name, byte
//! sequences as `bin`. So fields can be added, and other languages read what they expect.

use bytes::Bytes;
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::blob;
use crate::scan::{self, ScanError, Scanner};

/// The encoded bytes of small things, without an allocation.
pub(crate) type InlineBuf = SmallVec<[u8; 128]>;

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

/// The body's bytes: inline while small, else shared with the buffer that they came in.
#[derive(Debug, Clone)]
enum Body {
    Inline(InlineBuf),
    Shared(Bytes),
}

/// An encoded value with its attachments, on its way out or just arrived.
#[derive(Debug, Clone)]
pub struct Payload {
    body: Body,
    attachments: Vec<Bytes>,
}

impl Default for Payload {
    fn default() -> Self {
        Self { body: Body::Inline(InlineBuf::new()), attachments: Vec::new() }
    }
}

impl Payload {
    /// Encodes a value. Blobs inside become attachments.
    ///
    /// # Errors
    /// What the value's `Serialize` says.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut payload = Self::default();
        payload.push(value)?;
        Ok(payload)
    }

    /// Encodes a value behind what is here. After an error the payload is of no use.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let Body::Inline(body) = &mut self.body else {
            return Err(EncodeError { message: "an arrived payload cannot be added to".to_owned() });
        };
        blob::collecting(&mut self.attachments, || {
            let mut serializer =
                rmp_serde::Serializer::new(body).with_struct_map().with_bytes(BytesMode::ForceIterables);
            value.serialize(&mut serializer)
        })
        .map_err(|error| EncodeError { message: error.to_string() })
    }

    /// Takes back what was encoded from byte `at` on. Its attachments stay.
    pub(crate) fn split_off(&mut self, at: usize) -> InlineBuf {
        match &mut self.body {
            Body::Inline(body) => body.drain(at.min(body.len())..).collect(),
            Body::Shared(body) => InlineBuf::from_slice(&body.split_off(at.min(body.len()))),
        }
    }

    /// Wraps a body that arrived. Small ones are copied, so that they do not pin the buffer they came in.
    pub fn copied(body: &[u8]) -> Self {
        Self { body: Body::Inline(InlineBuf::from_slice(body)), attachments: Vec::new() }
    }

    /// Wraps a body that arrived, with its attachments, without copying.
    pub fn shared(body: Bytes, attachments: Vec<Bytes>) -> Self {
        Self { body: Body::Shared(body), attachments }
    }

    /// The encoded body.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Inline(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }

    /// The body as bytes of its own; copies what is inline.
    pub fn to_bytes(&self) -> Bytes {
        match &self.body {
            Body::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Body::Shared(bytes) => bytes.clone(),
        }
    }

    /// The blobs beside the body.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Bytes on the wire, without framing.
    pub fn len(&self) -> usize {
        self.body().len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
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
        decode(self.body(), &self.attachments)
    }
}

/// Decodes one value that has passed the scanner.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], attachments: &[Bytes]) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    // Each level of the document takes two of the decoder's; the scanner is the real bound.
    deserializer.set_max_depth(scan::MAX_DEPTH * 2 + 2);
    let value = blob::lending(attachments, || T::deserialize(&mut deserializer));
    value.map_err(|error| DecodeError::new(readable(&error)))
}

/// Decodes bytes from outside: scanned first, one value, nothing behind it.
///
/// # Errors
/// What the scanner or the type's `Deserialize` says.
pub fn decode_checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    scanner.value()?;
    scanner.finish()?;
    decode(bytes, &[])
}

/// Serde's own words where rmp-serde only wraps them.
fn readable(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error;
    match error {
        Error::Syntax(text) | Error::Uncategorized(text) => text.clone(),
        Error::LengthMismatch(found) => format!("invalid length {found}"),
        other => other.to_string(),
    }
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
    fn deep_documents_decode_up_to_the_scanners_limit() {
        #[derive(Debug, Deserialize)]
        struct Nest(#[allow(dead_code)] Vec<Nest>);
        let bytes = [vec![0x91; 63], vec![0x90]].concat();
        decode_checked::<Nest>(&bytes).unwrap();
        let bytes = [vec![0x91; 64], vec![0x90]].concat();
        assert_eq!(decode_checked::<Nest>(&bytes).unwrap_err().to_string(), "nested deeper than 64 levels");
    }
}
