//! The few MessagePack headers that the envelope is made of, and integers, written by hand.

use bytes::{BufMut, BytesMut};

/// A nil.
pub fn nil(out: &mut BytesMut) {
    out.put_u8(0xc0);
}

/// An unsigned integer, as short as it can be.
#[inline]
pub fn uint(out: &mut impl BufMut, value: u64) {
    if value < 0x80 {
        out.put_u8(value as u8);
    } else {
        long_uint(out, value);
    }
}

fn long_uint(out: &mut impl BufMut, value: u64) {
    if let Ok(value) = u8::try_from(value) {
        out.put_u8(0xcc);
        out.put_u8(value);
    } else if let Ok(value) = u16::try_from(value) {
        out.put_u8(0xcd);
        out.put_u16(value);
    } else if let Ok(value) = u32::try_from(value) {
        out.put_u8(0xce);
        out.put_u32(value);
    } else {
        out.put_u8(0xcf);
        out.put_u64(value);
    }
}

/// An integer, as short as it can be.
#[inline]
pub(crate) fn int(out: &mut impl BufMut, value: i64) {
    match u64::try_from(value) {
        Ok(value) => uint(out, value),
        Err(_) => negative(out, value),
    }
}

fn negative(out: &mut impl BufMut, value: i64) {
    if value >= -32 {
        out.put_i8(value as i8);
    } else if let Ok(value) = i8::try_from(value) {
        out.put_u8(0xd0);
        out.put_i8(value);
    } else if let Ok(value) = i16::try_from(value) {
        out.put_u8(0xd1);
        out.put_i16(value);
    } else if let Ok(value) = i32::try_from(value) {
        out.put_u8(0xd2);
        out.put_i32(value);
    } else {
        out.put_u8(0xd3);
        out.put_i64(value);
    }
}

/// The header of a string.
pub fn str_len(out: &mut BytesMut, len: usize) {
    if len < 32 {
        out.put_u8(0xa0 | len as u8);
    } else {
        sized(out, len, Some(0xd9), 0xda, 0xdb);
    }
}

/// A string.
pub fn str(out: &mut BytesMut, text: &str) {
    str_len(out, text.len());
    out.put_slice(text.as_bytes());
}

/// Bytes.
pub fn bin(out: &mut BytesMut, bytes: &[u8]) {
    sized(out, bytes.len(), Some(0xc4), 0xc5, 0xc6);
    out.put_slice(bytes);
}

/// The header of an array.
#[inline]
pub fn array(out: &mut BytesMut, len: usize) {
    if len < 16 {
        out.put_u8(0x90 | len as u8);
    } else {
        sized(out, len, None, 0xdc, 0xdd);
    }
}

/// The header of a map.
pub fn map(out: &mut BytesMut, len: usize) {
    if len < 16 {
        out.put_u8(0x80 | len as u8);
    } else {
        sized(out, len, None, 0xde, 0xdf);
    }
}

/// A marker and a length, in the shortest form that there is. Lengths above 4 GiB never get here: the limits of a
/// message are far below.
fn sized(out: &mut BytesMut, len: usize, marker_8: Option<u8>, marker_16: u8, marker_32: u8) {
    match (marker_8, u8::try_from(len), u16::try_from(len)) {
        (Some(marker), Ok(len), _) => {
            out.put_u8(marker);
            out.put_u8(len);
        }
        (_, _, Ok(len)) => {
            out.put_u8(marker_16);
            out.put_u16(len);
        }
        _ => {
            out.put_u8(marker_32);
            out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }
}
