//! Patterns of literals and captures: `<ip> - - [<_>] "<method> <path>"`.

use memchr::memmem;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing to look for.
    #[error(
        "parse error at line 1, col 1: syntax error: unexpected $end, expecting IDENTIFIER or LITERAL"
    )]
    Empty,
    /// A parser without a name for anything.
    #[error("at least one capture is required")]
    NoCapture,
    /// Where the first of two captures ends, nobody could say.
    #[error("found consecutive capture '<{0}><{1}>': invalid expression")]
    Consecutive(String, String),
    /// Two captures with one name.
    #[error("duplicate capture name ({0}): invalid expression")]
    Duplicate(String),
    /// A line filter extracts nothing.
    #[error("named captures are not allowed: found '<{0}>'")]
    Named(String),
}

/// What stands for a capture without a name.
const UNNAMED: &str = "_";

#[derive(Debug, Clone)]
enum Part {
    /// A name, or `_`.
    Capture(String),
    Literal(Box<memmem::Finder<'static>>),
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Part::Capture(a), Part::Capture(b)) => a == b,
            (Part::Literal(a), Part::Literal(b)) => a.needle() == b.needle(),
            _ => false,
        }
    }
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternExpr {
    text: String,
    parts: Vec<Part>,
}

impl PatternExpr {
    /// A pattern that names what it extracts.
    ///
    /// # Errors
    /// It names nothing, names something twice, or has two captures in a row.
    pub fn parser(text: &str) -> Result<Self, PatternError> {
        let expr = Self::parse(text)?;
        expr.refuse_consecutive()?;
        let names: Vec<&str> = expr.names().collect();
        if names.is_empty() {
            return Err(PatternError::NoCapture);
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(PatternError::Duplicate((*name).to_owned()));
            }
        }
        Ok(expr)
    }

    /// A pattern of a line filter; it has no names.
    ///
    /// # Errors
    /// It has names, or two captures in a row.
    pub fn line_filter(text: &str) -> Result<Self, PatternError> {
        let expr = Self::parse(text)?;
        if let Some(name) = expr.names().next() {
            return Err(PatternError::Named(name.to_owned()));
        }
        expr.refuse_consecutive()?;
        Ok(expr)
    }

    fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let (before, tail) = rest.split_at(at);
            literal.push_str(before);
            match capture(tail) {
                Some((name, after)) => {
                    push_literal(&mut parts, &mut literal);
                    parts.push(Part::Capture(name.to_owned()));
                    rest = after;
                }
                None => {
                    literal.push('<');
                    rest = &tail[1..];
                }
            }
        }
        literal.push_str(rest);
        push_literal(&mut parts, &mut literal);
        Ok(PatternExpr { text: text.to_owned(), parts })
    }

    fn refuse_consecutive(&self) -> Result<(), PatternError> {
        for pair in self.parts.windows(2) {
            if let [Part::Capture(first), Part::Capture(second)] = pair {
                return Err(PatternError::Consecutive(first.clone(), second.clone()));
            }
        }
        Ok(())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) if name != UNNAMED => Some(name.as_str()),
            _ => None,
        })
    }

    /// Hands to `found` what each named capture takes of `line`, with the number of the capture. A
    /// literal at the start has to be at the start of the line. Where a literal is missing, the
    /// capture before it takes the rest, and later ones nothing.
    pub fn extract<'l>(&self, line: &'l str, mut found: impl FnMut(usize, &'l str)) {
        let mut rest = line;
        let mut parts = self.parts.as_slice();
        if line.is_empty() {
            return;
        }
        if let Some((Part::Literal(literal), tail)) = parts.split_first() {
            match rest.as_bytes().strip_prefix(literal.needle()) {
                Some(after) => rest = &rest[rest.len() - after.len()..],
                None => return,
            }
            parts = tail;
        }
        let mut number = 0;
        while let Some((Part::Capture(name), tail)) = parts.split_first() {
            let at = match tail.first() {
                Some(Part::Literal(literal)) => {
                    literal.find(rest.as_bytes()).map(|at| (at, literal.needle().len()))
                }
                _ => None,
            };
            let (taken, after) = match at {
                Some((at, len)) => (&rest[..at], Some(&rest[at + len..])),
                None => (rest, None),
            };
            if name != UNNAMED {
                found(number, taken);
                number += 1;
            }
            let Some(after) = after else { return };
            rest = after;
            parts = &tail[1..];
        }
    }

    /// Whether `line` is what the pattern says, from its start to its end. Literals are looked for one
    /// after the other, each at the first place it has; a capture stands for at least one byte there,
    /// and nothing may follow the last literal. Other places are not tried, as in Loki.
    pub fn is_match(&self, line: &[u8]) -> bool {
        let mut rest = line;
        let mut after_capture = false;
        for part in &self.parts {
            let Part::Literal(literal) = part else {
                after_capture = true;
                continue;
            };
            match literal.find(rest) {
                Some(at) if (at > 0) == after_capture => {
                    rest = &rest[at + literal.needle().len()..];
                }
                _ => return false,
            }
            after_capture = false;
        }
        rest.is_empty() != after_capture
    }

    /// The longest literal, which each line that matches holds.
    pub fn longest_literal(&self) -> Option<&[u8]> {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Literal(literal) => Some(literal.needle()),
                Part::Capture(_) => None,
            })
            .max_by_key(|literal| literal.len())
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(Box::new(memmem::Finder::new(literal.as_bytes()).into_owned())));
        literal.clear();
    }
}

/// The name of a capture and what follows it; `text` begins with `<`.
fn capture(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text[1..].split_once('>')?;
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let valid = starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    valid.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extracted(pattern: &str, line: &str) -> Vec<String> {
        let pattern = PatternExpr::parser(pattern).expect("a valid pattern");
        let mut all = Vec::new();
        pattern.extract(line, |_, part| all.push(part.to_owned()));
        all
    }

    #[test]
    fn captures_lie_between_literals() {
        assert_eq!(extracted("<foo> bar<baz>", " bar "), ["", " "]);
        assert_eq!(extracted("<path>?<_>", "/api"), ["/api"]);
        assert_eq!(extracted("foo <f>\"", "bar"), [""; 0]);
        assert_eq!(extracted("<a> <b> <c>", "1 2"), ["1", "2"]);
        assert_eq!(extracted("<foo <f>>", "<foo x>"), ["x"]);
    }

    #[test]
    fn a_filter_spans_the_whole_line() {
        let is_match = |pattern, line: &str| {
            PatternExpr::line_filter(pattern).expect("a valid pattern").is_match(line.as_bytes())
        };
        assert!(
            is_match("foo <_> bar", "foo buzz bar") && !is_match("foo <_> bar<_>", "foo buzz bar")
        );
        assert!(!is_match("<_>foo <_> bar", "foo buzz bar") && !is_match("<_> bar<_>", " bar "));
        assert!(is_match("<_>", " ") && !is_match("<_>", "") && is_match("foo", "foo"));
        assert!(!is_match("<_>a", "aaa") && !is_match("<_>a", "xaya") && is_match("<_>a", "xa"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let error = |pattern| PatternExpr::parser(pattern).expect_err("no pattern").to_string();
        assert!(error("").starts_with("parse error at line 1, col 1"));
        assert_eq!(error("foo <_>"), "at least one capture is required");
        assert_eq!(error("<f> f<d><b>"), "found consecutive capture '<d><b>': invalid expression");
        assert_eq!(error("<f> f<f>"), "duplicate capture name (f): invalid expression");
        let named = PatternExpr::line_filter("<foo <foo> bar <_>").expect_err("it names something");
        assert_eq!(named.to_string(), "named captures are not allowed: found '<foo>'");
    }
}
