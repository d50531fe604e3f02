//! Metrics and their points to samples.
//!
//! ```text
//! Gauge   { repeated NumberDataPoint = 1 }     Summary { repeated SummaryDataPoint = 1 }
//! Sum     { repeated NumberDataPoint = 1; temporality = 2; bool is_monotonic = 3 }
//! Histogram, ExponentialHistogram { repeated …DataPoint = 1; temporality = 2 }
//!
//!                 Number   Histogram   Exponential   Summary
//! attributes         7          9            1          7
//! start, time ns   2, 3       2, 3         2, 3       2, 3      fixed64
//! flags              8         10           10          8       1 = no value
//! exemplars          5          8           11
//! ```

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{
    BucketLayout, Histogram, HistogramSample, IntegerHistogram, LabelForm, METRIC_NAME,
    MetricBatch, MetricMetadata, MetricType, STALE_NAN_BITS, SeriesRows, Span,
};

use super::attributes::{Attributes, sub_message};
use super::exemplars::PointExemplars;
use super::exponential::{Exponential, buckets};
use super::names::{self, Kind};
use super::resource::{Resource, rules};
use super::{Applied, Deltas, Options, Summary, malformed, shape, too_many_labels};
use crate::WireError;
use crate::histogram_fields::{check_count, doubles, sint32};
use crate::pair_rows::push_pair;
use crate::protobuf::{self, Fault, Field, each_message};
use crate::refusals::Refusals;
use crate::remote_write::MAX_METADATA;
use crate::type_and_unit;

const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// Turns a request into a batch.
pub(super) struct Translator<'a> {
    body: &'a [u8],
    options: &'a Options,
    max_label_bytes: usize,
    deltas: Option<&'a mut Deltas>,
    out: &'a mut MetricBatch,
    resource: Resource,
    attributes: Attributes,
    /// Labels of the point at hand, its series' names and own labels left out.
    base: Vec<u8>,
    /// The metric at hand.
    name: String,
    /// Its type and unit, where they become labels.
    described: Vec<(&'static str, String)>,
    is_delta: bool,
    /// Whether the points are of what began at zero once.
    accumulates: bool,
    /// The latest point of the resource at hand.
    latest_ms: Option<i64>,
    points: u64,
    exemplars: PointExemplars,
    refusals: Refusals,
    applied: Applied,
}

/// What all kinds of points have.
#[derive(Debug, Clone, Copy, Default)]
struct Common {
    start_ms: i64,
    t_ms: i64,
    has_no_value: bool,
}

/// Where a kind of point has what all kinds have.
struct Places {
    attributes: u64,
    flags: u64,
    /// 0 = none.
    exemplars: u64,
}

const NUMBER: Places = Places { attributes: 7, flags: 8, exemplars: 5 };
const HISTOGRAM: Places = Places { attributes: 9, flags: 10, exemplars: 8 };
const EXPONENTIAL: Places = Places { attributes: 1, flags: 10, exemplars: 11 };
const SUMMARY: Places = Places { attributes: 7, flags: 8, exemplars: 0 };
/// Bounds that let all exemplars pass, or none.
const ALL: f64 = f64::INFINITY;
const NO: f64 = f64::NAN;

impl<'a> Translator<'a> {
    pub(super) fn new(
        body: &'a [u8],
        options: &'a Options,
        max_label_bytes: usize,
        deltas: Option<&'a mut Deltas>,
        out: &'a mut MetricBatch,
    ) -> Self {
        Translator {
            body,
            options,
            max_label_bytes,
            deltas,
            out,
            resource: Resource::default(),
            attributes: Attributes::default(),
            base: Vec::new(),
            name: String::new(),
            described: Vec::new(),
            is_delta: false,
            accumulates: false,
            latest_ms: None,
            points: 0,
            exemplars: PointExemplars::default(),
            refusals: Refusals::default(),
            applied: Applied::default(),
        }
    }

    pub(super) fn into_summary(self) -> Summary {
        Summary {
            points: self.points,
            exemplars: self.out.exemplars.len(),
            exemplars_left_out: self.exemplars.left_out,
            refusals: self.refusals,
            applied: self.applied,
        }
    }

    pub(super) fn request(&mut self) -> Result<(), WireError> {
        self.each(0..self.body.len(), &[1], |this, _, message| this.resource_metrics(message))
    }

    /// Shows `visit` number and range of each message among the fields `wanted` of a message.
    fn each(
        &mut self,
        message: Range<usize>,
        wanted: &[u64],
        mut visit: impl FnMut(&mut Self, u64, Range<usize>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut at = message.start;
        while at < message.end {
            let field_start = at;
            match protobuf::field(self.body, &mut at, message.end).map_err(malformed)? {
                (number, Field::Bytes { start, end }) if wanted.contains(&number) => {
                    visit(self, number, start..end)?;
                }
                (number, _) if wanted.contains(&number) => {
                    return Err(malformed((field_start, "field is no message")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn resource_metrics(&mut self, message: Range<usize>) -> Result<(), WireError> {
        self.resource.read(self.body, message.clone(), self.options).map_err(malformed)?;
        self.latest_ms = None;
        self.each(message, &[2], |this, _, scope| {
            this.resource.read_scope(this.body, scope.clone(), this.options).map_err(malformed)?;
            this.each(scope, &[2], |this, _, metric| this.metric(metric))
        })?;
        let Some(t_ms) = self.latest_ms else { return Ok(()) };
        let start = self.out.label_bytes.len();
        if self.resource.write_target_info(self.options, &mut self.out.label_bytes) {
            self.push_row(start, t_ms, 1.0)?;
        }
        Ok(())
    }

    fn metric(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let text = |number| -> Result<&'a str, Fault> {
            let range = sub_message(self.body, message.clone(), number)?.unwrap_or(0..0);
            let start = range.start;
            std::str::from_utf8(&self.body[range]).map_err(|_| (start, "text is not valid UTF-8"))
        };
        let (name, help) = (text(1).map_err(malformed)?, text(2).map_err(malformed)?);
        let unit = text(3).map_err(malformed)?;
        self.each(message, &[5, 7, 9, 10, 11], |this, number, data| {
            let (temporality, is_monotonic) = shape(this.body, data.clone()).map_err(malformed)?;
            let has_temporality = matches!(number, 7 | 9 | 10);
            this.is_delta = has_temporality && temporality == DELTA;
            this.accumulates = number != 5;
            let (kind, metadata_kind) = match number {
                5 => (Kind::Gauge, MetricType::Gauge),
                7 if is_monotonic => (Kind::Counter, MetricType::Counter),
                7 => (Kind::Other, MetricType::Gauge),
                11 => (Kind::Other, MetricType::Summary),
                _ => (Kind::Other, MetricType::Histogram),
            };
            let strategy = this.options.translation_strategy;
            let Some(built) = names::metric_name(name, unit, kind, strategy) else {
                return this.refuse_all(data, "nothing is left of a metric's name", name);
            };
            if has_temporality && !matches!(temporality, DELTA | CUMULATIVE) {
                return this.refuse_all(data, "a metric without aggregation temporality", name);
            }
            this.name = built;
            this.describe(metadata_kind, help, unit)?;
            this.each(data, &[1], |this, _, point| match number {
                5 | 7 => this.number_point(point),
                9 => this.histogram_point(point),
                10 => this.exponential_point(point),
                _ => this.summary_point(point),
            })
        })
    }

    /// Counts all points of a metric as refused.
    fn refuse_all(
        &mut self,
        data: Range<usize>,
        reason: &str,
        name: &str,
    ) -> Result<(), WireError> {
        self.each(data, &[1], |this, _, _| {
            this.refusals.add(reason, 1, 0, || name.to_owned());
            Ok(())
        })
    }

    fn describe(&mut self, kind: MetricType, help: &str, unit: &str) -> Result<(), WireError> {
        self.described.clear();
        if self.options.type_and_unit_labels {
            let unit = names::unit_name(unit);
            let own =
                type_and_unit::labels_of(kind, &unit).map(|(name, value)| (name, value.into()));
            self.described.extend(own);
        }
        if self.out.metadata.last().is_some_and(|last| last.metric == self.name) {
            return Ok(());
        }
        if self.out.metadata.len() == MAX_METADATA {
            return Err(WireError::Limit {
                what: "number of metrics in an OTLP request".to_owned(),
                limit: MAX_METADATA.to_string(),
                remedy: "let the sender export smaller batches",
            });
        }
        self.out.metadata.push(MetricMetadata {
            metric: self.name.clone(),
            kind,
            help: help.to_owned(),
            unit: names::unit_name(unit),
        });
        Ok(())
    }

    /// Takes a field that all kinds of points have; `false` if it is none.
    #[inline]
    fn common_field(
        &mut self,
        places: &Places,
        common: &mut Common,
        number: u64,
        field: Field,
    ) -> Result<bool, Fault> {
        match (number, field) {
            (2, Field::Fixed64(ns)) => common.start_ms = (ns / 1_000_000) as i64,
            (3, Field::Fixed64(ns)) => common.t_ms = (ns / 1_000_000) as i64,
            (number, Field::Bytes { start, end }) if number == places.attributes => {
                self.attributes.read(self.body, start..end, rules(self.options))?;
            }
            (number, Field::Varint(flags)) if number == places.flags => {
                common.has_no_value = flags & 1 == 1;
            }
            (number, Field::Bytes { start, end }) if number == places.exemplars => {
                self.exemplars.add(start..end);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a point: what all have into the result, everything else into `take`.
    fn point(
        &mut self,
        message: Range<usize>,
        places: &Places,
        mut take: impl FnMut(&[u8], u64, Field) -> Result<(), Fault>,
    ) -> Result<Common, WireError> {
        self.attributes.clear();
        self.exemplars.clear();
        let mut common = Common::default();
        let mut at = message.start;
        while at < message.end {
            let (number, field) =
                protobuf::field(self.body, &mut at, message.end).map_err(malformed)?;
            if !self.common_field(places, &mut common, number, field).map_err(malformed)? {
                take(self.body, number, field).map_err(malformed)?;
            }
        }
        self.attributes.unite_names();
        let rules = rules(self.options);
        self.exemplars.read(self.body, rules, self.out).map_err(malformed)?;
        self.points += 1;
        self.latest_ms = self.latest_ms.max(Some(common.t_ms));
        Ok(common)
    }

    /// Writes the labels that all series of the point at hand have, but for one that its series
    /// have themselves.
    fn write_base(&mut self, own: &[u8]) {
        self.base.clear();
        let shared = &self.resource.shared;
        let is_described =
            |name: &[u8]| self.described.iter().any(|(known, _)| known.as_bytes() == name);
        let is_fixed =
            |name: &[u8]| shared.fixed.iter().any(|(known, _)| known == name) || is_described(name);
        for (_, name, value) in self.attributes.iter() {
            if name != own && name != METRIC_NAME.as_bytes() && !is_fixed(name) {
                push_pair(&mut self.base, name, value);
            }
        }
        for (name, value) in &shared.promoted {
            let is_taken = self.attributes.iter().any(|(_, taken, _)| taken == name);
            if name != own && name != METRIC_NAME.as_bytes() && !is_taken && !is_fixed(name) {
                push_pair(&mut self.base, name, value);
            }
        }
        for (name, value) in shared.fixed.iter().filter(|(name, _)| name != own) {
            if !is_described(name) {
                push_pair(&mut self.base, name, value);
            }
        }
        for (name, value) in &self.described {
            push_pair(&mut self.base, name.as_bytes(), value.as_bytes());
        }
    }

    /// Writes the labels of one series of the point at hand; yields where they begin.
    fn write_labels(&mut self, suffix: &str, own: Option<(&str, &str)>) -> usize {
        let out = &mut self.out.label_bytes;
        let start = out.len();
        let name = METRIC_NAME.as_bytes();
        protobuf::push_varint(out, name.len() as u64);
        out.extend_from_slice(name);
        protobuf::push_varint(out, (self.name.len() + suffix.len()) as u64);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        out.extend_from_slice(&self.base);
        if let Some((name, value)) = own {
            push_pair(out, name.as_bytes(), value.as_bytes());
        }
        start
    }

    /// Appends a float of the series whose labels begin at `start` and end with all labels.
    fn push_row(&mut self, start: usize, t_ms: i64, value: f64) -> Result<(), WireError> {
        let out = &mut *self.out;
        if out.label_bytes.len() > self.max_label_bytes {
            return Err(too_many_labels(self.max_label_bytes));
        }
        // The casts are exact: labels are below half of u32::MAX bytes, and each row has some.
        out.series.push(SeriesRows {
            labels_start: start as u32,
            labels_len: (out.label_bytes.len() - start) as u32,
            form: LabelForm::Pairs,
            first_row: out.timestamps_ms.len() as u32,
            rows: 1,
        });
        out.timestamps_ms.push(t_ms);
        out.values.push(value);
        Ok(())
    }

    /// One float of the point at hand; a delta becomes a total. Its series gets the exemplars up to
    /// the value `bound` that no series before has.
    fn float(
        &mut self,
        common: Common,
        suffix: &str,
        own: Option<(&str, &str)>,
        value: f64,
        bound: f64,
    ) -> Result<(), WireError> {
        let start = self.write_labels(suffix, own);
        let value = if common.has_no_value {
            f64::from_bits(STALE_NAN_BITS)
        } else if self.is_delta {
            match self.total(start, common.t_ms, value) {
                Ok(total) => total,
                Err(reason) => {
                    self.out.label_bytes.truncate(start);
                    self.refusals.add(&reason, 1, 0, || self.name.clone());
                    return Ok(());
                }
            }
        } else {
            value
        };
        self.push_row(start, common.t_ms, value)?;
        // The start of a delta is that of its own interval, not that of the total; what is measured
        // anew each time began nowhere.
        if self.accumulates && !self.is_delta && !common.has_no_value {
            self.out.set_last_start(common.start_ms);
        }
        let series = (start as u32, (self.out.label_bytes.len() - start) as u32);
        self.exemplars.give(bound, series, common.t_ms, self.out);
        Ok(())
    }

    fn total(&mut self, start: usize, t_ms: i64, delta: f64) -> Result<f64, Cow<'static, str>> {
        let deltas = self.deltas.as_deref_mut().ok_or(NO_DELTAS)?;
        let labels = &self.out.label_bytes[start..];
        deltas.add_float(labels, t_ms, delta, &mut self.applied)
    }

    fn number_point(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let mut value = 0.0;
        let common = self.point(message, &NUMBER, |_, number, field| {
            match (number, field) {
                (4, Field::Fixed64(bits)) => value = f64::from_bits(bits),
                (6, Field::Fixed64(bits)) => value = bits.cast_signed() as f64,
                _ => {}
            }
            Ok(())
        })?;
        self.write_base(b"");
        self.float(common, "", None, value, ALL)
    }

    fn histogram_point(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let (mut count, mut sum) = (0_u64, None);
        let (mut counts, mut bounds) = (Vec::new(), Vec::new());
        let common = self.point(message, &HISTOGRAM, |body, number, field| {
            match (number, field) {
                (4, Field::Fixed64(bits)) => count = bits,
                (5, Field::Fixed64(bits)) => sum = Some(f64::from_bits(bits)),
                (6, Field::Fixed64(bits)) => counts.push(bits),
                (6, Field::Bytes { start, end }) => {
                    let mut at = start;
                    while at < end {
                        counts.push(protobuf::fixed64(body, &mut at, end)?);
                    }
                }
                (7, Field::Fixed64(bits)) => bounds.push(f64::from_bits(bits)),
                (7, Field::Bytes { start, end }) => doubles(body, start, end, &mut bounds)?,
                _ => {}
            }
            Ok(())
        })?;
        let is_cumulative = !self.is_delta;
        if self.options.convert_histograms_to_nhcb && is_cumulative {
            return self.custom_histogram(common, count, sum, counts, bounds);
        }
        self.write_base(b"le");
        if let Some(sum) = sum {
            self.float(common, "_sum", None, sum, NO)?;
        }
        self.float(common, "_count", None, count as f64, NO)?;
        let mut below = 0_u64;
        for (bound, bucket) in bounds.iter().zip(&counts) {
            below = below.saturating_add(*bucket);
            let le = bound.to_string();
            self.float(common, "_bucket", Some(("le", &le)), below as f64, *bound)?;
        }
        self.float(common, "_bucket", Some(("le", "+Inf")), count as f64, ALL)
    }

    /// An explicit histogram as a native one with custom buckets.
    fn custom_histogram(
        &mut self,
        common: Common,
        count: u64,
        sum: Option<f64>,
        counts: Vec<u64>,
        mut bounds: Vec<f64>,
    ) -> Result<(), WireError> {
        self.write_base(b"");
        // The last bucket reaches to infinity without saying so.
        if bounds.last() == Some(&f64::INFINITY) {
            bounds.pop();
        }
        let layout = BucketLayout {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive: vec![Span { offset: 0, len: counts.len() as u32 }],
            custom_bounds: bounds,
            ..BucketLayout::default()
        };
        let mut histogram = IntegerHistogram {
            layout: Arc::new(layout),
            reset_hint: model::ResetHint::Unknown,
            count,
            zero_count: 0,
            sum: sum.unwrap_or(0.0),
            positive: counts,
            negative: Vec::new(),
        };
        if common.has_no_value {
            histogram.sum = f64::from_bits(STALE_NAN_BITS);
        }
        self.push_histogram(common, Histogram::Integer(histogram))
    }

    fn exponential_point(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let mut point = Exponential::default();
        let common = self.point(message, &EXPONENTIAL, |body, number, field| {
            match (number, field) {
                (4, Field::Fixed64(bits)) => point.count = bits,
                (5, Field::Fixed64(bits)) => point.sum = f64::from_bits(bits),
                (6, Field::Varint(scale)) => point.scale = sint32(scale),
                (7, Field::Fixed64(bits)) => point.zero_count = bits,
                (8, Field::Bytes { start, end }) => {
                    buckets(body, start..end, &mut point.positive)?;
                }
                (9, Field::Bytes { start, end }) => {
                    buckets(body, start..end, &mut point.negative)?;
                }
                (14, Field::Fixed64(bits)) => point.zero_threshold = f64::from_bits(bits),
                _ => {}
            }
            Ok(())
        })?;
        self.write_base(b"");
        if common.has_no_value {
            point = Exponential { sum: f64::from_bits(STALE_NAN_BITS), ..Exponential::default() };
        }
        let is_delta = self.is_delta && !common.has_no_value;
        let native = if is_delta {
            let start = self.write_labels("", None);
            let total = point.counts().map_err(Cow::from).and_then(|counts| {
                let deltas = self.deltas.as_deref_mut().ok_or(NO_DELTAS)?;
                let labels = &self.out.label_bytes[start..];
                deltas.add_histogram(labels, common.t_ms, &counts, &mut self.applied)
            });
            self.out.label_bytes.truncate(start);
            total
        } else {
            point.to_native().map_err(Cow::from)
        };
        match native {
            Ok(histogram) => self.push_histogram(common, histogram),
            Err(reason) => {
                self.refusals.add(&reason, 1, 1, || self.name.clone());
                Ok(())
            }
        }
    }

    fn push_histogram(&mut self, common: Common, histogram: Histogram) -> Result<(), WireError> {
        check_count(self.out.histograms.len())?;
        let start = self.write_labels("", None);
        if self.out.label_bytes.len() > self.max_label_bytes {
            return Err(too_many_labels(self.max_label_bytes));
        }
        // The start of a delta is that of its own interval, not that of the total.
        let start_ms = (common.start_ms != 0 && !self.is_delta).then_some(common.start_ms);
        let series = (start as u32, (self.out.label_bytes.len() - start) as u32);
        self.exemplars.give(ALL, series, common.t_ms, self.out);
        self.out.histograms.push(HistogramSample {
            labels_start: series.0,
            labels_len: series.1,
            form: LabelForm::Pairs,
            t_ms: common.t_ms,
            start_ms,
            histogram,
        });
        Ok(())
    }

    fn summary_point(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let (mut count, mut sum) = (0_u64, 0.0);
        let mut quantiles = Vec::new();
        let common = self.point(message, &SUMMARY, |body, number, field| {
            match (number, field) {
                (4, Field::Fixed64(bits)) => count = bits,
                (5, Field::Fixed64(bits)) => sum = f64::from_bits(bits),
                (6, Field::Bytes { start, end }) => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    each_message(body, start..end, |number, field| {
                        match (number, field) {
                            (1, Field::Fixed64(bits)) => quantile = f64::from_bits(bits),
                            (2, Field::Fixed64(bits)) => value = f64::from_bits(bits),
                            _ => {}
                        }
                        Ok(())
                    })?;
                    quantiles.push((quantile, value));
                }
                _ => {}
            }
            Ok(())
        })?;
        self.write_base(b"quantile");
        self.float(common, "_sum", None, sum, NO)?;
        self.float(common, "_count", None, count as f64, NO)?;
        for (quantile, value) in quantiles {
            let quantile = quantile.to_string();
            self.float(common, "", Some(("quantile", &quantile)), value, NO)?;
        }
        Ok(())
    }
}

const NO_DELTAS: &str = "deltas are not taken here";
