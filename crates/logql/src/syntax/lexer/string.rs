//! Quoted strings, with the escapes of Go.

use super::{LexError, Lexer, Token, TokenKind};

impl Lexer<'_> {
    /// A string or, between single quotes, a character, which the language does not know. Escapes
    /// are checked for their shape here, so that [`unquote`] finds no more wrong than values.
    pub(super) fn string(&mut self, quote: char) -> Result<Token, LexError> {
        let start = self.at;
        self.at += 1;
        let mut length = 0;
        loop {
            let Some(c) = self.peek_char() else {
                self.check_broken(start)?;
                return self.error(start, "literal not terminated");
            };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => break,
                '\n' if quote != '`' => return self.error(start, "literal not terminated"),
                '\\' if quote != '`' => self.escape(start, quote)?,
                _ => {}
            }
            length += 1;
        }
        if quote != '\'' {
            return Ok(self.token(start, TokenKind::String));
        }
        if length != 1 {
            return self.error(start, "invalid char literal");
        }
        Ok(self.token(start, TokenKind::Identifier))
    }

    /// What follows a backslash.
    fn escape(&mut self, start: usize, quote: char) -> Result<(), LexError> {
        let (skipped, digits, radix) = match self.peek_char() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => (1, 0, 8),
            Some(c) if c == quote => (1, 0, 8),
            Some('0'..='7') => (0, 3, 8),
            Some('x') => (1, 2, 16),
            Some('u') => (1, 4, 16),
            Some('U') => (1, 8, 16),
            Some(_) => return self.error(start, "invalid char escape"),
            None => {
                self.check_broken(start)?;
                return self.error(start, "invalid char escape");
            }
        };
        self.at += skipped;
        for _ in 0..digits {
            if !self.peek_char().is_some_and(|c| c.is_digit(radix)) {
                self.check_broken(start)?;
                return self.error(start, "invalid char escape");
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// The value of a string token, given with its quotes. `None` if an escape has no value, or if the
/// escapes spell bytes that are no UTF-8, which neither labels nor lines can hold.
pub(crate) fn unquote(token: &str) -> Option<String> {
    let inner = token.get(1..token.len().checked_sub(1)?)?;
    if token.starts_with('`') {
        // Go takes carriage returns out of raw strings.
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(backslash) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..backslash]);
        rest = unescape(&rest[backslash + 1..], &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Appends what the escape at the start of `text` stands for and returns what follows it.
fn unescape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let (radix, digits) = match text.as_bytes().first()? {
        b'0'..=b'7' => (8, 0..3),
        b'x' => (16, 1..3),
        b'u' => (16, 1..5),
        b'U' => (16, 1..9),
        letter => {
            out.push(match letter {
                b'a' => 0x07,
                b'b' => 0x08,
                b'f' => 0x0C,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0B,
                quote_or_backslash => *quote_or_backslash,
            });
            return text.get(1..);
        }
    };
    let value = u32::from_str_radix(text.get(digits.clone())?, radix).ok()?;
    if digits.len() > 3 {
        let c = char::from_u32(value)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(value).ok()?);
    }
    text.get(digits.end..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquotes_as_go() {
        for (token, value) in [
            (r#""a\"b\\c\n""#, "a\"b\\c\n"),
            (r#""\x41\101é\U0001F600""#, "AAé😀"),
            ("`a\\n\r\n`", "a\\n\n"),
            (r#""\xc3\xa9""#, "é"),
        ] {
            assert_eq!(unquote(token).as_deref(), Some(value), "{token}");
        }
        for token in [r#""\xff""#, r#""\ud800""#, r#""\777""#, r#""\UFFFFFFFF""#] {
            assert_eq!(unquote(token), None, "{token}");
        }
    }
}
