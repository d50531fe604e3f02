//! Numbers and durations.

use super::{LexError, Lexer, Token, TokenKind, is_word_byte};
use crate::quote::quote;

impl Lexer<'_> {
    /// A number (`12`, `1_000`, `.5e-3`, `0x1F`) or a duration (`1h30m`). The first byte is a
    /// digit, or a dot in front of a digit. What looks like either need not be one; values are
    /// made, and overflows found, by the parser.
    pub(super) fn number_or_duration(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        if self.number() {
            return Ok(self.token(start, TokenKind::Number));
        }
        if self.rest_of_duration() {
            return Ok(self.token(start, TokenKind::Duration));
        }
        let read = &self.text[start..self.at];
        self.error(start, format!("bad number or duration syntax: {}", quote(read)))
    }

    /// Reads as far as the text looks like a number; whether it is one.
    fn number(&mut self) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let well_formed = if rest.len() > 1 && rest[0] == b'0' && (rest[1] | 0x20) == b'x' {
            self.at += 2;
            self.accept(b"_");
            self.hexadecimal()
        } else {
            self.decimal()
        };
        well_formed && !self.peek().is_some_and(is_word_byte)
    }

    /// Digits, and underscores between them. No dot, and no underscore in front of an `e`, which
    /// Prometheus takes for an exponent there.
    fn hexadecimal(&mut self) -> bool {
        loop {
            self.skip_while(|byte| byte.is_ascii_hexdigit());
            match self.peek() {
                Some(b'_') => {
                    self.at += 1;
                    if !self.digits_follow() {
                        return false;
                    }
                }
                Some(b'.') => return self.reject(),
                _ => return true,
            }
        }
    }

    /// Digits with at most one dot and one exponent, and underscores between digits.
    fn decimal(&mut self) -> bool {
        let mut dot = false;
        let mut exponent = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'0'..=b'9' => self.at += 1,
                b'.' if dot => return self.reject(),
                b'.' => {
                    dot = true;
                    self.at += 1;
                    if matches!(self.peek(), Some(b'_' | b'.')) {
                        return self.reject();
                    }
                }
                b'e' | b'E' if exponent => return self.reject(),
                b'e' | b'E' => {
                    exponent = true;
                    self.at += 1;
                    if matches!(self.peek(), Some(b'+' | b'-')) {
                        self.at += 1;
                    }
                    if !self.digits_follow() {
                        return false;
                    }
                }
                b'_' => {
                    self.at += 1;
                    if !self.digits_follow() {
                        return false;
                    }
                }
                _ => break,
            }
        }
        true
    }

    /// Includes the byte at fault in what the message shows.
    fn reject(&mut self) -> bool {
        self.at += 1;
        false
    }

    /// Whether what follows is not plainly no digit; that it is none at all, as in `1e-)`, is found
    /// when the value is made.
    fn digits_follow(&mut self) -> bool {
        match self.peek() {
            Some(b'.' | b'_' | b'e' | b'E') => self.reject(),
            Some(_) => true,
            None => false,
        }
    }

    /// What follows the leading digits of a duration, up to its end. Units and their order are
    /// checked by the parser, which knows the reason to give.
    fn rest_of_duration(&mut self) -> bool {
        let units: &[u8] = b"smhdwy";
        if !self.accept(units) {
            return false;
        }
        // For `ms`.
        self.accept(b"s");
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip_while(|byte| byte.is_ascii_digit());
            if !self.accept(&units[..5]) {
                return false;
            }
            self.accept(b"s");
        }
        if self.peek().is_some_and(is_word_byte) {
            return self.reject();
        }
        true
    }

    fn accept(&mut self, wanted: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| wanted.contains(&byte));
        self.at += usize::from(found);
        found
    }
}
