//! Series of several clusters as one selection: equal label sets are one series.
//!
//! In one store the first commit of a time wins. Of clusters there is no order in which they committed,
//! so the order in which they are named stands for it: of two samples of one time, the first cluster's
//! stays, whatever kind they are of, with its own start. So the answer is the same whichever cluster
//! answers first.

use std::cmp::Ordering;
use std::sync::Arc;

use model::Labels;
use promql::{Columns, HistogramSamples, Reads, SeriesSet, SourceError};

use super::budget::Held;
use super::label::ClusterLabel;

/// What a series takes here besides its labels.
const SERIES_BYTES: usize = 24;

/// The series of several answers, which are decoded when they are read.
pub(super) struct MergedSeries<S> {
    parts: Vec<S>,
    /// Of series whose labels are others than those in their part.
    labels: Option<Vec<Labels>>,
    /// Where the places of each series end.
    ends: Vec<u32>,
    /// Part and index in it, by series, in the order of the parts.
    places: Vec<(u16, u32)>,
    _held: Held,
}

impl<S: SeriesSet> MergedSeries<S> {
    /// `label`: what is added to the series of a part.
    ///
    /// # Errors
    /// There is no memory to do so.
    pub(super) fn new(
        parts: Vec<(S, Option<ClusterLabel>)>,
        mut held: Held,
    ) -> Result<Self, SourceError> {
        let rows: usize = parts.iter().map(|(part, _)| part.len()).sum();
        held.grow(SERIES_BYTES * rows)?;
        let mut queues = Vec::with_capacity(parts.len());
        for (part, label) in &parts {
            let queue = match label {
                None => Queue::in_order(part.len()),
                Some(label) => {
                    let own = (0..part.len()).map(|index| part.labels(index));
                    let bytes = |labels: &Labels| labels.as_packed().len() + 64;
                    held.grow(own.clone().map(bytes).sum())?;
                    Queue::sorted(own.map(|labels| label.added_to(labels)))
                }
            };
            queues.push(queue);
        }
        let is_labelled = parts.iter().any(|(_, label)| label.is_some());
        let parts: Vec<S> = parts.into_iter().map(|(part, _)| part).collect();
        let mut merged = MergedSeries {
            parts,
            labels: is_labelled.then(Vec::new),
            ends: Vec::with_capacity(rows),
            places: Vec::with_capacity(rows),
            _held: held,
        };
        merged.fill(&mut queues);
        Ok(merged)
    }

    /// Takes the least label set of all queues, again and again.
    fn fill(&mut self, queues: &mut [Queue]) {
        // Which queues have the least one.
        let mut least: Vec<usize> = Vec::with_capacity(queues.len());
        loop {
            least.clear();
            for at in 0..queues.len() {
                let Some(labels) = queues[at].first(&self.parts[at]) else { continue };
                let before = least.first().and_then(|at| queues[*at].first(&self.parts[*at]));
                match before.map_or(Ordering::Less, |before| labels.cmp(before)) {
                    Ordering::Less => {
                        least.clear();
                        least.push(at);
                    }
                    Ordering::Equal => least.push(at),
                    Ordering::Greater => {}
                }
            }
            let Some(first) = least.first() else { return };
            let Some(labels) = queues[*first].first(&self.parts[*first]).cloned() else { return };
            for at in &least {
                // A label that takes the place of another one may make series of one part equal.
                while queues[*at].first(&self.parts[*at]) == Some(&labels) {
                    self.places.push((*at as u16, queues[*at].take()));
                }
            }
            self.ends.push(self.places.len() as u32);
            if let Some(all) = &mut self.labels {
                all.push(labels);
            }
        }
    }

    fn places_of(&self, index: usize) -> &[(u16, u32)] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.places[start..self.ends[index] as usize]
    }
}

impl<S: SeriesSet> SeriesSet for MergedSeries<S> {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        if let Some(labels) = &self.labels {
            return &labels[index];
        }
        let (part, at) = self.places_of(index)[0];
        self.parts[usize::from(part)].labels(at as usize)
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let read = |(part, at): (u16, u32), out: &mut Columns| {
            self.parts[usize::from(part)].read(at as usize, out)
        };
        let (first, others) = self.places_of(index).split_first().expect("a series is somewhere");
        read(*first, out)?;
        let mut other = Columns::default();
        for place in others {
            other.clear();
            read(*place, &mut other)?;
            add(out, &mut other);
        }
        Ok(())
    }

    fn is_coarse(&self) -> bool {
        self.parts.iter().any(SeriesSet::is_coarse)
    }

    fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        self.parts.iter().for_each(|part| reads.add(part.reads()));
        reads
    }
}

/// Series of a part that are not taken yet.
struct Queue {
    next: usize,
    len: usize,
    /// In this order, with these labels; as they are in the part if there are none.
    sorted: Option<Vec<(Labels, u32)>>,
}

impl Queue {
    fn in_order(len: usize) -> Self {
        Queue { next: 0, len, sorted: None }
    }

    /// Another label may change the order.
    fn sorted(labels: impl Iterator<Item = Labels>) -> Self {
        let mut sorted: Vec<(Labels, u32)> = labels.zip(0..).collect();
        sorted.sort_unstable();
        Queue { next: 0, len: sorted.len(), sorted: Some(sorted) }
    }

    fn first<'a>(&'a self, part: &'a impl SeriesSet) -> Option<&'a Labels> {
        if self.next >= self.len {
            return None;
        }
        match &self.sorted {
            Some(sorted) => sorted.get(self.next).map(|(labels, _)| labels),
            None => Some(part.labels(self.next)),
        }
    }

    fn take(&mut self) -> u32 {
        let at = self.next;
        self.next += 1;
        self.sorted.as_ref().map_or(at as u32, |sorted| sorted[at].1)
    }
}

/// Adds the samples of `other` at times of which `out` has none.
fn add(out: &mut Columns, other: &mut Columns) {
    out.is_coarse |= other.is_coarse;
    let is_behind = |last: Option<&i64>, first: Option<&i64>| match (last, first) {
        (Some(last), Some(first)) => last < first,
        _ => true,
    };
    let is_plain = out.histograms.is_empty() && other.histograms.is_empty();
    // Fast path: a series that moved from one cluster to another.
    if is_plain && is_behind(out.timestamps_ms.last(), other.timestamps_ms.first()) {
        return append(out, other);
    }
    // Both are decided by what `out` had before.
    let histograms = merge_histograms(&out.histograms, &other.histograms, &out.timestamps_ms);
    let floats = merge_floats(out, other, &out.histograms.timestamps_ms);
    (out.timestamps_ms, out.values, out.starts_ms) = floats;
    out.histograms = histograms;
}

fn append(out: &mut Columns, other: &mut Columns) {
    if !out.starts_ms.is_empty() || !other.starts_ms.is_empty() {
        out.starts_ms.resize(out.timestamps_ms.len(), 0);
        out.starts_ms.append(&mut other.starts_ms);
    }
    out.timestamps_ms.append(&mut other.timestamps_ms);
    out.values.append(&mut other.values);
}

/// The order in which samples of two lists of times follow: `true` for the first list's, with the index.
/// Of equal times the first list's alone; of the second none at a time in `taken`.
fn interleave(first: &[i64], second: &[i64], taken: &[i64], mut each: impl FnMut(bool, usize)) {
    let (mut a, mut b, mut t) = (0, 0, 0);
    while a < first.len() || b < second.len() {
        let is_first = b == second.len() || (a < first.len() && first[a] <= second[b]);
        if is_first {
            if b < second.len() && first[a] == second[b] {
                b += 1;
            }
            each(true, a);
            a += 1;
            continue;
        }
        while t < taken.len() && taken[t] < second[b] {
            t += 1;
        }
        if taken.get(t) != Some(&second[b]) {
            each(false, b);
        }
        b += 1;
    }
}

fn start_of(starts_ms: &[i64], index: usize) -> i64 {
    starts_ms.get(index).copied().unwrap_or(0)
}

/// Times, values and starts.
fn merge_floats(out: &Columns, other: &Columns, taken: &[i64]) -> (Vec<i64>, Vec<f64>, Vec<i64>) {
    let most = out.timestamps_ms.len() + other.timestamps_ms.len();
    let (mut times, mut values) = (Vec::with_capacity(most), Vec::with_capacity(most));
    let mut starts = Vec::new();
    let has_starts = !out.starts_ms.is_empty() || !other.starts_ms.is_empty();
    interleave(&out.timestamps_ms, &other.timestamps_ms, taken, |is_first, index| {
        let from = if is_first { out } else { other };
        times.push(from.timestamps_ms[index]);
        values.push(from.values[index]);
        if has_starts {
            starts.push(start_of(&from.starts_ms, index));
        }
    });
    (times, values, starts)
}

fn merge_histograms(
    out: &HistogramSamples,
    other: &HistogramSamples,
    taken: &[i64],
) -> HistogramSamples {
    let mut merged = HistogramSamples::default();
    interleave(&out.timestamps_ms, &other.timestamps_ms, taken, |is_first, index| {
        let from = if is_first { out } else { other };
        let start_ms = start_of(&from.starts_ms, index);
        merged.push_started(
            from.timestamps_ms[index],
            start_ms,
            Arc::clone(&from.histograms[index]),
        );
    });
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use governor::Governor;
    use model::FloatHistogram;

    use super::super::budget::Budget;
    use super::*;

    struct Fake(Vec<(Labels, Columns)>);

    impl SeriesSet for Fake {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn labels(&self, index: usize) -> &Labels {
            &self.0[index].0
        }

        fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
            *out = self.0[index].1.clone();
            Ok(())
        }
    }

    fn held() -> Held {
        let budget = Arc::new(Budget::new(1 << 20, Arc::default()));
        budget.query(Governor::unlimited().account()).hold()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("labels")
    }

    fn floats(samples: &[(i64, f64)], starts_ms: &[i64]) -> Columns {
        Columns {
            timestamps_ms: samples.iter().map(|(t_ms, _)| *t_ms).collect(),
            values: samples.iter().map(|(_, value)| *value).collect(),
            starts_ms: starts_ms.to_vec(),
            ..Columns::default()
        }
    }

    fn all(merged: &MergedSeries<Fake>) -> Vec<(String, Columns)> {
        let read = |index: usize| {
            let mut columns = Columns::default();
            merged.read(index, &mut columns).expect("reads");
            (merged.labels(index).to_string(), columns)
        };
        (0..merged.len()).map(read).collect()
    }

    #[test]
    fn equal_series_are_one_and_the_first_cluster_wins() {
        let first = Fake(vec![
            (labels(&[("a", "1")]), floats(&[(10, 1.0), (30, 3.0)], &[5])),
            (labels(&[("a", "2")]), floats(&[(10, 1.0)], &[])),
        ]);
        let second = Fake(vec![
            (labels(&[("a", "0")]), floats(&[(10, 9.0)], &[])),
            (labels(&[("a", "1")]), floats(&[(10, 9.0), (20, 2.0), (40, 4.0)], &[1, 15, 35])),
            (labels(&[("a", "2")]), floats(&[(20, 2.0)], &[7])),
        ]);
        let merged = MergedSeries::new(vec![(first, None), (second, None)], held()).expect("room");
        assert_eq!(
            all(&merged),
            [
                ("{a=\"0\"}".to_owned(), floats(&[(10, 9.0)], &[])),
                (
                    "{a=\"1\"}".to_owned(),
                    floats(&[(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)], &[5, 15, 0, 35])
                ),
                ("{a=\"2\"}".to_owned(), floats(&[(10, 1.0), (20, 2.0)], &[0, 7])),
            ]
        );
    }

    #[test]
    fn a_label_tells_clusters_apart_and_keeps_the_order() {
        // With `m` in between, the second of these comes first.
        let set = || {
            let of = |pairs: &[(&str, &str)], value| (labels(pairs), floats(&[(1, value)], &[]));
            Fake(vec![of(&[("a", "1")], 1.0), of(&[("a", "1"), ("b", "2")], 2.0)])
        };
        let label =
            |value: &str| Some(ClusterLabel { name: "m".to_owned(), value: value.to_owned() });
        let parts = vec![(set(), label("y")), (set(), label("x"))];
        let merged = MergedSeries::new(parts, held()).expect("room");
        let found: Vec<_> =
            all(&merged).into_iter().map(|(labels, columns)| (labels, columns.values[0])).collect();
        let expected = [
            ("{a=\"1\", b=\"2\", m=\"x\"}", 2.0),
            ("{a=\"1\", b=\"2\", m=\"y\"}", 2.0),
            ("{a=\"1\", m=\"x\"}", 1.0),
            ("{a=\"1\", m=\"y\"}", 1.0),
        ];
        assert_eq!(found, expected.map(|(labels, value)| (labels.to_owned(), value)));
        // A label of a series' own gives way, and what is equal then is one series.
        let own = |value: &str| labels(&[("a", "1"), ("m", value)]);
        let part = Fake(vec![
            (own("p"), floats(&[(1, 1.0)], &[])),
            (own("q"), floats(&[(1, 2.0), (2, 2.0)], &[])),
        ]);
        let merged = MergedSeries::new(vec![(part, label("x"))], held()).expect("room");
        let expected = ("{a=\"1\", m=\"x\"}".to_owned(), floats(&[(1, 1.0), (2, 2.0)], &[]));
        assert_eq!(all(&merged), [expected]);
    }

    #[test]
    fn samples_of_any_kind_are_merged_as_a_map_of_times_would() {
        let mut seed = 7_u64;
        let mut random = move |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % most
        };
        for _ in 0..2_000 {
            // Number of the part, whether it is a histogram, the start.
            let mut expected: BTreeMap<i64, (usize, bool, i64)> = BTreeMap::new();
            let parts: Vec<Columns> = (0..3)
                .map(|part| {
                    let (mut columns, mut t_ms) = (Columns::default(), 0);
                    let has_starts = random(2) == 0;
                    for _ in 0..random(12) {
                        t_ms += 1 + random(4) as i64;
                        let start_ms = if has_starts { random(3) as i64 } else { 0 };
                        let is_histogram = random(3) == 0;
                        if is_histogram {
                            let mut histogram = FloatHistogram::empty(Arc::default());
                            histogram.sum = part as f64;
                            columns.histograms.push_started(t_ms, start_ms, Arc::new(histogram));
                        } else {
                            columns.timestamps_ms.push(t_ms);
                            columns.values.push(part as f64);
                            if has_starts {
                                columns.starts_ms.push(start_ms);
                            }
                        }
                        expected.entry(t_ms).or_insert((part, is_histogram, start_ms));
                    }
                    columns
                })
                .collect();
            let sets = parts.into_iter().map(|one| (Fake(vec![(Labels::empty(), one)]), None));
            let merged = MergedSeries::new(sets.collect(), held()).expect("room");
            let mut out = Columns::default();
            merged.read(0, &mut out).expect("reads");
            assert_eq!(out.timestamps_ms.len(), out.values.len());
            let floats = out
                .timestamps_ms
                .iter()
                .zip(&out.values)
                .enumerate()
                .map(|(at, (t, v))| (*t, (*v as usize, false, start_of(&out.starts_ms, at))));
            let samples = &out.histograms;
            let times = samples.timestamps_ms.iter().zip(&samples.histograms).enumerate();
            let histograms = times.map(|(at, (t_ms, one))| {
                (*t_ms, (one.sum as usize, true, start_of(&samples.starts_ms, at)))
            });
            assert_eq!(floats.chain(histograms).collect::<BTreeMap<_, _>>(), expected);
            assert!(out.timestamps_ms.is_sorted_by(|a, b| a < b));
            assert!(out.histograms.timestamps_ms.is_sorted_by(|a, b| a < b));
        }
    }
}
