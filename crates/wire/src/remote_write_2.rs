//! Prometheus remote write 2.0: the protobuf message `io.prometheus.write.v2.Request`.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/> and Prometheus'
//! `prompb/io/prometheus/write/v2/types.proto`:
//!
//! ```text
//! Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5 }
//! TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2;
//!              repeated Histogram histograms = 3; repeated Exemplar exemplars = 4;
//!              Metadata metadata = 5; int64 created_timestamp = 6, of older senders }
//! Sample     { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3 }
//! Metadata   { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4 }
//! ```
//!
//! Histograms are those of 1.0, see their own file. A reference is an index into the symbols.

use std::ops::Range;

use model::{
    HistogramSample, LabelForm, Limits, METRIC_NAME, MetricBatch, MetricMetadata, MetricType,
    SeriesRows,
};

use crate::exemplar_rows::{self, name_series};
use crate::histogram_fields::check_count;
use crate::protobuf::{self, Fault, Field, length, varint};
use crate::refusals::Refusals;
use crate::remote_write::{MAX_METADATA, metric_type, sample};
use crate::{WireError, remote_write_histogram, type_and_unit};

/// How many times the largest body the labels of a request may take once they are written out.
/// Symbols save a factor of three to eight with ordinary labels.
const LABELS_RATIO: usize = 4;

/// Longest help text and unit that are read; whoever keeps metadata keeps no more of them.
const MAX_HELP_BYTES: usize = 4_096;
const MAX_UNIT_BYTES: usize = 256;

/// Symbols up to this length, length byte included, are copied in one step of a fixed size.
const STEP_BYTES: usize = 32;

/// Room for labels to begin with; it doubles from there.
const FIRST_LABEL_BYTES: usize = 16 << 10;

const TAG_SYMBOL: u8 = 4 << 3 | 2;
const TAG_SERIES: u8 = 5 << 3 | 2;
const TAG_REFS: u8 = 1 << 3 | 2;
const TAG_SAMPLE: u8 = 2 << 3 | 2;
const TAG_METADATA: u8 = 5 << 3 | 2;

/// How a request becomes series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Give each series whose metadata tells a type or a unit these as labels `__type__` and
    /// `__unit__`, in place of labels of these names that it has itself.
    pub type_and_unit_labels: bool,
}

/// What one request held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Floats put into the batch.
    pub floats: usize,
    /// Native histograms put into the batch.
    pub histograms: usize,
    /// Metadata entries put into the batch: one per metric, however many series it has.
    pub metadata: usize,
    /// Exemplars put into the batch.
    pub exemplars: usize,
    /// Exemplars left out because there are too many.
    pub exemplars_left_out: u64,
    /// Series that can never be stored; the others are in the batch.
    pub refusals: Refusals,
}

/// Decodes a decompressed body into `out`, which is emptied first.
///
/// Labels are written out from the symbols, in [`LabelForm::Pairs`], unchecked; they take at most
/// four times `limits.max_body_bytes`. A series or an exemplar with references that lead nowhere is
/// refused alone. A series with exemplars and no sample is taken: whether there are samples that
/// they are examples of, a store knows. One without anything but metadata yields that. Native histograms are not validated.
/// About 90 ns per series of ten labels and one sample.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no `Request`, [`WireError::Limit`] for a body or
/// labels that are too large, too much metadata or too many histograms. `out` is then empty.
pub fn decode(
    body: &[u8],
    options: Options,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Summary, WireError> {
    out.clear();
    let max_label_bytes =
        limits.max_body_bytes.saturating_mul(LABELS_RATIO).min((u32::MAX / 2) as usize);
    if body.len() > limits.max_body_bytes.min((u32::MAX / 2) as usize) {
        return Err(too_large(
            format!("remote write body of {} bytes", body.len()),
            limits.max_body_bytes,
        ));
    }
    let symbols = Symbols::read(body).map_err(malformed)?;
    let mut decoder = Decoder {
        body,
        options,
        symbols,
        max_label_bytes,
        metadata_bytes: 0,
        label_bytes: std::mem::take(&mut out.label_bytes),
        labels_end: 0,
        refs: Vec::with_capacity(64),
        own_refs: Vec::new(),
        described: Vec::new(),
        out,
        summary: Summary::default(),
    };
    let decoded = decoder.request();
    let Decoder { mut label_bytes, labels_end, mut summary, out, .. } = decoder;
    label_bytes.truncate(labels_end);
    out.label_bytes = label_bytes;
    if let Err(error) = decoded {
        out.clear();
        return Err(error);
    }
    summary.floats = out.rows();
    summary.histograms = out.histograms.len();
    summary.metadata = out.metadata.len();
    summary.exemplars = out.exemplars.len();
    Ok(summary)
}

fn malformed((offset, reason): Fault) -> WireError {
    WireError::Malformed { format: "remote write 2.0 request", offset, reason }
}

fn too_large(what: String, limit: usize) -> WireError {
    WireError::Limit {
        what,
        limit: format!("{limit} bytes"),
        remedy: "lower the sender's `queue_config.max_samples_per_send` or raise \
                 `limits.max_body_bytes`",
    }
}

/// The strings that series refer to.
struct Symbols {
    /// Where each lies in the body, from its length on, which is how labels begin in
    /// [`LabelForm::Pairs`] as well.
    spans: Vec<(u32, u32)>,
    /// The reference to the name of the label that holds the metric's name.
    metric_name: Option<u32>,
}

impl Symbols {
    /// Finds all symbols, wherever they stand among the series.
    fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut symbols = Symbols { spans: Vec::new(), metric_name: None };
        let mut at = 0;
        while at < body.len() {
            let start = at;
            // Fast path: both fields of a request have a tag of one byte.
            if matches!(body[at], TAG_SYMBOL | TAG_SERIES) {
                at += 1;
                let end = length(body, &mut at, body.len())?;
                if body[start] == TAG_SYMBOL {
                    if body[at..end] == *METRIC_NAME.as_bytes() {
                        symbols.metric_name.get_or_insert(symbols.spans.len() as u32);
                    }
                    // The casts are exact: the body is below half of u32::MAX bytes.
                    symbols.spans.push((start as u32 + 1, end as u32));
                }
                at = end;
                continue;
            }
            if let (4 | 5, _) = protobuf::field(body, &mut at, body.len())? {
                return Err((start, "field is neither string nor message"));
            }
        }
        Ok(symbols)
    }

    /// The text of a symbol, cut off behind `most` bytes; the empty one where the reference leads
    /// nowhere. What is cut off is not looked at: many metrics may share one symbol.
    fn text<'b>(&self, body: &'b [u8], reference: u32, most: usize) -> Result<&'b str, Fault> {
        let Some(&(start, end)) = self.spans.get(reference as usize) else {
            return Ok("");
        };
        let mut at = start as usize;
        length(body, &mut at, end as usize)?;
        let whole = &body[at..end as usize];
        let bytes = &whole[..whole.len().min(most)];
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            // The cut went through a character.
            Err(error) if bytes.len() < whole.len() && error.error_len().is_none() => {
                let kept = &bytes[..error.valid_up_to()];
                Ok(std::str::from_utf8(kept).expect("valid up to there"))
            }
            Err(_) => Err((at, "metadata is not valid UTF-8")),
        }
    }
}

struct Decoder<'b, 'o> {
    body: &'b [u8],
    options: Options,
    symbols: Symbols,
    max_label_bytes: usize,
    /// Names, help texts and units in the batch; they may take as much as labels.
    metadata_bytes: usize,
    /// Labels written out, up to `labels_end`; what lies behind is room.
    label_bytes: Vec<u8>,
    labels_end: usize,
    /// References of the series at hand.
    refs: Vec<u32>,
    /// References of the exemplar at hand.
    own_refs: Vec<u32>,
    /// For each symbol one more than the index of the metadata of the metric it names; 0 = none.
    described: Vec<u32>,
    out: &'o mut MetricBatch,
    summary: Summary,
}

/// The fields of a series that are rare.
#[derive(Default)]
struct Rest {
    metadata: Option<(MetricType, u32, u32)>,
    created_ms: i64,
}

impl Decoder<'_, '_> {
    fn request(&mut self) -> Result<(), WireError> {
        let mut at = 0;
        while at < self.body.len() {
            let tag = self.body[at];
            if matches!(tag, TAG_SYMBOL | TAG_SERIES) {
                at += 1;
                let end = length(self.body, &mut at, self.body.len()).map_err(malformed)?;
                if tag == TAG_SERIES {
                    self.time_series(at, end)?;
                }
                at = end;
                continue;
            }
            protobuf::field(self.body, &mut at, self.body.len()).map_err(malformed)?;
        }
        Ok(())
    }

    #[inline]
    fn time_series(&mut self, start: usize, end: usize) -> Result<(), WireError> {
        let body = self.body;
        let first_row = self.out.timestamps_ms.len();
        let first_histogram = self.out.histograms.len();
        let first_exemplar = self.out.exemplars.len();
        let mut at = start;
        self.refs.clear();
        // Fast path: references, then samples, then perhaps metadata, as every known sender
        // writes them.
        if at < end && body[at] == TAG_REFS {
            at += 1;
            at = read_refs(body, &mut at, end, &mut self.refs).map_err(malformed)?;
        }
        while at < end && body[at] == TAG_SAMPLE {
            at += 1;
            let sample_end = length(body, &mut at, end).map_err(malformed)?;
            sample::<true>(body, at, sample_end, self.out).map_err(malformed)?;
            at = sample_end;
        }
        let mut rest = Rest::default();
        while at < end {
            self.other_field(&mut at, end, &mut rest)?;
        }
        let rows = self.out.timestamps_ms.len() - first_row;
        let histograms = self.out.histograms.len() - first_histogram;
        let labels = match (self.write_labels()?, rest.metadata) {
            (Ok(labels), Some(metadata)) if self.options.type_and_unit_labels => {
                self.write_described(labels, metadata)?
            }
            (Ok(labels), _) => labels,
            (Err(reason), _) => {
                self.refuse(reason, first_row, first_histogram);
                self.out.exemplars.truncate(first_exemplar);
                return Ok(());
            }
        };
        if let Some(metadata) = rest.metadata {
            self.describe(metadata)?;
        }
        if self.out.exemplars.len() > first_exemplar {
            name_series(self.out, first_exemplar, labels, LabelForm::Pairs);
        } else if rows + histograms == 0 {
            self.labels_end = labels.0 as usize;
        }
        for sample in &mut self.out.histograms[first_histogram..] {
            (sample.labels_start, sample.labels_len) = labels;
            if rest.created_ms != 0 {
                sample.start_ms.get_or_insert(rest.created_ms);
            }
        }
        if rest.created_ms != 0 {
            self.begin_all(first_row, rest.created_ms);
        }
        if rows > 0 {
            // The casts are exact: a row takes two bytes of a body below half of u32::MAX.
            self.out.series.push(SeriesRows {
                labels_start: labels.0,
                labels_len: labels.1,
                form: LabelForm::Pairs,
                first_row: first_row as u32,
                rows: rows as u32,
            });
        }
        Ok(())
    }

    /// Says when the values of the series at hand began, of those that do not say it themselves.
    #[cold]
    fn begin_all(&mut self, first_row: usize, created_ms: i64) {
        self.out.starts_ms.resize(self.out.timestamps_ms.len(), 0);
        let own = &mut self.out.starts_ms[first_row..];
        own.iter_mut().filter(|start_ms| **start_ms == 0).for_each(|own| *own = created_ms);
    }

    /// Takes one field of a series that is not where it usually is.
    fn other_field(
        &mut self,
        at: &mut usize,
        end: usize,
        rest: &mut Rest,
    ) -> Result<(), WireError> {
        let body = self.body;
        let start = *at;
        if body[start] == TAG_METADATA {
            *at += 1;
            let metadata_end = length(body, at, end).map_err(malformed)?;
            rest.metadata = Some(metadata(body, *at, metadata_end).map_err(malformed)?);
            *at = metadata_end;
            return Ok(());
        }
        match protobuf::field(body, at, end).map_err(malformed)? {
            (1, Field::Bytes { start, end }) => {
                refs_of(body, start, end, &mut self.refs).map_err(malformed)?;
            }
            (1, Field::Varint(reference)) => self.refs.push(truncated(reference)),
            (2, Field::Bytes { start, end }) => {
                sample::<true>(body, start, end, self.out).map_err(malformed)?;
            }
            (3, Field::Bytes { start, end }) => {
                check_count(self.out.histograms.len())?;
                let (t_ms, start_ms, histogram) =
                    remote_write_histogram::decode(body, start, end).map_err(malformed)?;
                let form = LabelForm::Pairs;
                let (labels_start, labels_len) = (0, 0);
                self.out.histograms.push(HistogramSample {
                    labels_start,
                    labels_len,
                    form,
                    t_ms,
                    start_ms,
                    histogram,
                });
            }
            (4, Field::Bytes { start, end }) => self.exemplar(start..end)?,
            (6, Field::Varint(t_ms)) => rest.created_ms = t_ms as i64,
            (1..=6, _) => return Err(malformed((start, "field of a series has the wrong type"))),
            _ => {}
        }
        Ok(())
    }

    /// Reads an `Exemplar`, whose labels are references as well, and appends it.
    #[cold]
    fn exemplar(&mut self, message: Range<usize>) -> Result<(), WireError> {
        let (body, own_refs) = (self.body, &mut self.own_refs);
        own_refs.clear();
        let observed = exemplar_rows::remote_write(body, message, |at, field| match field {
            Field::Bytes { start, end } => refs_of(body, start, end, own_refs),
            Field::Varint(reference) => {
                own_refs.push(truncated(reference));
                Ok(())
            }
            _ => Err((at, "labels of an exemplar are no references")),
        });
        let observed = observed.map_err(malformed)?;
        std::mem::swap(&mut self.refs, &mut self.own_refs);
        let labels = self.write_labels();
        std::mem::swap(&mut self.refs, &mut self.own_refs);
        match labels? {
            Ok((start, len)) => {
                let own = start as usize..start as usize + len as usize;
                if !exemplar_rows::push(self.out, (own, LabelForm::Pairs), observed, 0) {
                    self.labels_end = start as usize;
                    self.summary.exemplars_left_out += 1;
                }
            }
            // The series may not be named yet.
            Err(reason) => {
                self.summary.refusals.add(&format!("in an exemplar, {reason}"), 0, 0, String::new);
            }
        }
        Ok(())
    }

    /// Writes the labels of the series at hand out; yields where they lie, or why they cannot be.
    #[inline]
    fn write_labels(&mut self) -> Result<Result<(u32, u32), &'static str>, WireError> {
        if !self.refs.len().is_multiple_of(2) {
            return Ok(Err("a label reference without its partner: there must be two per label"));
        }
        let start = self.labels_end;
        for &reference in &self.refs {
            let Some(&(from, to)) = self.symbols.spans.get(reference as usize) else {
                self.labels_end = start;
                return Ok(Err("a label reference points outside the symbols of the request"));
            };
            let (from, to) = (from as usize, to as usize);
            let (len, room) = (to - from, self.label_bytes.len() - self.labels_end);
            // Fast path: a copy of constant length, which needs no call.
            if len <= STEP_BYTES && room >= STEP_BYTES && from + STEP_BYTES <= self.body.len() {
                let place = self.labels_end..self.labels_end + STEP_BYTES;
                self.label_bytes[place].copy_from_slice(&self.body[from..from + STEP_BYTES]);
            } else {
                if room < len + STEP_BYTES {
                    let limit = self.max_label_bytes;
                    make_room(&mut self.label_bytes, self.labels_end + len, limit)?;
                }
                let place = self.labels_end..self.labels_end + len;
                self.label_bytes[place].copy_from_slice(&self.body[from..to]);
            }
            self.labels_end += len;
        }
        // The casts are exact: `make_room` keeps labels below half of u32::MAX.
        Ok(Ok((start as u32, (self.labels_end - start) as u32)))
    }

    /// Writes the labels that were written last again, with type and unit of the series.
    #[cold]
    fn write_described(
        &mut self,
        (start, len): (u32, u32),
        (kind, _, unit): (MetricType, u32, u32),
    ) -> Result<(u32, u32), WireError> {
        let unit = self.symbols.text(self.body, unit, usize::MAX).map_err(malformed)?;
        let written = &self.label_bytes[start as usize..(start + len) as usize];
        let Some(labels) = type_and_unit::replaced(written, kind, unit).map_err(malformed)? else {
            return Ok((start, len));
        };
        let end = start as usize + labels.len();
        if end + STEP_BYTES > self.label_bytes.len() {
            make_room(&mut self.label_bytes, end, self.max_label_bytes)?;
        }
        self.label_bytes[start as usize..end].copy_from_slice(&labels);
        self.labels_end = end;
        // The cast is exact, as above.
        Ok((start, labels.len() as u32))
    }

    /// Takes the series at hand back out of the batch and counts it as refused.
    #[cold]
    fn refuse(&mut self, reason: &str, first_row: usize, first_histogram: usize) {
        let rows = self.out.timestamps_ms.len() - first_row;
        self.out.timestamps_ms.truncate(first_row);
        self.out.values.truncate(first_row);
        self.out.starts_ms.truncate(first_row);
        let histograms = self.out.histograms.len() - first_histogram;
        self.out.histograms.truncate(first_histogram);
        let name = self
            .name_ref()
            .and_then(|name| self.symbols.text(self.body, name, MAX_HELP_BYTES).ok());
        let samples = (rows + histograms) as u64;
        let refusals = &mut self.summary.refusals;
        refusals.add(reason, samples, histograms as u64, || name.unwrap_or_default().to_owned());
    }

    /// The reference to the metric's name of the series at hand.
    fn name_ref(&self) -> Option<u32> {
        let wanted = self.symbols.metric_name?;
        self.refs.chunks_exact(2).find(|pair| pair[0] == wanted).map(|pair| pair[1])
    }

    /// Puts what is said about the metric of the series at hand into the batch, if it is news.
    fn describe(&mut self, (kind, help, unit): (MetricType, u32, u32)) -> Result<(), WireError> {
        let Some(name) = self.name_ref() else { return Ok(()) };
        if self.described.is_empty() {
            self.described.resize(self.symbols.spans.len(), 0);
        }
        // The reference was followed when the labels were written out.
        if self.described[name as usize] > 0 || (kind, help, unit) == (MetricType::Unknown, 0, 0) {
            return Ok(());
        }
        if self.out.metadata.len() == MAX_METADATA {
            return Err(WireError::Limit {
                what: "number of metrics with metadata in a remote write request".to_owned(),
                limit: MAX_METADATA.to_string(),
                remedy: "lower the sender's `queue_config.max_samples_per_send`",
            });
        }
        let text =
            |reference, most| self.symbols.text(self.body, reference, most).map_err(malformed);
        let metric = family_of(text(name, usize::MAX)?, kind);
        let (help, unit) = (text(help, MAX_HELP_BYTES)?, text(unit, MAX_UNIT_BYTES)?);
        self.metadata_bytes += metric.len() + help.len() + unit.len();
        if self.metadata_bytes > self.max_label_bytes {
            let what = "metadata of a remote write request, written out from its symbols,";
            return Err(too_large(what.to_owned(), self.max_label_bytes));
        }
        self.out.metadata.push(MetricMetadata {
            metric: metric.to_owned(),
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        });
        self.described[name as usize] = self.out.metadata.len() as u32;
        Ok(())
    }
}

/// Lengthens the labels so that `needed` bytes and one step fit.
#[cold]
fn make_room(label_bytes: &mut Vec<u8>, needed: usize, limit: usize) -> Result<(), WireError> {
    if needed > limit {
        let what = "labels of a remote write request, written out from its symbols,".to_owned();
        return Err(too_large(what, limit));
    }
    let doubled = (label_bytes.len() * 2).max(FIRST_LABEL_BYTES);
    label_bytes.resize(doubled.max(needed + STEP_BYTES), 0);
    Ok(())
}

/// The family that a series of a classic histogram or a summary belongs to.
fn family_of(metric: &str, kind: MetricType) -> &str {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram | MetricType::GaugeHistogram => &["_bucket", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}

/// A `uint32`; what does not fit loses its highest bits, as protobuf says.
fn truncated(varint: u64) -> u32 {
    varint as u32
}

/// Reads packed references behind their tag; yields where they end.
#[inline]
fn read_refs(body: &[u8], at: &mut usize, end: usize, refs: &mut Vec<u32>) -> Result<usize, Fault> {
    let refs_end = length(body, at, end)?;
    refs_of(body, *at, refs_end, refs)?;
    Ok(refs_end)
}

#[inline]
fn refs_of(body: &[u8], start: usize, end: usize, refs: &mut Vec<u32>) -> Result<(), Fault> {
    let mut at = start;
    while at < end {
        // Fast path: up to 16,384 symbols, references take at most two bytes.
        if end - at >= 2 && body[at] >= 0x80 && body[at + 1] < 0x80 {
            refs.push(u32::from(body[at] & 0x7f) | u32::from(body[at + 1]) << 7);
            at += 2;
            continue;
        }
        refs.push(truncated(varint(body, &mut at, end)?));
    }
    Ok(())
}

fn metadata(body: &[u8], start: usize, end: usize) -> Result<(MetricType, u32, u32), Fault> {
    let (mut kind, mut help, mut unit) = (MetricType::Unknown, 0, 0);
    let mut at = start;
    while at < end {
        let field_start = at;
        match protobuf::field(body, &mut at, end)? {
            (1, Field::Varint(number)) => kind = metric_type(number),
            (3, Field::Varint(reference)) => help = truncated(reference),
            (4, Field::Varint(reference)) => unit = truncated(reference),
            (1 | 3 | 4, _) => return Err((field_start, "metadata field has the wrong type")),
            _ => {}
        }
    }
    Ok((kind, help, unit))
}
