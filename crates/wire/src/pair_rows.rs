//! Samples whose labels are collected one by one, into a batch.

use model::{Histogram, HistogramSample, LabelForm, Limits, METRIC_NAME, MetricBatch, SeriesRows};

use crate::WireError;
use crate::histogram_fields::check_count;
use crate::protobuf::push_varint;

/// How many times the largest body the labels and rows of a request may take: where one line or
/// point holds many values, its labels are written once for each.
const BATCH_RATIO: usize = 8;

/// What a row takes in a batch: its time and its value.
const ROW_BYTES: usize = size_of::<i64>() + size_of::<f64>();

/// Appends a label as [`LabelForm::Pairs`] has it.
pub(crate) fn push_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        push_varint(out, part.len() as u64);
        out.extend_from_slice(part);
    }
}

/// A batch to which series are added, labels first.
pub(crate) struct PairRows<'o> {
    out: &'o mut MetricBatch,
    max_bytes: usize,
    /// Where the labels of the series at hand begin, and those of ended ones end.
    start: usize,
}

impl<'o> PairRows<'o> {
    /// Empties `out`, if a body of `body_len` bytes is allowed.
    pub(crate) fn new(
        what: &str,
        body_len: usize,
        limits: &Limits,
        out: &'o mut MetricBatch,
    ) -> Result<Self, WireError> {
        out.clear();
        if body_len > limits.max_body_bytes.min((u32::MAX / 2) as usize) {
            return Err(too_large(format!("{what} of {body_len} bytes"), limits.max_body_bytes));
        }
        let max_bytes =
            limits.max_body_bytes.saturating_mul(BATCH_RATIO).min((u32::MAX / 2) as usize);
        Ok(PairRows { out, max_bytes, start: 0 })
    }

    /// Begins a series, whose name may be in several parts. One that was begun and not ended is
    /// forgotten.
    pub(crate) fn begin(&mut self, name: &[&[u8]]) {
        let out = &mut self.out.label_bytes;
        out.truncate(self.start);
        push_varint(out, METRIC_NAME.len() as u64);
        out.extend_from_slice(METRIC_NAME.as_bytes());
        push_varint(out, name.iter().map(|part| part.len() as u64).sum());
        name.iter().for_each(|part| out.extend_from_slice(part));
    }

    /// Adds a label to the series at hand.
    pub(crate) fn label(&mut self, name: &[u8], value: &[u8]) {
        push_pair(&mut self.out.label_bytes, name, value);
    }

    /// Adds labels that are written as [`LabelForm::Pairs`] already.
    pub(crate) fn labels(&mut self, pairs: &[u8]) {
        self.out.label_bytes.extend_from_slice(pairs);
    }

    /// How many samples a series may have that is added now.
    pub(crate) fn room(&self) -> usize {
        self.max_bytes.saturating_sub(size_of_batch(self.out)) / ROW_BYTES
    }

    /// What to say of a series with more.
    pub(crate) fn is_full(&self) -> WireError {
        full(self.max_bytes)
    }

    /// Ends the series at hand with all samples that `samples` yields.
    pub(crate) fn end(
        &mut self,
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) -> Result<(), WireError> {
        let out = &mut *self.out;
        let first_row = out.timestamps_ms.len();
        for (t_ms, value) in samples {
            out.timestamps_ms.push(t_ms);
            out.values.push(value);
        }
        let rows = out.timestamps_ms.len() - first_row;
        check_size(out, self.max_bytes)?;
        // The casts are exact: labels and rows together are below half of u32::MAX bytes.
        out.series.push(SeriesRows {
            labels_start: self.start as u32,
            labels_len: (out.label_bytes.len() - self.start) as u32,
            form: LabelForm::Pairs,
            first_row: first_row as u32,
            rows: rows as u32,
        });
        self.start = out.label_bytes.len();
        Ok(())
    }

    /// Says when the first so many of the `rows` rows that came last began; 0 = not known.
    pub(crate) fn set_starts(&mut self, rows: usize, starts_ms: &[i64]) {
        if starts_ms.iter().any(|start_ms| *start_ms != 0) {
            self.out.starts_ms.resize(self.out.timestamps_ms.len() - rows, 0);
            self.out.starts_ms.extend_from_slice(&starts_ms[..starts_ms.len().min(rows)]);
        }
    }

    /// Ends the series at hand with all native histograms that `samples` yields; `starts_ms` says of the
    /// first so many when their counts began, 0 = not known.
    pub(crate) fn end_histograms(
        &mut self,
        samples: impl IntoIterator<Item = (i64, Histogram)>,
        starts_ms: &[i64],
    ) -> Result<(), WireError> {
        let out = &mut *self.out;
        check_size(out, self.max_bytes)?;
        // The casts are exact, as above.
        let labels_start = self.start as u32;
        let labels_len = (out.label_bytes.len() - self.start) as u32;
        let mut starts = starts_ms.iter().copied();
        for (t_ms, histogram) in samples {
            check_count(out.histograms.len())?;
            out.histograms.push(HistogramSample {
                labels_start,
                labels_len,
                form: LabelForm::Pairs,
                t_ms,
                start_ms: starts.next().filter(|start_ms| *start_ms != 0),
                histogram,
            });
        }
        self.start = out.label_bytes.len();
        Ok(())
    }
}

fn check_size(out: &MetricBatch, max_bytes: usize) -> Result<(), WireError> {
    if size_of_batch(out) > max_bytes { Err(full(max_bytes)) } else { Ok(()) }
}

/// With one more series.
fn size_of_batch(out: &MetricBatch) -> usize {
    out.label_bytes.len()
        + (out.series.len() + 1) * size_of::<SeriesRows>()
        + out.timestamps_ms.len() * ROW_BYTES
}

fn full(max_bytes: usize) -> WireError {
    too_large("series of a request, written out with labels and rows,".to_owned(), max_bytes)
}

fn too_large(what: String, limit: usize) -> WireError {
    WireError::Limit {
        what,
        limit: format!("{limit} bytes"),
        remedy: "send smaller batches or raise `limits.max_body_bytes`",
    }
}
