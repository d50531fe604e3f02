//! Label matchers as every query language of the house uses them.

use std::fmt;

use regex_syntax::hir::{Hir, HirKind};

use crate::regex::Regex;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A pattern that is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MatcherError(pub String);

/// One condition on one label. An absent label compares as the empty string.
///
/// Regular expressions have Go's syntax, are anchored at both ends, and `.` matches a newline, as in
/// Prometheus 3.
/// When a pattern is nothing but alternatives of literals (`a|b|c`) it is kept as a sorted set
/// and no regex runs; otherwise a literal prefix is kept to narrow the values that are tried.
#[derive(Clone)]
pub struct Matcher {
    /// Name of the label.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value or pattern as written.
    pub value: String,
    compiled: Option<Compiled>,
}

#[derive(Clone)]
struct Compiled {
    regex: Regex,
    /// All strings the pattern matches, sorted, when they are few enough to list.
    set: Option<Vec<String>>,
    prefix: String,
}

/// Memory one compiled pattern may take: anybody who may query may send many.
const MAX_COMPILED_BYTES: usize = 4 << 20;

/// More alternatives than this are left to the regex engine.
const MAX_SET_MATCHES: usize = 1_024;

impl Matcher {
    /// Makes a matcher; compiles the pattern if `op` is a regex.
    ///
    /// # Errors
    /// The pattern does not compile or would take too much memory.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let value = value.into();
        let compiled = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(compile(&value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Matcher { name: name.into(), op, value, compiled })
    }

    /// Whether `candidate` satisfies the condition; pass `""` for an absent label.
    pub fn matches(&self, candidate: &str) -> bool {
        match self.op {
            MatchOp::Equal => candidate == self.value,
            MatchOp::NotEqual => candidate != self.value,
            MatchOp::Regex => self.regex_matches(candidate),
            MatchOp::NotRegex => !self.regex_matches(candidate),
        }
    }

    /// Whether a series with these labels satisfies all conditions.
    pub fn all_match(matchers: &[Matcher], labels: &crate::Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
    }

    /// Whether a series without the label satisfies the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// All strings the pattern can match, sorted, if the pattern is a list of literals
    /// (`a|b|c`, `x(y|z)`). `None` for `=`/`!=` and for real patterns.
    pub fn set_matches(&self) -> Option<&[String]> {
        self.compiled.as_ref()?.set.as_deref()
    }

    /// The literal every matching string starts with; may be empty.
    pub fn literal_prefix(&self) -> &str {
        self.compiled.as_ref().map_or("", |compiled| &compiled.prefix)
    }

    fn regex_matches(&self, candidate: &str) -> bool {
        let Some(compiled) = &self.compiled else { return false };
        if let Some(set) = &compiled.set {
            return set.binary_search_by(|probe| probe.as_str().cmp(candidate)).is_ok();
        }
        candidate.starts_with(&compiled.prefix) && compiled.regex.is_match(candidate)
    }
}

fn compile(pattern: &str) -> Result<Compiled, MatcherError> {
    let (regex, hir) = Regex::parse(pattern, MAX_COMPILED_BYTES)
        .map_err(|error| MatcherError(error.to_string()))?;
    let set = literals(&hir).map(|mut set| {
        set.sort_unstable();
        set.dedup();
        set
    });
    Ok(Compiled { regex, set, prefix: prefix(&hir) })
}

/// Every string `hir` matches, or `None` if they are too many or not literal.
fn literals(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(literals(part)?);
                if all.len() > MAX_SET_MATCHES {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let tails = literals(part)?;
                if all.len() * tails.len() > MAX_SET_MATCHES {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}")))
                    .collect();
            }
            Some(all)
        }
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let mut all = Vec::new();
            for range in class.ranges() {
                if range.len() > 16 {
                    return None;
                }
                all.extend((range.start()..=range.end()).map(String::from));
            }
            (all.len() <= 16).then_some(all)
        }
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut all = literals(&repetition.sub)?;
            all.push(String::new());
            Some(all)
        }
        _ => None,
    }
}

/// The literal every match of `hir` starts with.
fn prefix(hir: &Hir) -> String {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).unwrap_or_default(),
        HirKind::Capture(capture) => prefix(&capture.sub),
        HirKind::Concat(parts) => {
            let mut all = String::new();
            for part in parts {
                match part.kind() {
                    HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                        Ok(text) => all.push_str(text),
                        Err(_) => break,
                    },
                    HirKind::Capture(_) => {
                        all.push_str(&prefix(part));
                        break;
                    }
                    _ => break,
                }
            }
            all
        }
        _ => String::new(),
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new("l", MatchOp::Regex, pattern).expect("test pattern compiles")
    }

    #[test]
    fn regexes_are_anchored_and_dot_matches_newline() {
        assert!(regex("a.c").matches("a\nc"));
        assert!(!regex("a").matches("ab"));
        assert!(!regex("a|b").matches("ab"));
        assert!(regex("").matches_empty());
        assert!(regex(".*").matches_empty());
        assert!(!regex(".+").matches_empty());
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, yes, no) in [
            (r"\d+", "42", "٤٢"),
            (r"[a&&b]+", "a&b", "c"),
            (r"[[a]", "[", "b"),
            (r"a{,2}", "a{,2}", "aa"),
            (r"\Qa.b\E", "a.b", "axb"),
            (r"(?P<1st>a)", "a", "b"),
            (r"\<b", "<b", "b"),
        ] {
            assert!(regex(pattern).matches(yes), "{pattern} {yes}");
            assert!(!regex(pattern).matches(no), "{pattern} {no}");
        }
        let error = Matcher::new("l", MatchOp::Regex, "a**").expect_err("Go refuses it");
        let words = "error parsing regexp: invalid nested repetition operator: `**`";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn lists_of_literals_become_sets() {
        assert_eq!(regex("b|a|c").set_matches().map(<[_]>::len), Some(3));
        assert_eq!(
            regex("x(y|z)?").set_matches().map(<[_]>::to_vec),
            Some(vec!["x".to_owned(), "xy".to_owned(), "xz".to_owned()])
        );
        assert!(regex("a.*").set_matches().is_none());
        assert!(regex("(?i)abc").matches("aBc"));
        assert_eq!(regex("node_(cpu.*)").literal_prefix(), "node_cpu");
        assert_eq!(regex("node_cpu.*|x").literal_prefix(), "");
    }

    #[test]
    fn a_prefix_never_hides_a_match() {
        for (pattern, text) in [("ab*", "a"), ("a+b", "aab"), ("(ab|ac).*", "acd"), ("a?b", "b")] {
            assert!(regex(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn bad_patterns_are_errors() {
        assert!(Matcher::new("l", MatchOp::Regex, "a(").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "x{1000}{1000}{1000}").is_err());
    }
}
