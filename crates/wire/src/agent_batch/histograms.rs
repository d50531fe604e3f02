//! The section of native histograms.

use std::sync::Arc;

use codec::varint::{put_i64, put_u64, take_i64};
use model::{BucketLayout, Histogram, HistogramSample, LabelForm, MetricBatch};

use super::{Fields, common_prefix_len, index};
use crate::WireError;

/// The histogram has the layout of the one before.
const SAME_LAYOUT: u8 = 0;
/// A layout follows.
const NEW_LAYOUT: u8 = 1;
/// Fewest bytes of a histogram: labels take two, times two, the kind of its layout one, and ten its
/// counts and its sum.
const MIN_BYTES: usize = 16;

/// Appends the histograms of `batch`, of which there is at least one valid. Others are left out:
/// no reader could take them, and a broker would refuse them.
pub(super) fn put(batch: &MetricBatch, out: &mut Vec<u8>) {
    let valid = || batch.histograms.iter().filter(|sample| is_valid(sample));
    put_u64(out, valid().count() as u64);
    let mut labels_before: &[u8] = &[];
    let (mut t_before, mut start_before) = (0_i64, 0_i64);
    let mut layout: Option<&Arc<BucketLayout>> = None;
    for sample in valid() {
        assert!(sample.form == LabelForm::Packed, "labels of an agent's batch are packed");
        let labels = batch.label_bytes_of_histogram(sample);
        let shared = common_prefix_len(labels_before, labels);
        put_u64(out, shared as u64);
        put_u64(out, (labels.len() - shared) as u64);
        out.extend_from_slice(&labels[shared..]);
        let start_ms = sample.start_ms.unwrap_or(0);
        put_i64(out, sample.t_ms.wrapping_sub(t_before));
        put_i64(out, start_ms.wrapping_sub(start_before));
        (labels_before, t_before, start_before) = (labels, sample.t_ms, start_ms);
        let own = sample.histogram.layout();
        if layout.is_some_and(|known| Arc::ptr_eq(known, own) || known == own) {
            out.push(SAME_LAYOUT);
        } else {
            out.push(NEW_LAYOUT);
            codec::put_layout(own, out);
            layout = Some(own);
        }
        codec::put_histogram(&sample.histogram, out);
    }
}

/// Whether the section can hold the histogram.
pub(super) fn is_valid(sample: &HistogramSample) -> bool {
    sample.histogram.validate().is_ok()
}

/// Takes what [`put`] wrote.
pub(super) fn take(fields: &mut Fields<'_>, out: &mut MetricBatch) -> Result<(), WireError> {
    let count = fields.count(MIN_BYTES)?;
    fields.spend(count, size_of::<HistogramSample>())?;
    let (mut before, mut before_len) = (0, 0);
    let (mut t_ms, mut start_ms) = (0_i64, 0_i64);
    let mut layout: Option<Arc<BucketLayout>> = None;
    for _ in 0..count {
        let shared = fields.number()?;
        let shared = usize::try_from(shared).ok().filter(|shared| *shared <= before_len);
        let shared = shared.ok_or_else(|| {
            fields.malformed("labels have more in common with the ones before than those have")
        })?;
        let rest = fields.bytes()?;
        fields.spend(shared + rest.len(), 1)?;
        // The first one has nothing in common, whatever was read before this section.
        let start = out.label_bytes.len();
        out.label_bytes.extend_from_within(before..before + shared);
        out.label_bytes.extend_from_slice(rest);
        (before, before_len) = (start, shared + rest.len());
        t_ms = t_ms.wrapping_add(signed(fields)?);
        start_ms = start_ms.wrapping_add(signed(fields)?);
        let own = match (fields.take(1)?[0], layout.take()) {
            (SAME_LAYOUT, Some(known)) => known,
            (NEW_LAYOUT, _) => {
                let taken = codec::take_layout(&mut fields.rest);
                let layout = fields.located(taken)?;
                // Custom bounds may take fewer bytes than there are of them.
                fields.spend(1, size_of::<BucketLayout>() + layout.heap_bytes())?;
                Arc::new(layout)
            }
            _ => return Err(fields.malformed("unknown kind of a histogram's layout")),
        };
        let histogram = take_histogram(fields, &own)?;
        layout = Some(own);
        out.histograms.push(HistogramSample {
            labels_start: index(before),
            labels_len: index(before_len),
            form: LabelForm::Packed,
            t_ms,
            start_ms: (start_ms != 0).then_some(start_ms),
            histogram,
        });
    }
    Ok(())
}

fn take_histogram(
    fields: &mut Fields<'_>,
    layout: &Arc<BucketLayout>,
) -> Result<Histogram, WireError> {
    let (positive, negative) = layout.bucket_counts();
    fields.spend(positive + negative, size_of::<u64>())?;
    let taken = codec::take_histogram(&mut fields.rest, layout);
    fields.located(taken)
}

fn signed(fields: &mut Fields<'_>) -> Result<i64, WireError> {
    let taken = take_i64(&mut fields.rest);
    fields.located(taken)
}
