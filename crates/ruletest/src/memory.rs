//! Samples in memory, as plainly as possible, with what Prometheus' storage knows about resets.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{FloatHistogram, Labels, METRIC_NAME, MatchOp, ResetHint};
use promql::{Columns, SelectRequest, SeriesSet, Source, SourceError};

use crate::notation::series::Item;

/// Most samples in all. What a test needs stays far below.
pub const MAX_SAMPLES: usize = 50_000_000;

/// The value of a sample.
#[derive(Debug, Clone)]
pub enum Point {
    /// A number, the marker of staleness included.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl Point {
    /// The value of a place in a sequence, if there is one.
    pub fn of_item(item: &Item) -> Option<Point> {
        match item {
            Item::Missing => None,
            Item::Float(value) => Some(Point::Float(*value)),
            Item::Histogram(literal) => Some(Point::Histogram(Arc::clone(&literal.histogram))),
        }
    }

    fn says_the_same(&self, other: &Point) -> bool {
        match (self, other) {
            (Point::Float(a), Point::Float(b)) => a.to_bits() == b.to_bits(),
            (Point::Histogram(a), Point::Histogram(b)) => a.equals(b),
            _ => false,
        }
    }
}

/// Why a sample was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The series has another value at that time.
    #[error("duplicate sample for timestamp: {0} has another value at {1} ms")]
    Duplicate(Labels, i64),
    /// The series has newer samples already.
    #[error("out of order sample: {0} has samples that are newer than {1} ms")]
    OutOfOrder(Labels, i64),
    /// There are too many.
    #[error("more than {MAX_SAMPLES} samples; use a longer interval or a shorter test")]
    TooMany,
}

#[derive(Debug, Clone)]
struct Sample {
    t_ms: i64,
    /// As it was given.
    given: Point,
    /// With what is known about resets.
    known: Point,
}

#[derive(Debug, Default, Clone)]
struct Series {
    samples: Vec<Sample>,
    /// When samples began at zero, by their times.
    starts: BTreeMap<i64, i64>,
}

impl Series {
    /// Says of each sample from `from` on what storage knows: it starts a new chunk at each reset,
    /// and at whatever it cannot append, and of every sample but the first of a chunk it says that
    /// it is no reset.
    fn settle(&mut self, from: usize) {
        for index in from..self.samples.len() {
            let Point::Histogram(histogram) = &self.samples[index].given else {
                self.samples[index].known = self.samples[index].given.clone();
                continue;
            };
            let before = index.checked_sub(1).map(|before| &self.samples[before].given);
            if histogram.reset_hint == ResetHint::Gauge {
                self.samples[index].known = Point::Histogram(Arc::clone(histogram));
                continue;
            }
            let mut known = FloatHistogram::clone(histogram);
            known.reset_hint = match before {
                Some(Point::Histogram(before)) if continues(histogram, before) => {
                    ResetHint::NoReset
                }
                _ => ResetHint::Unknown,
            };
            self.samples[index].known = Point::Histogram(Arc::new(known));
        }
    }
}

/// Whether a histogram can be appended to a chunk that ends with `before`.
fn continues(histogram: &FloatHistogram, before: &FloatHistogram) -> bool {
    let mut counter = histogram.clone();
    if counter.reset_hint == ResetHint::NoReset {
        // Storage looks for itself.
        counter.reset_hint = ResetHint::Unknown;
    }
    let layouts = (&histogram.layout, &before.layout);
    before.reset_hint != ResetHint::Gauge
        && !before.is_stale()
        && (histogram.is_stale()
            || (layouts.0.has_same_bounds(layouts.1) && !counter.is_reset_since(before)))
}

/// Series by name and labels.
#[derive(Debug, Default)]
pub struct MemorySource {
    series: BTreeMap<String, BTreeMap<Labels, Series>>,
    count: usize,
}

impl MemorySource {
    /// No samples at all.
    pub fn new() -> Self {
        Self::default()
    }

    fn series_mut(&mut self, labels: &Labels) -> &mut Series {
        let name = labels.metric_name().unwrap_or_default();
        if !self.series.contains_key(name) {
            self.series.insert(name.to_owned(), BTreeMap::new());
        }
        let of_name = self.series.get_mut(name).expect("it was just made if it was not there");
        of_name.entry(labels.clone()).or_default()
    }

    /// Makes a series that has no samples yet.
    pub fn define(&mut self, labels: &Labels) {
        self.series_mut(labels);
    }

    /// Takes a sample of any time.
    ///
    /// # Errors
    /// The series has another value at that time; there are too many samples.
    pub fn insert(&mut self, labels: &Labels, t_ms: i64, point: Point) -> Result<(), InsertError> {
        if self.count >= MAX_SAMPLES {
            return Err(InsertError::TooMany);
        }
        let series = self.series_mut(labels);
        let at = series.samples.partition_point(|sample| sample.t_ms < t_ms);
        if let Some(known) = series.samples.get(at).filter(|sample| sample.t_ms == t_ms) {
            if known.given.says_the_same(&point) {
                return Ok(());
            }
            return Err(InsertError::Duplicate(labels.clone(), t_ms));
        }
        series.samples.insert(at, Sample { t_ms, known: point.clone(), given: point });
        series.settle(at);
        self.count += 1;
        Ok(())
    }

    /// Takes a sample that is not older than the last one of its series, as Prometheus' storage
    /// does.
    ///
    /// # Errors
    /// It is older; the series has another value at that time; there are too many samples.
    pub fn append(&mut self, labels: &Labels, t_ms: i64, point: Point) -> Result<(), InsertError> {
        let last_ms = self.series_mut(labels).samples.last().map(|sample| sample.t_ms);
        if last_ms.is_some_and(|last_ms| last_ms > t_ms) {
            return Err(InsertError::OutOfOrder(labels.clone(), t_ms));
        }
        self.insert(labels, t_ms, point)
    }

    /// Says when a sample began at zero.
    pub fn set_start(&mut self, labels: &Labels, t_ms: i64, start_ms: i64) {
        self.series_mut(labels).starts.insert(t_ms, start_ms);
    }

    /// All series with their samples, by name and labels.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, impl Iterator<Item = (i64, &Point)>)> {
        let all = self.series.values().flatten();
        all.map(|(labels, series)| {
            (labels, series.samples.iter().map(|sample| (sample.t_ms, &sample.known)))
        })
    }
}

impl Source for MemorySource {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let by_name =
            request.matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal);
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let mut selected = Selected::default();
        let mut take = |of_name: &BTreeMap<Labels, Series>| {
            for (labels, series) in of_name.iter().filter(|(labels, _)| matches(labels)) {
                let columns = columns(series, request.start_ms, request.end_ms);
                selected.0.push((labels.clone(), columns));
            }
        };
        match by_name {
            Some(matcher) => self.series.get(&matcher.value).into_iter().for_each(&mut take),
            None => self.series.values().for_each(&mut take),
        }
        selected.0.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Arc::new(selected))
    }
}

fn columns(series: &Series, start_ms: i64, end_ms: i64) -> Columns {
    let mut columns = Columns::default();
    let from = series.samples.partition_point(|sample| sample.t_ms < start_ms);
    for sample in series.samples[from..].iter().take_while(|sample| sample.t_ms <= end_ms) {
        let start_ms = series.starts.get(&sample.t_ms).copied().unwrap_or(0);
        match &sample.known {
            Point::Float(value) => {
                columns.timestamps_ms.push(sample.t_ms);
                columns.values.push(*value);
                if !series.starts.is_empty() {
                    columns.starts_ms.push(start_ms);
                }
            }
            Point::Histogram(histogram) => {
                columns.histograms.push_started(sample.t_ms, start_ms, Arc::clone(histogram));
            }
        }
    }
    columns
}

#[derive(Debug, Default)]
struct Selected(Vec<(Labels, Columns)>);

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.0[index].0
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        out.clone_from(&self.0[index].1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_in_order_once() {
        let labels = Labels::from_pairs([("__name__", "a")]).expect("a test's labels");
        let mut memory = MemorySource::new();
        assert_eq!(memory.append(&labels, 10, Point::Float(1.0)), Ok(()));
        assert_eq!(memory.append(&labels, 10, Point::Float(1.0)), Ok(()));
        let twice = memory.append(&labels, 10, Point::Float(2.0));
        assert_eq!(twice, Err(InsertError::Duplicate(labels.clone(), 10)));
        let late = memory.append(&labels, 9, Point::Float(2.0));
        assert_eq!(late, Err(InsertError::OutOfOrder(labels.clone(), 9)));
        assert_eq!(memory.insert(&labels, 9, Point::Float(2.0)), Ok(()));
        let times: Vec<i64> =
            memory.iter().flat_map(|(_, samples)| samples.map(|sample| sample.0)).collect();
        assert_eq!(times, [9, 10]);
    }
}
