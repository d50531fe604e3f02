//! A request of remote write and the answer it must get.

use crate::harness::WriteBody2;
use crate::harness::remote_write_2::{Exemplar2, Histogram2, Series2};

/// One request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// As the suite's file names it; empty where a test has one case only.
    pub(super) name: &'static str,
    /// Tells apart what the suite generates from one case.
    pub(super) variant: String,
    pub(super) encoding: Encoding,
    pub(super) series: Vec<SeriesSpec>,
    /// Instead of the right one.
    pub(super) content_type: Option<&'static str>,
    /// Instead of the right one.
    pub(super) content_encoding: Option<&'static str>,
    /// Instead of the body's own, which damages it.
    pub(super) first_byte: Option<u8>,
    pub(super) wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    One,
    Two,
}

/// The status and what the headers say was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) status: u16,
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

/// Names and values of labels.
type Pairs = Vec<(String, String)>;

/// A series whose times are relative to the request's.
#[derive(Debug, Clone, Default)]
pub(super) struct SeriesSpec {
    pub(super) labels: Vec<(String, String)>,
    pub(super) sample: Option<f64>,
    pub(super) histogram: Option<Histogram2>,
    offset_ms: i64,
    /// 0 = none.
    start_offset_ms: i64,
    /// Labels, value, offset.
    exemplars: Vec<(Pairs, f64, i64)>,
    metadata: Option<(u8, String, String)>,
}

impl SeriesSpec {
    pub(super) fn body(&self, t_ms: i64) -> Series2 {
        let t_ms = t_ms + self.offset_ms;
        let start_ms = if self.start_offset_ms == 0 { 0 } else { t_ms + self.start_offset_ms };
        let histogram = |h: &Histogram2| Histogram2 { t_ms, start_ms, ..h.clone() };
        let exemplar = |(labels, value, offset_ms): &(Pairs, f64, i64)| Exemplar2 {
            labels: labels.clone(),
            value: *value,
            t_ms: t_ms - self.offset_ms + offset_ms,
        };
        Series2 {
            labels: self.labels.clone(),
            samples: self.sample.iter().map(|&value| (t_ms, value, start_ms)).collect(),
            histograms: self.histogram.iter().map(histogram).collect(),
            exemplars: self.exemplars.iter().map(exemplar).collect(),
            metadata: self.metadata.clone(),
        }
    }

    pub(super) fn labels(pairs: &[(&str, &str)]) -> Self {
        SeriesSpec { labels: owned(pairs), ..Default::default() }
    }

    pub(super) fn of(labels: Vec<(String, String)>, value: f64) -> Self {
        SeriesSpec { labels, sample: Some(value), ..Default::default() }
    }

    pub(super) fn float(pairs: &[(&str, &str)], value: f64) -> Self {
        Self::of(owned(pairs), value)
    }

    pub(super) fn native(pairs: &[(&str, &str)], histogram: Histogram2) -> Self {
        SeriesSpec { histogram: Some(histogram), ..Self::labels(pairs) }
    }

    pub(super) fn at(mut self, offset_ms: i64) -> Self {
        self.offset_ms = offset_ms;
        self
    }

    pub(super) fn since(mut self, start_offset_ms: i64) -> Self {
        self.start_offset_ms = start_offset_ms;
        self
    }

    pub(super) fn said(mut self, kind: u8, help: &str, unit: &str) -> Self {
        self.metadata = Some((kind, help.to_owned(), unit.to_owned()));
        self
    }

    pub(super) fn exemplar(self, labels: &[(&str, &str)], value: f64) -> Self {
        let offset_ms = self.offset_ms;
        self.exemplar_at(labels, value, offset_ms)
    }

    pub(super) fn exemplar_at(
        mut self,
        labels: &[(&str, &str)],
        value: f64,
        offset_ms: i64,
    ) -> Self {
        self.exemplars.push((owned(labels), value, offset_ms));
        self
    }
}

pub(super) fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Case {
    pub(super) fn body(&self, t_ms: i64) -> WriteBody2 {
        self.series.iter().fold(WriteBody2::new(), |body, series| body.series(&series.body(t_ms)))
    }

    /// All of it is stored.
    pub(super) fn stored(name: &'static str, series: Vec<SeriesSpec>) -> Case {
        let count = |of: fn(&SeriesSpec) -> usize| series.iter().map(of).sum::<usize>() as u64;
        let wanted = Wanted {
            status: 204,
            samples: count(|series| usize::from(series.sample.is_some())),
            histograms: count(|series| usize::from(series.histogram.is_some())),
            exemplars: count(|series| series.exemplars.len()),
        };
        Case {
            name,
            variant: String::new(),
            encoding: Encoding::Two,
            series,
            content_type: None,
            content_encoding: None,
            first_byte: None,
            wanted,
        }
    }

    /// Answered with another status, after so many samples were stored.
    pub(super) fn refused(
        name: &'static str,
        series: Vec<SeriesSpec>,
        status: u16,
        samples: u64,
    ) -> Case {
        let wanted = Wanted { status, samples, histograms: 0, exemplars: 0 };
        Case { wanted, ..Case::stored(name, series) }
    }

    pub(super) fn variant(mut self, variant: &str) -> Case {
        self.variant = format!(" {variant}");
        self
    }
}
