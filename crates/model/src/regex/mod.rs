//! Expressions as Prometheus writes them: Go's syntax, anchored at both ends; and as Loki searches
//! lines with them.

mod finder;
mod required;
mod template;
mod translate;

use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

pub use finder::Finder;
pub use template::Template;
use translate::translate;

/// Memory one compiled expression may take; lists of a few thousand names stay far below.
const MAX_COMPILED_BYTES: usize = 10 << 20;

/// Deepest nesting of groups.
const MAX_NESTING: u32 = 250;

/// What a rule has where the file says nothing.
const MATCH_ALL: &str = "(.*)";

/// Why a text is no expression, in Go's words: `error parsing regexp: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub(crate) String);

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
        Self::parse(text, MAX_COMPILED_BYTES).map(|(regex, _)| regex)
    }

    /// Compiles `text` to at most `max_bytes`; yields what was parsed, too, unanchored.
    pub(crate) fn parse(text: &str, max_bytes: usize) -> Result<(Self, Hir), RegexError> {
        Self::build(text, max_bytes, Shape { anchored: true, dot_matches_newline: true })
    }

    fn build(text: &str, max_bytes: usize, shape: Shape) -> Result<(Self, Hir), RegexError> {
        let translated = translate(text)?;
        let hir = regex_syntax::ParserBuilder::new()
            .dot_matches_new_line(shape.dot_matches_newline)
            .nest_limit(MAX_NESTING)
            .build()
            .parse(&translated.pattern)
            .map_err(|error| RegexError(format!("{}: `{text}`", reason(&error.to_string()))))?;
        let whole = if shape.anchored {
            Hir::concat(vec![Hir::look(Look::Start), hir.clone(), Hir::look(Look::End)])
        } else {
            hir.clone()
        };
        let compiled = meta::Regex::builder()
            .configure(meta::Config::new().nfa_size_limit(Some(max_bytes)))
            .build_from_hir(&whole)
            .map_err(|error| {
                RegexError(match error.size_limit() {
                    Some(limit) => {
                        format!("expression too large, it may take {limit} bytes: `{text}`")
                    }
                    None => format!("{}: `{text}`", reason(&error.to_string())),
                })
            })?;
        let regex = Regex {
            text: Arc::from(text),
            compiled,
            names: translated.names.into(),
            match_all: text == MATCH_ALL,
        };
        Ok((regex, hir))
    }

    /// `(.*)`, which every rule has unless the file says otherwise.
    pub fn match_all() -> Self {
        Regex::new(MATCH_ALL).expect("the expression is valid")
    }

    /// Whether this is `(.*)`, which needs no engine.
    pub fn is_match_all(&self) -> bool {
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

    /// Whether the whole of `text` matches, and where its groups lie then. `groups` may hold
    /// anything before; its memory is used again.
    pub fn captures(&self, text: &str, groups: &mut Groups) -> bool {
        groups.slots.clear();
        groups.slots.resize((self.groups() + 1) * 2, None);
        let input = Input::new(text).anchored(Anchored::Yes);
        self.compiled.search_slots(&input, &mut groups.slots).is_some()
    }

    /// Number of groups, without the whole match.
    fn groups(&self) -> usize {
        self.compiled.captures_len() - 1
    }

    /// The groups of that name, in the order of the expression.
    fn groups_named(&self, name: &str) -> impl Iterator<Item = usize> {
        self.names.iter().filter(move |(candidate, _)| candidate == name).map(|(_, index)| *index)
    }
}

/// How an expression is compiled.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Whether the whole of a text has to match.
    anchored: bool,
    /// Whether `.` matches a newline where the expression does not say.
    dot_matches_newline: bool,
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

/// Where the groups of a match lie in its text.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Start and end of each, group 0 being the whole match.
    slots: Vec<Option<NonMaxUsize>>,
}

impl Groups {
    /// What group `index` matched of `text`, which is empty if it took no part.
    pub fn get<'a>(&self, index: usize, text: &'a str) -> &'a str {
        match self.slots.get(2 * index..2 * index + 2) {
            Some([Some(start), Some(end)]) => &text[start.get()..end.get()],
            _ => "",
        }
    }

    /// Where group `index` lies; `None` if it took no part.
    pub fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        match self.slots.get(2 * index..2 * index + 2) {
            Some([Some(start), Some(end)]) => Some(start.get()..end.get()),
            _ => None,
        }
    }

    /// Ends of groups that are held without taking more memory.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }
}

/// An expression that matches `text` and nothing else.
pub fn escape(text: &str) -> String {
    regex_syntax::escape(text)
}

/// The last line of a syntax error; the lines before it draw the translated pattern.
fn reason(error: &str) -> &str {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ")
}
