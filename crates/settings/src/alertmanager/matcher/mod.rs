//! Matchers of labels as routes, inhibition rules and silences have them.
//!
//! There are two syntaxes: the classic one, which takes nearly everything as a value, and the
//! UTF-8 one, which allows any name and wants quotes around what is not plain. [`MatcherMode`]
//! says which of them is read. Source: Alertmanager, `pkg/labels` and `matcher/`.

mod classic;
mod utf8;

use std::cmp::Ordering;
use std::fmt;

use model::{Labels, MatchOp, Matcher, MatcherError, quote};

/// Longest text that is read as matchers, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Which syntax is read, and which names labels may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatcherMode {
    /// The classic syntax, and names of ASCII letters, digits and `_`.
    Classic,
    /// The UTF-8 syntax alone.
    Utf8,
    /// The UTF-8 syntax; what only the classic one can read, or reads otherwise, is read
    /// classically, with a remark. What Alertmanager does unless told otherwise.
    #[default]
    Fallback,
}

/// One condition on one label. An absent label compares as the empty string.
///
/// Expressions have Go's syntax, are anchored at both ends, and `.` matches no newline, unlike in
/// queries.
#[derive(Clone)]
pub struct LabelMatcher {
    name: String,
    op: MatchOp,
    value: String,
    compiled: Matcher,
}

/// What reading matchers yields.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedMatchers {
    /// In the order of the text.
    pub matchers: Vec<LabelMatcher>,
    /// Why the text had to be read classically, if it had to: it should be written otherwise.
    pub remark: Option<String>,
}

impl LabelMatcher {
    /// Makes a matcher; compiles the expression if `op` is one.
    ///
    /// # Errors
    /// The expression does not compile or would take too much memory; in Go's words.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let compiled = match op {
            MatchOp::Equal | MatchOp::NotEqual => Matcher::new(&*name, op, &*value)?,
            // The second form is the one Go compiles: its messages show it, and it takes the few
            // expressions that only make sense inside of it.
            MatchOp::Regex | MatchOp::NotRegex => Matcher::new(&*name, op, format!("(?-s){value}"))
                .or_else(|_| Matcher::new(&*name, op, format!("(?-s)^(?:{value})$")))
                // The flag is ours, and nobody wrote it.
                .map_err(|error| MatcherError(error.0.replacen("`(?-s)", "`", 1)))?,
        };
        Ok(LabelMatcher { name, op, value, compiled })
    }

    /// Name of the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or expression as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether `candidate` satisfies the condition; pass `""` for an absent label.
    pub fn matches(&self, candidate: &str) -> bool {
        self.compiled.matches(candidate)
    }

    /// Whether labels satisfy all conditions.
    pub fn all_match(matchers: &[LabelMatcher], labels: &Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
    }

    fn key(&self) -> (&str, &str, u8) {
        let op = match self.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        (&self.name, &self.value, op)
    }
}

impl PartialEq for LabelMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for LabelMatcher {}

impl PartialOrd for LabelMatcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By name, then value, then operator: the order in which they stand in keys of routes.
impl Ord for LabelMatcher {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Debug for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As Alertmanager prints it, which keys of routes and groups are made of.
impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = self.op.as_str();
        if self.name.chars().any(utf8::is_reserved) {
            return write!(f, "{}{op}{}", quote::quote(&self.name), quote::quote(&self.value));
        }
        write!(f, "{}{op}\"", self.name)?;
        for c in self.value.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' => f.write_str("\\\"")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// `{a="b",c=~"d"}`: matchers as they stand in keys.
pub fn matchers_text(matchers: &[LabelMatcher]) -> String {
    let all: Vec<String> = matchers.iter().map(LabelMatcher::to_string).collect();
    format!("{{{}}}", all.join(","))
}

impl MatcherMode {
    /// Whether a label may be named so.
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            MatcherMode::Classic => model::is_legacy_label_name(name),
            MatcherMode::Utf8 | MatcherMode::Fallback => !name.is_empty(),
        }
    }

    /// Reads matchers separated by commas, with or without braces around them.
    ///
    /// # Errors
    /// The text is none, in Alertmanager's words.
    pub fn parse(self, text: &str) -> Result<ParsedMatchers, MatcherError> {
        check_length(text)?;
        let plain = |matchers| ParsedMatchers { matchers, remark: None };
        match self {
            MatcherMode::Classic => classic::parse(text).map(plain),
            MatcherMode::Utf8 => utf8::parse(text).map(plain),
            MatcherMode::Fallback => fall_back(utf8::parse(text), classic::parse(text)),
        }
    }

    /// Reads one matcher, without braces around it.
    ///
    /// # Errors
    /// The text is none, or more than one, in Alertmanager's words.
    pub fn parse_one(self, text: &str) -> Result<(LabelMatcher, Option<String>), MatcherError> {
        check_length(text)?;
        if self != MatcherMode::Classic && (text.starts_with('{') || text.ends_with('}')) {
            return Err(MatcherError(format!("unexpected open or close brace: {text}")));
        }
        let parsed = match self {
            MatcherMode::Classic => {
                ParsedMatchers { matchers: vec![classic::parse_one(text)?], remark: None }
            }
            MatcherMode::Utf8 => {
                ParsedMatchers { matchers: vec![parse_one_utf8(text)?], remark: None }
            }
            MatcherMode::Fallback => {
                let (new, old) = (parse_one_utf8(text), classic::parse_one(text));
                fall_back(new.map(|matcher| vec![matcher]), old.map(|matcher| vec![matcher]))?
            }
        };
        match parsed.matchers.into_iter().next() {
            Some(matcher) => Ok((matcher, parsed.remark)),
            None => Err(MatcherError("no matchers".to_owned())),
        }
    }
}

/// Reads one matcher of the UTF-8 syntax; braces around it are allowed.
///
/// # Errors
/// The text is none, or more than one.
pub fn parse_one_utf8(text: &str) -> Result<LabelMatcher, MatcherError> {
    check_length(text)?;
    let mut matchers = utf8::parse(text)?;
    match matchers.len() {
        0 => Err(MatcherError("no matchers".to_owned())),
        1 => Ok(matchers.remove(0)),
        n => Err(MatcherError(format!("expected 1 matcher, found {n}"))),
    }
}

fn check_length(text: &str) -> Result<(), MatcherError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    let len = text.len();
    let message = format!("matchers of {len} bytes; at most {MAX_TEXT_BYTES} are read: split them");
    Err(MatcherError(message))
}

/// What is made of both readings.
fn fall_back(
    new: Result<Vec<LabelMatcher>, MatcherError>,
    old: Result<Vec<LabelMatcher>, MatcherError>,
) -> Result<ParsedMatchers, MatcherError> {
    match (new, old) {
        (Ok(new), Ok(old)) if new != old => {
            let remark = "the matcher means something else by the UTF-8 syntax; it is read \
                          classically"
                .to_owned();
            Ok(ParsedMatchers { matchers: old, remark: Some(remark) })
        }
        (Ok(matchers), _) => Ok(ParsedMatchers { matchers, remark: None }),
        (Err(error), Ok(matchers)) => {
            let better: Vec<String> = matchers.iter().map(LabelMatcher::to_string).collect();
            let remark =
                format!("only the classic syntax has this ({error}); write `{}`", better.join(","));
            Ok(ParsedMatchers { matchers, remark: Some(remark) })
        }
        (Err(_), Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(mode: MatcherMode, text: &str) -> Result<Vec<String>, String> {
        mode.parse(text)
            .map(|parsed| parsed.matchers.iter().map(LabelMatcher::to_string).collect())
            .map_err(|error| error.0)
    }

    #[test]
    fn both_syntaxes_and_what_falls_back() {
        let both = Ok(vec!["a=\"b\"".to_owned(), "c!~\"d.*\"".to_owned()]);
        for mode in [MatcherMode::Classic, MatcherMode::Utf8, MatcherMode::Fallback] {
            assert_eq!(texts(mode, "{a=\"b\", c!~\"d.*\"}"), both);
        }
        let fallback = MatcherMode::Fallback;
        let parsed = fallback.parse("a=!b").expect("classic");
        assert!(parsed.remark.expect("a remark").contains("`a=\"!b\"`"));
        let parsed = fallback.parse("a=\"\\xf0\"").expect("classic");
        assert_eq!(parsed.matchers[0].value(), "\\xf0");
        assert_eq!(texts(fallback, "a🙂=b").expect("UTF-8"), ["a🙂=\"b\""]);
        assert_eq!(texts(fallback, "\"a b\"=c").expect("UTF-8"), ["\"a b\"=\"c\""]);
        assert!(texts(MatcherMode::Classic, "\"a b\"=c").is_err());
        assert!(fallback.parse_one("{a=b}").is_err());
    }

    #[test]
    fn expressions_are_gos() {
        let matcher = LabelMatcher::new("a", MatchOp::Regex, "x.y|z").expect("an expression");
        assert!(matcher.matches("xay") && matcher.matches("z"));
        assert!(!matcher.matches("x\ny") && !matcher.matches("xayz"));
        let error = LabelMatcher::new("a", MatchOp::Regex, "invalid[regexp").expect_err("bad");
        assert_eq!(error.0, "error parsing regexp: missing closing ]: `[regexp)$`");
        let error = LabelMatcher::new("a", MatchOp::Regex, "(").expect_err("bad");
        assert_eq!(error.0, "error parsing regexp: missing closing ): `^(?:()$`");
    }

    #[test]
    fn too_long_is_refused() {
        let long = format!("a={}", "x".repeat(MAX_TEXT_BYTES));
        assert!(texts(MatcherMode::Fallback, &long).expect_err("long").contains("at most"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_printed_is_read(text in "[a-c🙂={}!~,\"\\\\n \n]{0,24}") {
            for mode in [MatcherMode::Classic, MatcherMode::Utf8, MatcherMode::Fallback] {
                let _ = mode.parse_one(&text);
                if let Ok(parsed) = mode.parse(&text) {
                    let printed = matchers_text(&parsed.matchers);
                    if mode != MatcherMode::Fallback {
                        let again = mode.parse(&printed).expect("what is printed is valid");
                        prop_assert_eq!(again.matchers, parsed.matchers);
                    }
                }
            }
        }
    }
}
