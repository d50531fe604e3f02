//! Line filters: `|=`, `!=`, `|~`, `!~`, `|>`, `!>`, alternatives by `or`, and `ip()`.

use memchr::memmem;
use model::regex::{Finder, RegexError};

use super::ip::{IpMatcher, IpPatternError};
use super::pattern::{PatternError, PatternExpr};

/// What one alternative of a line filter looks for.
#[derive(Debug, Clone)]
pub enum LineMatch {
    /// A text anywhere in the line. The empty text is in every line.
    Contains(Box<memmem::Finder<'static>>),
    /// An expression that matches anywhere in the line.
    Regex(Finder),
    /// A pattern that is the whole line.
    Pattern(PatternExpr),
    /// An address anywhere in the line.
    Ip(IpMatcher),
}

/// Why a line filter cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFilterError {
    /// Of `|~` and `!~`.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// Of `|>` and `!>`.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Of `ip()`.
    #[error(transparent)]
    Ip(#[from] IpPatternError),
}

impl LineMatch {
    /// Looks for `text` as it is.
    pub fn contains(text: &str) -> Self {
        LineMatch::Contains(Box::new(memmem::Finder::new(text.as_bytes()).into_owned()))
    }

    /// Looks for a match of `expression`. One that is plain text is looked for as such.
    ///
    /// # Errors
    /// `expression` is not of Go's syntax, or too large.
    pub fn regex(expression: &str) -> Result<Self, LineFilterError> {
        let finder = Finder::new(expression)?;
        Ok(match finder.literal() {
            Some(literal) => {
                LineMatch::Contains(Box::new(memmem::Finder::new(literal).into_owned()))
            }
            None => LineMatch::Regex(finder),
        })
    }

    /// Compares the line with a pattern.
    ///
    /// # Errors
    /// As [`PatternExpr::line_filter`].
    pub fn pattern(pattern: &str) -> Result<Self, LineFilterError> {
        Ok(LineMatch::Pattern(PatternExpr::line_filter(pattern)?))
    }

    /// Looks for an address.
    ///
    /// # Errors
    /// As [`IpMatcher::new`].
    pub fn ip(pattern: &str) -> Result<Self, LineFilterError> {
        Ok(LineMatch::Ip(IpMatcher::new(pattern)?))
    }

    /// Whether `line` has what is looked for.
    pub fn is_match(&self, line: &[u8]) -> bool {
        match self {
            LineMatch::Contains(finder) => finder.find(line).is_some(),
            LineMatch::Regex(finder) => finder.is_match(line),
            LineMatch::Pattern(pattern) => pattern.is_match(line),
            LineMatch::Ip(matcher) => matcher.is_match(line),
        }
    }

    /// Lists of texts: of each list a matching line holds one. None of them is empty, the longest come first.
    fn required_texts(&self) -> Vec<Vec<&[u8]>> {
        let text = match self {
            LineMatch::Contains(finder) => Some(finder.needle()),
            LineMatch::Pattern(pattern) => pattern.longest_literal(),
            LineMatch::Regex(finder) => {
                return finder.required_texts().map(Iterator::collect).collect();
            }
            LineMatch::Ip(_) => None,
        };
        text.filter(|text| !text.is_empty()).map(|text| vec![text]).into_iter().collect()
    }
}

/// A line filter: some of the alternatives match, or, negated, none.
#[derive(Debug, Clone)]
pub struct LineFilter {
    negated: bool,
    alternatives: Vec<LineMatch>,
}

impl LineFilter {
    /// Keeps lines that match some of `alternatives`.
    pub fn keep(alternatives: Vec<LineMatch>) -> Self {
        LineFilter { negated: false, alternatives }
    }

    /// Keeps lines that match none of `alternatives`.
    pub fn reject(alternatives: Vec<LineMatch>) -> Self {
        LineFilter { negated: true, alternatives }
    }

    /// Whether matching lines are dropped.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Lists of texts: of each list a line that is kept holds one. A store may use them to leave out lines.
    pub fn required_texts(&self) -> Vec<Vec<&[u8]>> {
        match self.alternatives.as_slice() {
            _ if self.negated => Vec::new(),
            [sole] => sole.required_texts(),
            alternatives => {
                let of_each =
                    alternatives.iter().map(|one| one.required_texts().into_iter().next());
                let of_each: Option<Vec<Vec<&[u8]>>> = of_each.collect();
                of_each.map(|lists| lists.concat()).into_iter().collect()
            }
        }
    }

    /// Whether it keeps all lines that hold what it requires.
    pub fn is_said_by_texts(&self) -> bool {
        let is_text = |one: &LineMatch| matches!(one, LineMatch::Contains(finder) if !finder.needle().is_empty());
        !self.negated && self.alternatives.iter().all(is_text)
    }

    /// What is looked for.
    pub fn alternatives(&self) -> &[LineMatch] {
        &self.alternatives
    }

    /// Whether the line stays.
    pub fn is_kept(&self, line: &[u8]) -> bool {
        self.alternatives.iter().any(|alternative| alternative.is_match(line)) != self.negated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alternatives_are_or_and_negated_nor() {
        let both = || vec![LineMatch::contains("a"), LineMatch::regex("b+c").expect("valid")];
        let (keep, reject) = (LineFilter::keep(both()), LineFilter::reject(both()));
        for (line, kept) in [("xa", true), ("bbc", true), ("xyz", false), ("", false)] {
            assert_eq!(keep.is_kept(line.as_bytes()), kept, "{line:?}");
            assert_eq!(reject.is_kept(line.as_bytes()), !kept, "{line:?}");
        }
        assert!(LineFilter::keep(vec![LineMatch::contains("")]).is_kept(b""));
        assert!(!LineFilter::reject(vec![LineMatch::contains("")]).is_kept(b"x"));
    }

    proptest! {
        #[test]
        fn a_contained_text_is_always_found(
            before in proptest::collection::vec(any::<u8>(), 0..80),
            needle in ".{0,12}",
            after in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let line = [&before[..], needle.as_bytes(), &after[..]].concat();
            prop_assert!(LineMatch::contains(&needle).is_match(&line));
            let escaped = LineMatch::regex(&model::regex::escape(&needle)).expect("valid");
            prop_assert!(escaped.is_match(&line));
        }

        #[test]
        fn a_regex_agrees_with_a_naive_search(line in "[ab\n]{0,12}") {
            // `a.*b`: an `a` before a `b` in one row.
            let naive = line.split('\n').any(|row| {
                row.find('a').is_some_and(|at| row[at..].contains('b'))
            });
            prop_assert_eq!(LineMatch::regex("a.*b").expect("valid").is_match(line.as_bytes()), naive);
        }

        #[test]
        fn a_filter_pattern_agrees_with_a_naive_search(line in "[ab]{0,10}") {
            // `a<_>b<_>`: leftmost literals, captures of at least one byte.
            let naive = line.starts_with('a')
                && line[1..].find('b').is_some_and(|at| at > 0 && line.len() > 1 + at + 1);
            let pattern = LineMatch::pattern("a<_>b<_>").expect("valid");
            prop_assert_eq!(pattern.is_match(line.as_bytes()), naive);
        }

        #[test]
        fn no_bytes_make_a_filter_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for filter in [
                LineMatch::regex(r"(?i)é.|\b\w+$").expect("valid"),
                LineMatch::pattern("<_>:<_>").expect("valid"),
                LineMatch::ip("10.0.0.0/8").expect("valid"),
            ] {
                filter.is_match(&line);
            }
        }
    }
}
