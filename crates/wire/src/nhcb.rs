//! Classic histograms to native histograms with custom buckets.
//!
//! Source: Prometheus' scrape option `convert_classic_histograms_to_nhcb` and the cases of its
//! `model/textparse`.

use std::ops::Range;
use std::sync::Arc;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{
    BucketLayout, FloatHistogram, Histogram, IntegerHistogram, METRIC_NAME, MetricType, Span,
};

use crate::text_entry::{Entry, HistogramSeries, RawExemplar, RawLabel, RawSeries, Series};
use crate::text_lex::go_quote;

/// Empty buckets that may stand between two others of a converted histogram before its layout has
/// a gap there.
const MAX_EMPTY: u32 = 2;

/// Passes entries of an exposition on, one native histogram in place of the series of each classic
/// one.
///
/// The series of a histogram must stand together and behind the `TYPE` line of their family. A
/// histogram that has native buckets already is left alone, and so are its classic series.
#[derive(Debug)]
pub struct Converter {
    keeps_classic: bool,
    family: String,
    kind: MetricType,
    state: State,
    /// The series at hand.
    candidate: Written,
    /// What the series of the histogram at hand have in common.
    common: Written,
    counts: ClassicCounts,
    timestamp_ms: Option<i64>,
    start_timestamp_ms: Option<i64>,
    exemplars: Vec<RawExemplar>,
    exemplar_labels: Vec<RawLabel>,
}

/// What the converter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing.
    Idle,
    /// Series of one classic histogram are being collected.
    Collecting,
    /// A native histogram came; classic series with its labels are not converted.
    Inhibited,
}

/// Labels in a buffer: the name apart, `le` left out, sorted by name.
#[derive(Debug, Default)]
struct Written {
    text: Vec<u8>,
    name: Range<usize>,
    /// The histogram's name, which `name` begins with.
    base: Range<usize>,
    labels: Vec<RawLabel>,
    bound: Option<Range<usize>>,
    spans: Vec<RawLabel>,
}

/// Which part of a classic histogram a series is.
#[derive(Debug, Clone, Copy)]
enum Part {
    Bucket(f64),
    Count,
    Sum,
}

impl Converter {
    /// A converter at the start of an exposition. `keeps_classic`: classic series are passed on
    /// beside the histogram they are converted to.
    pub fn new(keeps_classic: bool) -> Self {
        Converter {
            keeps_classic,
            family: String::new(),
            kind: MetricType::Unknown,
            state: State::Idle,
            candidate: Written::default(),
            common: Written::default(),
            counts: ClassicCounts::default(),
            timestamp_ms: None,
            start_timestamp_ms: None,
            exemplars: Vec::new(),
            exemplar_labels: Vec::new(),
        }
    }

    /// Takes one entry and shows `visit` what there is in its place: the histogram that ended
    /// before it, if one did, and the entry itself, unless it became part of a histogram.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn push<E>(
        &mut self,
        entry: Entry<'_>,
        mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let becomes_part = match &entry {
            Entry::Series(series) => {
                self.candidate.write(&series.raw);
                let is_other = self.is_other_histogram();
                if is_other {
                    self.end(&mut visit)?;
                }
                (is_other || self.state != State::Inhibited) && self.collect(series)
            }
            Entry::Histogram(series) => {
                self.end(&mut visit)?;
                self.common.write(&series.raw);
                self.common.base = self.common.name.clone();
                self.state = State::Inhibited;
                false
            }
            Entry::Type { metric, kind } => {
                self.end(&mut visit)?;
                metric.as_ref().clone_into(&mut self.family);
                self.kind = *kind;
                false
            }
            Entry::Help { .. } | Entry::Unit { .. } | Entry::Comment(_) => {
                self.end(&mut visit)?;
                false
            }
        };
        if becomes_part && !self.keeps_classic { Ok(()) } else { visit(entry) }
    }

    /// Shows `visit` the histogram that the end of the exposition ends.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn finish<E>(
        &mut self,
        mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.end(&mut visit)
    }

    /// Whether the series at hand has other labels than the histogram before it.
    fn is_other_histogram(&self) -> bool {
        self.state != State::Idle
            && (self.kind != MetricType::Histogram
                || self.candidate.base() != self.common.base()
                || !self.candidate.has_labels_of(&self.common))
    }

    /// Adds the series at hand to a histogram, if it is part of one.
    fn collect(&mut self, series: &Series<'_>) -> bool {
        let Some(part) = self.part() else { return false };
        if self.state != State::Collecting {
            self.state = State::Collecting;
            self.counts = ClassicCounts::default();
            self.exemplars.clear();
            self.exemplar_labels.clear();
            std::mem::swap(&mut self.common, &mut self.candidate);
            self.timestamp_ms = series.timestamp_ms;
            self.start_timestamp_ms = series.start_timestamp_ms;
        }
        if let Some(exemplar) = &series.exemplar {
            let start = self.exemplar_labels.len();
            exemplar.write_labels(&mut self.common.text, &mut self.exemplar_labels);
            self.exemplars.push(RawExemplar {
                labels: start..self.exemplar_labels.len(),
                value: exemplar.value,
                timestamp_ms: exemplar.timestamp_ms,
            });
        }
        self.counts.add(part, series.value);
        true
    }

    /// Which part of a histogram of the family the series at hand is.
    fn part(&self) -> Option<Part> {
        let written = &self.candidate;
        if self.kind != MetricType::Histogram || written.base() != self.family.as_bytes() {
            return None;
        }
        match &written.text[written.base.end..written.name.end] {
            b"_bucket" => self.candidate.bound().map(Part::Bucket),
            b"_count" => Some(Part::Count),
            b"_sum" => Some(Part::Sum),
            _ => None,
        }
    }

    /// Shows `visit` the histogram that was collected, if it is one.
    fn end<E>(&mut self, visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>) -> Result<(), E> {
        if std::mem::replace(&mut self.state, State::Idle) != State::Collecting {
            return Ok(());
        }
        let Some(histogram) = self.counts.convert() else { return Ok(()) };
        let as_written = self.common.write_name();
        visit(Entry::Histogram(HistogramSeries {
            raw: RawSeries {
                input: &self.common.text,
                as_written,
                labels: &self.common.labels,
                name: &self.common.base,
                kind: MetricType::Histogram,
                is_verbatim: true,
            },
            exemplars: &self.exemplars,
            exemplar_labels: &self.exemplar_labels,
            histogram,
            timestamp_ms: self.timestamp_ms,
            start_timestamp_ms: self.start_timestamp_ms,
        }))
    }
}

impl Written {
    fn write(&mut self, series: &RawSeries<'_>) {
        self.text.clear();
        self.spans.clear();
        self.labels.clear();
        series.write_labels(&mut self.text, &mut self.spans);
        (self.name, self.bound) = (0..0, None);
        for span in self.spans.drain(..) {
            match &self.text[span.name.clone()] {
                name if name == METRIC_NAME.as_bytes() => self.name = span.value,
                b"le" => self.bound = Some(span.value),
                _ => self.labels.push(span),
            }
        }
        let text = &self.text;
        self.labels.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        let suffixes: [&[u8]; 3] = [b"_bucket", b"_sum", b"_count"];
        let name = &text[self.name.clone()];
        let suffix = suffixes.into_iter().find(|suffix| name.ends_with(suffix));
        self.base = self.name.start..self.name.end - suffix.map_or(0, <[u8]>::len);
    }

    /// The histogram's name.
    fn base(&self) -> &[u8] {
        &self.text[self.base.clone()]
    }

    fn bound(&self) -> Option<f64> {
        let text = std::str::from_utf8(&self.text[self.bound.clone()?]).ok()?;
        text.parse().ok().filter(|bound: &f64| !bound.is_nan())
    }

    fn has_labels_of(&self, other: &Written) -> bool {
        self.labels.len() == other.labels.len()
            && self.labels.iter().zip(&other.labels).all(|(a, b)| {
                self.text[a.name.clone()] == other.text[b.name.clone()]
                    && self.text[a.value.clone()] == other.text[b.value.clone()]
            })
    }

    /// Appends the histogram's name and labels as text writes them; yields where that is.
    fn write_name(&mut self) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_within(self.base.clone());
        for (index, label) in self.labels.iter().enumerate() {
            self.text.push(if index == 0 { b'{' } else { b',' });
            self.text.extend_from_within(label.name.clone());
            self.text.push(b'=');
            let value = go_quote(&self.text[label.value.clone()]);
            self.text.extend_from_slice(value.as_bytes());
        }
        if !self.labels.is_empty() {
            self.text.push(b'}');
        }
        start..self.text.len()
    }
}

/// The numbers of a classic histogram.
#[derive(Debug, Default)]
struct ClassicCounts {
    /// Upper bound and cumulative count, by ascending bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    /// Something was negative or not cumulative.
    is_broken: bool,
}

impl ClassicCounts {
    fn add(&mut self, part: Part, value: f64) {
        match part {
            Part::Sum => self.sum = value,
            Part::Count | Part::Bucket(_) if value < 0.0 => self.is_broken = true,
            Part::Count => self.count = Some(value),
            Part::Bucket(bound) => self.add_bucket(bound, value),
        }
    }

    fn add_bucket(&mut self, bound: f64, count: f64) {
        let place = self.buckets.partition_point(|(known, _)| *known < bound);
        let (below, above) =
            (place.checked_sub(1).map(|i| self.buckets[i]), self.buckets.get(place));
        if above.is_some_and(|(known, _)| *known == bound) {
            // The first of two wins.
            return;
        }
        self.is_broken |= below.is_some_and(|(_, below)| count < below);
        self.is_broken |= above.is_some_and(|(_, above)| count > *above);
        self.buckets.insert(place, (bound, count));
    }

    /// The native histogram; `None` if the numbers are no histogram.
    fn convert(&mut self) -> Option<Histogram> {
        if self.is_broken {
            return None;
        }
        let count = self.count.or(self.buckets.last().map(|last| last.1))?;
        if self.buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().map(|last| last.1) != Some(count) {
            return None;
        }
        let (_, finite) = self.buckets.split_last()?;
        let layout = Arc::new(BucketLayout {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive: vec![Span { offset: 0, len: self.buckets.len() as u32 }],
            custom_bounds: finite.iter().map(|(bound, _)| *bound).collect(),
            ..BucketLayout::default()
        });
        let is_whole = |count: f64| count.fract() == 0.0 && count.abs() < i64::MAX as f64;
        let counts = self.buckets.iter().map(|(_, count)| *count);
        let histogram = if is_whole(count) && counts.clone().all(is_whole) {
            let mut histogram = IntegerHistogram::empty(layout);
            histogram.count = count as u64;
            histogram.positive = differences(counts.map(|count| count as u64), u64::wrapping_sub);
            histogram.sum = self.sum;
            histogram.compact(MAX_EMPTY);
            Histogram::Integer(histogram)
        } else {
            let mut histogram = FloatHistogram::empty(layout);
            histogram.count = count;
            histogram.positive = differences(counts, |count, before| count - before);
            histogram.sum = self.sum;
            histogram.compact(0);
            Histogram::Float(histogram)
        };
        histogram.validate().is_ok().then_some(histogram)
    }
}

/// Each number less the one before it.
fn differences<N: Copy + Default>(
    cumulative: impl Iterator<Item = N>,
    minus: impl Fn(N, N) -> N,
) -> Vec<N> {
    let mut before = N::default();
    let difference = |count| {
        let difference = minus(count, before);
        before = count;
        difference
    };
    cumulative.map(difference).collect()
}
