//! Labels of samples.

use std::fmt;
use std::sync::Arc;

use codec::varint;

/// A set of labels, sorted by name, names unique. Unlike those of a stream, labels of a sample may
/// be empty: to Loki a label that is empty and one that is absent make two series.
///
/// Packed into one shared byte string, each text behind its length as a varint, so equal sets are
/// equal bytes, and cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SampleLabels(Arc<[u8]>);

impl SampleLabels {
    /// Makes a set of pairs in any order. Of pairs with one name the last counts.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        pairs.sort_by_key(|(name, _)| *name);
        let mut packed = Vec::new();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if pairs.get(index + 1).is_none_or(|(next, _)| next != name) {
                push_packed(&mut packed, name, value);
            }
        }
        SampleLabels(Arc::from(packed))
    }

    /// Takes what [`push_packed`] made of pairs sorted by name.
    pub(super) fn from_packed(packed: &[u8]) -> Self {
        SampleLabels(Arc::from(packed))
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || Some((take_packed(&mut rest)?, take_packed(&mut rest)?)))
    }

    /// The value of a label; `None` if there is none of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The labels that `keep` accepts.
    pub(super) fn filter(&self, keep: impl Fn(&str, &str) -> bool) -> Self {
        let mut packed = Vec::new();
        for (name, value) in self.iter().filter(|(name, value)| keep(name, value)) {
            push_packed(&mut packed, name, value);
        }
        SampleLabels(Arc::from(packed))
    }

    /// The labels with one set to `value`, without any that is empty.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let others = self.iter().filter(|(known, _)| *known != name);
        let all = others.chain([(name, value)]);
        Self::from_pairs(all.filter(|(_, value)| !value.is_empty()))
    }

    /// Whether some label is empty.
    pub(super) fn has_empty(&self) -> bool {
        self.iter().any(|(_, value)| value.is_empty())
    }
}

/// Appends a label in the packed form. The caller keeps names sorted and unique.
pub(super) fn push_packed(packed: &mut Vec<u8>, name: &str, value: &str) {
    varint::put_bytes(packed, name.as_bytes());
    varint::put_bytes(packed, value.as_bytes());
}

/// Takes a text off the front; `None` at the end.
fn take_packed<'p>(rest: &mut &'p [u8]) -> Option<&'p str> {
    let text = varint::take_prefixed(rest).ok()?;
    std::str::from_utf8(text).ok()
}

impl Default for SampleLabels {
    fn default() -> Self {
        SampleLabels(Arc::from([]))
    }
}

impl PartialOrd for SampleLabels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Pair by pair, names before values.
impl Ord for SampleLabels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for SampleLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a selector: `{a="b", c="d"}`.
impl fmt::Display for SampleLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{name}={}", model::quote::quote(value))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_come_back_as_they_were(pairs in prop::collection::btree_map(".*", ".*", 0..5)) {
            let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let labels = SampleLabels::from_pairs(borrowed.clone().rev());
            prop_assert!(labels.iter().eq(borrowed));
        }
    }

    #[test]
    fn empty_values_are_values() {
        let labels = SampleLabels::from_pairs([("b", ""), ("a", "1")]);
        assert_eq!(labels.to_string(), "{a=\"1\", b=\"\"}");
        assert_eq!((labels.get("b"), labels.get("c")), (Some(""), None));
        assert!(labels.has_empty() && labels != SampleLabels::from_pairs([("a", "1")]));
        assert_eq!(labels.with("a", ""), SampleLabels::default());
        assert_eq!(labels.with("c", "2"), SampleLabels::from_pairs([("a", "1"), ("c", "2")]));
    }
}
