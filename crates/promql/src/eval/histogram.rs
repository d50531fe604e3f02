//! `histogram_quantile`, `histogram_fraction`, `histogram_quantiles`: of classic histograms here, of
//! native ones with the help of [`super::native_histogram`].
//!
//! Source: `promql/quantile.go` of Prometheus 3.

use model::{FloatHistogram, Labels, LabelsBuilder};
use std::cmp::Ordering;
use std::collections::HashMap;

use super::calendar;
use super::context::Context;
use super::format::{open_metrics, quoted, shortest, two_digits};
use super::grid::Grid;
use super::histogram_rows;
use super::native_histogram::{self, NanNote};
use super::rows::{ABSENT, Rows, ScalarRow, is_absent};
use crate::ast::Span;
use crate::engine::EvalError;
use crate::value::Annotation;

/// The label that holds a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// Counts that differ by less than this share are taken for equal: they come from adding up the
/// same numbers in different orders.
const SMALL_DELTA: f64 = 1e-12;

/// A cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    upper_bound: f64,
    count: f64,
}

/// What to ask of each histogram.
pub(crate) enum Question {
    /// The φ-quantile.
    Quantile(ScalarRow),
    /// The share of observations between two values.
    Fraction { lower: ScalarRow, upper: ScalarRow },
    /// The φ-quantile, labelled with φ.
    Labelled { label: String, phi: ScalarRow },
}

/// Answers `questions` for each histogram in `input`, whose series are its buckets.
pub(crate) fn evaluate(
    context: &Context<'_>,
    input: &Rows,
    questions: &[Question],
    grid: &Grid,
    span: Span,
) -> Result<Rows, EvalError> {
    let histograms = assemble(context, input, span);
    let steps = input.steps;
    let mut rows = Rows::empty(context, steps)?;
    let mut buckets = Vec::new();
    for question in questions {
        let mut repairs = Repairs::default();
        for histogram in &histograms {
            context.check_cancelled()?;
            rows.reservation.resize((rows.len() + 1).saturating_mul(steps))?;
            rows.labels.push(histogram.labels.clone());
            rows.drop_name.push(true);
            let mut fixed = None;
            let mut remarks = NativeRemarks::default();
            for step in 0..steps {
                histogram.buckets_at(input, step, &mut buckets);
                let value = match histogram.native_at(input, step) {
                    None => question.answer(step, &mut buckets, &mut fixed),
                    Some(_) if !buckets.is_empty() => {
                        remarks.is_mixed = true;
                        ABSENT
                    }
                    Some(native) => question.answer_native(step, native, &mut remarks),
                };
                rows.values.push(value);
            }
            if let Some(fixed) = fixed {
                repairs.note(histogram.labels.metric_name(), fixed);
            }
            remarks.tell(context, histogram, span);
        }
        repairs.tell(context, grid, span);
        if let Question::Labelled { label, phi } = question {
            label_with(&mut rows, histograms.len(), label, phi)?;
        }
    }
    rows.remove_empty();
    Ok(rows)
}

impl Question {
    fn answer(&self, step: usize, buckets: &mut Vec<Bucket>, fixed: &mut Option<Fixed>) -> f64 {
        if buckets.is_empty() {
            return ABSENT;
        }
        match self {
            Question::Quantile(phi) | Question::Labelled { phi, .. } => {
                quantile(phi.at(step), step, buckets, fixed)
            }
            Question::Fraction { lower, upper } => {
                fraction(lower.at(step), upper.at(step), buckets)
            }
        }
    }
}

/// What is worth telling about the native histograms of a series.
#[derive(Debug, Default)]
struct NativeRemarks {
    /// There are classic buckets at the same time.
    is_mixed: bool,
    notes: Vec<NanNote>,
}

impl NativeRemarks {
    fn tell(&self, context: &Context<'_>, histogram: &Histogram, span: Span) {
        let metric = for_metric(histogram.labels.metric_name());
        if self.is_mixed {
            let text = "vector contains a mix of classic and native histograms";
            context.warn(format_args!("{text}{metric}"), span);
        }
        for note in &self.notes {
            context.inform(format_args!("{}{metric}", note.text()), span);
        }
    }
}

impl Question {
    fn answer_native(
        &self,
        step: usize,
        histogram: &FloatHistogram,
        remarks: &mut NativeRemarks,
    ) -> f64 {
        let (value, note) = match self {
            Question::Quantile(phi) | Question::Labelled { phi, .. } => {
                native_histogram::quantile(phi.at(step), histogram)
            }
            Question::Fraction { lower, upper } => {
                native_histogram::fraction(lower.at(step), upper.at(step), histogram)
            }
        };
        if let Some(note) = note
            && !remarks.notes.contains(&note)
        {
            remarks.notes.push(note);
        }
        value
    }
}

/// The series of one histogram.
struct Histogram {
    /// Labels without the bucket's bound.
    labels: Labels,
    /// Upper bound and row of each bucket, by ascending bound.
    buckets: Vec<(f64, u32)>,
    /// The row that has it as a native histogram.
    native: Option<u32>,
}

impl Histogram {
    /// The native histogram at `step`, if it is one.
    fn native_at<'r>(&self, input: &'r Rows, step: usize) -> Option<&'r FloatHistogram> {
        let row = self.native? as usize;
        let found = histogram_rows::at(input.row(row), input.histograms.row(row), step);
        found.map(|histogram| &**histogram)
    }

    fn buckets_at(&self, input: &Rows, step: usize, out: &mut Vec<Bucket>) {
        out.clear();
        for &(upper_bound, row) in &self.buckets {
            let count = input.row(row as usize)[step];
            if !is_absent(count) && !is_native(input, row as usize, step) {
                out.push(Bucket { upper_bound, count });
            }
        }
    }
}

fn is_native(input: &Rows, row: usize, step: usize) -> bool {
    histogram_rows::at(input.row(row), input.histograms.row(row), step).is_some()
}

/// Puts the buckets of each histogram together; what is no bucket is remarked upon.
fn assemble(context: &Context<'_>, input: &Rows, span: Span) -> Vec<Histogram> {
    let mut histograms: Vec<Histogram> = Vec::new();
    let mut number_of: HashMap<Labels, usize> = HashMap::new();
    let mut number = |labels: Labels, histograms: &mut Vec<Histogram>| {
        *number_of.entry(labels).or_insert_with_key(|rest| {
            histograms.push(Histogram { labels: rest.clone(), buckets: Vec::new(), native: None });
            histograms.len() - 1
        })
    };
    for (index, labels) in input.labels.iter().enumerate() {
        if !input.histograms.row(index).is_empty() {
            let number = number(labels.clone(), &mut histograms);
            histograms[number].native = Some(index as u32);
            let is_float =
                |step| !is_absent(input.row(index)[step]) && !is_native(input, index, step);
            if !(0..input.steps).any(is_float) {
                continue;
            }
        }
        let bound = labels.get(BUCKET_LABEL).unwrap_or("");
        let Some(upper_bound) = parse_bound(bound) else {
            context.warn(
                format_args!(
                    "bucket label \"le\" is missing or has a malformed value of {}{}",
                    quoted(bound),
                    for_metric(labels.metric_name())
                ),
                span,
            );
            continue;
        };
        let of = labels.filter(|name| name != BUCKET_LABEL);
        let number = number(of, &mut histograms);
        histograms[number].buckets.push((upper_bound, index as u32));
    }
    for histogram in &mut histograms {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    histograms
}

/// Floats as Go parses them: `+Inf`, `1e-3`, `1_000` not.
fn parse_bound(text: &str) -> Option<f64> {
    if text.trim() != text { None } else { text.parse().ok() }
}

fn for_metric(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" for metric name {}", quoted(name)))
}

/// Labels the last `count` rows with the quantile they hold. φ may change over time, and then
/// each value has rows of its own.
fn label_with(
    rows: &mut Rows,
    count: usize,
    label: &str,
    phi: &ScalarRow,
) -> Result<(), EvalError> {
    let steps = rows.steps;
    let start = rows.len() - count;
    let unlabelled: Vec<Labels> = rows.labels.split_off(start);
    let values: Vec<f64> = rows.values.split_off(start * steps);
    rows.drop_name.truncate(start);
    let mut wanted: Vec<f64> = Vec::new();
    for value in phi.values() {
        if !wanted.iter().any(|known| known.to_bits() == value.to_bits()) {
            wanted.push(*value);
        }
    }
    for value in wanted {
        for (labels, row) in unlabelled.iter().zip(values.chunks_exact(steps.max(1))) {
            rows.reservation.resize((rows.len() + 1).saturating_mul(steps))?;
            let mut builder = LabelsBuilder::from_labels(labels);
            rows.labels.push(builder.set(label, &open_metrics(value)).build());
            rows.drop_name.push(true);
            rows.values.extend(row.iter().enumerate().map(|(step, quantile)| {
                if phi.at(step).to_bits() == value.to_bits() { *quantile } else { ABSENT }
            }));
        }
    }
    Ok(())
}

/// How counts had to be raised to be cumulative.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fixed {
    /// Between which bounds, and by how much at most.
    from: f64,
    to: f64,
    by: f64,
    /// At how many steps, and at which first and last.
    count: usize,
    first_step: usize,
    last_step: usize,
}

impl Fixed {
    /// Takes in a count raised by `by` at `step`.
    fn note(fixed: &mut Option<Fixed>, step: usize, bound: f64, by: f64) {
        let known = fixed.get_or_insert(Fixed {
            from: bound,
            to: bound,
            by,
            count: 0,
            first_step: step,
            last_step: step,
        });
        known.from = known.from.min(bound);
        known.to = known.to.max(bound);
        known.by = known.by.max(by);
        if known.count == 0 || known.last_step != step {
            known.count += 1;
        }
        known.last_step = step;
    }

    fn merge(&mut self, other: Fixed) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.by = self.by.max(other.by);
        self.count += other.count;
        self.first_step = self.first_step.min(other.first_step);
        self.last_step = self.last_step.max(other.last_step);
    }

    fn remark(&self, context: &Context<'_>, name: Option<&str>, grid: &Grid, span: Span) {
        let time = |step| calendar::rfc3339(grid.time_ms(step).div_euclid(1000));
        let note = Annotation::info(
            format_args!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/\
                 #histogram_quantile){}, from buckets {} to {}, with a max diff of {}, \
                 over {} samples from {} to {}",
                for_metric(name),
                shortest(self.from),
                shortest(self.to),
                two_digits(self.by),
                self.count,
                time(self.first_step),
                time(self.last_step),
            ),
            span,
        );
        context.note(|notes| notes.add(note.about_all_steps(true)));
    }
}

/// What had to be fixed in all histograms of each metric. Prometheus tells of them together too,
/// though it counts a sample again with each step that comes after it; here each counts once.
#[derive(Default)]
struct Repairs<'h>(Vec<(Option<&'h str>, Fixed)>);

impl<'h> Repairs<'h> {
    fn note(&mut self, name: Option<&'h str>, fixed: Fixed) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => known.merge(fixed),
            None => self.0.push((name, fixed)),
        }
    }

    fn tell(&self, context: &Context<'_>, grid: &Grid, span: Span) {
        for (name, fixed) in &self.0 {
            fixed.remark(context, *name, grid, span);
        }
    }
}

/// The φ-quantile of a histogram, by linear interpolation within a bucket. `buckets` are sorted
/// by bound, not empty, and are made cumulative here.
fn quantile(phi: f64, step: usize, buckets: &mut Vec<Bucket>, fixed: &mut Option<Fixed>) -> f64 {
    if phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    make_monotonic(buckets, step, fixed);
    let [.., before_last, last] = buckets.as_slice() else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let mut rank = phi * last.count;
    let inner = &buckets[..buckets.len() - 1];
    // Counts may be NaN, so this searches for the first that is large enough as Prometheus does.
    let found =
        inner.partition_point(|bucket| bucket.count.partial_cmp(&rank).is_none_or(Ordering::is_lt));
    if found == inner.len() {
        return before_last.upper_bound;
    }
    let bucket = inner[found];
    if found == 0 && bucket.upper_bound <= 0.0 {
        return bucket.upper_bound;
    }
    let (mut start, mut count) = (0.0, bucket.count);
    if let Some(below) = found.checked_sub(1).map(|below| inner[below]) {
        start = below.upper_bound;
        count -= below.count;
        rank -= below.count;
    }
    start + (bucket.upper_bound - start) * (rank / count)
}

/// The share of observations in `lower..upper`.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let total = buckets.last().map_or(0.0, |last| last.count);
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| rank_of(value, buckets).filter(|rank| *rank <= total).unwrap_or(total);
    (rank(upper) - rank(lower)) / total
}

/// How many observations are below `value`; `None` if it is above all buckets.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let (mut below, mut lower_bound) = (0.0, f64::NEG_INFINITY);
    for bucket in buckets {
        if lower_bound >= value {
            return Some(below);
        }
        if bucket.upper_bound > value {
            return Some(below + (bucket.count - below) * share(value, lower_bound, bucket));
        }
        below = bucket.count;
        lower_bound = bucket.upper_bound;
    }
    None
}

/// Which share of a bucket is below `value`, which lies inside of it.
fn share(value: f64, lower_bound: f64, bucket: &Bucket) -> f64 {
    if lower_bound.is_infinite() && bucket.upper_bound > 0.0 {
        // The lowest bucket is taken to start at 0 when it holds positive values.
        return (value / bucket.upper_bound).max(0.0);
    }
    if lower_bound.is_infinite() {
        return 1.0;
    }
    if bucket.upper_bound.is_infinite() {
        return 0.0;
    }
    (value - lower_bound) / (bucket.upper_bound - lower_bound)
}

/// Adds up buckets with equal bounds.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, earlier| {
        let same = later.upper_bound == earlier.upper_bound;
        if same {
            earlier.count += later.count;
        }
        same
    });
}

/// Raises counts that are smaller than the one before.
fn make_monotonic(buckets: &mut [Bucket], step: usize, fixed: &mut Option<Fixed>) {
    let Some(first) = buckets.first() else { return };
    let mut previous = first.count;
    for bucket in &mut buckets[1..] {
        if nearly_equal(previous, bucket.count) {
            bucket.count = previous;
        } else if bucket.count < previous {
            Fixed::note(fixed, step, bucket.upper_bound, previous - bucket.count);
            bucket.count = previous;
        } else {
            previous = bucket.count;
        }
    }
}

fn nearly_equal(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() / (a.abs() + b.abs()).min(f64::MAX) < SMALL_DELTA
}
