//! The typed batches that pass from the edge to the engines.

use crate::exemplar::{Exemplar, ExemplarSample};
use crate::histogram::{Histogram, HistogramSample};

/// How the label bytes of one series in a [`MetricBatch`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelForm {
    /// The packed form of [`crate::Labels`].
    Packed,
    /// Name and value of each label, each behind its length as in the packed form, but in any
    /// order and unchecked: what protocols yield that name labels apart from series or do not
    /// sort them.
    Pairs,
    /// Consecutive protobuf fields `1: Label { 1: name, 2: value }` of a remote write 1.0
    /// `TimeSeries`, exactly as they came over the wire, unchecked.
    RemoteWrite1,
}

/// The rows of one series inside a [`MetricBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesRows {
    /// Where the label bytes start in [`MetricBatch::label_bytes`].
    pub labels_start: u32,
    /// How many label bytes there are.
    pub labels_len: u32,
    /// How those bytes are written.
    pub form: LabelForm,
    /// First row of the series in the columns.
    pub first_row: u32,
    /// Number of rows, possibly 0.
    pub rows: u32,
}

/// Samples of many series as they come from one request, scrape or collector pass.
///
/// Labels stay in the bytes they arrived in: a series that is already known is recognised by a
/// hash of those bytes, and nothing is parsed or allocated for it. `label_bytes` may be the whole
/// decompressed request body. Rows of one series are in arrival order, not necessarily sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricBatch {
    /// The bytes that [`SeriesRows`] point into.
    pub label_bytes: Vec<u8>,
    /// One entry per series as sent; the same series may appear twice.
    pub series: Vec<SeriesRows>,
    /// Timestamp of each row, milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// Value of each row, bit-exact, including NaN payloads.
    pub values: Vec<f64>,
    /// When the value of each row began at zero, milliseconds since the epoch; 0 = not known. It may
    /// be shorter than the other columns: of the rows behind its end it is not known. So it is empty
    /// where nobody says it.
    pub starts_ms: Vec<i64>,
    /// Native histograms, each with its own pointer into `label_bytes`. They come after all rows:
    /// where a series has both at one timestamp, the row is the earlier one.
    pub histograms: Vec<HistogramSample>,
    /// Exemplars, each with pointers of its own into `label_bytes`. They are no samples, and make
    /// no series.
    pub exemplars: Vec<ExemplarSample>,
    /// Type, help and unit of metrics, where the protocol sends them.
    pub metadata: Vec<MetricMetadata>,
}

impl MetricBatch {
    /// Number of float samples.
    pub fn rows(&self) -> usize {
        self.timestamps_ms.len()
    }

    /// Number of samples, floats and histograms.
    pub fn samples(&self) -> usize {
        self.rows() + self.histograms.len()
    }

    /// The label bytes of one entry of `series`.
    ///
    /// # Panics
    /// If `series` is from another batch.
    pub fn label_bytes_of(&self, series: &SeriesRows) -> &[u8] {
        self.bytes_at(series.labels_start, series.labels_len)
    }

    /// The label bytes of one entry of `histograms`.
    ///
    /// # Panics
    /// If `sample` is from another batch.
    pub fn label_bytes_of_histogram(&self, sample: &HistogramSample) -> &[u8] {
        self.bytes_at(sample.labels_start, sample.labels_len)
    }

    /// The label bytes of the series of one entry of `exemplars`.
    ///
    /// # Panics
    /// If `sample` is from another batch.
    pub fn label_bytes_of_exemplar(&self, sample: &ExemplarSample) -> &[u8] {
        self.bytes_at(sample.labels_start, sample.labels_len)
    }

    /// The bytes of an exemplar's own labels.
    ///
    /// # Panics
    /// If `sample` is from another batch.
    pub fn own_label_bytes(&self, sample: &ExemplarSample) -> &[u8] {
        self.bytes_at(sample.own_start, sample.own_len)
    }

    fn bytes_at(&self, start: u32, len: u32) -> &[u8] {
        &self.label_bytes[start as usize..start as usize + len as usize]
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.label_bytes.clear();
        self.series.clear();
        self.timestamps_ms.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }

    /// When the value of `row` began at zero; 0 = not known.
    #[inline]
    pub fn start_ms(&self, row: usize) -> i64 {
        self.starts_ms.get(row).copied().unwrap_or(0)
    }

    /// Says when the value of the row that was pushed last began at zero; 0 = not known.
    ///
    /// # Panics
    /// There is no row.
    #[inline]
    pub fn set_last_start(&mut self, start_ms: i64) {
        if start_ms != 0 {
            let last = self.timestamps_ms.len().checked_sub(1).expect("a row was pushed");
            self.starts_ms.resize(last, 0);
            self.starts_ms.push(start_ms);
        }
    }

    /// Appends when the values of `rows` of another batch began, for as many rows that were pushed
    /// last.
    pub fn push_starts_of(&mut self, other: &MetricBatch, rows: std::ops::Range<usize>) {
        // Fast path: nobody says it.
        if rows.start >= other.starts_ms.len() {
            return;
        }
        let known = rows.start..rows.end.min(other.starts_ms.len());
        let before = self.timestamps_ms.len().checked_sub(rows.len()).expect("rows were pushed");
        self.starts_ms.resize(before, 0);
        self.starts_ms.extend_from_slice(&other.starts_ms[known]);
    }

    /// Appends one sample of a series given by its labels.
    pub fn push(&mut self, labels: &crate::Labels, t_ms: i64, value: f64) {
        self.push_rows(labels, &[t_ms], &[value]);
    }

    /// Appends samples of a series given by its labels, as two columns of equal length.
    pub fn push_rows(&mut self, labels: &crate::Labels, timestamps_ms: &[i64], values: &[f64]) {
        debug_assert_eq!(timestamps_ms.len(), values.len(), "columns of one series");
        let (labels_start, labels_len) = self.push_labels(labels);
        let (first_row, rows) = (self.timestamps_ms.len() as u32, values.len() as u32);
        let form = LabelForm::Packed;
        self.series.push(SeriesRows { labels_start, labels_len, form, first_row, rows });
        self.timestamps_ms.extend_from_slice(timestamps_ms);
        self.values.extend_from_slice(values);
    }

    /// Appends one histogram of a series given by its labels.
    pub fn push_histogram(
        &mut self,
        labels: &crate::Labels,
        t_ms: i64,
        start_ms: Option<i64>,
        histogram: Histogram,
    ) {
        let (labels_start, labels_len) = self.push_labels(labels);
        let form = LabelForm::Packed;
        let sample = HistogramSample { labels_start, labels_len, form, t_ms, start_ms, histogram };
        self.histograms.push(sample);
    }

    /// Appends one exemplar of a series given by its labels.
    pub fn push_exemplar(&mut self, labels: &crate::Labels, exemplar: &Exemplar) {
        let (labels_start, labels_len) = self.push_labels(labels);
        let (own_start, own_len) = self.push_labels(&exemplar.labels);
        self.exemplars.push(ExemplarSample {
            labels_start,
            labels_len,
            form: LabelForm::Packed,
            own_start,
            own_len,
            own_form: LabelForm::Packed,
            value: exemplar.value,
            t_ms: exemplar.t_ms,
            is_dated: exemplar.is_dated,
        });
    }

    /// Appends an exemplar of another batch, whose label bytes there are `labels` and `own`.
    pub fn push_exemplar_bytes(&mut self, sample: &ExemplarSample, labels: &[u8], own: &[u8]) {
        let offset = |n: usize| u32::try_from(n).expect("a batch is far below 4 GiB");
        let labels_start = offset(self.label_bytes.len());
        self.label_bytes.extend_from_slice(labels);
        let own_start = offset(self.label_bytes.len());
        self.label_bytes.extend_from_slice(own);
        self.exemplars.push(ExemplarSample { labels_start, own_start, ..*sample });
    }

    fn push_labels(&mut self, labels: &crate::Labels) -> (u32, u32) {
        let offset = |n: usize| u32::try_from(n).expect("a batch is far below 4 GiB");
        let packed = labels.as_packed();
        let start = offset(self.label_bytes.len());
        self.label_bytes.extend_from_slice(packed);
        (start, offset(packed.len()))
    }
}

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricType {
    /// Not stated.
    #[default]
    Unknown,
    /// Only rises, or starts again at zero.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// A histogram of current values.
    GaugeHistogram,
    /// Quantiles computed by the client.
    Summary,
    /// Constant 1 with labels that inform.
    Info,
    /// One of a set of states.
    StateSet,
}

impl MetricType {
    /// All of them.
    pub const ALL: [MetricType; 8] = [
        MetricType::Unknown,
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
    ];

    /// The type whose [`MetricType::as_str`] is `word`.
    pub fn from_word(word: &str) -> Option<MetricType> {
        MetricType::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word Prometheus uses in text formats and in its API.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
        }
    }
}

/// What is said about a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricMetadata {
    /// The family's name.
    pub metric: String,
    /// Its type.
    pub kind: MetricType,
    /// Its help text.
    pub help: String,
    /// Its unit, often empty.
    pub unit: String,
}
