//! Quoted strings, with the escapes of Go.

use super::{LexError, Lexer, Token, TokenKind};
use model::quote::quote_char;

impl Lexer<'_> {
    /// A string that starts with `quote`. All escapes are checked here, so that [`unquote`]
    /// cannot fail on the token's text.
    pub(super) fn string(&mut self, quote: u8) -> Result<Token, LexError> {
        let start = self.at;
        self.at += 1;
        let raw = quote == b'`';
        loop {
            let Some(c) = self.peek_char() else {
                return self.error(start, if raw { UNTERMINATED_RAW } else { UNTERMINATED });
            };
            self.at += c.len_utf8();
            match c {
                _ if c == char::from(quote) => return Ok(self.token(start, TokenKind::String)),
                // Go reports the replacement character like the bytes it stands for.
                char::REPLACEMENT_CHARACTER => return self.error(start, "invalid UTF-8 rune"),
                '\n' if !raw => return self.error(start, UNTERMINATED),
                '\\' if !raw => self.escape(start, quote)?,
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, start: usize, quote: u8) -> Result<(), LexError> {
        let Some(c) = self.peek_char() else { return self.error(start, UNTERMINATED_ESCAPE) };
        let (length, radix, most) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => {
                self.at += 1;
                return Ok(());
            }
            _ if c == char::from(quote) => {
                self.at += 1;
                return Ok(());
            }
            '0'..='7' => (3, 8, 0xFF),
            'x' => (2, 16, 0xFF),
            'u' => (4, 16, char::MAX as u32),
            'U' => (8, 16, char::MAX as u32),
            _ => {
                let what = format!("unknown escape sequence {}", code_point(c));
                return self.error(start, what);
            }
        };
        if radix == 16 {
            self.at += 1;
        }
        let mut value: u32 = 0;
        for _ in 0..length {
            let Some(c) = self.peek_char() else {
                return self.error(start, UNTERMINATED_ESCAPE);
            };
            let Some(digit) = c.to_digit(radix) else {
                let what = format!("illegal character {} in escape sequence", code_point(c));
                return self.error(start, what);
            };
            // Eight hexadecimal digits fill the 32 bits and never pass them.
            value = value * radix + digit;
            self.at += 1;
        }
        if value > most || (0xD800..0xE000).contains(&value) {
            return self.error(start, "escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }
}

const UNTERMINATED: &str = "unterminated quoted string";
const UNTERMINATED_RAW: &str = "unterminated raw string";
const UNTERMINATED_ESCAPE: &str = "escape sequence not terminated";

/// As Go's `%#U`.
fn code_point(c: char) -> String {
    format!("U+{:04X} {}", c as u32, quote_char(c))
}

/// The value of a string token, given with its quotes.
///
/// Escapes can spell bytes that are no UTF-8 (`"\xff"`); neither names nor values of labels can
/// hold such bytes, and they become U+FFFD.
pub(crate) fn unquote(token: &str) -> String {
    unquote_checked(token).0
}

/// As [`unquote`], and the bytes where they are no UTF-8.
pub(crate) fn unquote_checked(token: &str) -> (String, Option<Box<[u8]>>) {
    match String::from_utf8(unquote_bytes(token)) {
        Ok(text) => (text, None),
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            (text, Some(error.into_bytes().into()))
        }
    }
}

/// The value of a string token, given with its quotes, byte by byte.
pub(crate) fn unquote_bytes(token: &str) -> Vec<u8> {
    let inner = &token[1..token.len() - 1];
    match token.as_bytes()[0] {
        b'`' => inner.as_bytes().to_vec(),
        mark => model::quote::unquote(inner, char::from(mark))
            .expect("the lexer has checked what escapes say"),
    }
}
