//! Any MessagePack value: what a call by name gives and takes when no Rust type is at hand.
//!
//! A [`Value`] is what is on the wire, not what it was before: a struct is a map with string keys, an enum's variant is
//! a string or a map with one entry, `()` and `None` are nil. Bytes from the network pass [`crate::scan`] before they
//! become a `Value`, so one that was received is at most [`MAX_DEPTH`](crate::scan::MAX_DEPTH) levels deep.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeTuple},
};

use crate::Blob;
use crate::blob;
use crate::scan::{ScanError, Scanner};

/// Any MessagePack value.
///
/// ```
/// use rmi_core::value::Value;
///
/// let point: Value = [("x", 1), ("y", -2)].into_iter().collect();
/// assert_eq!(point.get("y").and_then(Value::as_i64), Some(-2));
/// assert_eq!(point.to_string(), r#"{"x": 1, "y": -2}"#);
/// ```
///
/// Equality is that of the wire: `1` and `1.0` differ, and so do two maps with the same entries in another order.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: `()` and `None`.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// Every integer that an `i64` can hold.
    Int(i64),
    /// An integer above `i64::MAX`. Smaller ones are an [`Int`](Self::Int), so that equal numbers are equal values:
    /// `Value::from(number)` chooses.
    UInt(u64),
    /// A number with a fraction; an `f32` is widened.
    Float(f64),
    /// Text.
    Str(String),
    /// A byte sequence.
    Bytes(Vec<u8>),
    /// Bytes that travel beside the message. Outside of a call they are a byte sequence.
    Blob(Blob),
    /// A sequence: `Vec`, tuple, array.
    Array(Vec<Value>),
    /// Entries in the order in which they travelled: a map or a struct.
    Map(Vec<(Value, Value)>),
    /// MessagePack's extension: a type of one's own and its bytes.
    Ext(i8, Vec<u8>),
}

impl Value {
    /// Decodes it as a Rust type, as if it had been received in place of this value.
    ///
    /// # Errors
    /// [`ValueError::Decode`] if `T` does not accept it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        let bytes = encode(self)?;
        rmp_serde::from_slice(&bytes).map_err(|error| ValueError::Decode(error.to_string()))
    }

    /// Whether it is nil.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one. Integers beyond 2^53 are rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes, if it is a byte sequence.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            Self::Blob(value) => Some(value),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if it is a map.
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under this key, if it is a map that has it; where a key is there twice, the first.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut entries = self.as_map()?.iter();
        entries.find_map(|(name, value)| (name.as_str() == Some(key)).then_some(value))
    }
}

/// Reads like JSON: `{"name": "x", "sizes": [1, 2.5, nil]}`. Short byte sequences are shown, of longer ones the length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::UInt(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Str(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => fmt_bytes(value, f),
            Self::Blob(value) => fmt_bytes(value, f),
            Self::Array(items) => {
                f.write_str("[")?;
                for (idx, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", separator(idx))?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (idx, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", separator(idx))?;
                }
                f.write_str("}")
            }
            Self::Ext(tag, value) => {
                write!(f, "ext({tag}, ")?;
                fmt_bytes(value, f)?;
                f.write_str(")")
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::Blob(value) => value.serialize(serializer),
            // No item is encoded by `serialize_u8`, so `BytesMode` does not make a byte sequence of it.
            Self::Array(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Ext(tag, value) => {
                serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &Ext { tag: *tag, value })
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Nil
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_small_integers {
    ($($int:ty)*) => {$(
        impl From<$int> for Value {
            fn from(value: $int) -> Self {
                Self::Int(i64::from(value))
            }
        }
    )*};
}

from_small_integers!(i8 i16 i32 i64 u8 u16 u32);

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        // No platform has a wider one.
        Self::Int(value as i64)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        // No platform has a wider one.
        Self::from(value as u64)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::Float(f64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<char> for Value {
    fn from(value: char) -> Self {
        Self::Str(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(value: Cow<'_, str>) -> Self {
        Self::Str(value.into_owned())
    }
}

impl From<Blob> for Value {
    fn from(value: Blob) -> Self {
        Self::Blob(value)
    }
}

/// A byte sequence. (A `Vec<u8>` is an array of integers here; write `Value::Bytes(vec)` or use [`to_value`].)
impl From<bytes::Bytes> for Value {
    fn from(value: bytes::Bytes) -> Self {
        Self::Bytes(value.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

/// An array, also of a `Vec<u8>`: write `Value::Bytes(vec)` for a byte sequence.
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Value>, V: Into<Value>> From<BTreeMap<K, V>> for Value {
    fn from(entries: BTreeMap<K, V>) -> Self {
        entries.into_iter().collect()
    }
}

/// A map with these entries, in this order.
impl<K: Into<Value>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// Why a Rust value and a [`Value`] could not be made of each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value's own `Serialize` refused, or MessagePack has no place for it.
    #[error("the value does not encode: {0}")]
    Encode(String),
    /// The Rust type's own `Deserialize` refused.
    #[error("the value does not decode: {0}")]
    Decode(String),
    /// It could be encoded, but no node would take it: too deep or too many values.
    #[error("the value cannot travel")]
    Refused(#[from] ScanError),
}

/// Makes a [`Value`] of anything that can travel, as its receiver would see it.
///
/// # Errors
/// [`ValueError::Encode`] if it does not encode, [`ValueError::Refused`] if it is too large or too deep to travel.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    let bytes = encode(value)?;
    Scanner::new(&bytes).value()?;
    rmp_serde::from_slice(&bytes).map_err(|error| ValueError::Decode(error.to_string()))
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any MessagePack value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Str(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::with_capacity(cautious(seq.size_hint()));
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::with_capacity(cautious(map.size_hint()));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }

    /// `rmp_serde` gives an extension as a newtype around its type and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match <(i8, Value)>::deserialize(deserializer)? {
            (blob::EXTENSION, Value::Bytes(number)) => blob::lent(&number).map(Value::Blob),
            (tag, Value::Bytes(value)) => Ok(Value::Ext(tag, value)),
            _ => Err(D::Error::custom("an extension holds a type and bytes")),
        }
    }
}

/// The shape that `rmp_serde` asks of an extension.
struct Ext<'a> {
    tag: i8,
    value: &'a [u8],
}

impl Serialize for Ext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.tag)?;
        pair.serialize_element(&RawBytes(self.value))?;
        pair.end()
    }
}

struct RawBytes<'a>(&'a [u8]);

impl Serialize for RawBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Encodes as arguments and results are encoded: structs by field names, byte sequences as bin.
fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ValueError> {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_bytes(rmp_serde::config::BytesMode::ForceIterables);
    value.serialize(&mut serializer).map_err(|error| ValueError::Encode(error.to_string()))?;
    Ok(bytes)
}

/// A declared count is a hint, not a reason to reserve megabytes.
fn cautious(hint: Option<usize>) -> usize {
    hint.unwrap_or(0).min(1024)
}

fn separator(idx: usize) -> &'static str {
    if idx == 0 { "" } else { ", " }
}

fn fmt_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if bytes.len() > 32 {
        return write!(f, "<{} bytes>", bytes.len());
    }
    write!(f, "b\"{}\"", bytes.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::MAX_DEPTH;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Job {
        name: String,
        state: State,
        retries: Option<u64>,
        payload: Vec<u8>,
        scale: f32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum State {
        Waiting,
        Running { pid: u32 },
        Failed(i32),
    }

    fn job(state: State) -> Job {
        Job { name: "copy".into(), state, retries: Some(u64::MAX), payload: vec![1, 200], scale: 0.1 }
    }

    fn round_trip(value: &Value) -> Value {
        let bytes = rmp_serde::to_vec(value).unwrap();
        Scanner::new(&bytes).value().unwrap();
        rmp_serde::from_slice(&bytes).unwrap()
    }

    fn nested(n: usize) -> Value {
        (0..n).fold(Value::Nil, |value, level| match level % 2 {
            0 => Value::Array(vec![value]),
            _ => Value::Map(vec![(Value::from("k"), value)]),
        })
    }

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        let values = vec![
            Value::Nil,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Int(0),
            Value::Int(i64::MAX),
            Value::UInt(u64::MAX),
            Value::Float(-0.5),
            Value::from(0.1f32),
            Value::from("é\u{0}"),
            Value::Bytes(vec![]),
            Value::Bytes(vec![0; 300]),
            Value::Array(vec![Value::Int(1), Value::Int(2)]),
            Value::Array(vec![]),
            Value::Map(vec![(Value::Nil, Value::Int(1)), (Value::Array(vec![]), Value::Nil)]),
        ];
        for value in values.iter().chain([&Value::Array(values.clone())]) {
            assert_eq!(&round_trip(value), value);
            assert_eq!(&to_value(value).unwrap(), value);
            assert_eq!(&value.decode::<Value>().unwrap(), value);
        }
    }

    #[test]
    fn extensions_of_every_length_come_back_as_they_were() {
        for len in [0, 1, 2, 3, 4, 8, 16, 17, 300, 70_000] {
            for tag in [i8::MIN, -1, 0, 5, i8::MAX] {
                let value = Value::Array(vec![Value::Ext(tag, vec![7; len]), Value::Int(1)]);
                assert_eq!(round_trip(&value), value);
                assert_eq!(to_value(&value), Ok(value));
            }
        }
        assert_eq!(rmp_serde::to_vec(&Value::Ext(5, vec![9])).unwrap(), [0xd4, 5, 9]);
    }

    #[test]
    fn equal_integers_are_equal_values_whatever_their_encoding() {
        for bytes in [&[0x05][..], &[0xcc, 5], &[0xcd, 0, 5], &[0xd0, 5], &[0xd3, 0, 0, 0, 0, 0, 0, 0, 5]] {
            assert_eq!(rmp_serde::from_slice::<Value>(bytes).unwrap(), Value::Int(5));
        }
        assert_eq!(Value::from(i64::MAX as u64), Value::Int(i64::MAX));
        assert_eq!(Value::from(i64::MAX as u64 + 1), Value::UInt(1 << 63));
        assert_eq!(Value::from(5usize), Value::from(5i8));
    }

    #[test]
    fn rust_types_become_what_travels_and_come_back() {
        for state in [State::Waiting, State::Running { pid: 7 }, State::Failed(-1)] {
            let job = job(state);
            let value = to_value(&job).unwrap();
            assert_eq!(value.decode::<Job>().unwrap(), job);
        }
        let value = to_value(&job(State::Running { pid: 7 })).unwrap();
        assert_eq!(value.get("payload"), Some(&Value::Bytes(vec![1, 200])));
        assert_eq!(value.get("state").and_then(|state| state.get("Running")?.get("pid")?.as_u64()), Some(7));
        assert_eq!(value.get("retries"), Some(&Value::UInt(u64::MAX)));
        assert_eq!(to_value(&None::<i32>), Ok(Value::Nil));
        assert_eq!(to_value("text"), Ok(Value::from("text")));
    }

    #[test]
    fn types_that_do_not_match_say_so() {
        let error = Value::from("x").decode::<Vec<i64>>().unwrap_err();
        assert_eq!(error.to_string(), "the value does not decode: invalid type: string \"x\", expected a sequence");
        assert!(matches!(Value::Nil.decode::<Job>(), Err(ValueError::Decode(_))));
        assert!(matches!(Value::Int(300).decode::<u8>(), Err(ValueError::Decode(_))));
    }

    #[test]
    fn accessors_answer_for_their_type_only() {
        let value = Value::from(vec![1, 2]);
        assert_eq!(value.as_array(), Some(&[Value::Int(1), Value::Int(2)][..]));
        assert_eq!((value.as_str(), value.as_map(), value.get("x"), value.as_i64()), (None, None, None, None));
        assert_eq!((Value::Int(-1).as_u64(), Value::Int(-1).as_i64()), (None, Some(-1)));
        assert_eq!((Value::UInt(u64::MAX).as_u64(), Value::UInt(u64::MAX).as_i64()), (Some(u64::MAX), None));
        assert_eq!((Value::Int(2).as_f64(), Value::Float(2.0).as_i64()), (Some(2.0), None));
        assert_eq!(Value::from(bytes::Bytes::from_static(b"ab")).as_bytes(), Some(&b"ab"[..]));
        assert_eq!((Value::from(true).as_bool(), Value::from('c').as_str()), (Some(true), Some("c")));
        assert!(Value::default().is_nil() && Value::from(None::<i32>).is_nil() && Value::from(()).is_nil());
        assert_eq!(Value::from(BTreeMap::from([("k", 1)])).get("k"), Some(&Value::Int(1)));
        let twice: Value = [("k", 1), ("k", 2)].into_iter().collect();
        assert_eq!(twice.get("k"), Some(&Value::Int(1)));
    }

    #[test]
    fn display_reads_like_json() {
        let value: Value = [
            ("name", Value::from("a \"b\"\n")),
            ("sizes", Value::Array(vec![1.into(), 2.5.into(), 2.0.into(), ().into(), u64::MAX.into()])),
            ("raw", Value::Bytes(vec![0, b'x', 255])),
            ("long", Value::Bytes(vec![0; 33])),
            ("ext", Value::Ext(-3, vec![1])),
            ("empty", Value::Array(vec![[0; 0].into(), Value::Map(vec![])])),
        ]
        .into_iter()
        .collect();
        let expected = concat!(
            r#"{"name": "a \"b\"\n", "sizes": [1, 2.5, 2.0, nil, 18446744073709551615], "raw": b"\x00x\xff", "#,
            r#""long": <33 bytes>, "ext": ext(-3, b"\x01"), "empty": [[], {}]}"#,
        );
        assert_eq!(value.to_string(), expected);
        assert_eq!(Value::Map(vec![(Value::Int(1), Value::Bool(false))]).to_string(), "{1: false}");
    }

    #[test]
    fn the_deepest_value_that_travels_fits_a_small_stack() {
        let work = || {
            let value = nested(MAX_DEPTH);
            let copy = to_value(&value).unwrap();
            assert_eq!(copy, value.clone());
            assert_eq!(copy.to_string().matches('[').count(), MAX_DEPTH / 2);
            assert!(!format!("{copy:?}").is_empty());
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(work).unwrap().join().unwrap();
        assert_eq!(to_value(&nested(MAX_DEPTH + 1)), Err(ValueError::Refused(ScanError::TooDeep)));
    }

    #[test]
    fn a_declared_count_reserves_nothing_and_truncations_are_refused() {
        assert!(rmp_serde::from_slice::<Value>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        let bytes =
            rmp_serde::to_vec(&Value::Array(vec![nested(3), Value::Ext(1, vec![1, 2, 3]), "text".into()])).unwrap();
        for end in 0..bytes.len() {
            assert!(rmp_serde::from_slice::<Value>(&bytes[..end]).is_err(), "{end}");
        }
    }
}
