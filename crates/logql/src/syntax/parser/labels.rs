//! Labels of a stream, as pushes write them.

use model::Labels;

use super::super::error::ParseError;
use super::super::lexer::TokenKind;
use super::Parser;

impl Parser<'_> {
    /// `{app="a", level="debug"}`, and nothing behind it.
    pub(super) fn labels_of_stream(&mut self) -> Result<Labels, ParseError> {
        self.expect(TokenKind::OpenBrace)?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        while !self.accept(TokenKind::CloseBrace)? {
            let token = self.next()?;
            // Words of the language may name labels here, and so may quoted strings.
            let name = match token.kind {
                TokenKind::String => self.value_of(token)?,
                _ => self.text_of(token).to_owned(),
            };
            let is_word = name.starts_with(|c: char| c == '_' || c.is_alphabetic());
            if token.kind != TokenKind::String && !is_word {
                self.ahead = Some(token);
                return Err(self.unexpected(&[TokenKind::Identifier, TokenKind::CloseBrace]));
            }
            self.expect(TokenKind::Eq)?;
            let value = self.string()?;
            pairs.push((name, value));
            if !self.accept(TokenKind::Comma)? && self.peek_kind()? != TokenKind::CloseBrace {
                return Err(self.unexpected(&[TokenKind::CloseBrace, TokenKind::Comma]));
            }
        }
        self.expect_end()?;
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs(pairs).map_err(|error| ParseError::general(error.to_string()))
    }
}
