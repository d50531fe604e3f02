//! Lists of several clusters as one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::{CensusEntry, CensusOrder, CensusReport, Labels, MetricMetadata, SeriesExemplars};

use super::label::ClusterLabel;
use crate::data::{Cardinality, Counted};

/// What is in any of `lists`, once and in order, at most `limit`.
pub(super) fn united<T: Ord>(lists: Vec<Vec<T>>, limit: usize) -> Vec<T> {
    let mut all: Vec<T> = lists.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(limit);
    all
}

/// Labels with the label of their cluster.
pub(super) fn labelled(all: &mut [Labels], label: &ClusterLabel) {
    for one in all {
        *one = label.added_to(one);
    }
}

/// The exemplars of each series in order of time, those that say the same once.
pub(super) fn exemplars(lists: Vec<Vec<SeriesExemplars>>) -> Vec<SeriesExemplars> {
    if lists.len() == 1 {
        return lists.into_iter().flatten().collect();
    }
    let mut by_labels: BTreeMap<Labels, Vec<model::Exemplar>> = BTreeMap::new();
    for series in lists.into_iter().flatten() {
        by_labels.entry(series.labels).or_default().extend(series.exemplars);
    }
    let merged = by_labels.into_iter().map(|(labels, mut exemplars)| {
        exemplars.sort_by(model::Exemplar::order);
        exemplars.dedup_by(|later, earlier| later.repeats(earlier));
        SeriesExemplars { labels, exemplars }
    });
    merged.collect()
}

/// Families by name; what the first cluster that knows one says of it.
pub(super) fn families(lists: Vec<Vec<MetricMetadata>>) -> Vec<MetricMetadata> {
    let mut all: Vec<MetricMetadata> = lists.into_iter().flatten().collect();
    // Stable, so that the first one stays the first.
    all.sort_by(|a, b| a.metric.cmp(&b.metric));
    all.dedup_by(|later, earlier| later.metric == earlier.metric);
    all
}

/// Figures added up: what is in several clusters counts several times, since nobody compares them.
pub(super) fn cardinality(
    parts: Vec<(Cardinality, Option<ClusterLabel>)>,
    limit: usize,
) -> Cardinality {
    if let [(_, None)] = &parts[..] {
        return parts.into_iter().map(|(one, _)| one).next().unwrap_or_default();
    }
    let mut sum =
        Cardinality { min_time_ms: i64::MAX, max_time_ms: i64::MIN, ..Cardinality::default() };
    for (mut one, label) in parts {
        if let Some(ClusterLabel { name, value }) = label {
            one.label_pairs += 1;
            one.series_by_pair.push((format!("{name}={value}"), one.series));
            one.values_by_label.push((name.clone(), 1));
            one.bytes_by_label.push((name, value.len() as u64));
        }
        sum.series += one.series;
        sum.label_pairs += one.label_pairs;
        sum.chunks += one.chunks;
        sum.min_time_ms = sum.min_time_ms.min(one.min_time_ms);
        sum.max_time_ms = sum.max_time_ms.max(one.max_time_ms);
        for (all, mut list) in [
            (&mut sum.series_by_metric, one.series_by_metric),
            (&mut sum.values_by_label, one.values_by_label),
            (&mut sum.bytes_by_label, one.bytes_by_label),
            (&mut sum.series_by_pair, one.series_by_pair),
        ] {
            all.append(&mut list);
        }
    }
    for list in [
        &mut sum.series_by_metric,
        &mut sum.values_by_label,
        &mut sum.bytes_by_label,
        &mut sum.series_by_pair,
    ] {
        *list = most(std::mem::take(list), limit);
    }
    sum
}

/// Equal names as one, most first.
fn most(list: Vec<Counted>, limit: usize) -> Vec<Counted> {
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in list {
        *by_name.entry(name).or_default() += count;
    }
    let mut list: Vec<Counted> = by_name.into_iter().collect();
    list.sort_by_key(|(_, count)| Reverse(*count));
    list.truncate(limit);
    list
}

/// As [`cardinality`]. `focus`: the label whose values are counted.
pub(super) fn census(
    parts: Vec<(CensusReport, Option<ClusterLabel>)>,
    limit: usize,
    order: CensusOrder,
    focus: Option<&str>,
) -> CensusReport {
    if let [(_, None)] = &parts[..] {
        return parts.into_iter().map(|(one, _)| one).next().unwrap_or_default();
    }
    let mut sum = CensusReport::default();
    for (mut one, label) in parts {
        if let Some(label) = label {
            tell(&mut one, label, focus);
        }
        add(&mut sum.series, &one.series);
        add(&mut sum.label_pairs, &one.label_pairs);
        for (all, list) in lists(&mut sum).into_iter().zip(lists(&mut one)) {
            all.append(list);
        }
    }
    for list in lists(&mut sum) {
        *list = largest(std::mem::take(list), limit, order);
    }
    sum
}

fn lists(report: &mut CensusReport) -> [&mut Vec<CensusEntry>; 5] {
    let CensusReport { series_by_metric, series_by_label, series_by_pair, values_by_label, .. } =
        report;
    [
        series_by_metric,
        series_by_label,
        series_by_pair,
        values_by_label,
        &mut report.series_by_focus_value,
    ]
}

fn add(sum: &mut CensusEntry, one: &CensusEntry) {
    sum.count += one.count;
    sum.before += one.before;
    sum.new += one.new;
}

/// Puts the label of the cluster into its report: every series of it has that.
fn tell(report: &mut CensusReport, label: ClusterLabel, focus: Option<&str>) {
    let ClusterLabel { name, value } = label;
    let of_all = |name: String| CensusEntry { name, ..report.series.clone() };
    let is_there = |count: u64| u64::from(count > 0);
    let one_value = CensusEntry {
        name: name.clone(),
        count: is_there(report.series.count),
        before: is_there(report.series.before),
        new: u64::from(report.series.count > 0 && report.series.before == 0),
    };
    let (by_label, by_pair) = (of_all(name.clone()), of_all(format!("{name}={value}")));
    if focus == Some(&name) {
        report.series_by_focus_value = vec![of_all(value)];
    }
    add(&mut report.label_pairs, &one_value);
    report.series_by_label.push(by_label);
    report.series_by_pair.push(by_pair);
    report.values_by_label.push(one_value);
}

/// Equal names as one, the largest first.
fn largest(list: Vec<CensusEntry>, limit: usize, order: CensusOrder) -> Vec<CensusEntry> {
    let mut by_name: BTreeMap<String, CensusEntry> = BTreeMap::new();
    for one in list {
        let sum = by_name.entry(one.name.clone()).or_default();
        add(sum, &one);
        sum.name = one.name;
    }
    let mut list: Vec<CensusEntry> =
        by_name.into_values().filter(|one| one.count > 0 || one.before > 0).collect();
    list.sort_by_key(|one| {
        Reverse(match order {
            CensusOrder::Count => (one.count, one.before),
            CensusOrder::New => (one.new, one.count),
            CensusOrder::Change => (one.count.abs_diff(one.before), one.count),
        })
    });
    list.truncate(limit);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, count: u64, before: u64, new: u64) -> CensusEntry {
        CensusEntry { name: name.to_owned(), count, before, new }
    }

    #[test]
    fn figures_are_added_up_and_the_label_is_among_them() {
        let report = |count| CensusReport {
            series: entry("", count, 0, count),
            label_pairs: entry("", 2, 0, 2),
            series_by_metric: vec![entry("up", count, 0, count)],
            ..CensusReport::default()
        };
        let label = |value: &str| {
            Some(ClusterLabel { name: "cluster".to_owned(), value: value.to_owned() })
        };
        let order = CensusOrder::Count;
        let sum = census(vec![(report(3), None), (report(4), None)], 10, order, None);
        assert_eq!(sum.series, entry("", 7, 0, 7));
        assert_eq!(sum.series_by_metric, [entry("up", 7, 0, 7)]);
        let parts = vec![(report(3), label("a")), (report(4), label("b"))];
        let sum = census(parts, 10, order, Some("cluster"));
        assert_eq!(sum.label_pairs, entry("", 6, 0, 6));
        assert_eq!(sum.series_by_label, [entry("cluster", 7, 0, 7)]);
        assert_eq!(sum.series_by_focus_value, [entry("b", 4, 0, 4), entry("a", 3, 0, 3)]);
        assert_eq!(sum.values_by_label, [entry("cluster", 2, 0, 2)]);
        let head = |series| Cardinality {
            series,
            min_time_ms: series as i64,
            series_by_metric: vec![("a".to_owned(), series), ("b".to_owned(), 3)],
            ..Cardinality::default()
        };
        let sum = cardinality(vec![(head(1), None), (head(2), None)], 1);
        assert_eq!((sum.series, sum.min_time_ms), (3, 1));
        assert_eq!(sum.series_by_metric, [("b".to_owned(), 6)]);
    }

    #[test]
    fn names_are_once_and_the_first_cluster_says_what_a_family_is() {
        assert_eq!(united(vec![vec!["b", "c"], vec!["a", "b"]], 2), ["a", "b"]);
        let family = |metric: &str, help: &str| MetricMetadata {
            metric: metric.to_owned(),
            help: help.to_owned(),
            ..MetricMetadata::default()
        };
        let first = vec![family("b", "1"), family("d", "1")];
        let found = families(vec![first, vec![family("a", "2"), family("b", "2")]]);
        let found: Vec<_> =
            found.iter().map(|one| (one.metric.as_str(), one.help.as_str())).collect();
        assert_eq!(found, [("a", "2"), ("b", "1"), ("d", "1")]);
    }
}
