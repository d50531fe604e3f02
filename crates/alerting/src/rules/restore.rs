//! The state of alerts before a stop, out of `ALERTS_FOR_STATE`.

use model::{Labels, METRIC_NAME, MatchOp, Matcher, is_stale_nan};

use super::alert::Alert;
use super::group::Group;
use super::label_merge::merge;
use super::{ALERT_NAME, ALERTS_FOR_STATE};

/// For how long nobody may have evaluated rules so that what alerts were is still worth something.
pub const OUTAGE_TOLERANCE_MS: i64 = 3_600_000;
/// An alert that was about to fire fires so long after a restart; those with a shorter `for` are
/// not restored, for they fire soon anyway.
pub const FOR_GRACE_PERIOD_MS: i64 = 600_000;

/// Series to read for a rule.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Which rule of the group.
    pub rule: usize,
    /// What selects them.
    pub matchers: Vec<Matcher>,
    /// Samples from here, milliseconds since the epoch, inclusive.
    pub start_ms: i64,
    /// To here, inclusive.
    pub end_ms: i64,
}

/// A series of `ALERTS_FOR_STATE` with its last sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ForStateSeries {
    /// Its labels.
    pub labels: Labels,
    /// When its last sample was written, milliseconds since the epoch.
    pub t_ms: i64,
    /// What it says: since when the alert is active, in seconds.
    pub value: f64,
}

impl Group {
    /// What to read now so that alerts are what they were before the last stop: once, after the
    /// second evaluation, because recording rules and scrapes have to come first. Hand the answers to
    /// [`Group::restore_rule`], then call [`Group::restored`], whether they could be read or not.
    pub fn restore_requests(&self, now_ms: i64) -> Option<Vec<RestoreRequest>> {
        if self.restores_in != Some(0) {
            return None;
        }
        let mut requests = Vec::new();
        for (index, rule) in self.spec.rules.iter().enumerate() {
            let has_any = self.rules[index].alerts.as_ref().is_some_and(|a| a.active() > 0);
            if !rule.is_alerting() || rule.hold_ms < FOR_GRACE_PERIOD_MS || !has_any {
                continue;
            }
            let fixed = rule.fixed_labels();
            let own = [(METRIC_NAME, ALERTS_FOR_STATE), (ALERT_NAME, rule.name.as_str())];
            let labels = merge(&fixed, own.into_iter());
            let matcher = |(name, value): (&str, &str)| Matcher::new(name, MatchOp::Equal, value);
            requests.push(RestoreRequest {
                rule: index,
                // Equality compiles nothing, so it does not fail.
                matchers: labels.iter().map(matcher).filter_map(Result::ok).collect(),
                start_ms: now_ms.saturating_sub(OUTAGE_TOLERANCE_MS),
                end_ms: now_ms,
            });
        }
        Some(requests)
    }

    /// Takes the answer for one rule.
    pub fn restore_rule(&mut self, rule: usize, now_ms: i64, series: &[ForStateSeries]) {
        let Some(hold_ms) = self.spec.rules.get(rule).map(|rule| rule.hold_ms) else { return };
        let Some(alerts) = self.rules[rule].alerts.as_mut() else { return };
        for one in series {
            // What no rule can have written says nothing.
            let is_time = (0.0..=now_ms as f64 / 1_000.0).contains(&one.value);
            if is_stale_nan(one.value) || !is_time {
                continue;
            }
            if let Some(alert) = alerts.by_labels.get_mut(&one.labels.without_name()) {
                // Whole seconds, as they are written and as Prometheus counts them.
                let stopped_ms = one.t_ms.div_euclid(1_000) * 1_000;
                let active_at_ms = (one.value as i64).saturating_mul(1_000);
                restore_alert(alert, hold_ms, active_at_ms, stopped_ms, now_ms);
            }
        }
    }

    /// From now on `ALERTS` is written.
    pub fn restored(&mut self) {
        self.restores_in = None;
        self.rules.iter_mut().for_each(|rule| rule.is_restored = true);
    }
}

/// Sets since when an alert is active: what was waited for before the stop counts, the stop itself
/// does not, and nothing fires at once that had not fired.
pub(super) fn restore_alert(
    alert: &mut Alert,
    hold_ms: i64,
    active_at_ms: i64,
    stopped_ms: i64,
    now_ms: i64,
) {
    let waited_ms = stopped_ms.saturating_sub(active_at_ms);
    let remaining_ms = hold_ms.saturating_sub(waited_ms);
    alert.active_at_ms = if remaining_ms <= 0 {
        active_at_ms
    } else if remaining_ms < FOR_GRACE_PERIOD_MS && hold_ms >= FOR_GRACE_PERIOD_MS {
        now_ms.saturating_add(FOR_GRACE_PERIOD_MS).saturating_sub(hold_ms)
    } else {
        active_at_ms.saturating_add(now_ms.saturating_sub(stopped_ms).max(0))
    };
}
