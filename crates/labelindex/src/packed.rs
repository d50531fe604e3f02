//! Strings with their length before them, as in the packed form of [`model::Labels`].
//!
//! Kept in this form, labels are rebuilt by copying.

use codec::varint::{put_bytes, take_prefixed, take_u64};

/// Appends `string` in packed form.
pub(crate) fn push(text: &mut Vec<u8>, string: &str) {
    put_bytes(text, string.as_bytes());
}

/// The packed string that starts at `start`, with its length and without.
pub(crate) fn at(text: &[u8], start: usize) -> (&[u8], &str) {
    let from = &text[start..];
    let mut rest = from;
    let string = take_prefixed(&mut rest).expect("a packed string starts here");
    let string = std::str::from_utf8(string).expect("packed strings were checked when pushed");
    (&from[..from.len() - rest.len()], string)
}

/// The bytes of the packed string that starts at `start`, length included.
#[inline]
pub(crate) fn bytes_at(text: &[u8], start: usize) -> &[u8] {
    let from = &text[start..];
    // Fast path: few strings have 128 bytes.
    if from[0] < 0x80 {
        return &from[..1 + usize::from(from[0])];
    }
    let mut rest = from;
    let len = take_u64(&mut rest).expect("a packed string starts here") as usize;
    &from[..from.len() - rest.len() + len]
}
