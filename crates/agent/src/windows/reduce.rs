//! Shipping a series less often while it does not change.

use model::is_stale_nan;

use super::{Pace, ReductionRule};

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) t_ms: i64,
    pub(super) value: f64,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    tolerance: f64,
    relative_tolerance: f64,
    heartbeat_ms: i64,
    pace: Pace,
}

/// No rule.
const NONE: u8 = u8::MAX;
/// No sample.
const NEVER: i64 = i64::MIN;

/// What is known of every matched series, by its place.
pub(super) struct Reduction {
    rules: Vec<Rule>,
    rule: Vec<u8>,
    /// What was shipped last.
    shipped_ms: Vec<i64>,
    shipped: Vec<f64>,
    /// What was left out last, since then.
    left_out_ms: Vec<i64>,
    left_out: Vec<f64>,
    /// The least time between two samples that do not differ.
    interval_ms: Vec<i64>,
    /// By how much the first interval is shortened, from 0 up to 1.
    spread: Vec<f32>,
}

impl Reduction {
    pub(super) fn new(rules: &[ReductionRule]) -> Self {
        let rules = rules.iter().map(|rule| Rule {
            tolerance: rule.tolerance.max(0.0),
            relative_tolerance: rule.relative_tolerance.max(0.0),
            heartbeat_ms: rule.heartbeat_ms as i64,
            pace: rule.pace,
        });
        Reduction {
            rules: rules.collect(),
            rule: Vec::new(),
            shipped_ms: Vec::new(),
            shipped: Vec::new(),
            left_out_ms: Vec::new(),
            left_out: Vec::new(),
            interval_ms: Vec::new(),
            spread: Vec::new(),
        }
    }

    /// Says which rule concerns the series at a place from now on, by its index.
    pub(super) fn set(&mut self, place: u32, rule: Option<usize>, spread: f64) {
        let place = place as usize;
        if self.rule.len() <= place {
            self.rule.resize(place + 1, NONE);
            self.shipped_ms.resize(place + 1, NEVER);
            self.shipped.resize(place + 1, 0.0);
            self.left_out_ms.resize(place + 1, NEVER);
            self.left_out.resize(place + 1, 0.0);
            self.interval_ms.resize(place + 1, 0);
            self.spread.resize(place + 1, 0.0);
        }
        self.rule[place] = rule.map_or(NONE, |index| index as u8);
        self.shipped_ms[place] = NEVER;
        self.left_out_ms[place] = NEVER;
        self.spread[place] = spread as f32;
    }

    /// What is shipped when a sample comes: nothing, the sample, or first one that was left out.
    pub(super) fn step(&mut self, place: u32, sample: Sample) -> [Option<Sample>; 2] {
        let place = place as usize;
        if self.rule[place] == NONE {
            return [None, Some(sample)];
        }
        let rule = self.rules[usize::from(self.rule[place])];
        let left_out = (self.left_out_ms[place] != NEVER)
            .then(|| Sample { t_ms: self.left_out_ms[place], value: self.left_out[place] });
        if is_stale_nan(sample.value) {
            self.shipped_ms[place] = NEVER;
            self.left_out_ms[place] = NEVER;
            return [left_out, Some(sample)];
        }
        let is_first = self.shipped_ms[place] == NEVER;
        if is_first || rule.differ(self.shipped[place], sample.value) {
            self.interval_ms[place] = match rule.pace {
                Pace::OnChange => {
                    let share = 1.0 - f64::from(self.spread[place]) / 2.0;
                    (rule.heartbeat_ms as f64 * share) as i64
                }
                Pace::Adaptive => 0,
            };
            self.ship(place, sample);
            return [left_out, Some(sample)];
        }
        let since_ms = sample.t_ms.saturating_sub(self.shipped_ms[place]);
        // A sample from before the last one shipped is somebody's correction.
        if since_ms >= self.interval_ms[place] || since_ms < 0 {
            let next_ms = since_ms.max(self.interval_ms[place]).saturating_mul(2);
            self.interval_ms[place] = match rule.pace {
                Pace::OnChange => rule.heartbeat_ms,
                Pace::Adaptive => next_ms.min(rule.heartbeat_ms),
            };
            self.ship(place, sample);
            return [None, Some(sample)];
        }
        self.left_out_ms[place] = sample.t_ms;
        self.left_out[place] = sample.value;
        [None, None]
    }

    fn ship(&mut self, place: usize, sample: Sample) {
        self.shipped_ms[place] = sample.t_ms;
        self.shipped[place] = sample.value;
        self.left_out_ms[place] = NEVER;
    }
}

impl Rule {
    fn differ(&self, shipped: f64, value: f64) -> bool {
        if shipped.to_bits() == value.to_bits() {
            return false;
        }
        let tolerance = self.tolerance.max(self.relative_tolerance * shipped.abs());
        let difference = (value - shipped).abs();
        // With NaN on either side nothing is within a tolerance.
        difference > tolerance || difference.is_nan() || tolerance.is_nan()
    }
}
