//! A range aggregation: what is counted or measured of the lines of each window.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Labels, MatchOp};

use super::MetricError;
use super::evaluator::EvalOptions;
use super::labels::{SampleLabels, push_packed};
use super::matrix::{Matrix, Series};
use super::required::required_labels;
use super::source::{Entry, MetadataWanted, Request, Run, Sink, Source};
use super::values::{Sample, Window, over_time};
use super::windows::{Steps, Windows};
use crate::compile::range_stages;
use crate::pipeline::{self, Pipeline};
use crate::syntax::ast::{Grouping, RangeAggregation, RangeOp, StageKind};

/// Bytes of a value that is held: a sample, or half of what is counted for a step.
const VALUE_BYTES: usize = 16;
/// Values of which the source is told together.
const COUNTED_AT_ONCE: usize = 4_096;

/// Evaluates an aggregation whose samples get the labels of `grouping`.
pub(super) fn evaluate(
    aggregation: &RangeAggregation,
    grouping: Option<&Grouping>,
    steps: Steps,
    source: &dyn Source,
    options: &EvalOptions,
) -> Result<Matrix, MetricError> {
    let range = &aggregation.range;
    let windows = Windows { steps, length_ns: range.interval, offset_ns: range.offset };
    // Which stages the source has run already, of those in their order. What `unwrap` adds comes behind them.
    let is_done = match source.filters_lines() {
        true => range.log.are_filters_of_stored_lines(),
        false => Vec::new(),
    };
    let is_left = |at: usize| is_done.get(at) != Some(&true);
    let stages = range_stages(range)?.into_iter().enumerate();
    let stages: Vec<_> = stages.filter(|(at, _)| is_left(*at)).map(|(_, stage)| stage).collect();
    let read_by = range.log.ordered_stages().into_iter().enumerate();
    let read_by: Vec<&StageKind> =
        read_by.filter(|(at, _)| is_left(*at)).map(|(_, stage)| &stage.kind).collect();
    let has_filters = is_done.contains(&true);
    let required = grouping.and_then(|grouping| required_labels(range, grouping));
    let pipeline = || {
        let mut pipeline = Pipeline::new(stages.clone(), options.seed);
        pipeline.set_now_ns(options.now_ns);
        pipeline.set_zones(options.zones);
        if let Some(grouping) = grouping {
            pipeline.set_grouping(&compiled(grouping));
            pipeline.set_required(required.as_deref());
        }
        pipeline
    };
    let reads_bytes = matches!(aggregation.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
    let needs_lines = reads_lines(&read_by, reads_bytes);
    let metadata = match (&required, aggregation.op) {
        (_, RangeOp::AbsentOverTime) if range.log.stages.is_empty() && range.unwrap.is_none() => {
            MetadataWanted::Named(&[])
        }
        (Some(labels), _) => MetadataWanted::Named(labels),
        (None, _) => MetadataWanted::All,
    };
    let (after_ns, until_ns) = windows.bounds();
    // A run tells how many lines there are and what they have in common, not what each is worth.
    let takes_runs =
        !needs_lines && !has_filters && metadata != MetadataWanted::All && range.unwrap.is_none();
    let request =
        Request { log: &range.log, after_ns, until_ns, needs_lines, metadata, takes_runs };
    let held = AtomicUsize::new(0);
    let leaf = || Leaf {
        op: aggregation.op,
        windows,
        pipeline: pipeline(),
        options,
        takes_runs,
        needs_lines,
        is_as_stored: stages.is_empty(),
        numbers: HashMap::new(),
        series: Vec::new(),
        stream: Labels::empty(),
        of_stream: None,
        held: 0,
        counted: 0,
        held_by_all: &held,
        source,
        key: Key::default(),
    };
    let mut whole = leaf();
    // Lines of counters are told by few runs.
    let others = if takes_runs { 0 } else { source.width().saturating_sub(1) };
    if others == 0 {
        source.read(&request, &mut whole)?;
        return Ok(whole.finish(aggregation));
    }
    let mut others: Vec<Leaf<'_>> = (0..others).map(|_| leaf()).collect();
    let mut sinks: Vec<&mut (dyn Sink + Send)> = vec![&mut whole];
    sinks.extend(others.iter_mut().map(|leaf| leaf as &mut (dyn Sink + Send)));
    source.read_parts(&request, &mut sinks)?;
    others.into_iter().for_each(|leaf| whole.append(leaf));
    Ok(whole.finish(aggregation))
}

fn compiled(grouping: &Grouping) -> pipeline::Grouping {
    if grouping.without {
        pipeline::Grouping::Without(grouping.labels.clone())
    } else {
        pipeline::Grouping::By(grouping.labels.clone())
    }
}

/// Whether some stage reads lines, or somebody reads what a stage made of them.
fn reads_lines(stages: &[&StageKind], reads_bytes: bool) -> bool {
    stages.iter().any(|kind| kind.reads_line())
        || reads_bytes && stages.iter().any(|kind| kind.changes_line())
}

/// What is held of a series.
enum Held {
    /// How many more lines, and bytes, each step has than the one before it. Windows that overlap
    /// cost a line nothing more.
    Counts(Vec<(i64, i64)>),
    /// Values of lines.
    Samples(Vec<Sample>),
}

struct Leaf<'e> {
    op: RangeOp,
    windows: Windows,
    pipeline: Pipeline,
    options: &'e EvalOptions,
    takes_runs: bool,
    needs_lines: bool,
    /// Whether no stage is left to run.
    is_as_stored: bool,
    /// Numbers of series by their packed labels.
    numbers: HashMap<Vec<u8>, usize>,
    series: Vec<Held>,
    stream: Labels,
    /// The series of lines that have the labels of the current stream.
    of_stream: Option<usize>,
    /// Values held in memory.
    held: usize,
    /// Those the source was told of.
    counted: usize,
    /// Those that all parts of the aggregation hold, as far as they were counted.
    held_by_all: &'e AtomicUsize,
    source: &'e dyn Source,
    key: Key,
}

impl Sink for Leaf<'_> {
    fn stream(&mut self, labels: &Labels) {
        self.pipeline.set_stream(labels.iter());
        self.stream = labels.clone();
        self.of_stream = None;
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), MetricError> {
        let steps = self.windows.of(entry.timestamp_ns);
        if steps.is_empty() {
            return Ok(());
        }
        // Fast path: what the stream alone tells is told once.
        if let Some(number) = self.of_stream
            && self.is_as_stored
            && entry.metadata.is_empty()
        {
            return self.add_lines(number, steps, 1, entry.line_bytes);
        }
        let metadata = entry.metadata.iter().copied();
        let Some(kept) = self.pipeline.process(entry.timestamp_ns, entry.line, metadata) else {
            return Ok(());
        };
        if let Some((error, _)) = kept.error()
            && !error.is_empty()
        {
            return Err(pipeline_error(&kept, error));
        }
        let bytes = if self.needs_lines { kept.line().len() as u64 } else { entry.line_bytes };
        let value = kept.sample();
        let is_stream_only = kept.has_stream_labels_only();
        let number = match self.of_stream {
            Some(number) if is_stream_only => number,
            _ => {
                if self.op == RangeOp::AbsentOverTime {
                    // Whatever the line is, it is one.
                    self.key.packed.clear();
                } else {
                    self.key.pack(&kept);
                }
                let number = numbered(&mut self.numbers, &self.key.packed);
                if is_stream_only {
                    self.of_stream = Some(number);
                }
                number
            }
        };
        match value {
            Some(value) if self.op != RangeOp::AbsentOverTime => {
                self.add_sample(number, Sample { timestamp_ns: entry.timestamp_ns, value })
            }
            _ => self.add_lines(number, steps, 1, bytes),
        }
    }

    fn takes_run(&self, first_ns: i64, last_ns: i64) -> bool {
        self.takes_runs && self.windows.of(first_ns) == self.windows.of(last_ns)
    }

    fn run(&mut self, run: Run<'_>) -> Result<(), MetricError> {
        let steps = self.windows.of(run.first_ns);
        if steps.is_empty() || run.lines == 0 {
            return Ok(());
        }
        let number = match self.of_stream {
            // What the stream alone tells is told once.
            Some(number) if run.metadata.is_empty() => number,
            _ => {
                self.key.packed.clear();
                let metadata = run.metadata.iter().copied();
                let Some(kept) = self.pipeline.process(run.first_ns, b"", metadata) else {
                    return Ok(());
                };
                if let Some((error, _)) = kept.error()
                    && !error.is_empty()
                {
                    return Err(pipeline_error(&kept, error));
                }
                if self.op != RangeOp::AbsentOverTime {
                    self.key.pack(&kept);
                }
                let is_stream_only = kept.has_stream_labels_only();
                let number = numbered(&mut self.numbers, &self.key.packed);
                if is_stream_only {
                    self.of_stream = Some(number);
                }
                number
            }
        };
        self.add_lines(number, steps, run.lines, run.bytes)
    }
}

impl Leaf<'_> {
    fn hold(&mut self, values: usize) -> Result<(), MetricError> {
        self.held = self.held.saturating_add(values);
        let more = self.held - self.counted;
        let by_all = self.held_by_all.load(Ordering::Relaxed).saturating_add(more);
        if by_all > self.options.max_values {
            return Err(MetricError::TooManyValues(self.options.max_values));
        }
        if more >= COUNTED_AT_ONCE {
            self.source.hold(more.saturating_mul(VALUE_BYTES))?;
            self.held_by_all.fetch_add(more, Ordering::Relaxed);
            self.counted = self.held;
        }
        Ok(())
    }

    /// Takes what was measured of the lines that follow.
    fn append(&mut self, other: Leaf<'_>) {
        let mut held: Vec<Option<Held>> = other.series.into_iter().map(Some).collect();
        // In the order in which they came, as if there had been one.
        let mut numbers: Vec<(Vec<u8>, usize)> = other.numbers.into_iter().collect();
        numbers.sort_unstable_by_key(|(_, number)| *number);
        for (key, number) in numbers {
            let Some(held) = held.get_mut(number).and_then(Option::take) else { continue };
            let number = numbered(&mut self.numbers, &key);
            match (self.series.get_mut(number), held) {
                (None, held) => self.series.push(held),
                (Some(Held::Counts(counts)), Held::Counts(more)) => {
                    for (count, more) in counts.iter_mut().zip(more) {
                        *count = (count.0 + more.0, count.1.wrapping_add(more.1));
                    }
                }
                (Some(Held::Samples(samples)), Held::Samples(more)) => samples.extend(more),
                // An aggregation counts, or it measures.
                (Some(_), _) => {}
            }
        }
    }

    fn add_sample(&mut self, number: usize, sample: Sample) -> Result<(), MetricError> {
        self.hold(1)?;
        if number == self.series.len() {
            self.series.push(Held::Samples(Vec::new()));
        }
        if let Some(Held::Samples(samples)) = self.series.get_mut(number) {
            samples.push(sample);
        }
        Ok(())
    }

    fn add_lines(
        &mut self,
        number: usize,
        steps: Range<usize>,
        lines: u64,
        bytes: u64,
    ) -> Result<(), MetricError> {
        if number == self.series.len() {
            let count = self.windows.steps.count();
            self.hold(count.saturating_mul(2))?;
            self.series.push(Held::Counts(vec![(0, 0); count + 1]));
        }
        if let Some(Held::Counts(counts)) = self.series.get_mut(number) {
            let (lines, bytes) = (lines as i64, bytes as i64);
            let first = &mut counts[steps.start];
            *first = (first.0 + lines, first.1.wrapping_add(bytes));
            let beyond = &mut counts[steps.end];
            *beyond = (beyond.0 - lines, beyond.1.wrapping_sub(bytes));
        }
        Ok(())
    }

    fn finish(self, aggregation: &RangeAggregation) -> Matrix {
        if self.op == RangeOp::AbsentOverTime {
            return self.absent(aggregation);
        }
        let mut labels = vec![SampleLabels::default(); self.series.len()];
        for (key, number) in self.numbers {
            labels[number] = SampleLabels::from_packed(&key);
        }
        let series = labels.into_iter().zip(self.series).map(|(labels, held)| {
            let values = match held {
                Held::Counts(counts) => counted(self.op, self.windows, &counts),
                Held::Samples(samples) => measured(aggregation, self.windows, samples),
            };
            Series { labels, values }
        });
        Matrix { series: series.collect(), is_ordered: false }.without_empty()
    }

    fn absent(self, aggregation: &RangeAggregation) -> Matrix {
        let mut values = vec![Some(1.0); self.windows.steps.count()];
        for held in &self.series {
            if let Held::Counts(counts) = held {
                let present = counted(RangeOp::CountOverTime, self.windows, counts);
                for (value, lines) in values.iter_mut().zip(present) {
                    *value = if lines.is_some() { None } else { *value };
                }
            }
        }
        let series = vec![Series { labels: absent_labels(aggregation), values }];
        Matrix { series, is_ordered: false }.without_empty()
    }
}

/// Labels that the selector gives one value each.
fn absent_labels(aggregation: &RangeAggregation) -> SampleLabels {
    let matchers = &aggregation.range.log.matchers;
    let sole = matchers.iter().filter(|matcher| {
        matcher.op == MatchOp::Equal
            && !matcher.value.is_empty()
            && matchers.iter().filter(|other| other.name == matcher.name).count() == 1
    });
    let pairs = sole.map(|matcher| (matcher.name.as_str(), matcher.value.as_str()));
    SampleLabels::from_pairs(pairs)
}

/// Values of counted lines; none where a window has no lines.
fn counted(op: RangeOp, windows: Windows, counts: &[(i64, i64)]) -> Vec<Option<f64>> {
    let seconds = windows.length_ns as f64 / 1e9;
    let (mut lines, mut bytes) = (0_i64, 0_i64);
    counts[..windows.steps.count()]
        .iter()
        .map(|&(more_lines, more_bytes)| {
            lines += more_lines;
            bytes = bytes.wrapping_add(more_bytes);
            (lines > 0).then(|| match op {
                RangeOp::Rate => lines as f64 / seconds,
                RangeOp::BytesOverTime => bytes as f64,
                RangeOp::BytesRate => bytes as f64 / seconds,
                _ => lines as f64,
            })
        })
        .collect()
}

/// Values of samples; none where a window has no samples.
fn measured(
    aggregation: &RangeAggregation,
    windows: Windows,
    mut samples: Vec<Sample>,
) -> Vec<Option<f64>> {
    samples.sort_by_key(|sample| sample.timestamp_ns);
    let mut sorted = Vec::new();
    let (mut first, mut beyond) = (0, 0);
    (0..windows.steps.count())
        .map(|step| {
            let window = Window { end_ns: windows.end_ns(step), length_ns: windows.length_ns };
            let start_ns = window.end_ns.saturating_sub(window.length_ns);
            while samples.get(beyond).is_some_and(|sample| sample.timestamp_ns <= window.end_ns) {
                beyond += 1;
            }
            while first < beyond && samples[first].timestamp_ns <= start_ns {
                first += 1;
            }
            let within = &samples[first..beyond];
            let quantile = aggregation.parameter.unwrap_or(f64::NAN);
            (!within.is_empty())
                .then(|| over_time(aggregation.op, quantile, within, window, &mut sorted))
        })
        .collect()
}

/// The labels of a sample as what tells series apart. Its memory is used for all lines.
#[derive(Debug, Default)]
struct Key {
    /// As [`push_packed`] writes them, sorted.
    packed: Vec<u8>,
    /// Names and values as they come, one behind the other.
    text: String,
    /// Where each name begins, and its value, and where that ends.
    labels: Vec<[usize; 3]>,
}

impl Key {
    fn pack(&mut self, entry: &pipeline::Entry<'_>) {
        let Key { packed, text, labels } = self;
        packed.clear();
        text.clear();
        labels.clear();
        entry.for_each_grouped_label(|name, value, _| {
            let start = text.len();
            text.push_str(name);
            text.push_str(value);
            labels.push([start, start + name.len(), text.len()]);
        });
        // No name comes twice.
        labels.sort_unstable_by_key(|[start, value, _]| &text[*start..*value]);
        for [start, value, end] in labels {
            push_packed(packed, &text[*start..*value], &text[*value..*end]);
        }
    }
}

fn numbered(numbers: &mut HashMap<Vec<u8>, usize>, key: &[u8]) -> usize {
    if let Some(&number) = numbers.get(key) {
        return number;
    }
    let number = numbers.len();
    numbers.insert(key.to_vec(), number);
    number
}

fn pipeline_error(entry: &pipeline::Entry<'_>, error: &str) -> MetricError {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    entry.for_each_label(|name, value, _| labels.push((name, value)));
    let series = SampleLabels::from_pairs(labels).to_string();
    MetricError::Pipeline { error: error.to_owned(), series }
}
