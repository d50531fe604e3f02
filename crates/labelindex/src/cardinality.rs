//! Where the series of a head come from.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::METRIC_NAME;

use crate::memory::MemIndex;

/// A name and how much of something it has.
pub type Counted = (String, u64);

/// Figures of an index. The largest come first, equal ones in order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Distinct pairs of a label name and a value.
    pub label_pairs: u64,
    /// Series per metric name.
    pub series_by_metric: Vec<Counted>,
    /// Distinct values per label name.
    pub values_by_label: Vec<Counted>,
    /// Bytes of the distinct values per label name.
    pub bytes_by_label: Vec<Counted>,
    /// Series per `name=value`.
    pub series_by_pair: Vec<Counted>,
}

impl MemIndex {
    /// Where the series come from; each list has at most `limit` entries. About 20 ns per
    /// distinct pair.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let symbols = &self.symbols;
        let pairs = || (0..).zip(symbols.pairs()).filter(|(_, pair)| pair.live > 0);
        let names = || (0..).zip(symbols.names()).filter(|(_, name)| name.live_values > 0);
        let metric = symbols.name(METRIC_NAME);
        let metrics = pairs().filter(|(_, pair)| Some(pair.name) == metric);
        let value_of = |pair: u32| symbols.value_text(pair).to_owned();
        let name_of = |name: u32| symbols.name_text(name).to_owned();
        let pair_of = |pair: u32| {
            let name = symbols.pairs()[pair as usize].name;
            format!("{}={}", symbols.name_text(name), symbols.value_text(pair))
        };
        let series = |(number, pair): (u32, &crate::symbols::Pair)| (number, pair.live as usize);
        Cardinality {
            series: self.series_count() as u64,
            label_pairs: names().map(|(_, name)| name.live_values as u64).sum(),
            series_by_metric: largest(metrics.map(series), limit, value_of),
            values_by_label: largest(
                names().map(|(n, name)| (n, name.live_values)),
                limit,
                name_of,
            ),
            bytes_by_label: largest(names().map(|(n, name)| (n, name.live_bytes)), limit, name_of),
            series_by_pair: largest(pairs().map(series), limit, pair_of),
        }
    }
}

/// The `limit` largest counts. Of equal counts at the limit, those that appeared first stay.
fn largest(
    counts: impl Iterator<Item = (u32, usize)>,
    limit: usize,
    text_of: impl Fn(u32) -> String,
) -> Vec<Counted> {
    // The smallest of those kept is on top.
    let mut kept: BinaryHeap<Reverse<(usize, Reverse<u32>)>> = BinaryHeap::new();
    for (number, count) in counts {
        kept.push(Reverse((count, Reverse(number))));
        if kept.len() > limit {
            kept.pop();
        }
    }
    let mut all: Vec<Counted> = kept
        .into_iter()
        .map(|Reverse((count, Reverse(number)))| (text_of(number), count as u64))
        .collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn counted(pairs: &[(&str, u64)]) -> Vec<Counted> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn counts_what_is_there_and_the_largest_first() {
        let mut index = MemIndex::new(1);
        for (ordinal, (name, job)) in
            (0..).zip([("up", "a"), ("up", "bb"), ("load", "bb"), ("gone", "gone"), ("load", "c")])
        {
            let pairs = [(METRIC_NAME, name), ("job", job)];
            index.insert(ordinal, &Labels::from_pairs(pairs).expect("test labels are valid"));
        }
        index.remove(3);
        assert_eq!(
            index.cardinality(10),
            Cardinality {
                series: 4,
                label_pairs: 5,
                series_by_metric: counted(&[("load", 2), ("up", 2)]),
                values_by_label: counted(&[("job", 3), ("__name__", 2)]),
                bytes_by_label: counted(&[("__name__", 6), ("job", 4)]),
                series_by_pair: counted(&[
                    ("__name__=load", 2),
                    ("__name__=up", 2),
                    ("job=bb", 2),
                    ("job=a", 1),
                    ("job=c", 1),
                ]),
            }
        );
        let top = index.cardinality(1);
        assert_eq!(top.values_by_label, counted(&[("job", 3)]));
        assert_eq!(top.series_by_metric.len(), 1);
        assert_eq!(top.label_pairs, 5);
    }
}
