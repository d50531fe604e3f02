//! From a scrape to whoever ships or stores its samples.

use model::{MetricBatch, SeriesRows};
use tokio::sync::mpsc::Sender;

/// Most rows and most bytes of labels of one batch: far below what a broker takes at once, so that
/// one huge target does not hold up the others behind it.
const MAX_ROWS: usize = 50_000;
const MAX_LABEL_BYTES: usize = 8 << 20;

/// Sends a batch, in parts if it is large; waits while the queue is full. The parts of one scrape
/// stand in their order.
pub(super) async fn deliver(batch: MetricBatch, batches: &Sender<MetricBatch>) {
    if batch.samples() <= MAX_ROWS && batch.label_bytes.len() <= MAX_LABEL_BYTES {
        // Nobody takes batches any more when the process stops.
        let _ = batches.send(batch).await;
        return;
    }
    for part in parts(batch) {
        let _ = batches.send(part).await;
    }
}

/// Cuts a batch whose series have one row each.
fn parts(mut batch: MetricBatch) -> Vec<MetricBatch> {
    let mut parts = Vec::new();
    let mut part =
        MetricBatch { metadata: std::mem::take(&mut batch.metadata), ..MetricBatch::default() };
    let is_full = |part: &MetricBatch, next: usize| {
        part.samples() == MAX_ROWS || part.label_bytes.len() + next > MAX_LABEL_BYTES
    };
    for series in &batch.series {
        let labels = batch.label_bytes_of(series);
        if is_full(&part, labels.len()) && part.samples() > 0 {
            parts.push(std::mem::take(&mut part));
        }
        part.series.push(SeriesRows {
            labels_start: part.label_bytes.len() as u32,
            first_row: part.timestamps_ms.len() as u32,
            ..*series
        });
        part.label_bytes.extend_from_slice(labels);
        part.timestamps_ms.push(batch.timestamps_ms[series.first_row as usize]);
        part.values.push(batch.values[series.first_row as usize]);
        part.set_last_start(batch.start_ms(series.first_row as usize));
    }
    for sample in std::mem::take(&mut batch.histograms) {
        let labels = batch.label_bytes_of_histogram(&sample);
        if is_full(&part, labels.len()) && part.samples() > 0 {
            parts.push(std::mem::take(&mut part));
        }
        let labels_start = part.label_bytes.len() as u32;
        part.label_bytes.extend_from_slice(labels);
        part.histograms.push(model::HistogramSample { labels_start, ..sample });
    }
    // Behind the samples they are examples of.
    for sample in std::mem::take(&mut batch.exemplars) {
        let (labels, own) =
            (batch.label_bytes_of_exemplar(&sample), batch.own_label_bytes(&sample));
        let bytes = part.label_bytes.len() + labels.len() + own.len();
        if part.exemplars.len() == MAX_ROWS || bytes > MAX_LABEL_BYTES {
            parts.push(std::mem::take(&mut part));
        }
        part.push_exemplar_bytes(&sample, labels, own);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Exemplar, Labels};

    #[test]
    fn parts_are_the_whole_in_order() {
        let mut batch = MetricBatch::default();
        let labels: Vec<Labels> = (0..MAX_ROWS * 2 + 7)
            .map(|index| {
                let index = index.to_string();
                Labels::from_pairs([("__name__", "m"), ("i", index.as_str())]).expect("labels")
            })
            .collect();
        for (index, labels) in labels.iter().enumerate() {
            batch.push(labels, index as i64, index as f64);
            let exemplar =
                Exemplar { labels: labels.clone(), value: 1.0, t_ms: index as i64, is_dated: true };
            batch.push_exemplar(labels, &exemplar);
        }
        let parts = parts(batch);
        assert!(parts.len() > 4, "samples first, exemplars behind them: {}", parts.len());
        let (mut rows, mut exemplars) = (0, 0);
        for part in &parts {
            assert!(part.rows() <= MAX_ROWS && part.exemplars.len() <= MAX_ROWS);
            assert!(part.label_bytes.len() <= MAX_LABEL_BYTES);
            for series in &part.series {
                assert_eq!(part.label_bytes_of(series), labels[rows].as_packed());
                assert_eq!(part.timestamps_ms[series.first_row as usize], rows as i64);
                rows += 1;
            }
            for exemplar in &part.exemplars {
                assert_eq!(rows, labels.len(), "behind all samples");
                let wanted = labels[exemplars].as_packed();
                assert_eq!(part.label_bytes_of_exemplar(exemplar), wanted);
                assert_eq!(part.own_label_bytes(exemplar), wanted);
                exemplars += 1;
            }
        }
        assert_eq!((rows, exemplars), (labels.len(), labels.len()));
    }
}
