//! A label set that rules rewrite, in memory the caller keeps.

use model::regex::Groups;
use model::{LabelError, Labels};

/// A label set under change. Names are unique and not empty, values are not empty.
///
/// All text lies in one string that only grows until [`LabelBuffer::clear`], so changing a label
/// moves nothing and a buffer used for many series stops allocating soon. Lookups walk the
/// labels: sets have about ten.
#[derive(Debug, Clone, Default)]
pub struct LabelBuffer {
    text: String,
    /// Labels as they were loaded, then those set since, as Prometheus orders them: `labelmap`
    /// lets the last of two labels win that map to one name.
    entries: Vec<Entry>,
    /// How many entries at the front were loaded.
    loaded: usize,
    pub(super) scratch: Scratch,
}

/// One label; its name and value follow one another in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    start: usize,
    name_len: usize,
    value_len: usize,
}

/// Memory the rules work in.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    pub(super) joined: String,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) groups: Groups,
    pub(super) entries: Vec<Entry>,
}

impl LabelBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all labels and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.loaded = 0;
    }

    /// Replaces the contents by `labels`.
    pub fn load(&mut self, labels: &Labels) {
        self.clear();
        for (name, value) in labels.iter() {
            self.load_label(name, value);
        }
    }

    /// Adds a label that belongs to what the series came with. The caller gives them after
    /// [`LabelBuffer::clear`], by ascending name, each name once; one with an empty name or
    /// value is left out.
    pub fn load_label(&mut self, name: &str, value: &str) {
        if !name.is_empty() && !value.is_empty() {
            let entry = self.append(name, value);
            self.entries.push(entry);
            self.loaded = self.entries.len();
        }
    }

    /// The value of `name`, empty if there is no such label.
    pub fn get(&self, name: &str) -> &str {
        self.position(name).map_or("", |index| self.value_of(&self.entries[index]))
    }

    /// Sets `name` to `value`; an empty value removes the label. An empty name changes nothing.
    pub fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.remove(name);
            return;
        }
        if name.is_empty() {
            return;
        }
        let entry = self.append(name, value);
        match self.position(name) {
            Some(index) if index >= self.loaded => self.entries[index] = entry,
            Some(index) => {
                self.entries.remove(index);
                self.loaded -= 1;
                self.entries.push(entry);
            }
            None => self.entries.push(entry),
        }
    }

    /// Removes `name`, if present.
    pub fn remove(&mut self, name: &str) {
        if let Some(index) = self.position(name) {
            self.remove_at(index);
        }
    }

    /// All labels, in no order the caller should rely on.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (self.name_of(entry), self.value_of(entry)))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the labels in the packed form of [`Labels`], by ascending name.
    pub fn pack_into(&mut self, out: &mut Vec<u8>) {
        let mut sorted = std::mem::take(&mut self.scratch.entries);
        sorted.clear();
        sorted.extend_from_slice(&self.entries);
        sorted.sort_unstable_by(|a, b| self.name_of(a).cmp(self.name_of(b)));
        for entry in &sorted {
            Labels::push_packed(out, self.name_of(entry), self.value_of(entry));
        }
        self.scratch.entries = sorted;
    }

    /// The set as it is now.
    ///
    /// # Errors
    /// Labels loaded with one name twice.
    pub fn to_labels(&self) -> Result<Labels, LabelError> {
        Labels::from_pairs(self.iter())
    }

    /// Removes every label whose name `keep` does not accept.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let mut index = 0;
        while index < self.entries.len() {
            if keep(self.name_of(&self.entries[index])) {
                index += 1;
            } else {
                self.remove_at(index);
            }
        }
    }

    /// The labels as they are now, to be read by [`LabelBuffer::part`] while others are set.
    pub(super) fn snapshot(&self, into: &mut Vec<Entry>) {
        into.clear();
        into.extend_from_slice(&self.entries);
    }

    pub(super) fn name_of(&self, entry: &Entry) -> &str {
        &self.text[entry.start..entry.start + entry.name_len]
    }

    pub(super) fn value_of(&self, entry: &Entry) -> &str {
        let start = entry.start + entry.name_len;
        &self.text[start..start + entry.value_len]
    }

    /// Bytes of memory held, for a test that none is taken again.
    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 7] {
        [
            self.text.capacity(),
            self.entries.capacity(),
            self.scratch.joined.capacity(),
            self.scratch.name.capacity(),
            self.scratch.value.capacity(),
            self.scratch.groups.capacity(),
            self.scratch.entries.capacity(),
        ]
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| self.name_of(entry) == name)
    }

    fn remove_at(&mut self, index: usize) {
        self.entries.remove(index);
        if index < self.loaded {
            self.loaded -= 1;
        }
    }

    fn append(&mut self, name: &str, value: &str) -> Entry {
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(value);
        Entry { start, name_len: name.len(), value_len: value.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_packs() {
        let mut buffer = LabelBuffer::new();
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]).expect("unique names");
        buffer.load(&labels);
        buffer.set("c", "3");
        buffer.set("a", "longer than before");
        buffer.set("b", "");
        buffer.set("", "x");
        assert_eq!((buffer.get("a"), buffer.get("b")), ("longer than before", ""));
        let mut packed = Vec::new();
        buffer.pack_into(&mut packed);
        let back = Labels::from_packed(&packed).expect("own bytes");
        assert_eq!(back, buffer.to_labels().expect("unique names"));
        assert_eq!(back.to_string(), r#"{a="longer than before", c="3"}"#);
        buffer.clear();
        assert!(buffer.is_empty());
    }
}
