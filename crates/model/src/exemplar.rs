//! Exemplars: single observations behind a series, with labels of their own such as a trace's id.

use std::cmp::Ordering;

use crate::{LabelForm, Labels};

/// Most characters that names and values of an exemplar's labels may have together, as in
/// OpenMetrics 1.0 and Prometheus.
pub const MAX_EXEMPLAR_CHARS: usize = 128;

/// An exemplar inside a [`crate::MetricBatch`]; neither set of labels is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExemplarSample {
    /// Where the labels of its series start in [`crate::MetricBatch::label_bytes`].
    pub labels_start: u32,
    /// How many bytes they take.
    pub labels_len: u32,
    /// How they are written.
    pub form: LabelForm,
    /// Where its own labels start in [`crate::MetricBatch::label_bytes`].
    pub own_start: u32,
    /// How many bytes they take, possibly none.
    pub own_len: u32,
    /// How they are written.
    pub own_form: LabelForm,
    /// The value observed.
    pub value: f64,
    /// When, in milliseconds since the epoch.
    pub t_ms: i64,
    /// Whether its source told the time; otherwise `t_ms` is when it was read.
    pub is_dated: bool,
}

/// An exemplar whose labels are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its own labels, possibly none, at most [`MAX_EXEMPLAR_CHARS`] long.
    pub labels: Labels,
    /// The value observed, bit-exact.
    pub value: f64,
    /// When, in milliseconds since the epoch.
    pub t_ms: i64,
    /// Whether its source told the time; otherwise `t_ms` is when it was read.
    pub is_dated: bool,
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// The series.
    pub labels: Labels,
    /// Its exemplars, at least one, ascending by time.
    pub exemplars: Vec<Exemplar>,
}

impl Exemplar {
    /// Whether this is `earlier` once more. Where neither has a time of its own the times do not
    /// matter: a target shows the same exemplar in every scrape.
    pub fn repeats(&self, earlier: &Exemplar) -> bool {
        let same_time = self.t_ms == earlier.t_ms || !(self.is_dated || earlier.is_dated);
        same_time
            && self.value.to_bits() == earlier.value.to_bits()
            && self.labels == earlier.labels
    }

    /// The order by which [`Exemplar::is_before`] goes, with a place for each NaN.
    pub fn order(&self, other: &Exemplar) -> Ordering {
        let by_time = self.t_ms.cmp(&other.t_ms);
        let by_value = || self.value.total_cmp(&other.value);
        by_time.then_with(by_value).then_with(|| self.labels.cmp(&other.labels))
    }

    /// Whether its place is before `newest`: by time, then value, then labels. A NaN has no place
    /// among values.
    pub fn is_before(&self, newest: &Exemplar) -> bool {
        if self.t_ms != newest.t_ms {
            return self.t_ms < newest.t_ms;
        }
        if self.value.to_bits() == newest.value.to_bits() {
            return self.labels < newest.labels;
        }
        self.value < newest.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: &str, value: f64, t_ms: i64, is_dated: bool) -> Exemplar {
        let labels = Labels::from_pairs([("trace_id", trace)]).expect("labels");
        Exemplar { labels, value, t_ms, is_dated }
    }

    #[test]
    fn one_without_a_time_of_its_own_repeats_itself_at_any_time() {
        let first = exemplar("a", 1.0, 10, false);
        assert!(exemplar("a", 1.0, 20, false).repeats(&first));
        assert!(!exemplar("a", 1.0, 20, true).repeats(&first));
        assert!(exemplar("a", 1.0, 10, true).repeats(&first));
        assert!(!exemplar("b", 1.0, 10, false).repeats(&first));
        assert!(!exemplar("a", 2.0, 10, false).repeats(&first));
        let nan = exemplar("a", f64::NAN, 10, true);
        assert!(nan.repeats(&nan));
    }

    #[test]
    fn order_is_by_time_then_value_then_labels() {
        let newest = exemplar("b", 2.0, 10, true);
        assert!(exemplar("z", 9.0, 9, true).is_before(&newest));
        assert!(!exemplar("a", 1.0, 11, true).is_before(&newest));
        assert!(exemplar("z", 1.0, 10, true).is_before(&newest));
        assert!(!exemplar("a", 3.0, 10, true).is_before(&newest));
        assert!(exemplar("a", 2.0, 10, true).is_before(&newest));
        assert!(!exemplar("c", 2.0, 10, true).is_before(&newest));
        assert!(!exemplar("a", f64::NAN, 10, true).is_before(&newest));
    }
}
