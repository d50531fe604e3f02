//! Sliding windows over series, and shipping less of what does not change.
//!
//! A window rule makes new series out of those it matches: `node_load1` gives `node_load1:max1m`,
//! the greatest value of each minute, and so on. A reduction ships a series less often while it
//! stands still. Both are off unless configured, and then nothing is looked up.

mod reduce;
mod series_table;
mod sliding;
#[cfg(test)]
mod tests;

use model::{Labels, Matcher, MetricBatch, SeriesRows};

use crate::error::AgentError;
use reduce::{Reduction, Sample};
use series_table::{Known, SeriesTable};
use sliding::SlidingWindows;

/// Longest window; beyond it a query does the same.
const MAX_WINDOW_MS: u64 = 3_600_000;
/// Most steps in a window.
const MAX_STEPS: u64 = 60;
/// Most rules of each kind.
const MAX_RULES: u64 = 64;
/// A series that is silent for longer than its lookback of five minutes is gone for every query.
const MAX_HEARTBEAT_MS: u64 = 240_000;
/// A series without samples for this long is forgotten, beyond any window and heartbeat.
const FORGET_AFTER_MS: i64 = 2 * MAX_WINDOW_MS as i64;
/// How often it is looked for such series.
const SWEEP_EVERY_MS: i64 = 600_000;

/// What is made of series before they are shipped. By default they are shipped as they are.
#[derive(Debug, Clone, Default)]
pub struct WindowsConfig {
    /// New series out of windows. A series may be matched by several rules.
    pub windows: Vec<WindowRule>,
    /// Series that are shipped less often. The first rule that matches a series holds.
    pub reductions: Vec<ReductionRule>,
}

/// New series out of every series that satisfies all matchers.
///
/// For a window of one minute `m` gives `m:min1m`, `m:max1m`, `m:mean1m`, `m:last1m` and
/// `m:count1m`, all gauges, with the labels of `m`. A window contains its end and not its
/// beginning, ends at multiples of the step since the epoch, and bears its end as timestamp. It is
/// shipped when the first sample after its end arrives; a step without samples gives nothing.
/// Values that are NaN are left out.
#[derive(Debug, Clone)]
pub struct WindowRule {
    /// What a series must satisfy, its name as the label `__name__`.
    pub matchers: Vec<Matcher>,
    /// Length of a window, from 1 s to 1 h.
    pub window_ms: u64,
    /// From one window's end to the next one's; divides the window into 1 to 60 steps. The
    /// window's length makes windows that do not overlap.
    pub step_ms: u64,
    /// Which values are shipped.
    pub statistics: Vec<Statistic>,
    /// Whether the matched series themselves are shipped no longer.
    pub replaces: bool,
}

/// A value of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The mean of all values.
    Mean,
    /// The newest value.
    Last,
    /// How many values there were.
    Count,
}

impl Statistic {
    /// The word in the new series' name.
    pub fn as_str(self) -> &'static str {
        match self {
            Statistic::Min => "min",
            Statistic::Max => "max",
            Statistic::Mean => "mean",
            Statistic::Last => "last",
            Statistic::Count => "count",
        }
    }
}

/// Ships a series less often while it does not change.
///
/// A sample is left out if its value is within the tolerance of the last one shipped. When that
/// ends, the last sample left out is shipped too, before the one that differs, so that a step stays
/// a step for every function of PromQL.
#[derive(Debug, Clone)]
pub struct ReductionRule {
    /// What a series must satisfy, its name as the label `__name__`.
    pub matchers: Vec<Matcher>,
    /// Difference that is no change, in the series' unit.
    pub tolerance: f64,
    /// Difference that is no change, as a share of the last value shipped.
    pub relative_tolerance: f64,
    /// At least this often a sample is shipped, from 1 s to 4 min: after 5 min without one a query
    /// takes a series for gone.
    pub heartbeat_ms: u64,
    /// How it gets from every sample to one per heartbeat.
    pub pace: Pace,
}

/// How fast shipping slows down while nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once: only changes and heartbeats are shipped.
    OnChange,
    /// The time between two samples doubles until it is the heartbeat.
    Adaptive,
}

impl WindowsConfig {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.reductions.is_empty()
    }

    /// Checks every figure.
    ///
    /// # Errors
    /// `OutOfRange` with the key below `agent.`.
    pub fn check(&self) -> Result<(), AgentError> {
        in_range("windows", self.windows.len() as u64, 0, MAX_RULES)?;
        in_range("reductions", self.reductions.len() as u64, 0, MAX_RULES)?;
        for rule in &self.windows {
            in_range("windows.window", rule.window_ms, 1_000, MAX_WINDOW_MS)?;
            in_range("windows.step", rule.step_ms, 1, rule.window_ms)?;
            in_range("windows.window / windows.step", rule.window_ms / rule.step_ms, 1, MAX_STEPS)?;
            in_range("windows.window modulo windows.step", rule.window_ms % rule.step_ms, 0, 0)?;
            in_range("windows.statistics", rule.statistics.len() as u64, 1, 5)?;
        }
        for rule in &self.reductions {
            in_range("reductions.heartbeat", rule.heartbeat_ms, 1_000, MAX_HEARTBEAT_MS)?;
        }
        Ok(())
    }
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), AgentError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(AgentError::OutOfRange { key, value, min, max })
    }
}

/// The rules at work. One owner; settled passes allocate nothing.
pub(crate) struct Windows {
    rules: Vec<(Vec<Matcher>, bool)>,
    reductions: Vec<Vec<Matcher>>,
    sliding: Vec<SlidingWindows>,
    reduction: Reduction,
    table: SeriesTable,
    /// Whether a series is shipped itself, by its place in the table.
    replaced: Vec<bool>,
    /// The batch that is being made; its memory goes round with that of the one that came.
    out: MetricBatch,
    swept_ms: i64,
}

impl Windows {
    /// `None` if there is nothing to do.
    ///
    /// # Errors
    /// See [`WindowsConfig::check`].
    pub(crate) fn new(config: &WindowsConfig, seed: u64) -> Result<Option<Windows>, AgentError> {
        config.check()?;
        if config.is_empty() {
            return Ok(None);
        }
        let of_rule = |rule: &WindowRule| (rule.matchers.clone(), rule.replaces);
        Ok(Some(Windows {
            rules: config.windows.iter().map(of_rule).collect(),
            reductions: config.reductions.iter().map(|rule| rule.matchers.clone()).collect(),
            sliding: config.windows.iter().map(SlidingWindows::new).collect(),
            reduction: Reduction::new(&config.reductions),
            table: SeriesTable::new(seed),
            replaced: Vec::new(),
            out: MetricBatch::default(),
            swept_ms: i64::MIN,
        }))
    }

    /// Replaces a batch by what is shipped of it. Histograms, exemplars and metadata stay as they
    /// are.
    pub(crate) fn apply(&mut self, batch: &mut MetricBatch, now_ms: i64) {
        self.out.clear();
        for series in &batch.series {
            let labels = batch.label_bytes_of(series);
            let known = match self.table.find(labels, now_ms) {
                Some(known) => known,
                None => self.meet(labels, now_ms),
            };
            let first_row = self.out.timestamps_ms.len();
            for row in series.first_row as usize..(series.first_row + series.rows) as usize {
                let sample = Sample { t_ms: batch.timestamps_ms[row], value: batch.values[row] };
                match known {
                    Known::Unmatched => {
                        push(&mut self.out, sample);
                        self.out.set_last_start(batch.start_ms(row));
                    }
                    Known::Matched(place) => self.take_sample(place, sample, batch.start_ms(row)),
                }
            }
            let rows = (self.out.timestamps_ms.len() - first_row) as u32;
            if rows > 0 {
                self.out.series.push(SeriesRows { first_row: first_row as u32, rows, ..*series });
            }
        }
        // The labels of what came stay where they are; those of windows follow behind.
        std::mem::swap(&mut self.out.label_bytes, &mut batch.label_bytes);
        self.out.histograms.append(&mut batch.histograms);
        self.out.exemplars.append(&mut batch.exemplars);
        self.out.metadata.append(&mut batch.metadata);
        for sliding in &mut self.sliding {
            sliding.ship(&mut self.out);
        }
        std::mem::swap(&mut self.out, batch);
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            self.forget_before(now_ms - FORGET_AFTER_MS);
        }
    }

    /// Takes a sample of a series that some rule matches, and when it began at zero; 0 = not known.
    fn take_sample(&mut self, place: u32, sample: Sample, start_ms: i64) {
        for sliding in &mut self.sliding {
            sliding.add(place, sample);
        }
        if !self.replaced[place as usize] {
            let [first, second] = self.reduction.step(place, sample);
            for sample in first.into_iter().chain(second) {
                push(&mut self.out, sample);
                // One that was left out before counted on from the same start, unless this is later.
                if start_ms <= sample.t_ms {
                    self.out.set_last_start(start_ms);
                }
            }
        }
    }

    /// Matches a series that was not seen before against all rules. Allocates; done once per
    /// series.
    fn meet(&mut self, packed: &[u8], now_ms: i64) -> Known {
        // What is no label set is left to the broker to refuse.
        let Ok(labels) = Labels::from_packed(packed) else {
            return self.table.insert_unmatched(packed);
        };
        let satisfies = |matchers: &[Matcher]| Matcher::all_match(matchers, &labels);
        let matched = |(matchers, _): &(Vec<Matcher>, bool)| satisfies(matchers);
        let reduction = self.reductions.iter().position(|matchers| satisfies(matchers));
        if reduction.is_none() && !self.rules.iter().any(matched) {
            return self.table.insert_unmatched(packed);
        }
        let place = self.table.insert(packed, now_ms);
        let index = place as usize;
        if self.replaced.len() <= index {
            self.replaced.resize(index + 1, false);
        }
        self.replaced[index] = false;
        for (rule, sliding) in self.rules.iter().zip(&mut self.sliding) {
            let is_matched = satisfies(&rule.0);
            self.replaced[index] |= is_matched && rule.1;
            sliding.set(place, is_matched.then_some(&labels));
        }
        // Heartbeats of many series shall not come in one pass.
        self.reduction.set(place, reduction, self.table.spread(place));
        Known::Matched(place)
    }

    fn forget_before(&mut self, before_ms: i64) {
        let Windows { table, sliding, reduction, .. } = self;
        table.forget_before(before_ms, |place| {
            sliding.iter_mut().for_each(|sliding| sliding.set(place, None));
            reduction.set(place, None, 0.0);
        });
    }
}

fn push(out: &mut MetricBatch, sample: Sample) {
    out.timestamps_ms.push(sample.t_ms);
    out.values.push(sample.value);
}
