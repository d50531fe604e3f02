//! How a name is written at a place.

use super::{Completion, Place};

/// Units of lengths of time, the shortest first.
const UNITS: [&str; 7] = ["ms", "s", "m", "h", "d", "w", "y"];
/// What is proposed where nothing is written.
const DURATIONS: [&str; 9] = ["1m", "5m", "10m", "15m", "30m", "1h", "6h", "12h", "1d"];

impl Completion {
    /// The label or field `name` as it is written here in place of `start..end`, with an operator if
    /// one is to follow and does not; `None` if it cannot be written.
    pub fn insert_label(&self, text: &str, name: &str) -> Option<String> {
        let is_plain = name.starts_with(|c: char| c == '_' || c.is_alphabetic())
            && name.chars().all(super::is_word);
        if !is_plain {
            return None;
        }
        let is_compared = match self.place {
            Place::LabelName { .. } | Place::Stage { .. } => true,
            Place::Field { is_compared, .. } => is_compared,
            _ => false,
        };
        let follows = matches!(self.following(text), Some('=' | '!' | '>' | '<'));
        Some(if is_compared && !follows { format!("{name}=") } else { name.to_owned() })
    }

    /// The value of a label or field likewise; escaped where a regular expression stands.
    pub fn insert_value(&self, value: &str) -> String {
        let is_regex = matches!(
            self.place,
            Place::LabelValue { is_regex: true, .. } | Place::FieldValue { is_regex: true, .. }
        );
        let pattern = if is_regex { escaped_pattern(value) } else { value.to_owned() };
        match self.quote {
            // Nothing is escaped there, and a mark cannot be written.
            Some('`') => {
                let written = pattern.replace('`', if is_regex { "." } else { "" });
                if self.closed { written } else { written + "`" }
            }
            Some(mark) => {
                let written = escaped(mark, &pattern);
                if self.closed { written } else { format!("{written}{mark}") }
            }
            None => format!("\"{}\"", escaped('"', &pattern)),
        }
    }

    /// The name of a function likewise, with an opening bracket if none follows.
    pub fn insert_call(&self, text: &str, name: &str) -> String {
        match self.following(text) {
            Some('(') => name.to_owned(),
            _ => format!("{name}("),
        }
    }

    /// A word or sign of the place likewise, with a blank if something is to follow.
    pub fn insert_word(&self, text: &str, word: &str) -> String {
        let behind = &text[self.end..];
        match word {
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right"
                if self.following(text) != Some('(') =>
            {
                format!("{word} (")
            }
            "ip" | "bytes" | "duration" | "duration_seconds" => self.insert_call(text, word),
            // What they compare follows at once, as people write it.
            "=" | "=~" | "!~" | "!=" if self.is_in_selector() => word.to_owned(),
            "| unpack" | "| decolorize" | "| json" | "| logfmt" => word.to_owned(),
            "unpack" | "decolorize" | "json" | "logfmt" => word.to_owned(),
            _ if behind.starts_with(|c: char| c.is_ascii_whitespace()) => word.to_owned(),
            _ => format!("{word} "),
        }
    }

    fn is_in_selector(&self) -> bool {
        matches!(&self.place, Place::Words(words) if words[..] == ["=", "!=", "=~", "!~"])
    }

    /// Lengths of time that begin with what is written.
    pub fn durations(&self, text: &str, at: usize) -> Vec<String> {
        let word = text.get(self.start..at).unwrap_or_default();
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return UNITS.iter().map(|unit| format!("{word}{unit}")).collect();
        }
        DURATIONS.iter().map(|&one| one.to_owned()).collect()
    }

    /// What comes next behind the word.
    fn following(&self, text: &str) -> Option<char> {
        text[self.end..].trim_ascii_start().chars().next()
    }
}

fn escaped(mark: char, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            _ if c == mark => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
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
