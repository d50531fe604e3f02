//! Text into trees: a recursive-descent parser with operator precedence.
//!
//! The grammar is that of Prometheus 3.14 with every optional feature switched on
//! (`promql/parser/generated_parser.y`), and so are the messages. Reading stops at the first
//! error, which is the one Prometheus prints.

mod aggregation;
mod call;
mod duration;
mod expression;
mod literal;
mod matching;
mod modifier;
mod selector;

use model::Matcher;

use crate::ast::{Expr, Span};
use crate::check::check;
use crate::lexer::{Keyword, LexError, Lexer, Token, TokenKind, describe};
use crate::parse_error::ParseError;

pub(crate) use literal::UNITS;
pub use literal::parse_duration;
pub(crate) use selector::METRIC_NAME;

/// Parentheses, calls and the like inside one another; more would endanger the thread's stack.
const MAX_NESTING: usize = 100;

/// Height of a tree. Chains such as `a + b + c …` grow by one per operator without nesting, but
/// whoever walks the tree still recurses that deep. Measured with optimisation: evaluating a level
/// takes 2.4 KiB of stack, so this much needs 0.6 MiB of a thread's usual 2.
const MAX_HEIGHT: usize = 250;

/// Regular expressions in one query. Each may take megabytes once compiled.
const MAX_REGEXES: usize = 500;

/// Reads one expression and checks its types.
///
/// # Errors
/// The text is no expression, its types do not fit, or it passes a limit: 4 GiB of text, 100
/// nested expressions, 250 levels in all, 100 operations in a duration, 500 regular expressions.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    if parser.peek()?.kind == TokenKind::Eof {
        return Err(parser.error(Span::default(), "no expression found in input"));
    }
    let mut expr = parser.expression()?.expr;
    parser.expect_end()?;
    check(text, &mut expr)?;
    Ok(expr)
}

/// Reads a selector of series without modifiers: `up`, `{job="a"}`, `up{job="a"}`.
///
/// The metric's name is among the matchers, last if it stood outside of the braces. As in
/// Prometheus, `{}` and selectors that match the empty string pass; who cannot afford to select
/// everything looks at [`Matcher::matches_empty`].
///
/// # Errors
/// The text is anything else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = parser.vector_selector()?;
    parser.expect_end()?;
    Ok(selector.matchers)
}

/// An expression and the height of its tree.
struct Tree {
    expr: Expr,
    height: usize,
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token that was looked at but not taken.
    ahead: Option<Token>,
    /// Where the last taken token ends.
    end: u32,
    /// Expressions that are being read around the current place.
    nesting: usize,
    /// Aggregations that are being read around the current place; messages name them.
    aggregations: usize,
    /// Operations of the duration that is being read.
    duration_operations: usize,
    /// Regular expressions that were compiled.
    regexes: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        if u32::try_from(text.len()).is_err() {
            let message = "query is longer than 4 GiB; split it with recording rules";
            return Err(ParseError::new("", Span::default(), message));
        }
        let lexer = Lexer::new(text);
        Ok(Parser {
            text,
            lexer,
            ahead: None,
            end: 0,
            nesting: 0,
            aggregations: 0,
            duration_operations: 0,
            regexes: 0,
        })
    }

    /// The next token, which stays where it is. Nothing is read before it is asked for, so that
    /// an error in the next token never hides one in the expression before it.
    fn peek(&mut self) -> Result<Token, ParseError> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        let token = self
            .lexer
            .next_token()
            .map_err(|LexError { span, message }| ParseError::new(self.text, span, message))?;
        self.ahead = Some(token);
        Ok(token)
    }

    /// Whether the token at `span` is still the next one.
    fn is_at(&self, span: Span) -> bool {
        self.ahead.is_some_and(|token| token.span == span)
    }

    /// The next token, taken.
    fn next(&mut self) -> Result<Token, ParseError> {
        let token = self.peek()?;
        self.ahead = None;
        self.end = token.span.end;
        Ok(token)
    }

    /// Takes the next token if it is of this kind.
    fn accept(&mut self, kind: TokenKind) -> Result<Option<Token>, ParseError> {
        if self.peek()?.kind == kind { self.next().map(Some) } else { Ok(None) }
    }

    fn accept_keyword(&mut self, keyword: Keyword) -> Result<bool, ParseError> {
        Ok(self.accept(TokenKind::Keyword(keyword))?.is_some())
    }

    fn text_of(&self, span: Span) -> &'a str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// From `start` to the end of the last taken token.
    fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.end }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }

    /// The error that the next token does not belong here, in the innermost rule that has
    /// something to say about it.
    fn unexpected(&mut self) -> ParseError {
        if self.aggregations > 0 {
            self.unexpected_in(" in aggregation")
        } else {
            self.unexpected_in("")
        }
    }

    /// The error that the next token does not belong here; `place` is ` in …, expected …`.
    fn unexpected_in(&mut self, place: &str) -> ParseError {
        match self.peek() {
            Ok(token) => {
                let found = describe(token.kind, self.text_of(token.span));
                self.error(token.span, format!("unexpected {found}{place}"))
            }
            Err(error) => error,
        }
    }

    fn expect_end(&mut self) -> Result<(), ParseError> {
        if self.peek()?.kind == TokenKind::Eof { Ok(()) } else { Err(self.unexpected()) }
    }

    /// One level deeper; [`Parser::leave`] is its opposite. After an error nobody counts.
    fn enter(&mut self) -> Result<(), ParseError> {
        if self.nesting == MAX_NESTING {
            let span = self.peek()?.span;
            let message = format!(
                "expression is nested deeper than {MAX_NESTING} levels; \
                 move inner parts into recording rules"
            );
            return Err(self.error(span, message));
        }
        self.nesting += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// The height of a node above children of the given height.
    fn height_above(&self, children: usize, span: Span) -> Result<usize, ParseError> {
        if children >= MAX_HEIGHT {
            let message = format!(
                "expression chains more than {MAX_HEIGHT} operations; \
                 move parts into recording rules"
            );
            return Err(self.error(span, message));
        }
        Ok(children + 1)
    }
}
