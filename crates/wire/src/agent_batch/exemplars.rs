//! The section of exemplars.

use codec::varint::{put_bytes, put_i64, put_u64, take_i64};
use model::{ExemplarSample, LabelForm, MetricBatch};

use super::{Fields, common_prefix_len, index};
use crate::WireError;

/// The time is that of the scrape.
const UNDATED: u8 = 0;
/// The target told the time.
const DATED: u8 = 1;
/// Fewest bytes of an exemplar: labels take two and one, the time one, its kind one, the value eight.
const MIN_BYTES: usize = 13;

/// Appends the exemplars of `batch`, of which there is at least one.
pub(super) fn put(batch: &MetricBatch, out: &mut Vec<u8>) {
    put_u64(out, batch.exemplars.len() as u64);
    let mut labels_before: &[u8] = &[];
    let mut t_before = 0_i64;
    for sample in &batch.exemplars {
        let is_plain = sample.own_form != LabelForm::RemoteWrite1;
        assert!(sample.form == LabelForm::Packed && is_plain, "as every source of an agent makes");
        let labels = batch.label_bytes_of_exemplar(sample);
        let shared = common_prefix_len(labels_before, labels);
        put_u64(out, shared as u64);
        put_bytes(out, &labels[shared..]);
        put_bytes(out, batch.own_label_bytes(sample));
        put_i64(out, sample.t_ms.wrapping_sub(t_before));
        (labels_before, t_before) = (labels, sample.t_ms);
        out.push(if sample.is_dated { DATED } else { UNDATED });
        out.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
}

/// Takes what [`put`] wrote.
pub(super) fn take(fields: &mut Fields<'_>, out: &mut MetricBatch) -> Result<(), WireError> {
    let count = fields.count(MIN_BYTES)?;
    fields.spend(count, size_of::<ExemplarSample>())?;
    let (mut before, mut before_len) = (0, 0);
    let mut t_ms = 0_i64;
    for _ in 0..count {
        let shared = fields.number()?;
        let shared = usize::try_from(shared).ok().filter(|shared| *shared <= before_len);
        let shared = shared.ok_or_else(|| {
            fields.malformed("labels have more in common with the ones before than those have")
        })?;
        let (rest, own) = (fields.bytes()?, fields.bytes()?);
        fields.spend(shared + rest.len() + own.len(), 1)?;
        let start = out.label_bytes.len();
        out.label_bytes.extend_from_within(before..before + shared);
        out.label_bytes.extend_from_slice(rest);
        (before, before_len) = (start, shared + rest.len());
        let own_start = out.label_bytes.len();
        out.label_bytes.extend_from_slice(own);
        let step = take_i64(&mut fields.rest);
        t_ms = t_ms.wrapping_add(fields.located(step)?);
        let is_dated = match fields.take(1)?[0] {
            UNDATED => false,
            DATED => true,
            _ => return Err(fields.malformed("unknown kind of an exemplar's time")),
        };
        let value = fields.take(8)?.try_into().expect("eight bytes were asked for");
        out.exemplars.push(ExemplarSample {
            labels_start: index(before),
            labels_len: index(before_len),
            form: LabelForm::Packed,
            own_start: index(own_start),
            own_len: index(own.len()),
            own_form: LabelForm::Pairs,
            value: f64::from_bits(u64::from_le_bytes(value)),
            t_ms,
            is_dated,
        });
    }
    Ok(())
}
