//! Prometheus' protobuf exposition: `application/vnd.google.protobuf;
//! proto=io.prometheus.client.MetricFamily; encoding=delimited`.
//!
//! Source: <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>
//! and the cases of Prometheus' `model/textparse`. It is the one exposition that carries native
//! histograms. Entries are those of the text formats, so that whoever takes them need not ask
//! which format they came in: a classic histogram or a summary is a series per line that text
//! would have.

mod family;
mod metric;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use model::{Limits, MetricBatch, MetricType};

use self::family::Family;
use self::metric::{ExemplarMessage, Metric};
use crate::WireError;
use crate::protobuf;
use crate::text_batch::{self, TextSummary};
use crate::text_entry::{
    Entry, Exemplar, HistogramSeries, RawExemplar, RawLabel, RawSeries, Series, bound_text,
};
use crate::type_and_unit::{TYPE, UNIT, type_label};

/// The content type a scraper asks for.
pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
                                proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Between name, label names and label values of [`Series::as_written`]: no byte of UTF-8.
const SEPARATOR: u8 = 0xff;

/// A series is copied per line of a classic histogram; so many bytes of copies per byte of input
/// are more than any client causes.
const MAX_COPIES: usize = 256;

/// What of a histogram is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Read classic buckets also where a histogram has native ones
    /// (`always_scrape_classic_histograms`).
    pub keep_classic: bool,
    /// Take no notice of native buckets (`scrape_native_histograms: false`).
    pub ignore_native: bool,
    /// Give each series its family's type and unit as labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
}

/// Decodes an exposition into `out`, which is emptied first; as [`crate::exposition::decode`].
///
/// Native histograms are compact but not validated.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::Family`], [`WireError::Limit`]; `out` is then empty.
pub fn decode(
    body: &[u8],
    default_t_ms: i64,
    extra_labels: &BTreeMap<String, String>,
    options: Options,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<TextSummary, WireError> {
    let mut parser = Parser::new(body, options);
    text_batch::decode(body.len(), default_t_ms, extra_labels, limits, out, |sink| {
        while let Some(entry) = parser.next_entry()? {
            sink.push(&entry)?;
        }
        Ok(())
    })
}

/// Reads an exposition entry by entry.
#[derive(Debug)]
pub struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    options: Options,
    family: Family<'a>,
    next_metric: usize,
    metric: Metric,
    next: Next,
    /// Name and labels of the series at hand, and of its exemplars.
    text: Vec<u8>,
    name: Range<usize>,
    labels: Vec<RawLabel>,
    exemplars: Vec<RawExemplar>,
    exemplar_labels: Vec<RawLabel>,
    /// Bytes that may still be copied into `text`.
    copies_left: usize,
}

/// What the parser yields next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Family,
    Help,
    Unit,
    Type,
    Metric,
    Histogram,
    /// A line that text would have for the metric.
    Line(usize),
}

/// What makes a line of a metric different from its other lines.
struct Line {
    suffix: &'static str,
    /// Label name and value of a bucket or a quantile.
    bound: Option<(&'static str, f64)>,
    value: f64,
    exemplar: Option<Range<usize>>,
}

impl Line {
    fn new(suffix: &'static str, value: f64) -> Self {
        Line { suffix, bound: None, value, exemplar: None }
    }
}

impl<'a> Parser<'a> {
    /// A parser at the start of `input`.
    pub fn new(input: &'a [u8], options: Options) -> Self {
        Parser {
            input,
            at: 0,
            options,
            family: Family::default(),
            next_metric: 0,
            metric: Metric::default(),
            next: Next::Family,
            text: Vec::new(),
            name: 0..0,
            labels: Vec::new(),
            exemplars: Vec::new(),
            exemplar_labels: Vec::new(),
            copies_left: input.len().saturating_mul(MAX_COPIES),
        }
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::Family`], [`WireError::Limit`]; the parser is of no
    /// use afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError> {
        loop {
            match self.next {
                Next::Family if self.at == self.input.len() => return Ok(None),
                Next::Family => self.read_family()?,
                Next::Help | Next::Unit | Next::Type => return Ok(Some(self.metadata())),
                Next::Metric => self.read_metric()?,
                Next::Histogram => return self.histogram().map(Some),
                Next::Line(number) => match self.line(number) {
                    Some(line) => {
                        self.next = Next::Line(number + 1);
                        return self.series(line).map(Some);
                    }
                    None => self.next = Next::Metric,
                },
            }
        }
    }

    /// Families without metrics are passed over, as if they were not there.
    fn read_family(&mut self) -> Result<(), WireError> {
        let end = protobuf::length(self.input, &mut self.at, self.input.len())
            .map_err(metric::malformed)?;
        self.family.read(self.input, self.at..end)?;
        self.at = end;
        self.next_metric = 0;
        if !self.family.metrics.is_empty() {
            self.family.check()?;
            self.next = Next::Help;
        }
        Ok(())
    }

    fn metadata(&mut self) -> Entry<'a> {
        let metric = Cow::Borrowed(self.family.name);
        let (entry, next) = match self.next {
            Next::Help => {
                let next = if self.family.unit.is_empty() { Next::Type } else { Next::Unit };
                (Entry::Help { metric, text: Cow::Borrowed(self.family.help) }, next)
            }
            Next::Unit => {
                (Entry::Unit { metric, unit: Cow::Borrowed(self.family.unit) }, Next::Type)
            }
            _ => (Entry::Type { metric, kind: self.family.kind }, Next::Metric),
        };
        self.next = next;
        entry
    }

    fn read_metric(&mut self) -> Result<(), WireError> {
        let Some(range) = self.family.metrics.get(self.next_metric).cloned() else {
            self.next = Next::Family;
            return Ok(());
        };
        self.next_metric += 1;
        self.metric.read(self.input, range, self.family.kind)?;
        let is_native = !self.options.ignore_native && self.metric.histogram.is_native();
        self.next = if is_native { Next::Histogram } else { Next::Line(0) };
        Ok(())
    }

    fn histogram(&mut self) -> Result<Entry<'_>, WireError> {
        let message = &self.metric.histogram;
        let is_classic_too = self.options.keep_classic && !message.buckets.is_empty();
        self.next = if is_classic_too { Next::Line(0) } else { Next::Metric };
        let histogram = message.to_native(self.family.kind == MetricType::GaugeHistogram);
        self.compose("", None)?;
        let end = self.text.len();
        self.read_native_exemplars()?;
        Ok(Entry::Histogram(HistogramSeries {
            raw: raw_series(&self.text, end, &self.labels, &self.name),
            exemplars: &self.exemplars,
            exemplar_labels: &self.exemplar_labels,
            histogram,
            timestamp_ms: self.metric.timestamp_ms(),
            start_timestamp_ms: self.metric.created_ms,
        }))
    }

    fn series(&mut self, line: Line) -> Result<Entry<'_>, WireError> {
        self.compose(line.suffix, line.bound)?;
        let end = self.text.len();
        self.exemplars.clear();
        self.exemplar_labels.clear();
        if let Some(range) = line.exemplar {
            self.read_exemplar(range, false)?;
        }
        let exemplar = self.exemplars.first().map(|raw| Exemplar {
            input: &self.text,
            labels: &self.exemplar_labels,
            is_verbatim: true,
            value: raw.value,
            timestamp_ms: raw.timestamp_ms,
        });
        Ok(Entry::Series(Series {
            raw: raw_series(&self.text, end, &self.labels, &self.name),
            value: line.value,
            timestamp_ms: self.metric.timestamp_ms(),
            start_timestamp_ms: self.metric.created_ms,
            exemplar,
        }))
    }

    /// Line `number` of the metric as text would have them; `None` behind the last one.
    fn line(&self, number: usize) -> Option<Line> {
        let metric = &self.metric;
        match (self.family.kind, number) {
            (MetricType::Summary, 0) => Some(Line::new("_count", metric.summary_count as f64)),
            (MetricType::Summary, 1) => Some(Line::new("_sum", metric.summary_sum)),
            (MetricType::Summary, _) => {
                let &(quantile, value) = metric.quantiles.get(number - 2)?;
                Some(Line { bound: Some(("quantile", quantile)), ..Line::new("", value) })
            }
            (MetricType::Histogram | MetricType::GaugeHistogram, _) => self.classic_line(number),
            (_, 0) => {
                Some(Line { exemplar: metric.exemplar.clone(), ..Line::new("", metric.value) })
            }
            _ => None,
        }
    }

    fn classic_line(&self, number: usize) -> Option<Line> {
        let message = &self.metric.histogram;
        let bound = |bound: f64| Some(("le", bound));
        // What stands behind the bucket of all observations is none.
        let finite = message.buckets.iter().position(|bucket| bucket.upper_bound == f64::INFINITY);
        let finite = finite.unwrap_or(message.buckets.len());
        let place = match number {
            0 => return Some(Line::new("_count", message.observations())),
            1 => return Some(Line::new("_sum", message.sum)),
            _ => number - 2,
        };
        match message.buckets.get(place) {
            Some(bucket) if place <= finite => Some(Line {
                bound: bound(bucket.upper_bound),
                exemplar: bucket.exemplar.clone(),
                ..Line::new("_bucket", bucket.observations())
            }),
            None if place == finite => Some(Line {
                bound: bound(f64::INFINITY),
                ..Line::new("_bucket", message.observations())
            }),
            _ => None,
        }
    }

    /// Writes name and labels of the line at hand into `text`.
    fn compose(
        &mut self,
        suffix: &str,
        bound: Option<(&'static str, f64)>,
    ) -> Result<(), WireError> {
        self.text.clear();
        self.labels.clear();
        self.text.extend_from_slice(self.family.name.as_bytes());
        self.text.extend_from_slice(suffix.as_bytes());
        self.name = 0..self.text.len();
        let (mut kind, mut unit) = ("", "");
        if self.options.type_and_unit_labels {
            (kind, unit) = (type_label(self.family.kind), self.family.unit);
        }
        for (name, value) in [(TYPE, kind), (UNIT, unit)] {
            if !value.is_empty() {
                push_label(&mut self.text, &mut self.labels, name.as_bytes(), value.as_bytes());
            }
        }
        for label in &self.metric.labels {
            let (name, value) = (&self.input[label.name.clone()], &self.input[label.value.clone()]);
            let is_replaced = match name {
                b"__name__" => self.options.type_and_unit_labels,
                b"__type__" => !kind.is_empty(),
                b"__unit__" => !unit.is_empty(),
                _ => false,
            };
            if !is_replaced {
                push_label(&mut self.text, &mut self.labels, name, value);
            }
        }
        if let Some((name, bound)) = bound {
            let value = bound_text(bound);
            push_label(&mut self.text, &mut self.labels, name.as_bytes(), value.as_bytes());
        }
        self.spend(self.text.len())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), WireError> {
        let left = self.copies_left.checked_sub(bytes);
        self.copies_left = left.ok_or_else(|| WireError::Limit {
            what: "size of an exposition with its labels repeated for each line".to_owned(),
            limit: format!("{} bytes", self.input.len().saturating_mul(MAX_COPIES)),
            remedy: "shorten the labels of histograms with many buckets",
        })?;
        Ok(())
    }

    /// Exemplars of a native histogram are its own, or else those of its classic buckets; only
    /// those that have a time.
    fn read_native_exemplars(&mut self) -> Result<(), WireError> {
        self.exemplars.clear();
        self.exemplar_labels.clear();
        let message = &self.metric.histogram;
        let ranges: Vec<Range<usize>> = if message.exemplars.is_empty() {
            message.buckets.iter().filter_map(|bucket| bucket.exemplar.clone()).collect()
        } else {
            message.exemplars.clone()
        };
        ranges.into_iter().try_for_each(|range| self.read_exemplar(range, true))
    }

    fn read_exemplar(&mut self, range: Range<usize>, needs_time: bool) -> Result<(), WireError> {
        let exemplar = ExemplarMessage::read(self.input, range)?;
        if needs_time && exemplar.timestamp_ms.is_none() {
            return Ok(());
        }
        let start = self.exemplar_labels.len();
        let text_start = self.text.len();
        for label in &exemplar.labels {
            let (name, value) = (&self.input[label.name.clone()], &self.input[label.value.clone()]);
            push_label(&mut self.text, &mut self.exemplar_labels, name, value);
        }
        self.exemplars.push(RawExemplar {
            labels: start..self.exemplar_labels.len(),
            value: exemplar.value,
            timestamp_ms: exemplar.timestamp_ms,
        });
        self.spend(self.text.len() - text_start)
    }
}

fn raw_series<'p>(
    text: &'p [u8],
    end: usize,
    labels: &'p [RawLabel],
    name: &'p Range<usize>,
) -> RawSeries<'p> {
    RawSeries {
        input: text,
        as_written: 0..end,
        labels,
        name,
        kind: MetricType::Unknown,
        is_verbatim: true,
    }
}

fn push_label(text: &mut Vec<u8>, labels: &mut Vec<RawLabel>, name: &[u8], value: &[u8]) {
    text.push(SEPARATOR);
    let start = text.len();
    text.extend_from_slice(name);
    let middle = text.len();
    text.push(SEPARATOR);
    text.extend_from_slice(value);
    labels.push(RawLabel { name: start..middle, value: middle + 1..text.len() });
}
