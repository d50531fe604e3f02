//! Columns of numbers: what decodes encodes back, and what is encoded decodes back.

use codec::bitpack::{self, BLOCK_LEN};
use codec::varint;
use codec::{
    decode_f64s, decode_i64s, decode_postings, decode_trimmed_f64s, encode_f64s, encode_i64s,
    encode_postings, encode_trimmed_f64s,
};

use crate::input::Input;

/// Most values of a column: several blocks and a part of one.
const MAX_COUNT: usize = 700;

/// The first byte picks the kind of column and whether the rest is a column or values.
pub(crate) fn columns(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.byte();
    let count = input.below(MAX_COUNT);
    match kind % 10 {
        0 => decoded(input.0, count, decode_i64s, encode_i64s),
        1 => decoded(input.0, count, decode_f64s_as_bits, encode_bits),
        2 => decoded(input.0, count, decode_trimmed_as_bits, encode_trimmed_bits),
        3 => decoded(input.0, count, decode_postings, encode_postings),
        4 => packed_bits(input, count),
        5 => varints(input.0),
        6 => encoded(&integers(&mut input, count), decode_i64s, encode_i64s),
        7 => encoded(&patterns(&mut input, count), decode_f64s_as_bits, encode_bits),
        8 => encoded(&patterns(&mut input, count), decode_trimmed_as_bits, encode_trimmed_bits),
        _ => encoded(&ordinals(&mut input, count), decode_postings, encode_postings),
    }
}

type Decode<T> = fn(&mut &[u8], usize, &mut Vec<T>) -> Result<(), codec::CodecError>;
type Encode<T> = fn(&[T], &mut Vec<u8>);

/// Bytes of unknown origin: an error leaves nothing, success has the count that was asked for, and
/// the values go through the encoder.
fn decoded<T: PartialEq + std::fmt::Debug + Copy + Default>(
    bytes: &[u8],
    count: usize,
    decode: Decode<T>,
    encode: Encode<T>,
) {
    let mut values = vec![T::default()];
    let mut rest = bytes;
    match decode(&mut rest, count, &mut values) {
        Ok(()) => {
            assert_eq!(values.len(), 1 + count);
            assert!(bytes.ends_with(rest));
            encoded(&values[1..], decode, encode);
        }
        Err(_) => assert_eq!(values.len(), 1, "an error leaves nothing behind"),
    }
}

fn encoded<T: PartialEq + std::fmt::Debug>(values: &[T], decode: Decode<T>, encode: Encode<T>) {
    let mut bytes = Vec::new();
    encode(values, &mut bytes);
    assert!(bytes.len() <= 9 * values.len() + 16, "{} for {}", bytes.len(), values.len());
    let mut again = Vec::new();
    let mut rest = &bytes[..];
    decode(&mut rest, values.len(), &mut again).expect("own bytes");
    assert!(rest.is_empty(), "the column ends where it says");
    assert_eq!(again, values);
}

fn decode_f64s_as_bits(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<u64>,
) -> Result<(), codec::CodecError> {
    let mut values = Vec::new();
    decode_f64s(input, count, &mut values)?;
    out.extend(values.iter().map(|value| value.to_bits()));
    Ok(())
}

fn encode_bits(values: &[u64], out: &mut Vec<u8>) {
    encode_f64s(&values.iter().map(|bits| f64::from_bits(*bits)).collect::<Vec<_>>(), out);
}

fn decode_trimmed_as_bits(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<u64>,
) -> Result<(), codec::CodecError> {
    let mut values = Vec::new();
    decode_trimmed_f64s(input, count, &mut values)?;
    out.extend(values.iter().map(|value| value.to_bits()));
    Ok(())
}

fn encode_trimmed_bits(values: &[u64], out: &mut Vec<u8>) {
    encode_trimmed_f64s(values.len(), values.iter().map(|bits| f64::from_bits(*bits)), out);
}

fn packed_bits(mut input: Input<'_>, count: usize) {
    let (width, len) = (u32::from(input.byte() % 70), count % (BLOCK_LEN + 1));
    let mut values = [0; BLOCK_LEN];
    let mut rest = input.0;
    let unpacked = bitpack::unpack(&mut rest, len, width, &mut values);
    let needed = bitpack::packed_len(len, width);
    assert_eq!(unpacked.is_ok(), width <= bitpack::MAX_WIDTH && needed <= input.0.len());
    if unpacked.is_ok() {
        assert_eq!(input.0.len() - rest.len(), needed);
        let mut out = Vec::new();
        bitpack::pack(&values[..len], width, &mut out);
        let mut again = [0; BLOCK_LEN];
        bitpack::unpack(&mut &out[..], len, width, &mut again).expect("own bytes");
        assert_eq!(again[..len], values[..len]);
    }
}

/// A varint has one form: what was taken is what would be put.
fn varints(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        let mut signed = rest;
        let taken = varint::take_u64(&mut rest);
        assert_eq!(varint::take_i64(&mut signed).is_ok(), taken.is_ok());
        let mut prefixed = before;
        if varint::take_prefixed(&mut prefixed).is_err() {
            assert_eq!(prefixed, before, "an error takes nothing");
        }
        let Ok(number) = taken else {
            assert_eq!(rest, before, "an error takes nothing");
            return;
        };
        let mut out = Vec::new();
        varint::put_u64(&mut out, number);
        assert_eq!(out, before[..before.len() - rest.len()]);
    }
}

/// Values that lie near one another as those of real columns do, with steps out of the input.
fn integers(input: &mut Input<'_>, count: usize) -> Vec<i64> {
    let mut value = input.u64() as i64;
    let shift = u32::from(input.byte() % 64);
    let steps = (0..count).map(|_| {
        let byte = input.byte();
        let step = if byte == 0xff { input.u64() as i64 } else { i64::from(byte as i8) << shift };
        value = value.wrapping_add(step);
        value
    });
    steps.collect()
}

fn patterns(input: &mut Input<'_>, count: usize) -> Vec<u64> {
    let digits = i32::from(input.byte() % 8);
    let integers = integers(input, count);
    let is_raw = input.byte().is_multiple_of(2);
    let bits = |value: i64| match is_raw {
        true => value as u64,
        false => (value as f64 / 10_f64.powi(digits)).to_bits(),
    };
    integers.into_iter().map(bits).collect()
}

fn ordinals(input: &mut Input<'_>, count: usize) -> Vec<u32> {
    let mut next = 0_u32;
    let mut ordinals = Vec::new();
    for _ in 0..count {
        let byte = input.byte();
        let gap = if byte == 0xff { input.u64() as u32 } else { u32::from(byte / 8) };
        let Some(ordinal) = next.checked_add(gap).filter(|ordinal| *ordinal < u32::MAX) else {
            break;
        };
        ordinals.push(ordinal);
        next = ordinal + 1;
    }
    ordinals
}
