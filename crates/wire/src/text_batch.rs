//! Entries of an exposition to a metric batch.

use std::collections::BTreeMap;

use model::{HistogramSample, LabelForm, Limits, MetricBatch, MetricMetadata, SeriesRows};

use crate::WireError;
use crate::histogram_fields::check_count;
use crate::protobuf::push_varint;
use crate::text_entry::{Entry, Exemplar, HistogramSeries, RawLabel, RawSeries, Series};

/// Families one exposition may describe; each takes ten bytes of text and over a hundred in memory.
const MAX_FAMILIES: usize = 100_000;

/// What one exposition held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextSummary {
    /// Samples put into the batch, floats and histograms.
    pub samples: usize,
    /// How many of them are native histograms.
    pub histograms: usize,
    /// Families whose type, help or unit was put into the batch.
    pub metadata: usize,
    /// Exemplars put into the batch. Of native histograms only those with a time of their own, as in
    /// Prometheus: others could not be told from their repetition.
    pub exemplars: usize,
    /// Exemplars left out because there are too many.
    pub exemplars_left_out: u64,
}

/// Collects entries into a batch.
pub(crate) struct Sink<'s> {
    out: &'s mut MetricBatch,
    extra_labels: &'s BTreeMap<String, String>,
    default_t_ms: i64,
    max_label_bytes: usize,
    exemplars_left_out: u64,
    /// Unescaped names and values of the series at hand; reused.
    text: Vec<u8>,
    /// Where they lie in `text`; reused.
    spans: Vec<RawLabel>,
}

/// Runs `fill` over an empty `out`; empties it again when that fails.
pub(crate) fn decode(
    text_len: usize,
    default_t_ms: i64,
    extra_labels: &BTreeMap<String, String>,
    limits: &Limits,
    out: &mut MetricBatch,
    fill: impl FnOnce(&mut Sink<'_>) -> Result<(), WireError>,
) -> Result<TextSummary, WireError> {
    out.clear();
    // A quarter of u32, because packed labels may be longer than their text, see below.
    let limit = limits.max_body_bytes.min((u32::MAX / 4) as usize);
    if text_len > limit {
        return Err(too_large(format!("exposition of {text_len} bytes"), limit));
    }
    let mut sink = Sink {
        out,
        extra_labels,
        default_t_ms,
        max_label_bytes: limit * 3,
        exemplars_left_out: 0,
        text: Vec::new(),
        spans: Vec::new(),
    };
    if let Err(error) = fill(&mut sink) {
        sink.out.clear();
        return Err(error);
    }
    Ok(TextSummary {
        samples: sink.out.samples(),
        histograms: sink.out.histograms.len(),
        metadata: sink.out.metadata.len(),
        exemplars: sink.out.exemplars.len(),
        exemplars_left_out: sink.exemplars_left_out,
    })
}

fn too_large(what: String, limit: usize) -> WireError {
    WireError::Limit {
        what,
        limit: format!("{limit} bytes"),
        remedy: "send fewer series at once or raise `limits.max_body_bytes`",
    }
}

impl Sink<'_> {
    /// Takes one entry.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) -> Result<(), WireError> {
        match entry {
            Entry::Help { metric, text } => self.family(metric)?.help = text.to_string(),
            Entry::Unit { metric, unit } => self.family(metric)?.unit = unit.to_string(),
            Entry::Type { metric, kind } => self.family(metric)?.kind = *kind,
            Entry::Comment(_) => {}
            Entry::Series(series) => self.series(series)?,
            Entry::Histogram(series) => self.histogram(series)?,
        }
        Ok(())
    }

    /// The entry of a family; its lines stand together in a well-formed exposition.
    fn family(&mut self, metric: &str) -> Result<&mut MetricMetadata, WireError> {
        let metadata = &mut self.out.metadata;
        if metadata.last().is_none_or(|last| last.metric != metric) {
            if metadata.len() == MAX_FAMILIES {
                return Err(WireError::Limit {
                    what: "number of metric families in an exposition".to_owned(),
                    limit: MAX_FAMILIES.to_string(),
                    remedy: "split the exposition",
                });
            }
            metadata.push(MetricMetadata { metric: metric.to_owned(), ..Default::default() });
        }
        Ok(metadata.last_mut().expect("pushed above if it was empty"))
    }

    fn series(&mut self, series: &Series<'_>) -> Result<(), WireError> {
        let (labels_start, labels_len) = self.labels(&series.raw)?;
        // The casts are exact: the labels are below u32::MAX bytes, a row takes four bytes of text.
        self.out.series.push(SeriesRows {
            labels_start,
            labels_len,
            form: LabelForm::Packed,
            first_row: self.out.timestamps_ms.len() as u32,
            rows: 1,
        });
        let t_ms = series.timestamp_ms.unwrap_or(self.default_t_ms);
        self.out.timestamps_ms.push(t_ms);
        self.out.values.push(series.value);
        self.out.set_last_start(series.start_timestamp_ms.unwrap_or(0));
        if let Some(exemplar) = &series.exemplar {
            self.exemplar(exemplar, (labels_start, labels_len), t_ms);
        }
        Ok(())
    }

    fn histogram(&mut self, series: &HistogramSeries<'_>) -> Result<(), WireError> {
        check_count(self.out.histograms.len())?;
        let (labels_start, labels_len) = self.labels(&series.raw)?;
        self.out.histograms.push(HistogramSample {
            labels_start,
            labels_len,
            form: LabelForm::Packed,
            t_ms: series.timestamp_ms.unwrap_or(self.default_t_ms),
            start_ms: series.start_timestamp_ms,
            histogram: series.histogram.clone(),
        });
        for exemplar in series.exemplars().filter(|exemplar| exemplar.timestamp_ms.is_some()) {
            self.exemplar(&exemplar, (labels_start, labels_len), self.default_t_ms);
        }
        Ok(())
    }

    fn exemplar(&mut self, exemplar: &Exemplar<'_>, series: (u32, u32), read_ms: i64) {
        let is_taken = exemplar.push(series, read_ms, self.out);
        self.exemplars_left_out += u64::from(!is_taken);
    }

    /// Packs the labels of a series; yields where they lie.
    fn labels(&mut self, series: &RawSeries<'_>) -> Result<(u32, u32), WireError> {
        self.text.clear();
        self.spans.clear();
        series.write_labels(&mut self.text, &mut self.spans);
        if !self.extra_labels.is_empty() {
            self.add_extra_labels();
        }
        let (text, spans) = (&self.text, &mut self.spans);
        spans.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        let bytes = &mut self.out.label_bytes;
        let start = bytes.len();
        // An absent label and an empty one are the same; the packed form knows only the former.
        for span in spans.iter().filter(|span| !span.value.is_empty()) {
            for part in [&span.name, &span.value] {
                push_varint(bytes, part.len() as u64);
                bytes.extend_from_slice(&text[part.clone()]);
            }
        }
        if bytes.len() > self.max_label_bytes {
            let what = "labels of an exposition with the labels added to them".to_owned();
            return Err(too_large(what, self.max_label_bytes));
        }
        Ok((start as u32, (bytes.len() - start) as u32))
    }

    fn add_extra_labels(&mut self) {
        let (text, spans) = (&mut self.text, &mut self.spans);
        for (name, value) in self.extra_labels {
            spans.retain(|span| text[span.name.clone()] != *name.as_bytes());
            let start = text.len();
            text.extend_from_slice(name.as_bytes());
            let middle = text.len();
            text.extend_from_slice(value.as_bytes());
            spans.push(RawLabel { name: start..middle, value: middle..text.len() });
        }
    }
}
