//! What may stand at a place in a query that is still being written.
//!
//! The lexer reads the text in front of the place and a small machine follows the tokens, not the
//! parser: what is half written has no tree. The text behind is read as well where it tells which
//! streams are meant: `sum by (|) (rate({app="a"}[5m]))`.

mod documentation;
mod insert;
mod walk;
mod words;

use model::Matcher;
use model::within::{Within, closing, within};

pub use documentation::{Doc, documentation};

use walk::Walk;

/// What is being written, and what may stand there.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Where what is being written starts, in bytes; an opening quotation mark stands before it.
    pub start: usize,
    /// Where it ends: behind the place asked for if that is within a word.
    pub end: usize,
    /// The quotation mark it stands in, if it does.
    pub quote: Option<char>,
    /// Whether the quotation is closed behind it.
    closed: bool,
    /// What may stand there.
    pub place: Place,
}

/// A place in a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// An expression begins: a selector, a function, an aggregation, a number.
    Expression {
        /// Words that may stand there besides, behind an operator.
        words: Vec<&'static str>,
    },
    /// Only these words or signs.
    Words(Vec<&'static str>),
    /// Behind `|`: a stage by its name, or a field for a filter.
    Stage {
        /// The query of lines in front, whose fields are meant.
        query: String,
    },
    /// The name of a label in a selector of streams.
    LabelName {
        /// What the selector asks for besides.
        selector: Vec<Matcher>,
    },
    /// The value of a label, of streams that satisfy `selector`.
    LabelValue {
        /// The label.
        label: String,
        /// What the selector asks for besides.
        selector: Vec<Matcher>,
        /// Whether it is a regular expression, of which this is an alternative.
        is_regex: bool,
    },
    /// The name of a field: of a label, of metadata, or of what stages took out of the line.
    Field {
        /// The query of lines whose fields are meant; empty if none is written yet.
        query: String,
        /// Whether an operator is to follow.
        is_compared: bool,
        /// Words that may stand there besides.
        words: Vec<&'static str>,
    },
    /// The value of such a field.
    FieldValue {
        /// The query of lines whose fields are meant.
        query: String,
        /// The field.
        field: String,
        /// Whether it is a regular expression, of which this is an alternative.
        is_regex: bool,
    },
    /// Within `{{ }}` of a template: a function, or a field behind a dot.
    Template {
        /// The query of lines whose fields are meant.
        query: String,
        /// Whether a dot stands before it, so that only a field may.
        is_field: bool,
    },
    /// A length of time.
    Duration,
    /// Nothing that could be proposed: a number, a comment, text of one's own.
    Nothing,
}

impl Completion {
    fn plain(start: usize, end: usize, place: Place) -> Completion {
        Completion { start, end, quote: None, closed: false, place }
    }
}

/// What may stand at byte `at` of `text`, or a little before if that is within a character.
///
/// Takes time in proportion to the text.
pub fn complete(text: &str, at: usize) -> Completion {
    let at = text.floor_char_boundary(at.min(text.len()));
    match within(&text[..at]) {
        Within::Comment => Completion::plain(at, at, Place::Nothing),
        Within::Quote(start) => in_quotes(text, start, at),
        Within::Text => in_text(text, at),
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn in_text(text: &str, at: usize) -> Completion {
    let start = text[..at].trim_end_matches(is_word).len();
    let behind = &text[at..];
    let end = at + behind.len() - behind.trim_start_matches(is_word).len();
    let walk = Walk::new(&text[..start]);
    let word = &text[start..at];
    // A sign that may still become a longer one is replaced: `|` by `|=`, `!` by `!~`.
    if word.is_empty()
        && let Some((length, place)) = walk.half_a_sign()
    {
        return Completion::plain(start - length, at, place);
    }
    Completion::plain(start, end, walk.place(word, &text[end..]))
}

fn in_quotes(text: &str, quote: usize, at: usize) -> Completion {
    let mark = char::from(text.as_bytes()[quote]);
    let walk = Walk::new(&text[..quote]);
    let close = closing(&text[at..], mark).map(|behind| at + behind);
    let (mut start, mut end) = (quote + 1, close.unwrap_or(at));
    let rest = &text[close.map_or(at, |close| close + 1)..];
    let place = walk.quoted_place(&text[start..at], rest);
    match place {
        Place::LabelValue { is_regex: true, .. } | Place::FieldValue { is_regex: true, .. } => {
            // The alternative at hand.
            let is_edge = |c: char| matches!(c, '|' | '(' | ')');
            start += text[start..at].rfind(is_edge).map_or(0, |edge| edge + 1);
            end = at + text[at..end].find(is_edge).unwrap_or(end - at);
        }
        Place::Template { .. } => {
            start = start.max(text[..at].trim_end_matches(is_word).len());
            let behind = &text[at..end];
            end = at + behind.len() - behind.trim_start_matches(is_word).len();
        }
        _ => {}
    }
    Completion { start, end, quote: Some(mark), closed: close.is_some(), place }
}

#[cfg(test)]
mod tests;
