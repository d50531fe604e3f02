//! Groups, rules and alerts as `/api/v1/rules` and `/api/v1/alerts` show them.

use std::collections::BTreeMap;

use model::{Labels, rfc3339};
use serde::Serialize;

use super::alert::{Alert, AlertState};
use super::group::{Group, RuleState};
use super::spec::RuleSpec;

/// A group in Prometheus' JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// The file it is in.
    pub file: String,
    /// Its rules, in the order of the file.
    pub rules: Vec<RuleView>,
    /// Seconds between evaluations.
    pub interval: f64,
    /// Most alerts or series of one rule; 0 for any number.
    pub limit: usize,
    /// Seconds that the last evaluation took.
    pub evaluation_time: f64,
    /// When that began.
    pub last_evaluation: String,
}

/// A rule in Prometheus' JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum RuleView {
    /// One that makes alerts.
    Alerting {
        /// The gravest state of its alerts.
        state: &'static str,
        /// Its name.
        name: String,
        /// Its expression.
        query: String,
        /// `for`, in seconds.
        duration: f64,
        /// `keep_firing_for`, in seconds.
        keep_firing_for: f64,
        /// Its labels, as they were written.
        labels: BTreeMap<String, String>,
        /// Its annotations, as they were written.
        annotations: BTreeMap<String, String>,
        /// Its pending and firing alerts.
        alerts: Vec<AlertView>,
        /// `ok`, `err` or `unknown`.
        health: &'static str,
        /// Why its last evaluation failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        /// Seconds that the last evaluation took.
        evaluation_time: f64,
        /// When that began.
        last_evaluation: String,
    },
    /// One that writes series.
    Recording {
        /// The series it writes.
        name: String,
        /// Its expression.
        query: String,
        /// Labels it adds.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// `ok`, `err` or `unknown`.
        health: &'static str,
        /// Why its last evaluation failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        /// Seconds that the last evaluation took.
        evaluation_time: f64,
        /// When that began.
        last_evaluation: String,
    },
}

/// An alert in Prometheus' JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertView {
    /// What tells it apart.
    pub labels: BTreeMap<String, String>,
    /// What is said of it.
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: &'static str,
    /// Since when its expression holds.
    pub active_at: String,
    /// Since when only `keep_firing_for` keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<String>,
    /// The value, as `1.5e+00`.
    pub value: String,
}

impl AlertView {
    fn of(alert: &Alert) -> Self {
        AlertView {
            labels: map(&alert.labels),
            annotations: alert.annotations.iter().cloned().collect(),
            state: alert.state.as_str(),
            active_at: rfc3339(alert.active_at_ms),
            keep_firing_since: alert.keep_firing_since_ms.map(rfc3339),
            value: go_scientific(alert.value),
        }
    }
}

impl Group {
    /// How it is shown; with its alerts, or without for lists that leave them out.
    pub fn view(&self, with_alerts: bool) -> GroupView {
        let rules = self.spec.rules.iter().zip(&self.rules);
        GroupView {
            name: self.key.name.clone(),
            file: self.key.file.clone(),
            rules: rules.map(|(spec, state)| rule(spec, state, with_alerts)).collect(),
            interval: seconds(self.spec.interval_ms),
            limit: self.spec.limit,
            evaluation_time: self.timing.took.as_secs_f64(),
            last_evaluation: moment(self.timing.started_ms),
        }
    }

    /// Its pending and firing alerts, as `/api/v1/alerts` shows them.
    pub fn alert_views(&self) -> impl Iterator<Item = AlertView> {
        let alerts = self.rules.iter().filter_map(|rule| rule.alerts.as_ref());
        let alerts = alerts.flat_map(|alerts| alerts.by_labels.values());
        alerts.filter(|alert| alert.is_active()).map(AlertView::of)
    }
}

fn rule(spec: &RuleSpec, state: &RuleState, with_alerts: bool) -> RuleView {
    let (name, query) = (spec.name.clone(), spec.expression.text.to_string());
    let labels: BTreeMap<String, String> = spec.labels.iter().cloned().collect();
    let health = state.health.as_str();
    let last_error = state.last_error.clone();
    let evaluation_time = state.timing.took.as_secs_f64();
    let last_evaluation = moment(state.timing.started_ms);
    let Some(alerts) = &state.alerts else {
        return RuleView::Recording {
            name,
            query,
            labels,
            health,
            last_error,
            evaluation_time,
            last_evaluation,
        };
    };
    let active = alerts.by_labels.values().filter(|alert| alert.is_active());
    let gravest = active.clone().map(|alert| alert.state).max();
    RuleView::Alerting {
        state: gravest.unwrap_or(AlertState::Inactive).as_str(),
        name,
        query,
        duration: seconds(spec.hold_ms),
        keep_firing_for: seconds(spec.keep_firing_for_ms),
        labels,
        annotations: spec.annotations.iter().cloned().collect(),
        alerts: if with_alerts { active.map(AlertView::of).collect() } else { Vec::new() },
        health,
        last_error,
        evaluation_time,
        last_evaluation,
    }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// A time; Go's zero time where there was none.
fn moment(ms: i64) -> String {
    if ms == 0 { "0001-01-01T00:00:00Z".to_owned() } else { rfc3339(ms) }
}

/// A number as Go's `%e` with as many digits as it needs: `1.5e+00`.
pub fn go_scientific(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        for (value, want) in [
            (1.0, "1e+00"),
            (1.5, "1.5e+00"),
            (-0.001_25, "-1.25e-03"),
            (1e100, "1e+100"),
            (0.0, "0e+00"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(go_scientific(value), want);
        }
    }
}
