//! Function calls and lists of arguments.

use super::{Parser, Tree};
use crate::ast::{Call, Expr, Span};
use crate::functions::find_function;
use crate::lexer::TokenKind;
use crate::parse_error::ParseError;
use crate::quote::quote;

/// Arguments between parentheses.
pub(super) struct Arguments {
    pub(super) exprs: Vec<Expr>,
    /// Height of the highest argument.
    pub(super) height: usize,
}

impl Parser<'_> {
    /// `(…)` behind the name of a function.
    pub(super) fn call(&mut self, name: Span) -> Result<Tree, ParseError> {
        let arguments = self.arguments()?;
        self.called(name, arguments)
    }

    fn called(&self, name: Span, arguments: Arguments) -> Result<Tree, ParseError> {
        let Some(function) = find_function(self.text_of(name)) else {
            let quoted = quote(self.text_of(name));
            return Err(self.error(name, format!("unknown function with name {quoted}")));
        };
        let span = self.span_from(name.start);
        let height = self.height_above(arguments.height, span)?;
        let expr = Expr::Call(Call { function, args: arguments.exprs, span });
        Ok(Tree { expr, height })
    }

    /// Expressions separated by commas, in parentheses; the next token is the `(`.
    pub(super) fn arguments(&mut self) -> Result<Arguments, ParseError> {
        let mut arguments = Arguments { exprs: Vec::new(), height: 0 };
        if self.accept(TokenKind::LeftParen)?.is_none() {
            return Err(self.unexpected());
        }
        if self.accept(TokenKind::RightParen)?.is_some() {
            return Ok(arguments);
        }
        self.enter()?;
        let argument = self.expression()?;
        arguments.push(argument);
        while self.accept(TokenKind::RightParen)?.is_none() {
            let Some(comma) = self.accept(TokenKind::Comma)? else {
                return Err(self.unexpected());
            };
            let first = self.peek()?.span;
            match self.expression() {
                Ok(argument) => arguments.push(argument),
                // No expression begins there, so the comma is the last thing that was right.
                Err(_) if self.is_at(first) => {
                    let message = "trailing commas not allowed in function call args";
                    return Err(self.error(comma.span, message));
                }
                Err(error) => return Err(error),
            }
        }
        self.leave();
        Ok(arguments)
    }
}

impl Arguments {
    fn push(&mut self, argument: Tree) {
        self.height = self.height.max(argument.height);
        self.exprs.push(argument.expr);
    }
}
