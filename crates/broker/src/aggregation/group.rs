//! What is known of one group of series: the sums of a window, and those that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codec::CodecError;
use codec::varint::{put_i64, put_u64, take_i64, take_u64};
use model::{BucketLayout, Histogram, IntegerHistogram, ResetHint, Span};
use net::Chance;
use settings::stream_aggregation::AggregationOutput as Output;

use super::bytes::{put_f64, take_count, take_f64};

/// Values kept of a window for quantiles; of more, a sample of so many.
const MAX_VALUES: usize = 2_000;
/// Different values counted of a window; more count as so many.
const MAX_UNIQUE: usize = 1 << 20;
/// Eight buckets per power of two: each 9 % wider than the one before.
const SCHEMA: i32 = 3;
/// Eight times the exponents of floats, and more.
const MAX_BUCKET: i64 = 1 << 15;
/// Smaller values count as zero, as in histograms of client libraries.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Which of the sums a rule needs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// Whether counters' rises are needed.
    pub(super) counters: bool,
    values: bool,
    unique: bool,
    histogram: bool,
}

impl Needs {
    pub(super) fn of(outputs: &[Output]) -> Needs {
        let mut needs = Needs::default();
        for output in outputs {
            match output {
                Output::Increase
                | Output::IncreasePrometheus
                | Output::Total
                | Output::TotalPrometheus
                | Output::RateAvg
                | Output::RateSum => needs.counters = true,
                Output::Quantiles(_) => needs.values = true,
                Output::UniqueSamples => needs.unique = true,
                Output::HistogramBucket => needs.histogram = true,
                _ => {}
            }
        }
        needs
    }

    /// Whether groups keep more than sums.
    pub(super) fn keeps_values(self) -> bool {
        self.values || self.unique || self.histogram
    }
}

/// One group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// Packed labels: the metric's name and what the rule keeps.
    pub(super) key: Arc<[u8]>,
    /// It is forgotten at the end of the window that ends then.
    pub(super) deadline_ms: i64,
    window: Window,
    total: f64,
    total_prometheus: f64,
    buckets: Buckets,
}

/// The sums of a window.
#[derive(Debug, Clone, PartialEq)]
struct Window {
    samples: u64,
    series: u64,
    sum: f64,
    min: f64,
    max: f64,
    last_ms: i64,
    last: f64,
    /// Welford, "Note on a method for calculating corrected sums of squares and products", 1962.
    mean: f64,
    squares: f64,
    increase: f64,
    increase_prometheus: f64,
    rate: f64,
    rated: u64,
    values: Vec<f64>,
    unique: BTreeSet<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            samples: 0,
            series: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            last_ms: i64::MIN,
            last: 0.0,
            mean: 0.0,
            squares: 0.0,
            increase: 0.0,
            increase_prometheus: 0.0,
            rate: 0.0,
            rated: 0,
            values: Vec::new(),
            unique: BTreeSet::new(),
        }
    }
}

/// A histogram that grows.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    count: u64,
    zero: u64,
    sum: f64,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
}

/// One value of an output.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Float(f64),
    Histogram(Histogram),
}

impl Group {
    pub(super) fn new(key: Arc<[u8]>) -> Group {
        Group {
            key,
            deadline_ms: i64::MIN,
            window: Window::default(),
            total: 0.0,
            total_prometheus: 0.0,
            buckets: Buckets::default(),
        }
    }

    /// Counts a series that has its first sample in this window.
    pub(super) fn count_series(&mut self) {
        self.window.series += 1;
    }

    /// Takes a sample.
    pub(super) fn take(&mut self, needs: Needs, t_ms: i64, value: f64) {
        let window = &mut self.window;
        window.samples += 1;
        window.sum += value;
        window.min = window.min.min(value);
        window.max = window.max.max(value);
        // Of equal times the larger value, as in VictoriaMetrics.
        if t_ms > window.last_ms || (t_ms == window.last_ms && value > window.last) {
            (window.last_ms, window.last) = (t_ms, value);
        }
        let delta = value - window.mean;
        window.mean += delta / window.samples as f64;
        window.squares += delta * (value - window.mean);
        if needs.values {
            window.keep(value);
        }
        if needs.unique && window.unique.len() < MAX_UNIQUE {
            // -0 and 0 are one value.
            window.unique.insert((value + 0.0).to_bits());
        }
        if needs.histogram {
            self.buckets.take(value);
        }
    }

    /// Takes by how much a counter rose, with and without its first sample.
    pub(super) fn rise(&mut self, with_first: f64, without_first: f64) {
        self.window.increase += with_first;
        self.window.increase_prometheus += without_first;
        self.total += with_first;
        self.total_prometheus += without_first;
    }

    /// Takes the rate of a series over the window.
    pub(super) fn take_rate(&mut self, per_second: f64) {
        self.window.rate += per_second;
        self.window.rated += 1;
    }

    /// Memory that values and buckets take.
    pub(super) fn kept_bytes(&self) -> usize {
        // Leaves of trees are half full at least.
        let unique = 2 * size_of::<u64>() * self.window.unique.len();
        let buckets = self.buckets.positive.len() + self.buckets.negative.len();
        let buckets = 2 * size_of::<(i32, u64)>() * buckets;
        self.window.values.capacity() * size_of::<f64>() + unique + buckets
    }

    /// Whether it has samples in this window.
    pub(super) fn has_samples(&self) -> bool {
        self.window.samples > 0
    }

    /// Shows what an output is at the end of the window: the value of its extra label, if it has
    /// one, and the value. Nothing where there is nothing to say.
    pub(super) fn show(&self, output: &Output, show: &mut dyn FnMut(Option<f64>, Value)) {
        let window = &self.window;
        let has_samples = window.samples > 0;
        let samples = window.samples as f64;
        let mut float = |value| show(None, Value::Float(value));
        match output {
            // What goes on is told in every window until it is forgotten.
            Output::Total => float(self.total),
            Output::TotalPrometheus => float(self.total_prometheus),
            Output::Increase => float(window.increase),
            Output::IncreasePrometheus => float(window.increase_prometheus),
            Output::HistogramBucket => {
                show(None, Value::Histogram(Histogram::Integer(self.buckets.to_histogram())));
            }
            Output::RateSum if window.rated > 0 => float(window.rate),
            Output::RateAvg if window.rated > 0 => float(window.rate / window.rated as f64),
            Output::RateSum | Output::RateAvg => {}
            _ if !has_samples => {}
            Output::Avg => float(window.sum / samples),
            Output::CountSamples => float(samples),
            Output::CountSeries => float(window.series as f64),
            Output::Last => float(window.last),
            Output::Max => float(window.max),
            Output::Min => float(window.min),
            Output::Stddev => float((window.squares / samples).sqrt()),
            Output::Stdvar => float(window.squares / samples),
            Output::SumSamples => float(window.sum),
            Output::UniqueSamples => float(window.unique.len() as f64),
            Output::Quantiles(phis) => {
                let mut sorted = window.values.clone();
                sorted.sort_by(f64::total_cmp);
                for &phi in phis {
                    show(Some(phi), Value::Float(nearest_rank(&sorted, phi)));
                }
            }
        }
    }

    /// Begins the next window.
    pub(super) fn begin_window(&mut self) {
        if self.window.samples > 0 || self.window.rated > 0 || self.window.increase != 0.0 {
            self.window = Window::default();
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let window = &self.window;
        put_i64(out, self.deadline_ms);
        for number in [window.samples, window.series, window.rated] {
            put_u64(out, number);
        }
        put_i64(out, window.last_ms);
        for number in [
            self.total,
            self.total_prometheus,
            window.sum,
            window.min,
            window.max,
            window.last,
            window.mean,
            window.squares,
            window.increase,
            window.increase_prometheus,
            window.rate,
        ] {
            put_f64(out, number);
        }
        put_u64(out, window.values.len() as u64);
        window.values.iter().for_each(|value| put_f64(out, *value));
        put_u64(out, window.unique.len() as u64);
        window.unique.iter().for_each(|bits| put_f64(out, f64::from_bits(*bits)));
        self.buckets.encode(out);
    }

    pub(super) fn decode(key: Arc<[u8]>, input: &mut &[u8]) -> Result<Group, CodecError> {
        let mut group = Group::new(key);
        let window = &mut group.window;
        group.deadline_ms = take_i64(input)?;
        for number in [&mut window.samples, &mut window.series, &mut window.rated] {
            *number = take_number(input)?;
        }
        window.last_ms = take_i64(input)?;
        for number in [
            &mut group.total,
            &mut group.total_prometheus,
            &mut window.sum,
            &mut window.min,
            &mut window.max,
            &mut window.last,
            &mut window.mean,
            &mut window.squares,
            &mut window.increase,
            &mut window.increase_prometheus,
            &mut window.rate,
        ] {
            *number = take_f64(input)?;
        }
        for _ in 0..take_count(input)? {
            window.values.push(take_f64(input)?);
        }
        for _ in 0..take_count(input)? {
            window.unique.insert(take_f64(input)?.to_bits());
        }
        group.buckets = Buckets::decode(input)?;
        Ok(group)
    }
}

impl Window {
    /// Keeps a value for quantiles; where there are too many, each has the same chance to be kept,
    /// by numbers that a replay repeats. Source: Vitter, "Random Sampling with a Reservoir", 1985.
    fn keep(&mut self, value: f64) {
        if self.values.len() < MAX_VALUES {
            return self.values.push(value);
        }
        let place = Chance::new(self.samples).number() % self.samples;
        if let Some(slot) = usize::try_from(place).ok().and_then(|at| self.values.get_mut(at)) {
            *slot = value;
        }
    }
}

impl Buckets {
    fn take(&mut self, value: f64) {
        // No bucket has an infinite value, and counts must add up.
        if !value.is_finite() {
            return;
        }
        self.count += 1;
        self.sum += value;
        if value.abs() <= ZERO_THRESHOLD {
            self.zero += 1;
        } else {
            let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
            *side.entry(bucket_of(value.abs())).or_default() += 1;
        }
    }

    fn to_histogram(&self) -> IntegerHistogram {
        let (positive_spans, positive) = spans(&self.positive);
        let (negative_spans, negative) = spans(&self.negative);
        let layout = BucketLayout {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            positive: positive_spans,
            negative: negative_spans,
            custom_bounds: Vec::new(),
        };
        IntegerHistogram {
            reset_hint: ResetHint::Unknown,
            count: self.count,
            zero_count: self.zero,
            sum: self.sum,
            positive,
            negative,
            layout: Arc::new(layout),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count);
        put_u64(out, self.zero);
        put_f64(out, self.sum);
        for side in [&self.positive, &self.negative] {
            put_u64(out, side.len() as u64);
            for (&index, &count) in side {
                put_i64(out, index.into());
                put_u64(out, count);
            }
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Buckets, CodecError> {
        let mut buckets = Buckets {
            count: take_number(input)?,
            zero: take_number(input)?,
            sum: take_f64(input)?,
            ..Buckets::default()
        };
        for side in [&mut buckets.positive, &mut buckets.negative] {
            for _ in 0..take_count(input)? {
                // No float has a bucket beyond.
                let index = take_i64(input)?.clamp(-MAX_BUCKET, MAX_BUCKET) as i32;
                side.insert(index, take_number(input)?);
            }
        }
        Ok(buckets)
    }
}

/// A count that can be counted on from.
fn take_number(input: &mut &[u8]) -> Result<u64, CodecError> {
    Ok(take_u64(input)?.min(u64::MAX / 2))
}

/// Bucket `i` holds values in `(2^((i-1)/8), 2^(i/8)]`.
fn bucket_of(value: f64) -> i32 {
    let layout = BucketLayout { schema: SCHEMA, ..BucketLayout::default() };
    // Within one of the right one: the logarithm is rounded.
    let guess = (value.log2() * 8.0).ceil() as i32;
    match value {
        value if value > layout.bound(guess) => guess + 1,
        value if value <= layout.bound(guess - 1) => guess - 1,
        _ => guess,
    }
}

fn spans(side: &BTreeMap<i32, u64>) -> (Vec<Span>, Vec<u64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for &index in side.keys() {
        match spans.last_mut() {
            Some(span) if index == next => span.len += 1,
            Some(_) => spans.push(Span { offset: index - next, len: 1 }),
            None => spans.push(Span { offset: index, len: 1 }),
        }
        next = index + 1;
    }
    (spans, side.values().copied().collect())
}

/// As VictoriaMetrics computes it. Nothing has no rank: only a state that was damaged behind its checksum has that.
fn nearest_rank(sorted: &[f64], phi: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = (phi * last as f64 + 0.5) as usize;
    sorted[place.min(last)]
}
