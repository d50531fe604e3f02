//! Values of columns as the texts that they were.

/// What values are appended to.
pub(crate) trait Out {
    fn push_text(&mut self, text: &str);

    /// Appends bytes that are ASCII.
    fn push_ascii(&mut self, ascii: &[u8]) {
        self.push_text(std::str::from_utf8(ascii).expect("ASCII is UTF-8"));
    }
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

    fn push_ascii(&mut self, ascii: &[u8]) {
        self.extend_from_slice(ascii);
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

/// Appends a number with so many digits at least: what the standard library does, in a third of its time.
pub(crate) fn push_integer(value: i64, least_digits: usize, out: &mut impl Out) {
    let (mut rest, mut digits) = (value.unsigned_abs(), [b'0'; MAX_NUMBER_LEN + 1]);
    let end = digits.len();
    let mut at = end;
    while rest >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[rest as usize]);
    } else if rest > 0 {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    // What is before them is zeros.
    at = at.min(end - least_digits);
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.push_ascii(&digits[at..]);
}

/// The digits of each number below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

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
        out.push_ascii(&digits[..2 * part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(
            value in prop_oneof![any::<i64>(), -1_100_i64..1_100, Just(i64::MIN), Just(i64::MAX)],
            digits in 1_usize..19,
        ) {
            let mut out = Vec::new();
            push_integer(value, 1, &mut out);
            prop_assert_eq!(String::from_utf8_lossy(&out), value.to_string());
            let mut text = String::new();
            push_integer(value.saturating_abs(), digits, &mut text);
            prop_assert_eq!(text, format!("{:0digits$}", value.saturating_abs()));
        }
    }
}
