//! Expressions that are looked for in lines of logs.

use std::ops::Range;
use std::sync::Arc;

use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind};

use super::required::{OneOf, required};
use super::{Groups, MAX_COMPILED_BYTES, Regex, RegexError, Shape, Template};

/// A compiled expression that is found anywhere in a text, or, made by [`Finder::anchored`], matches
/// the whole of it. Unlike in [`Regex`], `.` does not match a newline, which is what Go does where
/// nobody says otherwise, so what LogQL does. Cloning is cheap.
///
/// A text that starts with a literal, or is one, is searched by a vectorised scan for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finder {
    regex: Regex,
    anchored: bool,
    /// The expression, if it is plain text.
    literal: Option<Box<[u8]>>,
    required: Arc<[OneOf]>,
}

impl Finder {
    /// Compiles `text`; it may match anywhere.
    ///
    /// # Errors
    /// `text` is no expression of Go's syntax, or its compiled form would take more than 10 MiB.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        Self::build(text, false)
    }

    /// Compiles `text`; it has to match the whole.
    ///
    /// # Errors
    /// As [`Finder::new`].
    pub fn anchored(text: &str) -> Result<Self, RegexError> {
        Self::build(text, true)
    }

    fn build(text: &str, anchored: bool) -> Result<Self, RegexError> {
        let shape = Shape { anchored, dot_matches_newline: false };
        let (regex, hir) = Regex::build(text, MAX_COMPILED_BYTES, shape)?;
        Ok(Finder { regex, anchored, literal: literal(&hir), required: required(&hir).into() })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// The text the expression stands for, if it is nothing but that text.
    pub fn literal(&self) -> Option<&[u8]> {
        self.literal.as_deref()
    }

    /// Lists of texts: of each list a text that matches has one. None of them is empty; there may be no list.
    pub fn required_texts(&self) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
        self.required.iter().map(|list| list.iter().map(|text| &**text))
    }

    /// Whether `text` holds a match. A byte that is no UTF-8 is matched by what would match
    /// U+FFFD, as in Go.
    pub fn is_match(&self, text: &[u8]) -> bool {
        if self.regex.compiled.is_match(self.input(text)) {
            return true;
        }
        // Only sequences of valid UTF-8 match above.
        match std::str::from_utf8(text) {
            Ok(_) => false,
            Err(_) => {
                let replaced = String::from_utf8_lossy(text);
                self.regex.compiled.is_match(self.input(replaced.as_bytes()))
            }
        }
    }

    /// The first match that starts at `from` or later, as a range of `text`.
    ///
    /// # Panics
    /// If `from` lies behind the end of `text`.
    pub fn find_at(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let input = self.input(text.as_bytes()).range(from..);
        self.regex.compiled.find(input).map(|found| found.range())
    }

    /// As [`Finder::find_at`], and where the groups lie then. `groups` may hold anything before.
    ///
    /// # Panics
    /// If `from` lies behind the end of `text`.
    pub fn captures_at(&self, text: &str, from: usize, groups: &mut Groups) -> bool {
        groups.slots.clear();
        groups.slots.resize((self.regex.groups() + 1) * 2, None);
        let input = self.input(text.as_bytes()).range(from..);
        self.regex.compiled.search_slots(&input, &mut groups.slots).is_some()
    }

    /// Number of groups, without the whole match.
    pub fn groups(&self) -> usize {
        self.regex.groups()
    }

    /// Names of groups with their indexes, in the order of the expression.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.regex.names.iter().map(|(name, index)| (name.as_str(), *index))
    }

    /// A replacement for matches of this expression.
    pub fn template(&self, replacement: &str) -> Template {
        Template::parse(replacement, &self.regex)
    }

    fn input<'h>(&self, text: &'h [u8]) -> Input<'h> {
        let anchored = if self.anchored { Anchored::Yes } else { Anchored::No };
        Input::new(text).anchored(anchored)
    }
}

fn literal(hir: &Hir) -> Option<Box<[u8]>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(literal.0.clone()),
        HirKind::Empty => Some(Box::default()),
        HirKind::Capture(capture) => literal(&capture.sub),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, text: &[u8]) -> bool {
        Finder::new(pattern).expect("a valid expression").is_match(text)
    }

    #[test]
    fn an_expression_is_found_anywhere() {
        assert!(found("b+", b"abba"));
        assert!(!found("^b", b"abba"));
        assert!(found("(?i)BB", b"abba"));
        assert!(!found("a.b", b"a\nb"));
        assert!(found("(?s)a.b", b"a\nb"));
        assert!(!found("a$", b"a\n"));
    }

    #[test]
    fn an_anchored_one_matches_the_whole() {
        let finder = Finder::anchored("a|ab").expect("a valid expression");
        assert!(finder.is_match(b"ab") && !finder.is_match(b"abc") && !finder.is_match(b"xa"));
    }

    #[test]
    fn a_byte_that_is_no_utf8_is_one_replacement_character() {
        assert!(found("a.b", b"a\xffb"));
        assert!(found("\u{fffd}", b"\xc3"));
        assert!(!found("aé", b"a\xc3"));
    }

    #[test]
    fn what_every_match_has_is_told() {
        let told = |pattern: &str| -> Vec<Vec<String>> {
            let finder = Finder::new(pattern).expect("a valid expression");
            let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            finder.required_texts().map(|list| list.map(text).collect()).collect()
        };
        assert_eq!(told("/orders/4[0-9]{4} .* 50[02] "), [["/orders/4"], [" 50"]]);
        assert_eq!(told("error|warn(ing)?|(?:fatal)+"), [["error", "warn", "fatal"]]);
        assert_eq!(told("(ab|cd)efg{2}"), [vec!["ab", "cd"], vec!["ef"]]);
        assert_eq!(told("(ab)*cde?"), [["cd"]]);
        for pattern in ["a|bc", ".*", "(?i)abc", "(abc)?", "a.b", "ab\u{fffd}c|x", ""] {
            assert_eq!(told(pattern), Vec::<Vec<String>>::new(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_matches_has_one_of_each_list(
            pattern in "([ab]{1,3}[?*+|.]?|[(][ab]{1,3}[|][ab.]{1,3}[)][+*?]?|[ab]{2}[{][02][}]){1,4}",
            text in "[ab]{0,12}",
        ) {
            let Ok(finder) = Finder::new(&pattern) else { return Ok(()) };
            if finder.is_match(text.as_bytes()) {
                for mut list in finder.required_texts() {
                    let has = |found: &[u8]| text.contains(&*String::from_utf8_lossy(found));
                    prop_assert!(list.any(has), "{} in {}", pattern, text);
                }
            }
        }
    }

    #[test]
    fn groups_and_literals_are_told() {
        let finder = Finder::new(r"(?P<key>\w+)=(\d+)").expect("a valid expression");
        assert_eq!(finder.names().collect::<Vec<_>>(), [("key", 1)]);
        let mut groups = Groups::default();
        let text = "x a=12";
        assert!(finder.captures_at(text, 0, &mut groups));
        assert_eq!((groups.get(1, text), groups.get(2, text)), ("a", "12"));
        assert_eq!(finder.find_at(text, 3), None);
        assert_eq!(finder.literal(), None);
        let literal = Finder::new(r"a\.b").expect("a valid expression");
        assert_eq!(literal.literal(), Some(&b"a.b"[..]));
    }
}
