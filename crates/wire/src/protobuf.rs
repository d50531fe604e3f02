//! The protobuf wire format, as far as the hand-written decoders need it.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use std::ops::Range;

/// A value of a field whose meaning the caller decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: the range of the content.
    Bytes { start: usize, end: usize },
    /// Wire type 5.
    Fixed32(u32),
}

/// What was wrong, for [`crate::WireError::Malformed`].
pub(crate) type Fault = (usize, &'static str);

/// Reads a varint at `*at` that must end before `end`.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64, Fault> {
    // Fast path: lengths and tags are nearly always one byte.
    if *at < end && bytes[*at] < 0x80 {
        let value = u64::from(bytes[*at]);
        *at += 1;
        return Ok(value);
    }
    varint_slow(bytes, at, end)
}

#[inline(never)]
fn varint_slow(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64, Fault> {
    let start = *at;
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let Some(&byte) = bytes[..end].get(*at) else {
            return Err((start, "varint is cut off"));
        };
        *at += 1;
        // The tenth byte may only carry the 64th bit.
        if shift == 63 && byte > 1 {
            return Err((start, "varint does not fit 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err((start, "varint does not fit 64 bits"))
}

/// Reads a length at `*at` and yields the end of the content that follows.
#[inline(always)]
pub(crate) fn length(bytes: &[u8], at: &mut usize, end: usize) -> Result<usize, Fault> {
    let start = *at;
    let length = varint(bytes, at, end)?;
    if length > (end - *at) as u64 {
        return Err((start, "length runs past the end of its message"));
    }
    Ok(*at + length as usize)
}

/// Reads eight bytes, little endian.
#[inline(always)]
pub(crate) fn fixed64(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64, Fault> {
    if end - *at < 8 {
        return Err((*at, "64-bit value is cut off"));
    }
    let mut value = [0_u8; 8];
    value.copy_from_slice(&bytes[*at..*at + 8]);
    *at += 8;
    Ok(u64::from_le_bytes(value))
}

/// Reads one field, tag included: its number and value.
pub(crate) fn field(bytes: &[u8], at: &mut usize, end: usize) -> Result<(u64, Field), Fault> {
    let start = *at;
    let tag = varint(bytes, at, end)?;
    let number = tag >> 3;
    if number == 0 || number > 0x1fff_ffff {
        return Err((start, "invalid field number"));
    }
    let value = match tag & 7 {
        0 => Field::Varint(varint(bytes, at, end)?),
        1 => Field::Fixed64(fixed64(bytes, at, end)?),
        2 => {
            let content_end = length(bytes, at, end)?;
            let content = Field::Bytes { start: *at, end: content_end };
            *at = content_end;
            content
        }
        5 if end - *at >= 4 => {
            let mut value = [0_u8; 4];
            value.copy_from_slice(&bytes[*at..*at + 4]);
            *at += 4;
            Field::Fixed32(u32::from_le_bytes(value))
        }
        5 => return Err((*at, "32-bit value is cut off")),
        _ => return Err((start, "wire type is not supported")),
    };
    Ok((number, value))
}

/// Shows `visit` number and value of each field of the message at `range`.
pub(crate) fn each_field(
    bytes: &[u8],
    range: Range<usize>,
    mut visit: impl FnMut(u64, Field) -> Result<(), &'static str>,
) -> Result<(), Fault> {
    let mut at = range.start;
    while at < range.end {
        let start = at;
        let (number, field) = field(bytes, &mut at, range.end)?;
        visit(number, field).map_err(|reason| (start, reason))?;
    }
    Ok(())
}

/// As [`each_field`], for messages whose fields hold further messages.
pub(crate) fn each_message(
    bytes: &[u8],
    range: Range<usize>,
    mut visit: impl FnMut(u64, Field) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut at = range.start;
    while at < range.end {
        let (number, field) = field(bytes, &mut at, range.end)?;
        visit(number, field)?;
    }
    Ok(())
}

/// Appends a varint.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Number of bytes [`push_varint`] appends.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a length-delimited field whose tag is one byte.
pub(crate) fn push_bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    push_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut at = 0;
            prop_assert_eq!(varint(&bytes, &mut at, bytes.len()), Ok(value));
            prop_assert_eq!(at, bytes.len());
            let mut at = 0;
            prop_assert!(varint(&bytes, &mut at, bytes.len() - 1).is_err());
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        let mut at = 0;
        assert!(varint(&bytes, &mut at, 10).is_err());
        let mut at = 0;
        assert!(varint(&[0x80; 11], &mut at, 11).is_err());
    }
}
