//! Where a page of lines ended, so that the next one begins there; and which lines are taken for equal.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::Labels;

use super::refusal::Refusal;

/// A line, told by its place: lines are in order of time, forward or backward, those of one time in ascending order
/// of their streams' labels either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Its time, nanoseconds since the epoch.
    pub(super) t_ns: i64,
    /// Labels of its stream.
    labels: Labels,
    /// Its number among lines of that stream and time, from 1.
    nth: u32,
}

/// What a client sends to get the first page.
const FIRST: &str = "first";

impl Cursor {
    /// What a client sends. `None` for the first page.
    pub(super) fn parse(text: &str) -> Result<Option<Cursor>, Refusal> {
        if text == FIRST {
            return Ok(None);
        }
        let wrong = || {
            Refusal::bad(format!(
                "cursor {} is none: send {FIRST:?}, and then the nextCursor of each answer as it is",
                model::quote::quote(text)
            ))
        };
        let mut parts = text.split('.');
        let (Some(time), Some(nth), Some(labels), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let t_ns = u64::from_str_radix(time, 16).map_err(|_| wrong())?.cast_signed();
        let nth = nth.parse().map_err(|_| wrong())?;
        let packed = from_hex(labels).ok_or_else(wrong)?;
        let labels = Labels::from_packed(&packed).map_err(|_| wrong())?;
        Ok(Some(Cursor { t_ns, labels, nth }))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}.{}.", self.t_ns, self.nth)?;
        self.labels.as_packed().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// The place among the lines that are read.
pub(super) struct Place {
    /// Up to which line everything was yielded before.
    after: Option<Cursor>,
    last: Option<Cursor>,
}

impl Place {
    pub(super) fn new(after: Option<Cursor>) -> Self {
        Place { after, last: None }
    }

    /// Goes to the next line. Yields whether it was not yielded before.
    pub(super) fn pass(&mut self, labels: &Labels, t_ns: i64) -> bool {
        match &mut self.last {
            Some(last) if last.t_ns == t_ns && last.labels == *labels => last.nth += 1,
            last => *last = Some(Cursor { t_ns, labels: labels.clone(), nth: 1 }),
        }
        let Some(after) = self.after.as_ref().filter(|after| after.t_ns == t_ns) else {
            return true;
        };
        let nth = self.last.as_ref().map_or(0, |last| last.nth);
        match labels.cmp(&after.labels) {
            std::cmp::Ordering::Equal => nth > after.nth,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
        }
    }

    /// The line that was read last.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.last.clone()
    }
}

/// Tells a line from others, for a short while and in this process only.
pub(super) fn line_hash(labels: &Labels, t_ns: i64, line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (labels.as_packed(), t_ns, line).hash(&mut hasher);
    hasher.finish()
}

/// Which lines of a stream are taken for equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dedup {
    /// Those that are.
    Exact,
    /// Those that differ in numbers alone.
    Numbers,
    /// Those with the same punctuation and blanks.
    Signature,
}

impl Dedup {
    pub(super) fn parse(text: &str) -> Result<Option<Dedup>, Refusal> {
        match text {
            "none" => Ok(None),
            "exact" => Ok(Some(Dedup::Exact)),
            "numbers" => Ok(Some(Dedup::Numbers)),
            "signature" => Ok(Some(Dedup::Signature)),
            other => Err(Refusal::bad(format!(
                "dedup {} is none of none, exact, numbers, signature",
                model::quote::quote(other)
            ))),
        }
    }

    /// Appends what equal lines have in common.
    pub(super) fn write_key(self, line: &[u8], out: &mut Vec<u8>) {
        match self {
            Dedup::Exact => out.extend_from_slice(line),
            Dedup::Numbers => out.extend(line.iter().filter(|byte| !byte.is_ascii_digit())),
            Dedup::Signature => {
                out.extend(line.iter().filter(|b| b.is_ascii() && !b.is_ascii_alphanumeric()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Labels {
        Labels::from_pairs([("app", app)]).expect("valid")
    }

    #[test]
    fn cursors_are_read_as_they_were_written() {
        for t_ns in [0, -5, i64::MIN, i64::MAX] {
            let cursor = Cursor { t_ns, labels: labels("\u{e9}.x"), nth: 3 };
            assert_eq!(Cursor::parse(&cursor.to_string()), Ok(Some(cursor)));
        }
        assert_eq!(Cursor::parse("first"), Ok(None));
        for bad in ["", "1", "1.2", "x.1.", "1.2.0", "1.2.zz", "1.2.03", "1.2..", "1.2.\u{e9}"] {
            assert!(Cursor::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_yielded_is_passed_over() {
        let forward = [("a", 1), ("a", 2), ("b", 2), ("b", 2), ("c", 2), ("a", 3)];
        let backward = [("a", 3), ("a", 2), ("b", 2), ("b", 2), ("c", 2), ("a", 1)];
        for (lines, is_forward) in [(forward, true), (backward, false)] {
            for yielded in 0..lines.len() {
                let mut first = Place::new(None);
                assert!(lines[..=yielded].iter().all(|(app, t)| first.pass(&labels(app), *t)));
                let mut next = Place::new(first.cursor());
                // As the range of a request does.
                let t_ns = lines[yielded].1;
                let is_asked = |t: i64| if is_forward { t >= t_ns } else { t <= t_ns };
                let rest = lines.iter().filter(|(_, t)| is_asked(*t));
                let taken = rest.filter(|(app, t)| next.pass(&labels(app), *t)).count();
                assert_eq!(taken, lines.len() - yielded - 1, "{is_forward} {yielded}");
            }
        }
    }

    #[test]
    fn lines_are_equal_in_three_ways() {
        let is_equal = |dedup: Dedup, a: &str, b: &str| {
            let key = |line: &str| {
                let mut out = Vec::new();
                dedup.write_key(line.as_bytes(), &mut out);
                out
            };
            key(a) == key(b)
        };
        assert!(is_equal(Dedup::Numbers, "took 12 ms", "took 7 ms"));
        assert!(!is_equal(Dedup::Exact, "took 12 ms", "took 7 ms"));
        assert!(is_equal(Dedup::Signature, "a=b (c)", "x=yy (z1)"));
        assert!(!is_equal(Dedup::Numbers, "a=b (c)", "x=yy (z1)"));
    }
}
