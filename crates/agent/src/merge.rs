//! Several batches as one: labels once, the samples of a series together.

use hashbrown::HashTable;
use model::{ExemplarSample, HistogramSample, LabelForm, MetricBatch, MetricMetadata, SeriesRows};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Most bytes a merged batch takes before it is packed, so that packed it stays below the 4 MiB
/// that one message may have, however badly it packs.
const MAX_BYTES: usize = 3 << 20;
/// A sample's timestamp and value.
const ROW_BYTES: usize = 16;
/// When a sample began.
const START_BYTES: usize = 8;

/// Collects batches until they are taken out as one.
pub(crate) struct Merger {
    label_bytes: Vec<u8>,
    series: Vec<Series>,
    by_labels: HashTable<u32>,
    secrets: RapidSecrets,
    /// One entry per sample: series, timestamp, value.
    row_series: Vec<u32>,
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    /// When the first so many samples began at zero; 0 = not known, as of those behind its end.
    starts_ms: Vec<i64>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<ExemplarSample>,
    metadata: Vec<MetricMetadata>,
    by_metric: HashTable<u32>,
    /// What is in here, packed as badly as possible.
    bytes: usize,
    oversized: u64,
    /// The series that follows the one seen last, by which a pass that lists its series as the
    /// one before is merged without a hash.
    expected: usize,
}

struct Series {
    start: usize,
    len: usize,
    rows: u32,
}

/// How far a batch was merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    series: usize,
    histograms: usize,
    exemplars: usize,
    metadata: usize,
}

impl Merger {
    /// Nothing merged yet. The seed keeps those who choose labels from choosing collisions.
    pub(crate) fn new(seed: u64) -> Self {
        Merger {
            label_bytes: Vec::new(),
            series: Vec::new(),
            by_labels: HashTable::new(),
            secrets: RapidSecrets::seed(seed),
            row_series: Vec::new(),
            timestamps_ms: Vec::new(),
            values: Vec::new(),
            starts_ms: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            by_metric: HashTable::new(),
            bytes: 0,
            oversized: 0,
            expected: 0,
        }
    }

    /// Whether nothing has been merged.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Merges `batch` from where an earlier call with it stopped; false if there is no room for
    /// all of it. Then take what is here and call again. A series that is too large for any batch
    /// is left out.
    pub(crate) fn push(&mut self, batch: &MetricBatch, progress: &mut Progress) -> bool {
        for series in &batch.series[progress.series..] {
            let labels = batch.label_bytes_of(series);
            let with_starts = series.first_row < batch.starts_ms.len() as u32;
            let each_bytes = ROW_BYTES + if with_starts { START_BYTES } else { 0 };
            let row_bytes = each_bytes * series.rows as usize;
            let bytes = labels.len() + size_of::<SeriesRows>() + row_bytes;
            if bytes > MAX_BYTES {
                progress.series += 1;
                self.oversized += u64::from(series.rows);
                continue;
            }
            if !self.has_room(bytes) {
                return false;
            }
            progress.series += 1;
            self.bytes += row_bytes;
            let index = self.series_of(labels);
            self.series[index as usize].rows += series.rows;
            let rows = series.first_row as usize..(series.first_row + series.rows) as usize;
            self.row_series.extend(std::iter::repeat_n(index, rows.len()));
            if with_starts {
                self.starts_ms.resize(self.values.len(), 0);
                self.starts_ms.extend(rows.clone().map(|row| batch.start_ms(row)));
            }
            self.timestamps_ms.extend_from_slice(&batch.timestamps_ms[rows.clone()]);
            self.values.extend_from_slice(&batch.values[rows]);
        }
        for sample in &batch.histograms[progress.histograms..] {
            let labels = batch.label_bytes_of_histogram(sample);
            let bytes = labels.len() + histogram_bytes(sample);
            if bytes > MAX_BYTES {
                progress.histograms += 1;
                self.oversized += 1;
                continue;
            }
            if !self.has_room(bytes) {
                return false;
            }
            progress.histograms += 1;
            self.bytes += bytes;
            let labels_start = self.label_bytes.len() as u32;
            self.label_bytes.extend_from_slice(labels);
            self.histograms.push(HistogramSample { labels_start, ..sample.clone() });
        }
        for sample in &batch.exemplars[progress.exemplars..] {
            let labels = batch.label_bytes_of_exemplar(sample);
            let own = batch.own_label_bytes(sample);
            let bytes = labels.len() + own.len() + size_of::<ExemplarSample>();
            if bytes > MAX_BYTES {
                progress.exemplars += 1;
                continue;
            }
            if !self.has_room(bytes) {
                return false;
            }
            progress.exemplars += 1;
            self.bytes += bytes;
            let labels_start = self.label_bytes.len() as u32;
            self.label_bytes.extend_from_slice(labels);
            let own_start = self.label_bytes.len() as u32;
            self.label_bytes.extend_from_slice(own);
            self.exemplars.push(ExemplarSample { labels_start, own_start, ..*sample });
        }
        for entry in &batch.metadata[progress.metadata..] {
            let bytes = metadata_bytes(entry);
            if bytes > MAX_BYTES {
                progress.metadata += 1;
                continue;
            }
            if !self.has_room(bytes) {
                return false;
            }
            progress.metadata += 1;
            self.describe(entry, bytes);
        }
        true
    }

    /// Of several descriptions of a metric the first stands, as if they had come apart.
    fn describe(&mut self, entry: &MetricMetadata, bytes: usize) {
        let Merger { metadata, by_metric, secrets, .. } = self;
        let name_of = |index: u32| metadata[index as usize].metric.as_bytes();
        let name = entry.metric.as_bytes();
        let hash = hash(name, secrets);
        if by_metric.find(hash, |&index| name_of(index) == name).is_none() {
            by_metric.insert_unique(hash, metadata.len() as u32, |&index| {
                self::hash(name_of(index), secrets)
            });
            metadata.push(entry.clone());
            self.bytes += bytes;
        }
    }

    /// Whether [`Merger::push`] would take all of `batch`.
    pub(crate) fn has_room_for(&self, batch: &MetricBatch) -> bool {
        self.has_room(bytes_of(batch))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= MAX_BYTES
    }

    /// Samples left out since the last call because their series alone is too large.
    pub(crate) fn take_oversized(&mut self) -> u64 {
        std::mem::take(&mut self.oversized)
    }

    /// Puts what was merged into `out` and begins anew. Series are in the order in which they
    /// first came, and the samples of each in the order in which they came.
    pub(crate) fn take(&mut self, out: &mut MetricBatch) {
        out.clear();
        let mut first_row = 0;
        for series in &mut self.series {
            out.series.push(SeriesRows {
                labels_start: series.start as u32,
                labels_len: series.len as u32,
                form: LabelForm::Packed,
                first_row,
                rows: series.rows,
            });
            first_row += series.rows;
            // From here on: how many of its rows have been placed.
            series.rows = 0;
        }
        out.timestamps_ms.resize(self.timestamps_ms.len(), 0);
        out.values.resize(self.values.len(), 0.0);
        if !self.starts_ms.is_empty() {
            out.starts_ms.resize(self.values.len(), 0);
        }
        for (row, &index) in self.row_series.iter().enumerate() {
            let series = &mut self.series[index as usize];
            let place = (out.series[index as usize].first_row + series.rows) as usize;
            series.rows += 1;
            out.timestamps_ms[place] = self.timestamps_ms[row];
            out.values[place] = self.values[row];
            if let Some(&start_ms) = self.starts_ms.get(row) {
                out.starts_ms[place] = start_ms;
            }
        }
        out.label_bytes.append(&mut self.label_bytes);
        out.histograms.append(&mut self.histograms);
        out.exemplars.append(&mut self.exemplars);
        out.metadata.append(&mut self.metadata);
        self.series.clear();
        self.by_labels.clear();
        self.by_metric.clear();
        self.row_series.clear();
        self.timestamps_ms.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.bytes = 0;
        self.expected = 0;
    }

    fn series_of(&mut self, labels: &[u8]) -> u32 {
        let Merger { label_bytes, series, by_labels, secrets, .. } = self;
        let bytes_of = |index: u32| {
            let series: &Series = &series[index as usize];
            &label_bytes[series.start..series.start + series.len]
        };
        let expected = self.expected as u32;
        let index = if self.expected < series.len() && bytes_of(expected) == labels {
            expected
        } else {
            let hash = hash(labels, secrets);
            match by_labels.find(hash, |&index| bytes_of(index) == labels) {
                Some(&index) => index,
                None => {
                    let index = series.len() as u32;
                    by_labels
                        .insert_unique(hash, index, |&index| self::hash(bytes_of(index), secrets));
                    series.push(Series { start: label_bytes.len(), len: labels.len(), rows: 0 });
                    label_bytes.extend_from_slice(labels);
                    self.bytes += labels.len() + size_of::<SeriesRows>();
                    index
                }
            }
        };
        self.expected = index as usize + 1;
        index
    }
}

fn hash(labels: &[u8], secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_inline::<true, false, true>(labels, secrets)
}

/// Whether a batch is small enough to be packed as it is.
pub(crate) fn fits_alone(batch: &MetricBatch) -> bool {
    bytes_of(batch) <= MAX_BYTES
}

/// What a batch takes at most when it is merged.
fn bytes_of(batch: &MetricBatch) -> usize {
    let histograms: usize = batch.histograms.iter().map(histogram_bytes).sum();
    let metadata: usize = batch.metadata.iter().map(metadata_bytes).sum();
    let series = batch.series.len() * size_of::<SeriesRows>();
    let exemplars: usize = batch.exemplars.iter().map(exemplar_bytes).sum();
    let starts = if batch.starts_ms.is_empty() { 0 } else { START_BYTES };
    let rows = (ROW_BYTES + starts) * batch.rows();
    batch.label_bytes.len() + series + rows + histograms + exemplars + metadata
}

fn histogram_bytes(sample: &HistogramSample) -> usize {
    let layout = sample.histogram.layout();
    let spans = layout.positive.len() + layout.negative.len();
    let numbers = sample.histogram.bucket_count() + layout.custom_bounds.len() + spans;
    size_of::<HistogramSample>() + size_of::<u64>() * numbers
}

/// Labels of the series too: merged, each exemplar has its own.
fn exemplar_bytes(sample: &ExemplarSample) -> usize {
    size_of::<ExemplarSample>() + sample.labels_len as usize
}

fn metadata_bytes(entry: &MetricMetadata) -> usize {
    let text = entry.metric.len() + entry.help.len() + entry.unit.len();
    size_of::<MetricMetadata>() + text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Labels;
    use proptest::prelude::*;

    use super::*;

    fn labels(n: u32) -> Labels {
        let n = n.to_string();
        Labels::from_pairs([("__name__", "m"), ("n", n.as_str())]).expect("labels")
    }

    /// Samples by series, in their order.
    fn samples(batch: &MetricBatch) -> BTreeMap<Vec<u8>, Vec<(i64, u64)>> {
        let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for series in &batch.series {
            let own = samples.entry(batch.label_bytes_of(series).to_vec()).or_default();
            for row in series.first_row as usize..(series.first_row + series.rows) as usize {
                own.push((batch.timestamps_ms[row], batch.values[row].to_bits()));
            }
        }
        samples
    }

    fn merged(merger: &mut Merger, batch: &MetricBatch) -> Vec<MetricBatch> {
        let mut full = Vec::new();
        let mut progress = Progress::default();
        while !merger.push(batch, &mut progress) {
            let mut out = MetricBatch::default();
            merger.take(&mut out);
            full.push(out);
        }
        full
    }

    proptest! {
        #[test]
        fn every_sample_is_kept_in_its_series_and_order(
            passes in proptest::collection::vec(
                proptest::collection::vec((0..40_u32, any::<i64>(), any::<u64>()), 0..60),
                0..8,
            ),
        ) {
            let mut merger = Merger::new(7);
            let mut want: BTreeMap<Vec<u8>, Vec<(i64, u64)>> = BTreeMap::new();
            for pass in &passes {
                let mut batch = MetricBatch::default();
                for &(n, t_ms, bits) in pass {
                    batch.push(&labels(n), t_ms, f64::from_bits(bits));
                    want.entry(labels(n).as_packed().to_vec()).or_default().push((t_ms, bits));
                }
                prop_assert!(merged(&mut merger, &batch).is_empty());
            }
            let mut out = MetricBatch::default();
            merger.take(&mut out);
            prop_assert_eq!(out.series.len(), want.len(), "labels stand once");
            prop_assert_eq!(samples(&out), want);
            prop_assert!(merger.is_empty());
        }
    }

    #[test]
    fn exemplars_stay_with_their_series_also_where_a_batch_is_full() {
        let mut merger = Merger::new(7);
        let (mut parts, mut wanted) = (Vec::new(), Vec::new());
        for pass in 0..3_i64 {
            let mut batch = MetricBatch::default();
            for n in 0..20_000 {
                let own = Labels::from_pairs([("trace_id", n.to_string().as_str())]);
                let labels_of_it = own.expect("labels");
                batch.push(&labels(n), pass, 1.0);
                let exemplar = model::Exemplar {
                    labels: labels_of_it,
                    value: 0.5,
                    t_ms: pass,
                    is_dated: true,
                };
                batch.push_exemplar(&labels(n), &exemplar);
                wanted.push((labels(n), exemplar.labels, pass));
            }
            parts.extend(merged(&mut merger, &batch));
        }
        let mut last = MetricBatch::default();
        merger.take(&mut last);
        parts.push(last);
        assert!(parts.len() > 1, "{} parts", parts.len());
        let mut found = Vec::new();
        for part in &parts {
            let mut payload = Vec::new();
            wire::agent_batch::encode(part, &mut payload);
            assert!(payload.len() < 4 << 20);
            let mut back = MetricBatch::default();
            let limits = model::Limits::default();
            wire::agent_batch::decode(&payload, &limits, &mut back).expect("own bytes");
            found.extend(back.exemplars.iter().map(|e| {
                let of = Labels::from_packed(back.label_bytes_of_exemplar(e)).expect("labels");
                let own = wire::decode_exemplar_labels(e.own_form, back.own_label_bytes(e));
                (of, own.expect("labels"), e.t_ms)
            }));
        }
        assert!(found == wanted, "{} of {} exemplars, in order", found.len(), wanted.len());
    }

    #[test]
    fn what_is_too_much_for_one_batch_becomes_several() {
        let mut merger = Merger::new(7);
        let mut batch = MetricBatch::default();
        for n in 0..150_000 {
            batch.push(&labels(n), i64::from(n), 1.0);
        }
        let metric = |n: usize| format!("m{n}");
        batch.metadata.extend((0..2_000).map(|n| MetricMetadata {
            metric: metric(n % 1_000),
            help: "h".repeat(2_000),
            ..MetricMetadata::default()
        }));
        assert!(!fits_alone(&batch));
        let mut parts = merged(&mut merger, &batch);
        let mut last = MetricBatch::default();
        merger.take(&mut last);
        parts.push(last);
        assert!(parts.len() > 2, "{}", parts.len());
        let mut payload = Vec::new();
        for part in &parts {
            payload.clear();
            wire::agent_batch::encode(part, &mut payload);
            assert!(payload.len() < 4 << 20 && fits_alone(part));
            let names: std::collections::HashSet<_> =
                part.metadata.iter().map(|entry| &entry.metric).collect();
            assert_eq!(names.len(), part.metadata.len(), "described once");
        }
        assert_eq!(parts.iter().map(MetricBatch::rows).sum::<usize>(), 150_000);
        assert!(parts.iter().map(|part| part.metadata.len()).sum::<usize>() >= 1_000);
    }
}
