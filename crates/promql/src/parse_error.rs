//! Why a text is not PromQL, and where.

use std::fmt;

use crate::ast::Span;

/// A place in a query as people count: line and column from 1.
///
/// The column counts bytes, as Prometheus does (`posrange.StartPosInput`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1; 0 if the query is empty and there is no place to point at.
    pub line: u32,
    /// Column in bytes, from 1; 0 if the query is empty.
    pub column: u32,
}

impl Position {
    /// The place where `span` starts in `text`; what annotations carry as `(1:5)`.
    ///
    /// An offset behind the end of the text counts as its end. Costs one pass over the text
    /// before the span.
    pub fn of(span: Span, text: &str) -> Self {
        if text.is_empty() {
            return Position { line: 0, column: 0 };
        }
        let before = &text.as_bytes()[..text.len().min(span.start as usize)];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count() as u32;
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |i| i + 1);
        Position { line, column: (before.len() - line_start) as u32 + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str("unknown position");
        }
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A query that is not PromQL or whose types do not fit.
///
/// Shown as Prometheus shows it: `1:8: parse error: unexpected character: '$'`. Where Prometheus
/// collects several errors and prints the first, only the first is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: parse error: {message}")]
pub struct ParseError {
    /// The part of the text that is at fault.
    pub span: Span,
    /// Where the span starts.
    pub position: Position,
    /// What is wrong, without the place.
    pub message: String,
}

impl ParseError {
    /// Makes the error for a span of `text`.
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        ParseError { span, position: Position::of(span, text), message: message.into() }
    }
}

/// A text that is no duration; says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DurationError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, start: u32) -> String {
        Position::of(Span { start, end: start }, text).to_string()
    }

    #[test]
    fn lines_and_columns_count_from_one_in_bytes() {
        assert_eq!(at("foo", 0), "1:1");
        assert_eq!(at("foo", 3), "1:4");
        assert_eq!(at("a +\n  b", 6), "2:3");
        assert_eq!(at("a\n", 2), "2:1");
        assert_eq!(at("é+", 2), "1:3");
        assert_eq!(at("", 0), "unknown position");
        assert_eq!(at("x", 9), "1:2");
    }
}
