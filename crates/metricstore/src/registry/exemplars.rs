//! Exemplars of a batch: whose they are, and whether they can be kept.

use model::{Exemplar, LabelForm, Labels, MAX_EXEMPLAR_CHARS, MetricBatch, TenantId};

use super::{Admission, DecodeLabels, Registry};
use crate::rows::{ExemplarRow, ResolvedBatch};

/// Label bytes and how they are written.
type Spelling<'a> = (LabelForm, &'a [u8]);

/// Exemplars that were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarRefusals {
    /// No series has had samples by these labels.
    pub unknown_series: u64,
    /// The labels are longer than [`MAX_EXEMPLAR_CHARS`].
    pub too_long: u64,
    /// Its labels, or those of its series, are none.
    pub malformed: u64,
    /// Too far in the future, or older than the retention.
    pub out_of_bounds: u64,
}

impl ExemplarRefusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.unknown_series + self.too_long + self.malformed + self.out_of_bounds
    }
}

impl Registry {
    /// Appends the exemplars of `batch` to `out`, behind [`Registry::resolve`] of the same batch. No
    /// exemplar makes a series: one of a series that has no samples is left out. Neighbours of one
    /// series are put in order. `decode` is for the labels of series, `decode_own` for those of
    /// exemplars. About 200 ns each.
    ///
    /// # Panics
    /// An entry of `batch.exemplars` points outside the batch.
    pub fn resolve_exemplars(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        admission: Admission<'_>,
        decode: &DecodeLabels<'_>,
        decode_own: &DecodeLabels<'_>,
        out: &mut ResolvedBatch,
    ) -> ExemplarRefusals {
        let mut refusals = ExemplarRefusals::default();
        let newest_ms = admission.now_ms.saturating_add(admission.limits.max_future_ms);
        let allowed = admission.oldest_ms..=newest_ms;
        // Those of one series stand together.
        let mut last: Option<(Spelling<'_>, u32, Labels)> = None;
        for sample in &batch.exemplars {
            if !allowed.contains(&sample.t_ms) {
                refusals.out_of_bounds += 1;
                continue;
            }
            let Ok(labels) = decode_own(sample.own_form, batch.own_label_bytes(sample)) else {
                refusals.malformed += 1;
                continue;
            };
            if chars(&labels) > MAX_EXEMPLAR_CHARS {
                refusals.too_long += 1;
                continue;
            }
            let spelling = (sample.form, batch.label_bytes_of_exemplar(sample));
            if last.as_ref().is_none_or(|(known, ..)| *known != spelling) {
                last = None;
                match self.known(tenant, spelling, admission, decode) {
                    Ok(Some((ordinal, labels))) => last = Some((spelling, ordinal, labels)),
                    Ok(None) => {}
                    Err(_) => {
                        refusals.malformed += 1;
                        continue;
                    }
                }
            }
            let Some((_, ordinal, series)) = &last else {
                refusals.unknown_series += 1;
                continue;
            };
            let (value, t_ms, is_dated) = (sample.value, sample.t_ms, sample.is_dated);
            let exemplar = Exemplar { labels, value, t_ms, is_dated };
            out.exemplars.push(ExemplarRow { ordinal: *ordinal, series: series.clone(), exemplar });
        }
        // Those of one series in their order: one before the newest would be left out.
        for of_series in out.exemplars.chunk_by_mut(|a, b| a.ordinal == b.ordinal) {
            of_series.sort_by(|a, b| a.exemplar.order(&b.exemplar));
        }
        refusals
    }

    /// A series that is registered; the error is why its labels are none.
    fn known(
        &self,
        tenant: TenantId,
        spelling: Spelling<'_>,
        admission: Admission<'_>,
        decode: &DecodeLabels<'_>,
    ) -> Result<Option<(u32, Labels)>, String> {
        let seen_min = self.lookup_min(admission.now_ms);
        let key = self.key(tenant, spelling.0, spelling.1);
        let cached = self.cache.read().find(key, seen_min);
        let ordinal = match cached {
            Some(ordinal) => ordinal,
            None => {
                let labels = decode(spelling.0, spelling.1)?;
                let tables = self.tables.read();
                let Some(found) = tables.get(tenant, &labels) else { return Ok(None) };
                self.cache.write().saw(found, seen_min);
                found
            }
        };
        Ok(self.labels(ordinal).map(|labels| (ordinal, labels)))
    }
}

/// Characters of names and values.
fn chars(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
}
