//! How a name is written at a place.

use model::METRIC_NAME;

use super::{Completion, Place};
use crate::ast::Expr;
use crate::lexer::{Lexer, TokenKind, is_word_start};
use crate::quote::write_string;

/// Units of lengths of time, the shortest first.
const UNITS: [&str; 7] = ["ms", "s", "m", "h", "d", "w", "y"];
/// What is proposed where nothing is written.
const DURATIONS: [&str; 9] = ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "6h", "1d"];
/// Functions that yield a length of time within brackets.
const DURATION_CALLS: [&str; 4] = ["step()", "range()", "min_of(", "max_of("];

impl Completion {
    /// The metric `name` as it is written here in place of `start..end`; `None` if it cannot be.
    pub fn insert_metric(&self, name: &str) -> Option<String> {
        match self.place {
            Place::LabelName { .. } => match self.quote {
                Some(_) => self.quoted(name),
                None => string('"', name),
            },
            _ if is_plain_metric(name) => Some(name.to_owned()),
            _ => Some(format!("{{{}}}", string('"', name)?)),
        }
    }

    /// The label `name` likewise, in `text`; in a selector with an operator if none follows.
    pub fn insert_label(&self, text: &str, name: &str) -> Option<String> {
        let in_list = matches!(self.place, Place::Grouping { .. });
        if self.quote.is_some() {
            let ends = in_list || self.closed;
            let written = self.quoted(name)?;
            return Some(if ends { written } else { written + "=" });
        }
        let is_plain = if in_list { is_plain_in_list(name) } else { is_plain_label(name) };
        let written = if is_plain { name.to_owned() } else { string('"', name)? };
        let has_operator = matches!(self.following(text), Some('=' | '!'));
        Some(if in_list || has_operator { written } else { written + "=" })
    }

    /// The value of a label likewise; escaped where a regular expression stands.
    pub fn insert_value(&self, value: &str) -> Option<String> {
        let is_regex = matches!(self.place, Place::LabelValue { is_regex: true, .. });
        let pattern = if is_regex { escaped_pattern(value) } else { value.to_owned() };
        match self.quote {
            Some(_) => self.quoted(&pattern),
            None => string('"', &pattern),
        }
    }

    /// The name of a function or an aggregation likewise, with an opening bracket if none follows, and
    /// a closing one if there are no arguments.
    pub fn insert_call(&self, text: &str, name: &str, takes_arguments: bool) -> String {
        let brackets = match (self.following(text), takes_arguments) {
            (Some('('), _) => "",
            (_, true) => "(",
            (_, false) => "()",
        };
        format!("{name}{brackets}")
    }

    /// One of the words of the place likewise, with what must stand behind it.
    pub fn insert_word(&self, text: &str, word: &str) -> String {
        let has_blank = text[self.end..].starts_with(|c: char| c.is_ascii_whitespace());
        let behind = match word {
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" | "fill"
            | "fill_left" | "fill_right" => match self.following(text) {
                Some('(') => "",
                _ => " (",
            },
            "start" | "end" => match self.following(text) {
                Some('(') => "",
                _ => "()",
            },
            "offset" | "bool" | "and" | "or" | "unless" | "atan2" if !has_blank => " ",
            _ => "",
        };
        format!("{word}{behind}")
    }

    /// Lengths of time that begin with what is written.
    pub fn durations(&self, text: &str, at: usize) -> Vec<String> {
        let Place::Duration { in_brackets } = self.place else { return Vec::new() };
        let word = text.get(self.start..at).unwrap_or_default();
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return UNITS.iter().map(|unit| format!("{word}{unit}")).collect();
        }
        let calls: &[&str] = if in_brackets { &DURATION_CALLS } else { &[] };
        DURATIONS.iter().chain(calls).map(|&one| one.to_owned()).collect()
    }

    /// What comes next behind the word.
    fn following(&self, text: &str) -> Option<char> {
        text[self.end..].trim_ascii_start().chars().next()
    }

    /// `name` within the quotation that is open.
    fn quoted(&self, name: &str) -> Option<String> {
        let mark = self.quote?;
        let written = string(mark, name)?;
        let inside = &written[1..written.len() - usize::from(self.closed)];
        Some(inside.to_owned())
    }
}

/// A string between marks; `None` if it cannot be written so.
fn string(mark: char, text: &str) -> Option<String> {
    if mark == '`' {
        let may_stand = !text.contains(['`', char::REPLACEMENT_CHARACTER]);
        return may_stand.then(|| format!("`{text}`"));
    }
    Some(write_string(mark, text))
}

/// Whether a metric of this name is written without quotation marks.
fn is_plain_metric(name: &str) -> bool {
    // Others are no words, or need a long while to be told so.
    let is_word = |byte: u8| matches!(byte, b'_' | b':') || byte.is_ascii_alphanumeric();
    if name.is_empty() || !name.bytes().all(is_word) {
        return false;
    }
    match crate::parse(name) {
        Ok(Expr::Vector(vector)) => {
            vector.name == name && vector.matchers.iter().all(|one| one.name == METRIC_NAME)
        }
        _ => false,
    }
}

fn is_plain_label(name: &str) -> bool {
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    name.bytes().next().is_some_and(is_word_start) && name.bytes().all(is_word)
}

fn is_plain_in_list(name: &str) -> bool {
    let mut lexer = Lexer::new(name);
    let word = lexer.next_token().ok().filter(|token| token.kind.may_name_label());
    is_plain_label(name)
        && word.is_some_and(|word| word.span.end as usize == name.len())
        && lexer.next_token().is_ok_and(|token| token.kind == TokenKind::Eof)
}

/// A regular expression that matches `text` alone.
fn escaped_pattern(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
