//! Numbers, with the prefixes and exponents of Go.

use super::{LexError, Lexer};
use model::quote::quote;

impl Lexer<'_> {
    /// Moves behind the number that starts here.
    pub(super) fn number(&mut self) -> Result<(), LexError> {
        let start = self.at;
        let (base, name, prefix) = match self.rest().as_bytes() {
            [b'0', b'x' | b'X', ..] => (16, "hexadecimal literal", 2),
            [b'0', b'o' | b'O', ..] => (8, "octal literal", 2),
            // `0B` is no bytes.
            [b'0', b'b' | b'B', b'0'..=b'9' | b'_', ..] => (2, "binary literal", 2),
            [b'0', ..] => (8, "octal literal", 0),
            _ => (10, "decimal literal", 0),
        };
        self.at += prefix;
        let digits_start = self.at;
        let mut digits = self.digits(base);
        let mut is_float = false;
        if self.rest().starts_with('.') {
            if prefix > 0 && base != 16 {
                return self.error(start, format!("invalid radix point in {name}"));
            }
            is_float = true;
            self.at += 1;
            digits += self.digits(base);
        }
        if digits == 0 {
            return self.error(start, format!("{name} has no digits"));
        }
        is_float |= self.exponent(start, base, prefix > 0)?;
        if is_float {
            return if base == 16 && !self.text[start..self.at].contains(['p', 'P']) {
                self.error(start, "hexadecimal mantissa requires a 'p' exponent")
            } else {
                Ok(())
            };
        }
        let wrong = self.text[digits_start..self.at]
            .chars()
            .find(|digit| *digit != '_' && !digit.is_digit(base));
        match wrong {
            Some(digit) => {
                let digit = quote(digit.encode_utf8(&mut [0; 4])).replace('"', "'");
                self.error(start, format!("invalid digit {digit} in {name}"))
            }
            None => Ok(()),
        }
    }

    /// Takes digits and `_`, and counts the former. Decimal digits are taken in any base: which of
    /// them are wrong is told at the end.
    fn digits(&mut self, base: u32) -> usize {
        let base = base.max(10);
        let rest = self.rest();
        let length = rest.find(|c: char| c != '_' && !c.is_digit(base)).unwrap_or(rest.len());
        self.at += length;
        rest[..length].bytes().filter(|&byte| byte != b'_').count()
    }

    /// Takes an exponent if there is one.
    fn exponent(&mut self, start: usize, base: u32, is_prefixed: bool) -> Result<bool, LexError> {
        let letters: &[char] = match (base, is_prefixed) {
            (16, _) => &['p', 'P'],
            (_, true) => return Ok(false),
            _ => &['e', 'E'],
        };
        if !self.rest().starts_with(letters) {
            return Ok(false);
        }
        self.at += 1;
        if self.rest().starts_with(['+', '-']) {
            self.at += 1;
        }
        if self.digits(10) == 0 {
            return self.error(start, "exponent has no digits");
        }
        Ok(true)
    }
}
