//! Numbers in the file of open windows.

use codec::CodecError;
use codec::varint::{take_bytes, take_u64};

pub(super) fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) fn take_f64(input: &mut &[u8]) -> Result<f64, CodecError> {
    let mut bits = [0; 8];
    bits.copy_from_slice(take_bytes(input, 8)?);
    Ok(f64::from_bits(u64::from_le_bytes(bits)))
}

/// How many things follow: never more than there are bytes.
pub(super) fn take_count(input: &mut &[u8]) -> Result<usize, CodecError> {
    let count = take_u64(input)?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX).min(input.len()))
}
