//! Why a text is not LogQL, and where.

use std::fmt;

/// A query that is not LogQL, in Loki's words.
///
/// Shown as `parse error at line 1, col 5: …`, or as `parse error : …` where the fault is not at
/// one place. Loki reports line 0 for operators of two characters, durations and sizes, and so
/// does this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line from 1, or 0.
    pub line: u32,
    /// Column in characters from 1, or 0.
    pub column: u32,
    /// What is wrong, without the place.
    pub message: String,
}

impl ParseError {
    /// An error that is not at one place.
    pub(crate) fn general(message: impl Into<String>) -> Self {
        ParseError { line: 0, column: 0, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 && self.column == 0 {
            write!(f, "parse error : {}", self.message)
        } else {
            write!(f, "parse error at line {}, col {}: {}", self.line, self.column, self.message)
        }
    }
}

impl std::error::Error for ParseError {}
