//! Which series belong together: `by`, `without`, `on`, `ignoring`.

use model::{Labels, METRIC_NAME};
use rapidhash::RapidHashMap;

/// A choice of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelChoice {
    /// Sorted, without doubles.
    names: Vec<String>,
    /// Whether the names are those to leave out.
    excluding: bool,
}

impl LabelChoice {
    /// Only the labels called `names`.
    pub(crate) fn only(names: &[String]) -> Self {
        Self::new(names, &[], false)
    }

    /// All labels but those called `names` and the metric's name.
    pub(crate) fn without(names: &[String]) -> Self {
        Self::new(names, &[METRIC_NAME], true)
    }

    fn new(names: &[String], more: &[&str], excluding: bool) -> Self {
        let mut names: Vec<String> = names
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        LabelChoice { names, excluding }
    }

    /// Whether every series yields the same.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.excluding && self.names.is_empty()
    }

    pub(crate) fn chooses(&self, name: &str) -> bool {
        let named = self.names.binary_search_by(|probe| probe.as_str().cmp(name)).is_ok();
        named != self.excluding
    }

    /// The chosen labels.
    pub(crate) fn labels(&self, labels: &Labels) -> Labels {
        if self.is_nothing() {
            return Labels::empty();
        }
        labels.filter(|name| self.chooses(name))
    }

    /// Appends bytes that are equal exactly if the chosen labels are.
    pub(crate) fn key(&self, labels: &Labels, out: &mut Vec<u8>) {
        let mut push = |text: &str| {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        if self.excluding {
            for (name, value) in labels.iter().filter(|(name, _)| self.chooses(name)) {
                push(name);
                push(value);
            }
            return;
        }
        // Labels and names are both sorted: one walk over both.
        let mut pairs = labels.iter().peekable();
        for wanted in &self.names {
            while pairs.next_if(|(name, _)| *name < wanted.as_str()).is_some() {}
            // An absent label and an empty one are the same.
            push(pairs.next_if(|(name, _)| name == wanted).map_or("", |(_, value)| value));
        }
    }
}

/// Numbers different keys in the order they are first seen.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    numbers: RapidHashMap<Box<[u8]>, u32>,
    buffer: Vec<u8>,
}

impl Keys {
    /// The number of the key of `labels`, and whether it is new.
    pub(crate) fn number(&mut self, choice: &LabelChoice, labels: &Labels) -> (usize, bool) {
        self.buffer.clear();
        choice.key(labels, &mut self.buffer);
        if let Some(number) = self.numbers.get(self.buffer.as_slice()) {
            return (*number as usize, false);
        }
        let number = self.numbers.len();
        self.numbers.insert(self.buffer.as_slice().into(), number as u32);
        (number, true)
    }

    /// How many different keys there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("(__name__|[a-d])", "[xy]{0,2}", 0..5).prop_map(|pairs| {
            Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
                .expect("names of a map are unique")
        })
    }

    proptest! {
        #[test]
        fn equal_keys_mean_equal_labels(
            a in labels(),
            b in labels(),
            names in proptest::collection::vec("[a-d]", 0..4),
            excluding in any::<bool>(),
        ) {
            let choice = if excluding {
                LabelChoice::without(&names)
            } else {
                LabelChoice::only(&names)
            };
            let key = |labels: &Labels| {
                let mut out = Vec::new();
                choice.key(labels, &mut out);
                out
            };
            prop_assert_eq!(key(&a) == key(&b), choice.labels(&a) == choice.labels(&b));
        }
    }
}
