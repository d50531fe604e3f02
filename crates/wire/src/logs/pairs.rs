//! Names with values, one behind the other in one text: labels, metadata and fields of one line. Its
//! memory is used again for the next one.

use std::ops::Range;

/// Pairs in the order in which they came; a name may come twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    text: String,
    /// Where each name ends and each value; a name begins where the value before it ends.
    ends: Vec<(usize, usize)>,
}

impl Pairs {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// As `push`, of a value that might be no UTF-8: what is none becomes U+FFFD.
    pub(crate) fn push_lossy(&mut self, name: &str, value: &[u8]) {
        self.push(name, &String::from_utf8_lossy(value));
    }

    /// As `push`, of a name that may hold anything, by the rule of [`write_label_name`]. Nothing is
    /// added where no name is left.
    pub(crate) fn push_named(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        write_label_name(name, &mut self.text);
        if self.text.len() > start {
            let name_end = self.text.len();
            self.text.push_str(value);
            self.ends.push((name_end, self.text.len()));
        }
    }

    pub(crate) fn extend(&mut self, other: &Pairs) {
        let start = self.text.len();
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|(name, value)| (name + start, value + start)));
    }

    /// Gives the pair at `index` another value.
    pub(crate) fn set_value(&mut self, index: usize, value: &str) {
        let (_, span) = self.spans(index);
        let grown = |at: usize| at - span.len() + value.len();
        self.ends[index].1 = grown(self.ends[index].1);
        for (name_end, value_end) in &mut self.ends[index + 1..] {
            (*name_end, *value_end) = (grown(*name_end), grown(*value_end));
        }
        self.text.replace_range(span, value);
    }

    /// Keeps the first `len` pairs.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().map_or(0, |(_, end)| *end));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all names and values.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        (0..self.ends.len()).map(|index| self.at(index))
    }

    /// One of the pairs.
    pub(crate) fn at(&self, index: usize) -> (&str, &str) {
        let (name, value) = self.spans(index);
        (&self.text[name], &self.text[value])
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn spans(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (name_end, value_end) = self.ends[index];
        (start..name_end, name_end..value_end)
    }
}

/// Appends `name` as a name of a label: what cannot stand there becomes `_`, and `key_` or `key` goes
/// before a digit or a single `_`, as Loki names structured metadata and attributes of OTLP.
pub(crate) fn write_label_name(name: &str, out: &mut String) {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut first = name.chars().map(plain);
    match (first.next(), first.next()) {
        (Some('0'..='9'), _) => out.push_str("key_"),
        (Some('_'), second) if second != Some('_') => out.push_str("key"),
        _ => {}
    }
    out.extend(name.chars().map(plain));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_their_order() {
        let mut pairs = Pairs::default();
        pairs.push("a", "1");
        pairs.push("", "");
        pairs.push_lossy("b", b"\xff");
        let mut more = Pairs::default();
        more.push_named("c.d", "é");
        more.push_named("", "dropped");
        pairs.extend(&more);
        let all: Vec<_> = pairs.iter().collect();
        assert_eq!(all, [("a", "1"), ("", ""), ("b", "\u{fffd}"), ("c_d", "é")]);
        assert_eq!((pairs.get("b"), pairs.get("x")), (Some("\u{fffd}"), None));
        pairs.set_value(0, "two");
        pairs.set_value(2, "");
        assert_eq!(
            (pairs.at(0), pairs.at(2), pairs.at(3)),
            (("a", "two"), ("b", ""), ("c_d", "é"))
        );
        pairs.set_value(0, "1");
        pairs.truncate(1);
        assert_eq!((pairs.len(), pairs.bytes()), (1, 2));
        pairs.push("z", "9");
        assert_eq!(pairs.at(1), ("z", "9"));
    }

    #[test]
    fn names_become_those_of_labels() {
        for (name, wanted) in [
            ("http.method", "http_method"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__reserved", "__reserved"),
            ("a-é b", "a___b"),
            ("éa", "key_a"),
            ("", ""),
        ] {
            let mut out = String::new();
            write_label_name(name, &mut out);
            assert_eq!(out, wanted, "{name}");
        }
    }
}
