//! One alert.

use std::sync::Arc;

use model::{Labels, METRIC_NAME};

use super::label_merge::{merge, named};
use super::{ALERT_STATE, ALERTS, ALERTS_FOR_STATE};

/// How long a resolved alert is kept, and sent again and again, so that a receiver that was away
/// hears of it.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// Annotations, by ascending name.
pub type Annotations = Arc<[(String, String)]>;

/// Where an alert is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It was firing and is resolved.
    Inactive,
    /// Its expression holds, but not for long enough yet.
    Pending,
    /// It is to be told.
    Firing,
}

impl AlertState {
    /// As `ALERTS` and the API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// An alert. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Where it is in its life.
    pub state: AlertState,
    /// What tells it apart, `alertname` included.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Annotations,
    /// The value of the expression when it last held; 0 if it was a histogram.
    pub value: f64,
    /// Since when the expression holds.
    pub active_at_ms: i64,
    /// Since when it is firing.
    pub fired_at_ms: Option<i64>,
    /// Since when it is resolved.
    pub resolved_at_ms: Option<i64>,
    /// Since when only `keep_firing_for` keeps it firing.
    pub keep_firing_since_ms: Option<i64>,
    /// When it was last sent.
    pub last_sent_at_ms: Option<i64>,
    /// Until when receivers shall believe that it is firing.
    pub valid_until_ms: Option<i64>,
    /// In how many evaluations more it stays although its expression does not yield it: data may
    /// still be on its way when a process has just started.
    pub(super) held_for: u8,
    /// The series of `ALERTS` in this state, and of `ALERTS_FOR_STATE`.
    pub(super) series: [Labels; 2],
}

impl Alert {
    pub(super) fn new(labels: Labels, annotations: Annotations, value: f64, at_ms: i64) -> Self {
        let series =
            [series_of_state(&labels, AlertState::Pending), named(&labels, ALERTS_FOR_STATE)];
        Alert {
            state: AlertState::Pending,
            labels,
            annotations,
            value,
            active_at_ms: at_ms,
            fired_at_ms: None,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
            last_sent_at_ms: None,
            valid_until_ms: None,
            held_for: 0,
            series,
        }
    }

    /// Whether it is pending or firing.
    pub fn is_active(&self) -> bool {
        self.resolved_at_ms.is_none()
    }

    pub(super) fn enter(&mut self, state: AlertState) {
        self.state = state;
        self.series[0] = series_of_state(&self.labels, state);
    }

    /// Whether it is to be sent at `at_ms`: when it began to fire or was resolved, and again after
    /// each delay.
    fn needs_sending(&self, at_ms: i64, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(sent_ms) = self.last_sent_at_ms else { return true };
        self.resolved_at_ms.is_some_and(|resolved_ms| resolved_ms > sent_ms)
            || sent_ms.saturating_add(resend_delay_ms) < at_ms
    }

    /// What is to be sent at `at_ms`, if it is time; it then counts as sent.
    pub(super) fn send(
        &mut self,
        at_ms: i64,
        resend_delay_ms: i64,
        interval_ms: i64,
        expression: &Arc<str>,
    ) -> Option<Notice> {
        if !self.needs_sending(at_ms, resend_delay_ms) {
            return None;
        }
        // Two evaluations or deliveries may fail before receivers think that it is over.
        let until_ms = at_ms.saturating_add(interval_ms.max(resend_delay_ms).saturating_mul(4));
        self.last_sent_at_ms = Some(at_ms);
        self.valid_until_ms = Some(until_ms);
        Some(Notice {
            labels: self.labels.clone(),
            annotations: Arc::clone(&self.annotations),
            starts_at_ms: self.fired_at_ms.unwrap_or(self.active_at_ms),
            ends_at_ms: self.resolved_at_ms.unwrap_or(until_ms),
            is_resolved: self.resolved_at_ms.is_some(),
            expression: Arc::clone(expression),
        })
    }
}

fn series_of_state(labels: &Labels, state: AlertState) -> Labels {
    merge(labels, [(METRIC_NAME, ALERTS), (ALERT_STATE, state.as_str())].into_iter())
}

/// What is sent of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What tells the alert apart.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Annotations,
    /// Since when it fires, milliseconds since the epoch.
    pub starts_at_ms: i64,
    /// When it was resolved, or will count as that if nothing more is heard of it.
    pub ends_at_ms: i64,
    /// Whether it is over.
    pub is_resolved: bool,
    /// The expression, for [`generator_path`].
    pub expression: Arc<str>,
}

/// The path of the page that shows an expression, behind the external URL, as Prometheus has it.
pub fn generator_path(expression: &str) -> String {
    let mut out = String::from("/graph?g0.expr=");
    for byte in expression.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out.push_str("&g0.tab=1");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        let labels = Labels::from_pairs([("alertname", "A"), ("x", "y")]).expect("labels");
        Alert::new(labels, Arc::from([]), 1.0, 1_000)
    }

    #[test]
    fn it_is_sent_when_something_changed_and_again_after_a_while() {
        let mut alert = alert();
        let text: Arc<str> = Arc::from("up");
        assert_eq!(alert.send(1_000, 60_000, 15_000, &text), None);
        alert.enter(AlertState::Firing);
        alert.fired_at_ms = Some(2_000);
        let notice = alert.send(2_000, 60_000, 15_000, &text).expect("it fires");
        assert_eq!((notice.starts_at_ms, notice.ends_at_ms), (2_000, 242_000));
        assert_eq!(alert.send(62_000, 60_000, 15_000, &text), None);
        let notice = alert.send(62_001, 60_000, 90_000, &text).expect("the delay has passed");
        assert_eq!(notice.ends_at_ms, 62_001 + 360_000);
        alert.enter(AlertState::Inactive);
        alert.resolved_at_ms = Some(70_000);
        let notice = alert.send(70_000, 60_000, 15_000, &text).expect("it is over");
        assert!(notice.is_resolved && notice.ends_at_ms == 70_000);
        assert_eq!(alert.send(85_000, 60_000, 15_000, &text), None);
    }

    #[test]
    fn its_series_tell_its_state() {
        let mut alert = alert();
        let shown = |alert: &Alert| alert.series.clone().map(|series| series.to_string());
        let [state, since] = shown(&alert);
        assert_eq!(state, r#"ALERTS{alertname="A", alertstate="pending", x="y"}"#);
        assert_eq!(since, r#"ALERTS_FOR_STATE{alertname="A", x="y"}"#);
        alert.enter(AlertState::Firing);
        assert_eq!(shown(&alert)[0], r#"ALERTS{alertname="A", alertstate="firing", x="y"}"#);
    }

    #[test]
    fn expressions_are_escaped_in_urls() {
        let want = "/graph?g0.expr=sum%28rate%28a%7Bb%3D%22c%22%7D%5B5m%5D%29%29+%3E+1&g0.tab=1";
        assert_eq!(generator_path("sum(rate(a{b=\"c\"}[5m])) > 1"), want);
    }
}
