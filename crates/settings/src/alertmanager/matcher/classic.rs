//! The classic syntax: a name of ASCII, an operator, and nearly anything as the value.

use model::{MatchOp, MatcherError};

use super::LabelMatcher;

/// Reads matchers separated by commas that stand outside of quotes; a brace before and one behind
/// them are dropped.
pub(super) fn parse(text: &str) -> Result<Vec<LabelMatcher>, MatcherError> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let mut parts: Vec<&str> = Vec::new();
    let (mut quoted, mut escaped, mut from) = (false, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
                // As in Alertmanager, a comma does not end an escape.
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            '"' => escaped = false,
            '\\' => escaped = !escaped,
            ',' => {}
            _ => escaped = false,
        }
    }
    let last = text[from..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts.into_iter().map(parse_one).collect()
}

/// What Go's `\s` takes.
const BLANKS: [char; 5] = ['\t', '\n', '\u{c}', '\r', ' '];

/// Reads one matcher.
pub(super) fn parse_one(text: &str) -> Result<LabelMatcher, MatcherError> {
    let bad = || MatcherError(format!("bad matcher format: {text}"));
    let rest = text.trim_start_matches(BLANKS);
    let name_end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_end);
    if !name.starts_with(|c: char| !c.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start_matches(BLANKS);
    let (op, raw) = [
        ("=~", MatchOp::Regex),
        ("=", MatchOp::Equal),
        ("!=", MatchOp::NotEqual),
        ("!~", MatchOp::NotRegex),
    ]
    .iter()
    .find_map(|(sign, op)| rest.strip_prefix(sign).map(|raw| (*op, raw)))
    .ok_or_else(bad)?;
    let raw = raw.trim_start_matches(BLANKS).trim_end_matches(BLANKS);
    LabelMatcher::new(name, op, value(raw)?)
}

/// Takes quotes and escapes off a value. A backslash that escapes nothing stands for itself.
fn value(raw: &str) -> Result<String, MatcherError> {
    let unescaped_quote =
        || MatcherError(format!("matcher value contains unescaped double quote: {raw}"));
    let (inner, mut expects_quote) = match raw.strip_prefix('"') {
        Some(inner) => (inner, true),
        None => (raw, false),
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        let is_last = at + 1 == inner.len();
        match c {
            '\\' if is_last => out.push('\\'),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => out.push(escaped),
                Some((_, other)) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '"' if expects_quote && is_last => expects_quote = false,
            '"' => return Err(unescaped_quote()),
            c => out.push(c),
        }
    }
    if expects_quote { Err(unescaped_quote()) } else { Ok(out) }
}
