//! Which new series are taken. Series that are known are never looked at here.

use labelindex::MemIndex;
use model::{Labels, METRIC_NAME, TenantId};

use super::Admission;
use super::tables::Tables;
use crate::rows::Refusal;

/// New series may come at once for so many seconds of their limit: a target that appears brings all
/// of its series in one scrape.
const BURST_SECONDS: f64 = 10.0;

/// Room for new series, besides the limits of the tenant.
#[derive(Debug, Clone, Copy)]
pub struct NewSeries<'a> {
    /// How many may be taken of one batch.
    pub room: usize,
    /// What the senders of further ones get.
    pub refusal: &'a str,
}

impl NewSeries<'static> {
    /// Room for all.
    pub const ANY: NewSeries<'static> = NewSeries { room: usize::MAX, refusal: "" };
}

/// How many new series of a tenant may be taken now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    credit: f64,
    at_ms: i64,
}

impl Pace {
    fn new(per_second: usize, now_ms: i64) -> Self {
        Pace { credit: per_second as f64 * BURST_SECONDS, at_ms: now_ms }
    }

    /// Takes one, if there is one.
    fn take(&mut self, per_second: usize, now_ms: i64) -> bool {
        // A clock that is set back gives nothing and takes nothing.
        let seconds = now_ms.saturating_sub(self.at_ms).max(0) as f64 / 1_000.0;
        let most = per_second as f64 * BURST_SECONDS;
        self.credit = (self.credit + seconds * per_second as f64).min(most);
        self.at_ms = now_ms;
        let has_one = self.credit >= 1.0;
        if has_one {
            self.credit -= 1.0;
        }
        has_one
    }
}

impl Tables {
    /// Whether one more series is taken, of a batch that brought `before` already; the error is what
    /// its sender gets.
    pub(super) fn check_new(
        &mut self,
        tenant: TenantId,
        labels: &Labels,
        admission: Admission<'_>,
        before: usize,
    ) -> Result<(), Refusal> {
        let limits = admission.limits;
        let index = self.tenants.get(&tenant);
        let active = index.map_or(0, MemIndex::series_count);
        if active >= limits.max_active_series {
            return Err(Refusal::from(format!(
                "{active} series are active, limits.max_active_series is {}: the new series was \
                 not stored; find labels with too many values and drop them at the source, or \
                 raise the limit",
                limits.max_active_series
            )));
        }
        if let (most @ 1.., Some(index)) = (limits.max_values_per_label, index) {
            // Names of metrics are what there is to watch, not a label that got out of hand.
            let is_full = |&(name, value): &(&str, &str)| {
                name != METRIC_NAME
                    && index.value_count(name) >= most
                    && !index.has_value(name, value)
            };
            if let Some((name, _)) = labels.iter().find(is_full) {
                return Err(Refusal::from(format!(
                    "the label {name:?} has {most} values, which is limits.max_values_per_label: \
                     a series with another one was not stored; drop the label at the source, or \
                     raise the limit"
                )));
            }
        }
        if before >= admission.new_series.room {
            let reason = admission.new_series.refusal.to_owned();
            return Err(Refusal { reason, may_come_again: true });
        }
        let per_second = limits.max_new_series_per_second;
        if per_second == 0 {
            return Ok(());
        }
        let now_ms = admission.now_ms;
        let pace = self.paces.entry(tenant).or_insert_with(|| Pace::new(per_second, now_ms));
        if pace.take(per_second, now_ms) {
            return Ok(());
        }
        Err(Refusal {
            reason: format!(
                "more than limits.max_new_series_per_second ({per_second}) new series come: this \
                 one was not stored; find labels that change often and drop them at the source, \
                 or raise the limit"
            ),
            may_come_again: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_saves_up_ten_seconds() {
        let mut pace = Pace::new(2, 1_000);
        let mut taken = |now_ms| (0..100).filter(|_| pace.take(2, now_ms)).count();
        assert_eq!(taken(1_000), 20);
        assert_eq!(taken(1_500), 1);
        assert_eq!(taken(400), 0, "the clock was set back");
        assert_eq!(taken(1_400), 2);
        assert_eq!(taken(1_000_000), 20);
    }
}
