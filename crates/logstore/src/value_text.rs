//! Values of columns as the texts that they were.

/// What values are appended to.
pub(crate) trait Out {
    fn push_text(&mut self, text: &str);
}

impl Out for String {
    fn push_text(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Out for Vec<u8> {
    fn push_text(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// Takes what is formatted.
pub(crate) struct Formatted<'a, O>(pub(crate) &'a mut O);

impl<O: Out> std::fmt::Write for Formatted<'_, O> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.push_text(text);
        Ok(())
    }
}

fn push_ascii(ascii: &[u8], out: &mut impl Out) {
    out.push_text(std::str::from_utf8(ascii).expect("digits are ASCII"));
}

/// Appends a number with so many digits at least: what the standard library does, in a third of its time.
pub(crate) fn push_integer(value: i64, least_digits: usize, out: &mut impl Out) {
    let (mut rest, mut digits) = (value.unsigned_abs(), [b'0'; MAX_NUMBER_LEN + 1]);
    let end = digits.len();
    let mut at = end;
    while rest > 0 || end - at < least_digits {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    push_ascii(&digits[at..], out);
}

/// Longest number that a column of whole numbers has, with its sign.
pub(crate) const MAX_NUMBER_LEN: usize = 20;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as hexadecimal digits.
pub(crate) fn push_hex(bytes: &[u8], out: &mut impl Out) {
    let mut digits = [0; 64];
    for part in bytes.chunks(digits.len() / 2) {
        for (pair, byte) in digits.chunks_exact_mut(2).zip(part) {
            pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
            pair[1] = HEX_DIGITS[usize::from(byte & 15)];
        }
        push_ascii(&digits[..2 * part.len()], out);
    }
}
