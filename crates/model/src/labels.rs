//! Label sets, packed into one allocation.

use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: sorted by name, names unique and not empty, values not empty, all UTF-8.
///
/// Stored as one shared byte string, each label as
/// `varint(name length) name varint(value length) value` (LEB128), so equal sets are equal
/// bytes. Cloning costs one atomic add.
/// Order between two sets compares names and values pairwise, as Prometheus' `labels.Compare`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

/// Why bytes or pairs are no label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Two labels bear the same name.
    #[error("duplicate label name {0:?}; every label name may appear once per series")]
    Duplicate(String),
    /// A label has no name.
    #[error("empty label name")]
    EmptyName,
    /// Name or value is not UTF-8, or the packed form is truncated.
    #[error("label is not valid UTF-8 or is truncated")]
    Malformed,
}

impl Labels {
    /// The empty set.
    pub fn empty() -> Self {
        Labels(Arc::from([]))
    }

    /// Builds a set from pairs in any order. Labels with an empty value are left out, as in
    /// Prometheus an empty value means the label is absent.
    ///
    /// # Errors
    /// A duplicate or empty name.
    pub fn from_pairs<'a, I>(pairs: I) -> Result<Self, LabelError>
    where
        I: IntoIterator<Item = (&'a str, &'a str)>,
    {
        let mut sorted: Vec<(&str, &str)> = pairs.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let mut bytes = Vec::with_capacity(sorted.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        let mut previous: Option<&str> = None;
        for (name, value) in sorted {
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if previous == Some(name) {
                return Err(LabelError::Duplicate(name.to_owned()));
            }
            previous = Some(name);
            if !value.is_empty() {
                push_label(&mut bytes, name, value);
            }
        }
        Ok(Labels(Arc::from(bytes)))
    }

    /// Takes packed bytes after checking every invariant of the type. `O(bytes)`.
    ///
    /// # Errors
    /// `Malformed` for truncation, non-UTF-8, wrong order or an empty value; `Duplicate`;
    /// `EmptyName`.
    pub fn from_packed(bytes: &[u8]) -> Result<Self, LabelError> {
        let mut rest = bytes;
        let mut previous: Option<&[u8]> = None;
        while !rest.is_empty() {
            let name = take_string(&mut rest).ok_or(LabelError::Malformed)?;
            let value = take_string(&mut rest).ok_or(LabelError::Malformed)?;
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if std::str::from_utf8(name).is_err()
                || std::str::from_utf8(value).is_err()
                || value.is_empty()
            {
                return Err(LabelError::Malformed);
            }
            match previous {
                Some(before) if before == name => {
                    return Err(LabelError::Duplicate(String::from_utf8_lossy(name).into_owned()));
                }
                Some(before) if before > name => return Err(LabelError::Malformed),
                _ => previous = Some(name),
            }
        }
        Ok(Labels(Arc::from(bytes)))
    }

    /// Takes packed bytes whose invariants the caller has proven, such as labels put together
    /// again from parts that were checked one by one. One copy; only debug builds look at them.
    ///
    /// Bytes that are no label set make later methods panic or answer wrongly; those from outside
    /// go through [`Labels::from_packed`].
    pub fn from_trusted_packed(bytes: &[u8]) -> Self {
        debug_assert!(Labels::from_packed(bytes).is_ok(), "trusted bytes are a label set");
        Labels(Arc::from(bytes))
    }

    /// Appends one label in the packed form, for callers that build many sets into one buffer.
    /// The caller keeps names ascending, unique and not empty, and values not empty.
    pub fn push_packed(out: &mut Vec<u8>, name: &str, value: &str) {
        debug_assert!(!name.is_empty() && !value.is_empty(), "a packed label has both parts");
        push_label(out, name, value);
    }

    /// The packed bytes; see the type for their layout.
    pub fn as_packed(&self) -> &[u8] {
        &self.0
    }

    /// All labels, by ascending name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let name = take_string(&mut rest).expect("packed labels were checked when built");
            let value = take_string(&mut rest).expect("packed labels were checked when built");
            Some((utf8(name), utf8(value)))
        })
    }

    /// The value of `name`, if the label is present.
    pub fn get(&self, name: &str) -> Option<&str> {
        // A linear walk: sets have about ten labels, and the walk stops past the name's place.
        for (candidate, value) in self.iter() {
            match candidate.cmp(name) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// The metric's name, if there is one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Number of labels. `O(bytes)`.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set without the metric's name.
    pub fn without_name(&self) -> Self {
        self.filter(|name| name != METRIC_NAME)
    }

    /// Only the labels whose names `keep` accepts.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len());
        for (name, value) in self.iter() {
            if keep(name) {
                push_label(&mut bytes, name, value);
            }
        }
        if bytes.len() == self.0.len() { self.clone() } else { Labels(Arc::from(bytes)) }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Strings compare as their bytes do, so the packed parts need not be checked as UTF-8;
        // lengths come first in the packed form, so it cannot be compared as a whole.
        let (mut a, mut b) = (self.as_packed(), other.as_packed());
        loop {
            match (take_string(&mut a), take_string(&mut b)) {
                (Some(left), Some(right)) => match left.cmp(right) {
                    std::cmp::Ordering::Equal => {}
                    unequal => return unequal,
                },
                (left, right) => return left.is_some().cmp(&right.is_some()),
            }
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Prints as Prometheus does: `name{a="b", c="d"}`, quoting names that need it.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut braces = false;
        let name = self.metric_name();
        if let Some(name) = name {
            if is_legacy_metric_name(name) {
                f.write_str(name)?;
            } else {
                write!(f, "{{{}", Quoted(name))?;
                braces = true;
                first = false;
            }
        }
        for (label, value) in self.iter().filter(|(label, _)| *label != METRIC_NAME) {
            if !braces {
                f.write_str("{")?;
                braces = true;
            }
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            if is_legacy_label_name(label) {
                write!(f, "{label}={}", Quoted(value))?;
            } else {
                write!(f, "{}={}", Quoted(label), Quoted(value))?;
            }
        }
        if braces {
            f.write_str("}")?;
        } else if name.is_none() {
            f.write_str("{}")?;
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Whether `name` can stand before `{` unquoted: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Whether `name` can stand in front of `=` unquoted: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy_metric_name(name) && !name.contains(':')
}

/// Changes a copy of a label set: set, remove, then `build`.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts from the labels of `labels`.
    pub fn from_labels(labels: &Labels) -> Self {
        LabelsBuilder { pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.remove(name);
        if !value.is_empty() && !name.is_empty() {
            self.pairs.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Removes `name`, if present.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(candidate, _)| candidate != name);
        self
    }

    /// The value `name` has now.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(candidate, _)| candidate == name).map(|(_, v)| v.as_str())
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        Labels::from_pairs(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            .expect("set() keeps names unique and not empty")
    }
}

/// Appends one label in the packed form of [`Labels`]. The caller keeps names sorted.
fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    push_string(out, name.as_bytes());
    push_string(out, value.as_bytes());
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text);
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    let mut shift = 0_u32;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        if shift > 28 {
            return None;
        }
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // One length has one form, so that equal sets are equal bytes.
            if byte == 0 && shift > 0 {
                return None;
            }
            break;
        }
        shift += 7;
    }
    if rest.len() < length {
        return None;
    }
    let (text, tail) = rest.split_at(length);
    *rest = tail;
    Some(text)
}

fn utf8(bytes: &[u8]) -> &str {
    // Checked when built; checking again costs a few ns and keeps this crate free of `unsafe`.
    std::str::from_utf8(bytes).expect("packed labels are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("test labels are valid")
    }

    #[test]
    fn prints_as_prometheus_does() {
        let set = labels(&[("job", "a\"b"), ("__name__", "up"), ("dotted.name", "x")]);
        assert_eq!(set.to_string(), r#"up{"dotted.name"="x", job="a\"b"}"#);
        assert_eq!(labels(&[("__name__", "my.metric")]).to_string(), r#"{"my.metric"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(labels(&[("__name__", "up")]).to_string(), "up");
    }

    #[test]
    fn refuses_duplicates_and_drops_empty_values() {
        assert_eq!(
            Labels::from_pairs([("a", "1"), ("a", "2")]),
            Err(LabelError::Duplicate("a".to_owned()))
        );
        assert_eq!(labels(&[("a", ""), ("b", "1")]), labels(&[("b", "1")]));
    }

    #[test]
    fn packed_bytes_have_one_form() {
        assert_eq!(Labels::from_packed(&[0x81, 0, b'a', 1, b'b']), Err(LabelError::Malformed));
        assert_eq!(Labels::from_packed(&[5, b'a']), Err(LabelError::Malformed));
        assert_eq!(
            Labels::from_packed(&[1, b'b', 1, b'x', 1, b'a', 1, b'x']),
            Err(LabelError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn packed_round_trip(pairs in proptest::collection::btree_map("[a-z.é]{1,200}", "[ -~é]{1,300}", 0..8)) {
            let set = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
                .expect("names are unique");
            prop_assert_eq!(&Labels::from_packed(set.as_packed()).expect("own bytes"), &set);
            let back: Vec<_> = set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn order_is_that_of_pairs(
            a in proptest::collection::btree_map("[ab]{1,3}", "[ab]{1,3}", 0..4),
            b in proptest::collection::btree_map("[ab]{1,3}", "[ab]{1,3}", 0..4),
        ) {
            let set = |pairs: &std::collections::BTreeMap<String, String>| {
                Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
                    .expect("names are unique")
            };
            prop_assert_eq!(set(&a).cmp(&set(&b)), a.iter().cmp(b.iter()));
        }

        #[test]
        fn packed_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(set) = Labels::from_packed(&bytes) {
                let again = Labels::from_pairs(set.iter()).expect("a set is a set");
                prop_assert_eq!(again, set);
            }
        }
    }
}
