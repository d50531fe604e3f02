//! Least, greatest, mean and newest value of the last while, for many series at once.

use std::collections::HashSet;

use model::{
    LabelForm, Labels, LabelsBuilder, METRIC_NAME, MetricBatch, MetricMetadata, MetricType,
    STALE_NAN_BITS, SeriesRows, is_stale_nan,
};

use super::reduce::Sample;
use super::{Statistic, WindowRule};

/// No series at a place, or no step yet.
const NONE: u32 = u32::MAX;
const NEVER: i64 = i64::MIN;

/// One rule's windows. A window consists of steps, each with its own aggregate, so that it slides
/// by combining few numbers. A struct of arrays: what belongs to step k of series i is at
/// i × steps + k mod steps.
pub(super) struct SlidingWindows {
    step_ms: i64,
    steps: usize,
    statistics: Vec<Statistic>,
    /// `1m`, as it stands in names.
    window: String,
    /// From the place of a series to its row here.
    row_of: Vec<u32>,
    free: Vec<u32>,
    /// By row: the running step, and the newest value.
    running: Vec<i64>,
    last: Vec<f64>,
    /// By row and statistic: packed labels of the new series.
    labels: Vec<Box<[u8]>>,
    /// By row and step.
    min: Vec<f64>,
    max: Vec<f64>,
    sum: Vec<f64>,
    count: Vec<u32>,
    /// What is to be shipped.
    ended: Vec<Ended>,
    described: HashSet<String>,
    metadata: Vec<MetricMetadata>,
}

/// A window that ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    row: u32,
    end_ms: i64,
    min: f64,
    max: f64,
    sum: f64,
    last: f64,
    count: u32,
    /// It ended for good: the series is gone.
    is_stale: bool,
}

impl SlidingWindows {
    pub(super) fn new(rule: &WindowRule) -> Self {
        SlidingWindows {
            step_ms: rule.step_ms as i64,
            steps: (rule.window_ms / rule.step_ms) as usize,
            statistics: rule.statistics.clone(),
            window: duration(rule.window_ms),
            row_of: Vec::new(),
            free: Vec::new(),
            running: Vec::new(),
            last: Vec::new(),
            labels: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            sum: Vec::new(),
            count: Vec::new(),
            ended: Vec::new(),
            described: HashSet::new(),
            metadata: Vec::new(),
        }
    }

    /// Says which series is at a place from now on, or that none is that the rule concerns.
    pub(super) fn set(&mut self, place: u32, labels: Option<&Labels>) {
        let place = place as usize;
        if self.row_of.len() <= place {
            self.row_of.resize(place + 1, NONE);
        }
        let old = std::mem::replace(&mut self.row_of[place], NONE);
        if old != NONE {
            self.free.push(old);
        }
        if let Some(labels) = labels {
            self.row_of[place] = self.new_row(labels);
        }
    }

    fn new_row(&mut self, labels: &Labels) -> u32 {
        let row = self.free.pop().unwrap_or_else(|| {
            let row = self.running.len();
            self.running.push(NEVER);
            self.last.push(0.0);
            self.labels.resize((row + 1) * self.statistics.len(), Box::default());
            let cells = (row + 1) * self.steps;
            self.min.resize(cells, f64::INFINITY);
            self.max.resize(cells, f64::NEG_INFINITY);
            self.sum.resize(cells, 0.0);
            self.count.resize(cells, 0);
            row as u32
        });
        self.clear(row as usize);
        let metric = labels.metric_name().unwrap_or_default();
        for (index, statistic) in self.statistics.iter().enumerate() {
            let name = format!("{metric}:{}{}", statistic.as_str(), self.window);
            let own = LabelsBuilder::from_labels(labels).set(METRIC_NAME, &name).build();
            self.labels[row as usize * self.statistics.len() + index] = own.as_packed().into();
            if self.described.insert(name.clone()) {
                let help = format!("{} of {metric} over {}.", words(*statistic), self.window);
                let kind = MetricType::Gauge;
                self.metadata.push(MetricMetadata {
                    metric: name,
                    kind,
                    help,
                    ..Default::default()
                });
            }
        }
        row
    }

    fn clear(&mut self, row: usize) {
        self.running[row] = NEVER;
        for cell in row * self.steps..(row + 1) * self.steps {
            self.clear_cell(cell);
        }
    }

    fn clear_cell(&mut self, cell: usize) {
        self.min[cell] = f64::INFINITY;
        self.max[cell] = f64::NEG_INFINITY;
        self.sum[cell] = 0.0;
        self.count[cell] = 0;
    }

    /// Adds a sample of the series at a place, if the rule concerns it.
    pub(super) fn add(&mut self, place: u32, sample: Sample) {
        let row = self.row_of[place as usize];
        if row == NONE {
            return;
        }
        let index = row as usize;
        if is_stale_nan(sample.value) {
            if self.running[index] != NEVER {
                self.end(row, sample.t_ms, true);
                self.clear(index);
            }
            return;
        }
        // A step contains its end and not its beginning.
        let step = (sample.t_ms - 1).div_euclid(self.step_ms);
        let running = self.running[index];
        if running == NEVER {
            self.running[index] = step;
        } else if step > running {
            self.end(row, (running + 1) * self.step_ms, false);
            let gone = usize::try_from(step - running).unwrap_or(usize::MAX).min(self.steps);
            for ahead in 0..gone as i64 {
                self.clear_cell(self.cell(index, step - ahead));
            }
            self.running[index] = step;
        } else if running - step >= self.steps as i64 {
            return;
        }
        if sample.value.is_nan() {
            return;
        }
        let cell = self.cell(index, step);
        self.min[cell] = self.min[cell].min(sample.value);
        self.max[cell] = self.max[cell].max(sample.value);
        self.sum[cell] += sample.value;
        self.count[cell] += 1;
        if step >= running {
            self.last[index] = sample.value;
        }
    }

    fn cell(&self, row: usize, step: i64) -> usize {
        row * self.steps + step.rem_euclid(self.steps as i64) as usize
    }

    fn end(&mut self, row: u32, end_ms: i64, is_stale: bool) {
        let index = row as usize;
        let mut ended = Ended {
            row,
            end_ms,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            last: self.last[index],
            count: 0,
            is_stale,
        };
        for cell in index * self.steps..(index + 1) * self.steps {
            ended.min = ended.min.min(self.min[cell]);
            ended.max = ended.max.max(self.max[cell]);
            ended.sum += self.sum[cell];
            ended.count += self.count[cell];
        }
        if ended.count > 0 || is_stale {
            self.ended.push(ended);
        }
    }

    /// Appends what has ended to a batch.
    pub(super) fn ship(&mut self, out: &mut MetricBatch) {
        for ended in &self.ended {
            for (index, statistic) in self.statistics.iter().enumerate() {
                let labels = &self.labels[ended.row as usize * self.statistics.len() + index];
                out.series.push(SeriesRows {
                    labels_start: out.label_bytes.len() as u32,
                    labels_len: labels.len() as u32,
                    form: LabelForm::Packed,
                    first_row: out.timestamps_ms.len() as u32,
                    rows: 1,
                });
                out.label_bytes.extend_from_slice(labels);
                out.timestamps_ms.push(ended.end_ms);
                out.values.push(ended.value(*statistic));
            }
        }
        self.ended.clear();
        out.metadata.append(&mut self.metadata);
    }
}

impl Ended {
    fn value(&self, statistic: Statistic) -> f64 {
        if self.is_stale {
            return f64::from_bits(STALE_NAN_BITS);
        }
        match statistic {
            Statistic::Min => self.min,
            Statistic::Max => self.max,
            Statistic::Mean => self.sum / f64::from(self.count),
            Statistic::Last => self.last,
            Statistic::Count => f64::from(self.count),
        }
    }
}

fn words(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Min => "Least value",
        Statistic::Max => "Greatest value",
        Statistic::Mean => "Mean",
        Statistic::Last => "Newest value",
        Statistic::Count => "Number of samples",
    }
}

/// As Prometheus writes durations: `1m30s`.
fn duration(ms: u64) -> String {
    let mut text = String::new();
    let mut left = ms;
    for (unit, unit_ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = left / unit_ms;
        left %= unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}
