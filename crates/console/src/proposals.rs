//! What completes a text: proposals, how they are scored, and places as editors count them.

use std::cmp::Reverse;

use model::{NameSearch, Scorer, SearchAlgorithm, SearchOrder};
use serde::Serialize;

/// A query that is written by hand is far below; each is read to its end for every key.
pub(crate) const MAX_QUERY_BYTES: usize = 128 << 10;

/// What may stand between two places, in UTF-16 units.
#[derive(Serialize)]
pub(crate) struct Proposals {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) items: Vec<Item>,
    pub(crate) has_more: bool,
}

/// Something that may stand at the place.
#[derive(Default, Serialize)]
pub(crate) struct Item {
    pub(crate) label: String,
    pub(crate) kind: &'static str,
    pub(crate) insert: String,
    /// The arguments of a function, the type of a metric.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) help: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) unit: String,
    #[serde(skip)]
    pub(crate) score: f64,
}

/// Names that are alike `word`, the best first.
pub(crate) fn search_for(word: &str, limit: usize) -> NameSearch {
    NameSearch {
        terms: vec![word.to_owned()],
        algorithm: SearchAlgorithm::Subsequence,
        threshold: 0.0,
        folds_case: true,
        order: SearchOrder::Score,
        limit,
    }
}

/// Those that fit `word`, with their scores, in the order in which they come.
pub(crate) fn fitting(word: &str, items: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut scorer = Scorer::new(&search_for(word, 0));
    let fit = |item: Item| Some(Item { score: scorer.score(&item.label)?, ..item });
    items.filter_map(fit).collect()
}

/// Puts the best first; in the order in which they come if nothing is written yet.
pub(crate) fn sort(word: &str, items: &mut [Item]) {
    if !word.is_empty() {
        // Stable: of equals those of the language come before those of the data.
        items.sort_by(|a, b| b.score.total_cmp(&a.score));
        items.sort_by_key(|item| Reverse(item.label == word));
    }
}

/// The byte at which so many UTF-16 units have passed; `None` beyond the end.
pub(crate) fn byte_of(text: &str, units: usize) -> Option<usize> {
    let mut passed = 0;
    for (byte, c) in text.char_indices() {
        if passed >= units {
            return Some(byte);
        }
        passed += c.len_utf16();
    }
    (passed >= units).then_some(text.len())
}

/// The UTF-16 units up to a byte.
pub(crate) fn units_to(text: &str, byte: usize) -> usize {
    text[..byte].chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_editors_do() {
        let text = "a\u{e9}\u{1f600}b";
        assert_eq!([0, 1, 2, 4, 5].map(|units| byte_of(text, units)), [0, 1, 3, 7, 8].map(Some));
        assert_eq!(byte_of(text, 6), None);
        assert_eq!([0, 1, 3, 7, 8].map(|byte| units_to(text, byte)), [0, 1, 2, 4, 5]);
    }
}
