//! A line while stages work on it, in memory that is used again for the next one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use model::Labels;

use crate::logs::Entry;

/// Most values that one line may have: lookups walk them.
const MAX_VALUES: usize = 1_024;

/// Sets of labels that are kept to be used again.
const MAX_KEPT_LABELS: usize = 1_024;

/// A line with everything stages know of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) timestamp_ns: i64,
    /// The line; any bytes.
    pub(super) text: Vec<u8>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) offset: u64,
    /// Offsets of lines that were joined to this one.
    pub(super) joined: Vec<u64>,
    /// Labels as they came, which are values as well.
    base: Labels,
    /// Labels as they are, once a stage has changed some.
    labels: LabelSet,
    changed: bool,
    /// What stages found.
    pub(super) values: Values,
}

impl Line {
    /// Takes over what a source filled in. The memory of the line and the metadata changes hands.
    pub(super) fn begin(&mut self, entry: &mut Entry) {
        self.timestamp_ns = entry.timestamp_ns;
        std::mem::swap(&mut self.text, &mut entry.line);
        std::mem::swap(&mut self.metadata, &mut entry.metadata);
        self.tenant = entry.tenant.take();
        self.offset = entry.offset;
        self.joined.clear();
        self.base.clone_from(&entry.labels);
        self.changed = false;
        self.values.clear();
    }

    /// The line as text; broken bytes are U+FFFD.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    pub(super) fn set_text(&mut self, text: &str) {
        self.text.clear();
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A label as it is now.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        if self.changed { self.labels.get(name) } else { self.base.get(name) }
    }

    /// Sets a label. Without a value there is none.
    pub(super) fn set_label(&mut self, name: &str, value: &str) {
        if self.label(name) != Some(value) {
            self.own_labels().set(name, value);
        }
    }

    pub(super) fn remove_label(&mut self, name: &str) {
        if self.label(name).is_some() {
            self.own_labels().set(name, "");
        }
    }

    /// Takes labels away whose names `keep` does not accept.
    pub(super) fn retain_labels(&mut self, keep: impl Fn(&str) -> bool) {
        let mut all = true;
        self.for_each_label(|name, _| all &= keep(name));
        if !all {
            self.own_labels().retain(keep);
        }
    }

    /// Hands over all labels, in no order.
    pub(super) fn for_each_label<'l>(&'l self, mut take: impl FnMut(&'l str, &'l str)) {
        if self.changed {
            for (name, value) in self.labels.iter() {
                take(name, value);
            }
        } else {
            for (name, value) in self.base.iter() {
                take(name, value);
            }
        }
    }

    fn own_labels(&mut self) -> &mut LabelSet {
        if !self.changed {
            self.labels.clear();
            for (name, value) in self.base.iter() {
                self.labels.set(name, value);
            }
            self.changed = true;
        }
        &mut self.labels
    }

    /// Appends what tells the stream of this line from others.
    pub(super) fn stream_key(&self, out: &mut Vec<u8>) {
        if self.changed {
            self.labels.pack(out);
        } else {
            out.extend_from_slice(self.base.as_packed());
        }
    }

    /// The labels as they are now; of sets that were there before, the same memory.
    pub(super) fn finished_labels(&self, kept: &mut KeptLabels) -> Labels {
        if self.changed { kept.labels_of(&self.labels) } else { self.base.clone() }
    }

    /// A value that a stage found, or a label the line came with.
    pub(super) fn value(&self, name: &str) -> Option<Found<'_>> {
        match self.values.get(name) {
            Some(value) if value.kind == Kind::Gone => None,
            Some(value) => Some(Found { text: &value.text, kind: value.kind }),
            None => self.base.get(name).map(|text| Found { text, kind: Kind::Text }),
        }
    }

    /// A value as text; `None` if there is none or it is `null`.
    pub(super) fn value_text(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| value.kind != Kind::Null).map(|value| value.text)
    }

    /// All values that are texts, in the order of their names.
    pub(super) fn sorted_values(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = self.values.iter().collect();
        let own = self.base.iter().filter(|(name, _)| self.values.get(name).is_none());
        all.extend(own);
        all.sort_unstable();
        all
    }

    /// Makes all labels values, as at the start of a pipeline of its own.
    pub(super) fn labels_become_values(&mut self) {
        if self.changed || !self.values.is_empty() {
            let mut values = std::mem::take(&mut self.values);
            self.for_each_label(|name, value| values.set_text(name, value));
            self.values = values;
        }
    }

    /// Adds metadata; of two values the first counts.
    pub(super) fn add_metadata(&mut self, name: &str, value: &str) {
        if !self.metadata.iter().any(|(known, _)| known == name) {
            self.metadata.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Hands over the offsets of all lines that this one was made of.
    pub(super) fn offsets(&self, out: &mut Vec<u64>) {
        out.push(self.offset);
        out.extend_from_slice(&self.joined);
    }

    /// Notes that another line is a part of this one.
    pub(super) fn join_offsets(&mut self, other: &Line) {
        self.joined.push(other.offset);
        self.joined.extend_from_slice(&other.joined);
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Kind {
    #[default]
    Text,
    Number(f64),
    Bool(bool),
    /// It is there, but is nothing.
    Null,
    /// It was taken away, though a label of that name may be there.
    Gone,
}

/// A value of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'l> {
    pub(super) text: &'l str,
    pub(super) kind: Kind,
}

impl Found<'_> {
    /// The value as a number: a duration is its seconds. `None` if it is none.
    pub(super) fn number(&self) -> Option<f64> {
        match self.kind {
            Kind::Number(number) => Some(number),
            Kind::Bool(value) => Some(f64::from(u8::from(value))),
            Kind::Text => parse_number(self.text),
            Kind::Null | Kind::Gone => None,
        }
    }
}

/// A float, or a duration as Go writes it, in seconds.
fn parse_number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !magnitude.ends_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let seconds = logql::pipeline::parse_duration_ns(magnitude).ok()? as f64 / 1e9;
    Some(if negative { -seconds } else { seconds })
}

/// Values by name. Slots are used again, so a line costs no allocation once some were longer.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    slots: Vec<Value>,
    len: usize,
}

#[derive(Debug, Clone, Default)]
struct Value {
    name: String,
    text: String,
    kind: Kind,
}

impl Values {
    fn clear(&mut self) {
        self.len = 0;
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.slots[..self.len].iter().find(|value| value.name == name)
    }

    /// Values that are texts, with their names.
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slots[..self.len]
            .iter()
            .filter(|value| !matches!(value.kind, Kind::Null | Kind::Gone))
            .map(|value| (value.name.as_str(), value.text.as_str()))
    }

    /// The slot of a name, emptied; `None` if there are too many values already.
    fn slot(&mut self, name: &str) -> Option<&mut Value> {
        let at = match self.slots[..self.len].iter().position(|value| value.name == name) {
            Some(at) => at,
            None if self.len == MAX_VALUES => return None,
            None => {
                if self.len == self.slots.len() {
                    self.slots.push(Value::default());
                }
                let value = &mut self.slots[self.len];
                value.name.clear();
                value.name.push_str(name);
                self.len += 1;
                self.len - 1
            }
        };
        let value = &mut self.slots[at];
        value.text.clear();
        Some(value)
    }

    pub(super) fn set_text(&mut self, name: &str, text: &str) {
        if let Some(value) = self.slot(name) {
            value.text.push_str(text);
            value.kind = Kind::Text;
        }
    }

    /// Sets a number that is written as `text`.
    pub(super) fn set_number_as(&mut self, name: &str, number: f64, text: &str) {
        if let Some(value) = self.slot(name) {
            value.text.push_str(text);
            value.kind = Kind::Number(number);
        }
    }

    /// Sets a number, which is written without an exponent.
    pub(super) fn set_number(&mut self, name: &str, number: f64) {
        if let Some(value) = self.slot(name) {
            write!(value.text, "{number}").expect("a string takes everything");
            value.kind = Kind::Number(number);
        }
    }

    pub(super) fn set_bool(&mut self, name: &str, is: bool) {
        if let Some(value) = self.slot(name) {
            value.text.push_str(if is { "true" } else { "false" });
            value.kind = Kind::Bool(is);
        }
    }

    pub(super) fn set_null(&mut self, name: &str) {
        if let Some(value) = self.slot(name) {
            value.kind = Kind::Null;
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(value) = self.slot(name) {
            value.kind = Kind::Gone;
        }
    }
}

/// Labels that stages change. Slots are used again.
#[derive(Debug, Clone, Default)]
struct LabelSet {
    slots: Vec<(String, String)>,
    len: usize,
}

impl LabelSet {
    fn clear(&mut self) {
        self.len = 0;
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.slots[..self.len].iter().filter(|(_, value)| !value.is_empty());
        kept.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: &str) {
        let at = self.slots[..self.len].iter().position(|(known, _)| known == name);
        let at = at.unwrap_or_else(|| {
            if self.len == self.slots.len() {
                self.slots.push(Default::default());
            }
            self.slots[self.len].0.clear();
            self.slots[self.len].0.push_str(name);
            self.len += 1;
            self.len - 1
        });
        self.slots[at].1.clear();
        self.slots[at].1.push_str(value);
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for (name, value) in &mut self.slots[..self.len] {
            if !keep(name) {
                value.clear();
            }
        }
    }

    /// Appends the labels in the form of [`Labels`].
    fn pack(&self, out: &mut Vec<u8>) {
        // Sets have about ten labels: each next one is looked for.
        let mut last: Option<&str> = None;
        loop {
            let behind = self.iter().filter(|(name, _)| last.is_none_or(|last| *name > last));
            let Some((name, value)) = behind.min_by_key(|(name, _)| *name) else { return };
            Labels::push_packed(out, name, value);
            last = Some(name);
        }
    }
}

/// Sets of labels that lines had lately, so that one of them need not be made again.
#[derive(Debug, Default)]
pub(super) struct KeptLabels {
    known: HashMap<Vec<u8>, Labels>,
    packed: Vec<u8>,
}

impl KeptLabels {
    fn labels_of(&mut self, set: &LabelSet) -> Labels {
        self.packed.clear();
        set.pack(&mut self.packed);
        if let Some(labels) = self.known.get(&self.packed) {
            return labels.clone();
        }
        if self.known.len() == MAX_KEPT_LABELS {
            self.known.clear();
        }
        let labels = Labels::from_trusted_packed(&self.packed);
        self.known.insert(self.packed.clone(), labels.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pairs: &[(&str, &str)]) -> Line {
        let labels = Labels::from_pairs(pairs.iter().copied()).expect("valid");
        let mut line = Line::default();
        line.begin(&mut Entry { labels, ..Entry::default() });
        line
    }

    #[test]
    fn labels_change_only_where_a_stage_changes_them() {
        let mut kept = KeptLabels::default();
        let mut line = line(&[("b", "1"), ("a", "2")]);
        line.set_label("b", "1");
        assert!(!line.changed);
        line.set_label("c", "3");
        line.remove_label("a");
        line.set_label("d", "");
        assert_eq!(line.finished_labels(&mut kept).to_string(), r#"{b="1", c="3"}"#);
        assert_eq!(line.value_text("a"), Some("2"), "it is still a value");
        line.retain_labels(|name| name == "c");
        assert_eq!(line.finished_labels(&mut kept).to_string(), r#"{c="3"}"#);
        assert_eq!(kept.known.len(), 2);
    }

    #[test]
    fn values_hide_labels_and_may_be_gone() {
        let mut line = line(&[("a", "label")]);
        line.values.set_number("n", 2.50);
        line.values.set_null("z");
        line.values.remove("a");
        assert_eq!(line.value_text("n"), Some("2.5"));
        assert!(line.value("a").is_none() && line.value("z").is_some());
        assert_eq!(line.value_text("z"), None);
        assert_eq!(line.sorted_values(), [("n", "2.5")]);
        line.values.set_text("a", "again");
        assert_eq!(line.value_text("a"), Some("again"));
    }

    #[test]
    fn numbers_are_floats_and_durations() {
        for (text, want) in [
            ("1.5", Some(1.5)),
            ("0.5ms", Some(0.0005)),
            ("1h", Some(3_600.0)),
            ("-2s", Some(-2.0)),
            ("x", None),
            ("", None),
            ("5 apples", None),
        ] {
            assert_eq!(parse_number(text), want, "{text}");
        }
    }

    #[test]
    fn a_line_has_a_bounded_number_of_values() {
        let mut line = line(&[]);
        for number in 0..MAX_VALUES + 10 {
            line.values.set_text(&number.to_string(), "x");
        }
        assert_eq!(line.sorted_values().len(), MAX_VALUES);
    }
}
