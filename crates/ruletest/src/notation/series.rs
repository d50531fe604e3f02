//! Series as scripts write them: `metric{label="value"} 1 2+3x4 _ stale {{…}}`.

use std::sync::Arc;

use model::{Labels, METRIC_NAME, STALE_NAN_BITS};

use super::NotationError;
use super::histogram::{self, Literal};

/// One place in a sequence of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// No sample.
    Missing,
    /// A float, the staleness marker included.
    Float(f64),
    /// A native histogram.
    Histogram(Literal),
}

/// A series with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesLine {
    /// Its labels.
    pub labels: Labels,
    /// Its values, one for each step.
    pub items: Vec<Item>,
}

/// More values than this are a slip of the pen, not a test.
pub const MAX_REPEAT: usize = 1_000_000;

/// Parses a series and its values.
pub fn parse_series(line: &str) -> Result<SeriesLine, NotationError> {
    let (labels, rest) = parse_metric(line)?;
    Ok(SeriesLine { labels, items: parse_items(rest)? })
}

/// Parses the labels at the start of `line`; yields what follows them.
pub fn parse_metric(line: &str) -> Result<(Labels, &str), NotationError> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push((METRIC_NAME.to_owned(), name.to_owned()));
    }
    if let Some(inner) = rest.strip_prefix('{') {
        rest = parse_braces(inner, &mut pairs)?;
    } else if name.is_empty() {
        return Err(NotationError::new(format!("{line:?} does not start with a metric")));
    }
    let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
        .map_err(|error| NotationError::new(format!("labels of {line:?}: {error}")))?;
    Ok((labels, rest))
}

/// Parses `a="b", "c.d"="e", "metric"}`.
fn parse_braces<'t>(
    text: &'t str,
    pairs: &mut Vec<(String, String)>,
) -> Result<&'t str, NotationError> {
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = if rest.starts_with('"') {
            take_quoted(rest)?
        } else {
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = take_quoted(after.trim_start())?;
            pairs.push((name, value));
            rest = after.trim_start();
        } else {
            pairs.push((METRIC_NAME.to_owned(), name));
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err(NotationError::new(format!("expected `,` or `}}` at {rest:?}"))),
        }
    }
}

/// Takes a Go string literal, quoted by `"`, `'` or a back quote, off the start of `text`.
pub fn take_quoted(text: &str) -> Result<(String, &str), NotationError> {
    let mut chars = text.char_indices();
    let Some((_, quote @ ('"' | '\'' | '`'))) = chars.next() else {
        return Err(NotationError::new(format!("expected a quoted string at {text:?}")));
    };
    let mut bytes = Vec::new();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let value = String::from_utf8(bytes)
                .map_err(|_| NotationError::new("a string is not UTF-8"))?;
            return Ok((value, &text[at + 1..]));
        }
        if c != '\\' || quote == '`' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some((_, escape)) = chars.next() else { break };
        let mut code = |length: usize| -> Result<u32, NotationError> {
            let digits: String = chars.by_ref().take(length).map(|(_, digit)| digit).collect();
            u32::from_str_radix(&digits, 16)
                .map_err(|error| NotationError::new(format!("escape \\{escape}{digits}: {error}")))
        };
        match escape {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'x' => bytes.push(code(2)? as u8),
            'u' | 'U' => {
                let c = char::from_u32(code(if escape == 'u' { 4 } else { 8 })?)
                    .ok_or_else(|| NotationError::new("an escape is no character"))?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(NotationError::new(format!("the string at {text:?} has no end")))
}

/// Parses values separated by blanks.
pub fn parse_items(text: &str) -> Result<Vec<Item>, NotationError> {
    let mut items = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = if rest.starts_with("{{") {
            histogram_end(rest)?
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        let (item, after) = rest.split_at(end);
        push_item(item, &mut items).map_err(|error| error.within(&format!("value {item:?}")))?;
        rest = after.trim_start();
    }
    Ok(items)
}

/// Where `{{…}}`, `{{…}}xN` or `{{…}}+{{…}}xN` ends. Blanks may stand inside of the braces.
fn histogram_end(text: &str) -> Result<usize, NotationError> {
    let mut end = 0;
    loop {
        end += text[end..].find("}}").ok_or_else(no_end)? + 2;
        match &text.as_bytes()[end..] {
            [b'+' | b'-', b'{', b'{', ..] => end += 1,
            _ => break,
        }
    }
    Ok(end + text[end..].find(char::is_whitespace).unwrap_or(text.len() - end))
}

fn push_item(item: &str, items: &mut Vec<Item>) -> Result<(), NotationError> {
    let (head, repeat) = match item.rsplit_once('x') {
        Some((head, count)) if !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()) => (
            head,
            Some(count.parse::<usize>().map_err(|_| NotationError::new("too many repetitions"))?),
        ),
        _ => (item, None),
    };
    if repeat.is_some_and(|count| count > MAX_REPEAT) {
        return Err(NotationError::new(format!(
            "more than {MAX_REPEAT} repetitions of one value; use a longer interval"
        )));
    }
    let places = items.len() + repeat.map_or(1, |count| count + 1);
    if head == "_" {
        items.resize(items.len() + repeat.unwrap_or(1), Item::Missing);
    } else if head == "stale" {
        items.resize(places, Item::Float(f64::from_bits(STALE_NAN_BITS)));
    } else if head.starts_with("{{") {
        push_histograms(head, places, items)?;
    } else if let Ok(value) = head.parse() {
        items.resize(places, Item::Float(value));
    } else {
        let (mut value, delta) = split_delta(head)?;
        for _ in items.len()..places {
            items.push(Item::Float(value));
            value += delta;
        }
    }
    Ok(())
}

/// Appends `{{…}}`, or `{{…}}+{{…}}` with the second added again and again, up to `places` items.
fn push_histograms(head: &str, places: usize, items: &mut Vec<Item>) -> Result<(), NotationError> {
    let end = head.find("}}").ok_or_else(no_end)? + 2;
    let (first, rest) = head.split_at(end);
    let mut literal = histogram::parse(first)?;
    let subtracts = rest.starts_with('-');
    let step = match rest.get(1..) {
        None | Some("") => None,
        Some(step) => Some(histogram::parse(step)?),
    };
    while items.len() < places {
        items.push(Item::Histogram(literal.clone()));
        if let Some(step) = &step {
            let sum = histogram::add(&literal.histogram, &step.histogram, subtracts)?;
            literal.histogram = Arc::new(sum);
        }
    }
    Ok(())
}

/// Splits `1.5e3-2` into the start and the signed difference.
fn split_delta(text: &str) -> Result<(f64, f64), NotationError> {
    text.char_indices()
        .skip(1)
        .filter(|(_, c)| matches!(c, '+' | '-'))
        .find_map(|(at, _)| Some((text[..at].parse().ok()?, text[at..].parse().ok()?)))
        .ok_or_else(|| NotationError::new(format!("{text:?} is no value")))
}

fn no_end() -> NotationError {
    NotationError::new("a histogram has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<Option<f64>> {
        parse_items(text)
            .expect("test values parse")
            .into_iter()
            .map(|item| match item {
                Item::Float(value) => Some(value),
                Item::Missing | Item::Histogram(_) => None,
            })
            .collect()
    }

    #[test]
    fn sequences_expand() {
        assert_eq!(floats("1 2x2"), [1.0, 2.0, 2.0, 2.0].map(Some));
        assert_eq!(floats("1+2x2"), [1.0, 3.0, 5.0].map(Some));
        assert_eq!(floats("-2-4x1"), [-2.0, -6.0].map(Some));
        assert_eq!(floats("_ _x2 1e-3"), [None, None, None, Some(1e-3)]);
        assert_eq!(floats("1e+2+1x1"), [100.0, 101.0].map(Some));
        assert_eq!(floats("0x3"), [0.0; 4].map(Some));
        assert_eq!(floats("{{count:1 sum:2}}x1 Inf"), [None, None, Some(f64::INFINITY)]);
        assert_eq!(floats("{{sum:1}}+{{buckets:[1 2]}}x2 5"), [None, None, None, Some(5.0)]);
        assert!(parse_items("abc").is_err());
    }

    #[test]
    fn metrics_have_several_forms() {
        let labels = |text: &str| parse_metric(text).expect("test metric parses").0.to_string();
        assert_eq!(labels("up 1"), "up");
        assert_eq!(labels(r#"a:b{c="d\"", e='f'} 1"#), r#"a:b{c="d\"", e="f"}"#);
        assert_eq!(labels(r#"{"my.metric", "x y"="z",} 1"#), r#"{"my.metric", "x y"="z"}"#);
        assert_eq!(labels("{} 1"), "{}");
        assert!(parse_metric("{a=1}").is_err());
    }
}
