//! Structured metadata of a line: names with values, in memory that is used again.

use std::borrow::Cow;

/// Names and values of one line, in ascending order of names, each name once, no value empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    text: String,
    /// Where each name and each value ends.
    ends: Vec<(u32, u32)>,
}

impl Metadata {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |(name, value)| {
            let (from, name, value) = (start, *name as usize, *value as usize);
            start = value;
            (&self.text[from..name], &self.text[name..value])
        })
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Appends a pair whose name is above all others. `write` appends the value, or nothing and yields `false`.
    pub(crate) fn push_with(&mut self, name: &str, write: impl FnOnce(&mut String) -> bool) {
        let start = self.text.len();
        self.text.push_str(name);
        let name_end = self.text.len();
        if write(&mut self.text) && self.text.len() > name_end {
            self.ends.push((name_end as u32, self.text.len() as u32));
        } else {
            self.text.truncate(start);
        }
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.push_with(name, |text| {
            text.push_str(value);
            true
        });
    }
}

/// `pairs` as they are kept: sorted by name; of a name that comes again the first counts; what has no name or
/// no value is not there, as with labels.
pub(crate) fn settled<'p, 'a>(pairs: &'p [(&'a str, &'a str)]) -> Cow<'p, [(&'a str, &'a str)]> {
    // Fast path: who sends the same names with each line sends them in order, or blocks had them.
    let is_full =
        |pairs: &[(&str, &str)]| pairs.iter().all(|(n, v)| !n.is_empty() && !v.is_empty());
    if pairs.is_sorted_by(|a, b| a.0 < b.0) && is_full(pairs) {
        return Cow::Borrowed(pairs);
    }
    let mut out: Vec<(&str, &str)> = pairs.to_vec();
    out.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    // Stable, so that the first of equal names stays the first.
    out.sort_by_key(|(name, _)| *name);
    out.dedup_by_key(|(name, _)| *name);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_settled_and_kept() {
        let out = settled(&[("b", "1"), ("a", ""), ("", "x"), ("b", "2"), ("aa", "3")]);
        assert_eq!(*out, [("aa", "3"), ("b", "1")]);
        assert!(matches!(settled(&out), Cow::Borrowed(_)));
        let mut metadata = Metadata::default();
        out.iter().for_each(|(name, value)| metadata.push(name, value));
        metadata.push_with("c", |_| false);
        metadata.push("d", "");
        assert!(metadata.iter().eq([("aa", "3"), ("b", "1")]));
        assert_eq!((metadata.get("b"), metadata.get("c"), metadata.len()), (Some("1"), None, 2));
        metadata.clear();
        assert!(metadata.is_empty() && metadata.iter().next().is_none());
    }
}
