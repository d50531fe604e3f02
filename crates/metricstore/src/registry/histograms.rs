//! Histograms of a batch to rows of shards. They are few, so nothing here is tuned.

use std::ops::RangeInclusive;
use std::sync::Arc;

use model::histogram::MAX_SCHEMA;
use model::{BucketLayout, Histogram, HistogramError, MetricBatch, ResetHint, TenantId};

use super::{Admission, DecodeLabels, Registry, name_of, reject_times};
use crate::rows::{HistogramRow, ResolvedBatch};

/// The finest schema there is; above [`MAX_SCHEMA`] it is known and made coarser.
const FINEST_SCHEMA: i32 = 52;

impl Registry {
    /// Appends the histograms of `batch` to `out`, as [`Registry::resolve`] does floats. About
    /// 300 ns and 5 ns per bucket each.
    pub(super) fn resolve_histograms(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        admission: Admission<'_>,
        allowed: &RangeInclusive<i64>,
        decode: &DecodeLabels<'_>,
        out: &mut ResolvedBatch,
    ) {
        let shards = out.shards.len();
        let mut layout: Arc<BucketLayout> = Arc::default();
        for sample in &batch.histograms {
            let bytes = batch.label_bytes_of_histogram(sample);
            let name = || name_of(admission, sample.form, bytes);
            if !allowed.contains(&sample.t_ms) {
                reject_times(&[sample.t_ms], true, admission, *allowed.end(), &name, out);
                continue;
            }
            let histogram = match admissible(&sample.histogram, &mut layout) {
                Ok(histogram) => histogram,
                Err(fault) => {
                    out.reject(format!("invalid native histogram: {fault}"), 1, 1, name);
                    continue;
                }
            };
            let key = self.key(tenant, sample.form, bytes);
            let known = self.cache.read().find(key, self.lookup_min(admission.now_ms));
            let admit =
                || self.admit(tenant, (sample.form, bytes), admission, decode, &mut out.new_series);
            match known.map_or_else(admit, Ok) {
                Ok(ordinal) => {
                    out.shards[ordinal as usize % shards].histograms.push(HistogramRow {
                        ordinal,
                        t_ms: sample.t_ms,
                        start_ms: sample.start_ms.unwrap_or(0),
                        histogram,
                    })
                }
                Err(reason) => out.reject(reason, 1, 1, name),
            }
        }
    }
}

/// The histogram in the form in which it is stored. It shares `layout` if that is its own;
/// otherwise `layout` becomes its own, for the next one.
fn admissible(
    histogram: &Histogram,
    layout: &mut Arc<BucketLayout>,
) -> Result<Histogram, HistogramError> {
    let mut histogram = histogram.clone();
    if (MAX_SCHEMA + 1..=FINEST_SCHEMA).contains(&histogram.layout().schema) {
        histogram.coarsen(MAX_SCHEMA)?;
    }
    histogram.validate()?;
    histogram.compact(0);
    if histogram.reset_hint() == ResetHint::NoReset {
        // It speaks about the sample before, which here may become another one.
        histogram.set_reset_hint(ResetHint::Unknown);
    }
    if histogram.layout() == layout {
        histogram.share_layout(layout);
    } else {
        *layout = Arc::clone(histogram.layout());
    }
    Ok(histogram)
}
