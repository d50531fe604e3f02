//! Prometheus remote write 1.0: the protobuf message `prometheus.WriteRequest`.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and Prometheus'
//! `prompb/remote.proto`, `prompb/types.proto`:
//!
//! ```text
//! WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3 }
//! TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2;
//!                  repeated Exemplar exemplars = 3; repeated Histogram histograms = 4 }
//! Label          { string name = 1; string value = 2 }
//! Sample         { double value = 1; int64 timestamp = 2 }      Histogram: see its own file
//! MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4;
//!                  string unit = 5 }
//! ```

use std::ops::Range;

use model::{
    HistogramSample, LabelForm, Labels, Limits, MetricBatch, MetricMetadata, MetricType, SeriesRows,
};

use crate::exemplar_rows::{self, name_series};
use crate::histogram_fields::check_count;
use crate::pair_rows::push_pair;
use crate::protobuf::{self, Fault, Field, fixed64, length, varint};
use crate::series_labels::length_prefixed_pairs;
use crate::{WireError, remote_write_histogram};

/// Metadata entries one request may hold. Prometheus sends at most a few thousand; an entry takes
/// 5 bytes on the wire and 100 in memory, so without a bound a small body would grow 20-fold.
pub(crate) const MAX_METADATA: usize = 100_000;

/// What one request held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Series with at least one float, as sent.
    pub series: usize,
    /// Samples put into the batch, floats and histograms.
    pub samples: usize,
    /// How many of them are native histograms.
    pub histograms: usize,
    /// Metadata entries put into the batch.
    pub metadata: usize,
    /// Exemplars put into the batch.
    pub exemplars: usize,
    /// Exemplars left out because there are too many.
    pub exemplars_left_out: u64,
}

/// Decodes a decompressed body into `out`, which is emptied first.
///
/// Zero copy: the body itself becomes `out.label_bytes` and every series points into it with
/// [`LabelForm::RemoteWrite1`]; labels are neither parsed nor checked here. Where the label fields
/// of a series are not consecutive, they are copied together behind the body, and so are those of
/// exemplars. A series without
/// samples yields no entry. Native histograms are not validated. Memory is at most nine times the
/// body, and a hundred thousand histograms. About 30 ns per series of ten
/// labels and one sample.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no `WriteRequest`, [`WireError::Limit`] for a
/// body above `limits.max_body_bytes`, too much metadata or too many histograms. `out` is then
/// empty.
pub fn decode(body: Vec<u8>, limits: &Limits, out: &mut MetricBatch) -> Result<Summary, WireError> {
    out.clear();
    // Half of u32, because label bytes may be copied behind the body once.
    let limit = limits.max_body_bytes.min((u32::MAX / 2) as usize);
    if body.len() > limit {
        return Err(WireError::Limit {
            what: format!("remote write body of {} bytes", body.len()),
            limit: format!("{limit} bytes"),
            remedy: "lower the sender's `queue_config.max_samples_per_send` or raise \
                     `limits.max_body_bytes`",
        });
    }
    let mut moved_labels = Vec::new();
    match write_request(&body, &mut moved_labels, out) {
        Ok(summary) => {
            out.label_bytes = body;
            out.label_bytes.extend_from_slice(&moved_labels);
            Ok(summary)
        }
        Err(error) => {
            out.clear();
            Err(error)
        }
    }
}

fn malformed((offset, reason): Fault) -> WireError {
    WireError::Malformed { format: "remote write 1.0 request", offset, reason }
}

fn write_request(
    body: &[u8],
    moved_labels: &mut Vec<u8>,
    out: &mut MetricBatch,
) -> Result<Summary, WireError> {
    let mut summary = Summary::default();
    let mut at = 0;
    while at < body.len() {
        // Fast path: nothing but series, whose tag is one byte.
        if body[at] == TAG_MESSAGE_1 {
            at += 1;
            let end = length(body, &mut at, body.len()).map_err(malformed)?;
            time_series(body, at, end, moved_labels, out, &mut summary)?;
            at = end;
            continue;
        }
        let start = at;
        match protobuf::field(body, &mut at, body.len()).map_err(malformed)? {
            (1, Field::Bytes { start, end }) => {
                time_series(body, start, end, moved_labels, out, &mut summary)?;
            }
            (3, Field::Bytes { start, end }) => {
                if out.metadata.len() == MAX_METADATA {
                    return Err(WireError::Limit {
                        what: "number of metadata entries in a remote write request".to_owned(),
                        limit: MAX_METADATA.to_string(),
                        remedy: "lower the sender's `metadata_config.max_samples_per_send`",
                    });
                }
                out.metadata.push(metadata(body, start, end).map_err(malformed)?);
            }
            (1 | 3, _) => return Err(malformed((start, "field is no message"))),
            _ => {}
        }
    }
    summary.samples = out.samples();
    summary.histograms = out.histograms.len();
    summary.series = out.series.len();
    summary.metadata = out.metadata.len();
    summary.exemplars = out.exemplars.len();
    Ok(summary)
}

/// Tag of a length-delimited field 1.
const TAG_MESSAGE_1: u8 = 0x0a;
/// Tag of a length-delimited field 2.
const TAG_MESSAGE_2: u8 = 0x12;
/// Tag of a length-delimited field 4.
const TAG_MESSAGE_4: u8 = 0x22;

#[inline]
fn time_series(
    body: &[u8],
    start: usize,
    end: usize,
    moved_labels: &mut Vec<u8>,
    out: &mut MetricBatch,
    summary: &mut Summary,
) -> Result<(), WireError> {
    let first_row = out.timestamps_ms.len();
    let mut at = start;
    // Fast path: labels first and together, then samples, as every known sender writes them.
    while at < end && body[at] == TAG_MESSAGE_1 {
        at += 1;
        at = length(body, &mut at, end).map_err(malformed)?;
    }
    let labels_end = at;
    while at < end && body[at] == TAG_MESSAGE_2 {
        at += 1;
        let sample_end = length(body, &mut at, end).map_err(malformed)?;
        sample::<false>(body, at, sample_end, out).map_err(malformed)?;
        at = sample_end;
    }
    let mut labels = start..labels_end;
    if at < end {
        labels = other_fields(body, start..end, at, labels, moved_labels, out, summary)?;
    }
    let rows = out.timestamps_ms.len() - first_row;
    if rows > 0 {
        // The casts are exact: the body is below half of u32::MAX bytes, a row takes two.
        out.series.push(SeriesRows {
            labels_start: labels.start as u32,
            labels_len: labels.len() as u32,
            form: LabelForm::RemoteWrite1,
            first_row: first_row as u32,
            rows: rows as u32,
        });
    }
    Ok(())
}

/// Takes what stands in a series from `at` on, behind labels and samples; yields where the labels
/// lie.
#[cold]
fn other_fields(
    body: &[u8],
    series: Range<usize>,
    mut at: usize,
    mut labels: Range<usize>,
    moved_labels: &mut Vec<u8>,
    out: &mut MetricBatch,
    summary: &mut Summary,
) -> Result<Range<usize>, WireError> {
    let first_histogram = out.histograms.len();
    let first_exemplar = out.exemplars.len();
    let mut stray_labels = false;
    while at < series.end {
        let field_start = at;
        match protobuf::field(body, &mut at, series.end).map_err(malformed)? {
            (1, Field::Bytes { .. }) => stray_labels = true,
            (2, Field::Bytes { start, end }) => {
                sample::<false>(body, start, end, out).map_err(malformed)?
            }
            (3, Field::Bytes { start, end }) => {
                let is_taken = exemplar(body, start..end, moved_labels, out).map_err(malformed)?;
                summary.exemplars_left_out += u64::from(!is_taken);
            }
            (4, Field::Bytes { start, end }) => {
                check_count(out.histograms.len())?;
                let (t_ms, _, histogram) =
                    remote_write_histogram::decode(body, start, end).map_err(malformed)?;
                out.histograms.push(HistogramSample {
                    labels_start: 0,
                    labels_len: 0,
                    form: LabelForm::RemoteWrite1,
                    t_ms,
                    start_ms: None,
                    histogram,
                });
            }
            (1..=4, _) => return Err(malformed((field_start, "field of a series is no message"))),
            _ => {}
        }
    }
    if stray_labels {
        let moved_start = body.len() + moved_labels.len();
        move_labels(body, series.start, series.end, moved_labels).map_err(malformed)?;
        labels = moved_start..body.len() + moved_labels.len();
    }
    for sample in &mut out.histograms[first_histogram..] {
        (sample.labels_start, sample.labels_len) = (labels.start as u32, labels.len() as u32);
    }
    let place = (labels.start as u32, labels.len() as u32);
    name_series(out, first_exemplar, place, LabelForm::RemoteWrite1);
    Ok(labels)
}

/// Reads an `Exemplar` and appends it, its labels written out behind the body; whether there was
/// room.
#[cold]
fn exemplar(
    body: &[u8],
    message: Range<usize>,
    moved_labels: &mut Vec<u8>,
    out: &mut MetricBatch,
) -> Result<bool, Fault> {
    let start = body.len() + moved_labels.len();
    let observed = exemplar_rows::remote_write(body, message, |at, field| {
        let Field::Bytes { start, end } = field else {
            return Err((at, "label of an exemplar is no message"));
        };
        let (mut name, mut value) = (0..0, 0..0);
        let mut at = start;
        while at < end {
            let field_start = at;
            match protobuf::field(body, &mut at, end)? {
                (1, Field::Bytes { start, end }) => name = start..end,
                (2, Field::Bytes { start, end }) => value = start..end,
                (1 | 2, _) => return Err((field_start, "label field is no string")),
                _ => {}
            }
        }
        push_pair(moved_labels, &body[name], &body[value]);
        Ok(())
    })?;
    let own = (start..body.len() + moved_labels.len(), LabelForm::Pairs);
    Ok(exemplar_rows::push(out, own, observed, 0))
}

/// Copies the label fields of a series, which something else stands between, together.
#[cold]
fn move_labels(
    body: &[u8],
    start: usize,
    end: usize,
    moved_labels: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut at = start;
    while at < end {
        if let (1, Field::Bytes { start, end }) = protobuf::field(body, &mut at, end)? {
            protobuf::push_bytes(moved_labels, TAG_MESSAGE_1, &body[start..end]);
        }
    }
    Ok(())
}

/// Reads a `Sample` and appends it. Remote write 2.0 has it as well, where it may tell when the value
/// began (`STARTS`).
#[inline(always)]
pub(crate) fn sample<const STARTS: bool>(
    body: &[u8],
    start: usize,
    end: usize,
    out: &mut MetricBatch,
) -> Result<(), Fault> {
    let mut at = start;
    let (mut value, mut timestamp_ms, mut start_ms) = (0_u64, 0_i64, 0_i64);
    // Fast path: value, then timestamp, nothing else.
    if end - at >= 11 && body[at] == 0x09 && body[at + 9] == 0x10 {
        at += 1;
        value = fixed64(body, &mut at, end)?;
        at += 1;
        timestamp_ms = varint(body, &mut at, end)? as i64;
    }
    while at < end {
        let field_start = at;
        match protobuf::field(body, &mut at, end)? {
            (1, Field::Fixed64(bits)) => value = bits,
            (2, Field::Varint(t)) => timestamp_ms = t as i64,
            (3, Field::Varint(t)) if STARTS => start_ms = t as i64,
            (3, _) if !STARTS => {}
            (1..=3, _) => return Err((field_start, "field of a sample has the wrong type")),
            _ => {}
        }
    }
    out.timestamps_ms.push(timestamp_ms);
    out.values.push(f64::from_bits(value));
    if STARTS {
        out.set_last_start(start_ms);
    }
    Ok(())
}

fn metadata(body: &[u8], start: usize, end: usize) -> Result<MetricMetadata, Fault> {
    let text = |start: usize, end: usize| {
        std::str::from_utf8(&body[start..end])
            .map(str::to_owned)
            .map_err(|_| (start, "metadata is not valid UTF-8"))
    };
    let mut out = MetricMetadata::default();
    let mut at = start;
    while at < end {
        let field_start = at;
        match protobuf::field(body, &mut at, end)? {
            (1, Field::Varint(kind)) => out.kind = metric_type(kind),
            (2, Field::Bytes { start, end }) => out.metric = text(start, end)?,
            (4, Field::Bytes { start, end }) => out.help = text(start, end)?,
            (5, Field::Bytes { start, end }) => out.unit = text(start, end)?,
            (1 | 2 | 4 | 5, _) => return Err((field_start, "metadata field has the wrong type")),
            _ => {}
        }
    }
    Ok(out)
}

/// The order of `MetricMetadata.MetricType`.
const METRIC_TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

/// An open enum, the same in 2.0: a number from a newer sender is an unknown type, not an error.
pub(crate) fn metric_type(number: u64) -> MetricType {
    let known = usize::try_from(number).ok().and_then(|index| METRIC_TYPES.get(index));
    known.copied().unwrap_or_default()
}

/// Appends `batch` to `out` as a `WriteRequest`, one `TimeSeries` per entry of `batch.series` and
/// one per histogram.
///
/// Labels in [`LabelForm::RemoteWrite1`] are copied as they are, packed ones translated; the
/// result is not compressed.
///
/// # Errors
/// [`WireError::Labels`] where packed label bytes are invalid; `out` is then as it was.
pub fn encode(batch: &MetricBatch, out: &mut Vec<u8>) -> Result<(), WireError> {
    let before = out.len();
    let mut series_bytes = Vec::new();
    for series in &batch.series {
        series_bytes.clear();
        let label_bytes = batch.label_bytes_of(series);
        if let Err(error) = encode_label_bytes(series.form, label_bytes, &mut series_bytes) {
            out.truncate(before);
            return Err(error);
        }
        let rows = series.first_row as usize..(series.first_row + series.rows) as usize;
        for (&t_ms, &value) in batch.timestamps_ms[rows.clone()].iter().zip(&batch.values[rows]) {
            encode_sample((t_ms, value), 0, &mut series_bytes);
        }
        protobuf::push_bytes(out, TAG_MESSAGE_1, &series_bytes);
    }
    for sample in &batch.histograms {
        series_bytes.clear();
        let label_bytes = batch.label_bytes_of_histogram(sample);
        if let Err(error) = encode_label_bytes(sample.form, label_bytes, &mut series_bytes) {
            out.truncate(before);
            return Err(error);
        }
        let mut message = Vec::new();
        remote_write_histogram::encode(sample.t_ms, &sample.histogram, &mut message);
        protobuf::push_bytes(&mut series_bytes, TAG_MESSAGE_4, &message);
        protobuf::push_bytes(out, TAG_MESSAGE_1, &series_bytes);
    }
    for metadata in &batch.metadata {
        encode_metadata(metadata, out);
    }
    Ok(())
}

fn encode_label_bytes(form: LabelForm, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    match form {
        LabelForm::RemoteWrite1 => out.extend_from_slice(bytes),
        LabelForm::Pairs => {
            encode_labels(length_prefixed_pairs(bytes, usize::MAX)?.into_iter(), out);
        }
        LabelForm::Packed => {
            let labels = Labels::from_packed(bytes);
            let labels = labels.map_err(|error| WireError::Labels(error.to_string()))?;
            encode_labels(labels.iter(), out);
        }
    }
    Ok(())
}

pub(crate) fn encode_labels<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    out: &mut Vec<u8>,
) {
    let string_len = |text: &str| 1 + protobuf::varint_len(text.len() as u64) + text.len();
    for (name, value) in labels {
        out.push(TAG_MESSAGE_1);
        protobuf::push_varint(out, (string_len(name) + string_len(value)) as u64);
        protobuf::push_bytes(out, TAG_MESSAGE_1, name.as_bytes());
        protobuf::push_bytes(out, TAG_MESSAGE_2, value.as_bytes());
    }
}

/// Appends a `Sample`; `start_ms` other than 0 is for remote write 2.0 alone.
pub(crate) fn encode_sample((t_ms, value): (i64, f64), start_ms: i64, out: &mut Vec<u8>) {
    // Negative timestamps are ten bytes long: protobuf's int64 is not zigzag.
    let (t, start) = (t_ms as u64, start_ms as u64);
    let start_len = if start == 0 { 0 } else { 1 + protobuf::varint_len(start) };
    out.push(TAG_MESSAGE_2);
    protobuf::push_varint(out, (10 + protobuf::varint_len(t) + start_len) as u64);
    out.push(0x09);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
    out.push(0x10);
    protobuf::push_varint(out, t);
    if start != 0 {
        out.push(0x18);
        protobuf::push_varint(out, start);
    }
}

/// The number of a type, the same in 2.0.
pub(crate) fn metric_type_number(kind: MetricType) -> u64 {
    METRIC_TYPES.iter().position(|known| *known == kind).unwrap_or(0) as u64
}

pub(crate) fn encode_metadata(metadata: &MetricMetadata, out: &mut Vec<u8>) {
    let mut bytes = vec![0x08];
    protobuf::push_varint(&mut bytes, metric_type_number(metadata.kind));
    protobuf::push_bytes(&mut bytes, 0x12, metadata.metric.as_bytes());
    protobuf::push_bytes(&mut bytes, 0x22, metadata.help.as_bytes());
    protobuf::push_bytes(&mut bytes, 0x2a, metadata.unit.as_bytes());
    protobuf::push_bytes(out, 0x1a, &bytes);
}
