//! Expressions as Prometheus writes them: Go's syntax, anchored at both ends.

use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::go_regex;

/// Memory one compiled expression may take; lists of a few thousand names stay far below.
const MAX_COMPILED_BYTES: usize = 10 << 20;

/// What a rule has where the file says nothing.
const MATCH_ALL: &str = "(.*)";

/// Why a text is no expression, in Go's words: `error parsing regexp: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub(super) String);

/// A compiled expression that remembers its text. Two are equal when their texts are. Cloning is
/// cheap.
///
/// The syntax is Go's (RE2): `\d`, `\w`, `\s` and `\b` are ASCII, `.` matches a newline, as in
/// Prometheus 3.
#[derive(Debug, Clone)]
pub struct Regex {
    text: Arc<str>,
    compiled: meta::Regex,
    names: Arc<[(String, usize)]>,
    match_all: bool,
}

impl Regex {
    /// Compiles `text`, anchored at both ends.
    ///
    /// # Errors
    /// `text` is no expression of Go's syntax, or its compiled form would take more than 10 MiB.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        let translated = go_regex::translate(text)?;
        let syntax = syntax::Config::new().dot_matches_new_line(true).nest_limit(250);
        let compiled = meta::Regex::builder()
            .syntax(syntax)
            .configure(meta::Config::new().nfa_size_limit(Some(MAX_COMPILED_BYTES)))
            .build(&format!("^(?:{})$", translated.pattern))
            .map_err(|error| {
                RegexError(match error.size_limit() {
                    Some(limit) => {
                        format!("expression too large, it may take {limit} bytes: `{text}`")
                    }
                    None => format!("{}: `{text}`", reason(&error)),
                })
            })?;
        Ok(Regex {
            text: Arc::from(text),
            compiled,
            names: translated.names.into(),
            match_all: text == MATCH_ALL,
        })
    }

    /// `(.*)`, which every rule has unless the file says otherwise.
    pub fn match_all() -> Self {
        Regex::new(MATCH_ALL).expect("the expression is valid")
    }

    /// Whether this is `(.*)`, which needs no engine.
    pub(super) fn is_match_all(&self) -> bool {
        self.match_all
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.match_all || self.compiled.is_match(Input::new(text).anchored(Anchored::Yes))
    }

    /// Where the groups of a match lie: `slots[2 * i]..slots[2 * i + 1]` for group `i`, group 0
    /// being the whole. `slots` is only memory to reuse. False if `text` does not match.
    pub(super) fn captures(&self, text: &str, slots: &mut Vec<Option<NonMaxUsize>>) -> bool {
        slots.clear();
        slots.resize((self.groups() + 1) * 2, None);
        let input = Input::new(text).anchored(Anchored::Yes);
        self.compiled.search_slots(&input, slots).is_some()
    }

    /// Number of groups, without the whole match.
    pub(super) fn groups(&self) -> usize {
        self.compiled.captures_len() - 1
    }

    /// The group of that name.
    pub(super) fn group_named(&self, name: &str) -> Option<usize> {
        self.names.iter().find(|(candidate, _)| candidate == name).map(|(_, index)| *index)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

impl serde::Serialize for Regex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The last line of a syntax error; the lines before it draw the translated pattern.
fn reason(error: &meta::BuildError) -> String {
    let text = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
