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
    let mark = token.chars().next()?;
    String::from_utf8(model::quote::unquote(inner, mark)?).ok()
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
