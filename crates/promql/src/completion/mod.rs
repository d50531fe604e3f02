//! What may stand at a place in a query that is still being written.
//!
//! The lexer reads the text in front of the place and a small machine follows the tokens, not the
//! parser: what is half written has no tree. The text behind is read as well, since the series whose
//! labels are asked for often stand there: `sum by (|) (rate(x[5m]))`.

mod insert;
mod walk;

use model::Matcher;
use model::within::{Within, closing, within};

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
    /// An expression begins: a metric, a function, an aggregation, a number; behind an operator also
    /// what says how the sides are matched.
    Expression {
        /// Words that may stand there besides.
        words: Vec<&'static str>,
    },
    /// Behind an expression or in front of a clause: only these words.
    Words(Vec<&'static str>),
    /// The name of a label in a list of them, of series that satisfy any of `selectors`; of all series
    /// if there are none.
    Grouping {
        /// What is known of the series.
        selectors: Vec<Vec<Matcher>>,
        /// Labels that stand in the list already.
        taken: Vec<String>,
    },
    /// The name of a label in a selector of series.
    LabelName {
        /// What the selector asks for besides.
        selector: Vec<Matcher>,
        /// Whether the name of a metric may stand there too, in quotation marks.
        or_metric: bool,
    },
    /// The value of a label, of series that satisfy `selector`.
    LabelValue {
        /// The label.
        label: String,
        /// What the selector asks for besides.
        selector: Vec<Matcher>,
        /// Whether it is a regular expression, of which this is an alternative.
        is_regex: bool,
    },
    /// `=`, `!=`, `=~`, `!~`.
    MatchOperator,
    /// A length of time; within brackets also functions that yield one.
    Duration {
        /// Whether it stands within brackets.
        in_brackets: bool,
    },
    /// Nothing that could be proposed: a number, a comment, text of one's own.
    Nothing,
}

impl Completion {
    fn plain(start: usize, end: usize, place: Place) -> Completion {
        Completion { start, end, quote: None, closed: false, place }
    }
}

/// Selectors whose labels are asked for at once: each is a search over all series.
const MAX_SELECTORS: usize = 16;

/// What may stand at byte `at` of `text`, or a little before if that is within a character.
///
/// Takes time in proportion to the text. Patterns of selectors that are not the one at hand are
/// compiled too, a few at most.
pub fn complete(text: &str, at: usize) -> Completion {
    let at = text.floor_char_boundary(at.min(text.len()));
    let before = &text[..at];
    match within(before) {
        Within::Comment => Completion::plain(at, at, Place::Nothing),
        Within::Quote(start) => in_quotes(text, start, at),
        Within::Text => in_text(text, at),
    }
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn in_text(text: &str, at: usize) -> Completion {
    let bytes = text.as_bytes();
    let word = |wanted: &dyn Fn(u8) -> bool| {
        let before = bytes[..at].iter().rev().take_while(|byte| wanted(**byte)).count();
        let behind = bytes[at..].iter().take_while(|byte| wanted(**byte)).count();
        (at - before, at + behind)
    };
    let (start, end) = word(&|byte| byte == b':' || is_word(byte));
    let mut walk = Walk::new(&text[..start]);
    // Where labels and lengths of time stand, a colon is no part of a word.
    let (start, end) = if walk.has_plain_words() {
        let (plain_start, plain_end) = word(&is_word);
        walk.go_on(&text[start..plain_start]);
        (plain_start, plain_end)
    } else {
        (start, end)
    };
    match walk.place(&text[start..at], &text[end..]) {
        // Half an operator is replaced.
        Place::MatchOperator if text[..start].ends_with('!') => {
            Completion::plain(start - 1, end, Place::MatchOperator)
        }
        _ if text[..start].ends_with('!') => Completion::plain(start, end, Place::Nothing),
        place => Completion::plain(start, end, place),
    }
}

fn in_quotes(text: &str, quote: usize, at: usize) -> Completion {
    let mark = char::from(text.as_bytes()[quote]);
    let walk = Walk::new(&text[..quote]);
    let close = closing(&text[at..], mark).map(|behind| at + behind);
    let rest = close.map_or(at, |close| close + 1);
    let place = walk.quoted_place(&text[rest..]);
    let (mut start, mut end) = (quote + 1, close.unwrap_or(at));
    if let Place::LabelValue { is_regex: true, .. } = place {
        // The alternative at hand.
        let is_edge = |c: char| matches!(c, '|' | '(' | ')');
        start += text[start..at].rfind(is_edge).map_or(0, |edge| edge + 1);
        end = at + text[at..end].find(is_edge).unwrap_or(end - at);
    }
    Completion { start, end, quote: Some(mark), closed: close.is_some(), place }
}
