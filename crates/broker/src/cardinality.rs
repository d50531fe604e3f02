//! Where series come from: the numbers behind `/api/v1/status/tsdb`.

use std::collections::{HashMap, HashSet};

use model::{Labels, METRIC_NAME};

/// A name and how much of something it has.
pub type Counted = (String, u64);

/// Counts over the series of a head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Series per metric name, most first.
    pub series_by_metric: Vec<Counted>,
    /// Distinct values per label name, most first.
    pub values_by_label: Vec<Counted>,
    /// Bytes of distinct values per label name, most first.
    pub bytes_by_label: Vec<Counted>,
    /// Series per `name=value`, most first.
    pub series_by_pair: Vec<Counted>,
}

impl Cardinality {
    /// Counts; each list has at most `limit` entries. One pass over all labels.
    pub(crate) fn of(series: &[Labels], limit: usize) -> Self {
        let mut pairs: HashMap<(&str, &str), u64> = HashMap::new();
        let mut metrics: HashMap<&str, u64> = HashMap::new();
        for labels in series {
            for (name, value) in labels.iter() {
                *pairs.entry((name, value)).or_default() += 1;
                if name == METRIC_NAME {
                    *metrics.entry(value).or_default() += 1;
                }
            }
        }
        let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (name, value) in pairs.keys() {
            values.entry(name).or_default().insert(value);
        }
        let bytes = |values: &HashSet<&str>| values.iter().map(|value| value.len() as u64).sum();
        Cardinality {
            series: series.len() as u64,
            label_pairs: pairs.len() as u64,
            series_by_metric: top(metrics.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit),
            values_by_label: top(
                values.iter().map(|(name, set)| ((*name).to_owned(), set.len() as u64)),
                limit,
            ),
            bytes_by_label: top(
                values.iter().map(|(name, set)| ((*name).to_owned(), bytes(set))),
                limit,
            ),
            series_by_pair: top(
                pairs.iter().map(|((name, value), count)| (format!("{name}={value}"), *count)),
                limit,
            ),
        }
    }
}

/// Most first, by name where equal.
fn top(counts: impl Iterator<Item = Counted>, limit: usize) -> Vec<Counted> {
    let mut all: Vec<Counted> = counts.collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(limit);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let labels = |metric: &str, host: &str| {
            Labels::from_pairs([("__name__", metric), ("host", host)]).expect("valid labels")
        };
        let found = Cardinality::of(&[labels("a", "x"), labels("a", "yy"), labels("b", "x")], 1);
        assert_eq!((found.series, found.label_pairs), (3, 4));
        assert_eq!(found.series_by_metric, [("a".to_owned(), 2)]);
        assert_eq!(found.values_by_label, [("__name__".to_owned(), 2)]);
        assert_eq!(found.bytes_by_label, [("host".to_owned(), 3)]);
        assert_eq!(found.series_by_pair, [("__name__=a".to_owned(), 2)]);
    }
}
