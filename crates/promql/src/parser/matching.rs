//! What may stand between a binary operator and its right side, and lists of label names.

use super::Parser;
use crate::ast::{BinaryOp, Cardinality, VectorMatching};
use crate::lexer::{Keyword, TokenKind, unquote};
use crate::parse_error::ParseError;
use crate::quote::quote;

/// `bool`, `on`, `ignoring`, `group_left`, `group_right` and `fill`.
pub(super) struct BinaryModifiers {
    pub(super) return_bool: bool,
    pub(super) matching: VectorMatching,
    /// `group_left` or `group_right` came last, without parentheses.
    pub(super) ends_in_group: bool,
}

impl Parser<'_> {
    pub(super) fn binary_modifiers(&mut self) -> Result<BinaryModifiers, ParseError> {
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let mut is_bare = false;
        let return_bool = self.accept_keyword(Keyword::Bool)?;
        let on = self.accept_keyword(Keyword::On)?;
        if on || self.accept_keyword(Keyword::Ignoring)? {
            matching.on = on;
            matching.labels = self.label_names()?;
            if self.accept_keyword(Keyword::GroupLeft)? {
                matching.cardinality = Cardinality::ManyToOne;
            } else if self.accept_keyword(Keyword::GroupRight)? {
                matching.cardinality = Cardinality::OneToMany;
            }
            if matching.cardinality != Cardinality::OneToOne {
                is_bare = self.peek()?.kind != TokenKind::LeftParen;
                matching.include = if is_bare { Vec::new() } else { self.label_names()? };
            }
        }
        let has_fill = self.fills(&mut matching)?;
        let ends_in_group = is_bare && !has_fill;
        Ok(BinaryModifiers { return_bool, matching, ends_in_group })
    }

    /// Whether there is any of `fill (x)`, or `fill_left (x)` and `fill_right (x)` in either order.
    fn fills(&mut self, matching: &mut VectorMatching) -> Result<bool, ParseError> {
        if self.accept_keyword(Keyword::Fill)? {
            let value = self.fill_value()?;
            matching.fill_left = Some(value);
            matching.fill_right = Some(value);
            return Ok(true);
        }
        if self.accept_keyword(Keyword::FillLeft)? {
            matching.fill_left = Some(self.fill_value()?);
            if self.accept_keyword(Keyword::FillRight)? {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.accept_keyword(Keyword::FillRight)? {
            matching.fill_right = Some(self.fill_value()?);
            if self.accept_keyword(Keyword::FillLeft)? {
                matching.fill_left = Some(self.fill_value()?);
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        if self.accept(TokenKind::LeftParen)?.is_none() {
            return Err(self.unexpected());
        }
        let negative = self.accept(TokenKind::Operator(BinaryOp::Sub))?.is_some();
        if !negative {
            self.accept(TokenKind::Operator(BinaryOp::Add))?;
        }
        if !matches!(self.peek()?.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected());
        }
        let value = self.number_or_duration()?.value;
        if self.accept(TokenKind::RightParen)?.is_none() {
            return Err(self.unexpected());
        }
        Ok(if negative { -value } else { value })
    }

    /// `(a, by, "c.d",)`: words of any kind, or names in quotes.
    pub(super) fn label_names(&mut self) -> Result<Vec<String>, ParseError> {
        if self.accept(TokenKind::LeftParen)?.is_none() {
            return Err(self.unexpected_in(" in grouping opts, expected \"(\""));
        }
        let mut names = Vec::new();
        if self.accept(TokenKind::RightParen)?.is_some() {
            return Ok(names);
        }
        loop {
            names.push(self.label_name()?);
            if self.accept(TokenKind::Comma)?.is_none() {
                if self.accept(TokenKind::RightParen)?.is_some() {
                    return Ok(names);
                }
                return Err(self.unexpected_in(" in grouping opts, expected \",\" or \")\""));
            }
            if self.accept(TokenKind::RightParen)?.is_some() {
                return Ok(names);
            }
        }
    }

    fn label_name(&mut self) -> Result<String, ParseError> {
        let token = self.peek()?;
        let name = match token.kind {
            TokenKind::String => unquote(self.text_of(token.span)),
            kind if kind.may_name_label() => self.text_of(token.span).to_owned(),
            _ => return Err(self.unexpected_in(" in grouping opts, expected label")),
        };
        if name.is_empty() {
            let message = format!("invalid label name for grouping: {}", quote(&name));
            return Err(self.error(token.span, message));
        }
        self.next()?;
        Ok(name)
    }
}
