//! Label filters: `status >= 500 or (duration > 1s and method = "GET")`.

use model::regex::{Finder, RegexError};

use super::entry::{StageError, State};
use super::ip::IpMatcher;
use super::names::{Name, Names};
use super::number::{NumberError, parse_bytes, parse_duration_ns, parse_float};

/// How numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
        }
    }
}

/// How the value of a label is compared with a text.
#[derive(Debug, Clone)]
pub enum TextMatch {
    /// `=`
    Equal(String),
    /// `!=`
    NotEqual(String),
    /// `=~`, of the whole value
    Regex(Finder),
    /// `!~`
    NotRegex(Finder),
}

impl TextMatch {
    /// `=~`
    ///
    /// # Errors
    /// `expression` is not of Go's syntax, or too large.
    pub fn regex(expression: &str) -> Result<Self, RegexError> {
        Ok(TextMatch::Regex(Finder::anchored(expression)?))
    }

    /// `!~`
    ///
    /// # Errors
    /// As [`TextMatch::regex`].
    pub fn not_regex(expression: &str) -> Result<Self, RegexError> {
        Ok(TextMatch::NotRegex(Finder::anchored(expression)?))
    }

    /// Whether `value` is what is wanted.
    pub fn is_match(&self, value: &str) -> bool {
        match self {
            TextMatch::Equal(text) => value == text,
            TextMatch::NotEqual(text) => value != text,
            TextMatch::Regex(finder) => finder.is_match(value.as_bytes()),
            TextMatch::NotRegex(finder) => !finder.is_match(value.as_bytes()),
        }
    }
}

/// A condition on labels of a line.
///
/// A label that is not there is the empty text to [`LabelFilter::text`] and fails every other
/// condition. A value that is no number where one is compared is an error of the line, which then
/// stays.
#[derive(Debug, Clone)]
pub struct LabelFilter(Node);

#[derive(Debug, Clone)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Leaf { label: String, name: Name, test: Test },
}

#[derive(Debug, Clone)]
enum Test {
    Text(TextMatch),
    Number(Comparison, f64),
    DurationNs(Comparison, i64),
    Bytes(Comparison, u64),
    Ip { matcher: IpMatcher, negated: bool },
}

impl LabelFilter {
    fn leaf(label: &str, test: Test) -> Self {
        LabelFilter(Node::Leaf { label: label.to_owned(), name: Name::default(), test })
    }

    /// Compares the value as a text. The only condition that sees the error labels.
    pub fn text(label: &str, wanted: TextMatch) -> Self {
        Self::leaf(label, Test::Text(wanted))
    }

    /// Compares the value as a float.
    pub fn number(label: &str, comparison: Comparison, value: f64) -> Self {
        Self::leaf(label, Test::Number(comparison, value))
    }

    /// Compares the value as a duration in Go's form.
    pub fn duration_ns(label: &str, comparison: Comparison, value_ns: i64) -> Self {
        Self::leaf(label, Test::DurationNs(comparison, value_ns))
    }

    /// Compares the value as a size: `1.5KiB`.
    pub fn bytes(label: &str, comparison: Comparison, value: u64) -> Self {
        Self::leaf(label, Test::Bytes(comparison, value))
    }

    /// Looks for an address in the value.
    pub fn ip(label: &str, matcher: IpMatcher) -> Self {
        Self::leaf(label, Test::Ip { matcher, negated: false })
    }

    /// Wants no such address in the value.
    pub fn not_ip(label: &str, matcher: IpMatcher) -> Self {
        Self::leaf(label, Test::Ip { matcher, negated: true })
    }

    /// Both. The second is looked at even if the first fails: it may be an error.
    #[must_use]
    pub fn and(self, other: LabelFilter) -> Self {
        LabelFilter(Node::And(Box::new(self.0), Box::new(other.0)))
    }

    /// One of both. The second is looked at only if the first fails.
    #[must_use]
    pub fn or(self, other: LabelFilter) -> Self {
        LabelFilter(Node::Or(Box::new(self.0), Box::new(other.0)))
    }

    /// Names of the labels that are looked at, in order; some may be told twice.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels = Vec::new();
        self.0.collect(&mut labels);
        labels
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.0.bind(names);
    }

    pub(crate) fn is_kept(&self, origin: &str, state: &mut State) -> bool {
        self.0.is_kept(origin, state)
    }
}

impl Node {
    fn collect<'a>(&'a self, labels: &mut Vec<&'a str>) {
        match self {
            Node::And(left, right) | Node::Or(left, right) => {
                left.collect(labels);
                right.collect(labels);
            }
            Node::Leaf { label, .. } => labels.push(label),
        }
    }

    fn bind(&mut self, names: &mut Names) {
        match self {
            Node::And(left, right) | Node::Or(left, right) => {
                left.bind(names);
                right.bind(names);
            }
            Node::Leaf { label, name, .. } => *name = names.intern(label),
        }
    }

    fn is_kept(&self, origin: &str, state: &mut State) -> bool {
        match self {
            Node::And(left, right) => left.is_kept(origin, state) & right.is_kept(origin, state),
            Node::Or(left, right) => left.is_kept(origin, state) || right.is_kept(origin, state),
            Node::Leaf { name, test, .. } => test.is_kept(origin, state, *name),
        }
    }
}

impl Test {
    fn is_kept(&self, origin: &str, state: &mut State, name: Name) -> bool {
        if let Test::Text(wanted) = self {
            return wanted.is_match(state.value_or_error(origin, name));
        }
        if let Test::Ip { .. } = self
            && state.has_error()
        {
            // Only texts filter lines that failed.
            return true;
        }
        let Some((value, _)) = state.get(origin, name) else { return false };
        let outcome = match self {
            Test::Number(comparison, wanted) => {
                parse_float(value).map(|value| comparison.holds(value, *wanted))
            }
            Test::DurationNs(comparison, wanted) => {
                parse_duration_ns(value).map(|value| comparison.holds(value, *wanted))
            }
            Test::Bytes(comparison, wanted) => {
                parse_bytes(value).map(|value| comparison.holds(value, *wanted))
            }
            Test::Ip { matcher, negated } => Ok(matcher.is_match(value.as_bytes()) != *negated),
            Test::Text(_) => Ok(true),
        };
        match outcome {
            Ok(kept) => kept,
            Err(NumberError(details)) => {
                // What failed before may say more.
                if !state.has_error() {
                    state.set_error(StageError::LabelFilter, &details);
                }
                true
            }
        }
    }
}
