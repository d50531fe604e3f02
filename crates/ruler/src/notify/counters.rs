//! What is counted of alerts and notifications, under the names Alertmanager gives them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alerting::notify::{Notification, Outcome, SilenceState};
use parking_lot::Mutex;
use wire::text_encode::TextEncoder;

use super::Notifications;

/// Upper bounds of latencies, seconds, as Alertmanager has them.
const BUCKETS: [f64; 5] = [1.0, 5.0, 10.0, 15.0, 20.0];

/// Counts since the start.
#[derive(Debug, Default)]
pub struct NotifyCounters {
    received_firing: AtomicU64,
    received_resolved: AtomicU64,
    refused: AtomicU64,
    writes_failed: AtomicU64,
    receivers: Mutex<BTreeMap<Way, OfWay>>,
}

/// A receiver, the kind of an integration of it, and its place among those of its kind.
pub type Way = (String, &'static str, usize);

/// What is counted of one integration of one receiver.
#[derive(Debug, Default, Clone)]
struct OfWay {
    attempts: u64,
    delivered: u64,
    retried: u64,
    failed: u64,
    latencies: [u64; BUCKETS.len()],
    latency_seconds: f64,
}

/// Attempts at telling a receiver in one way, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// All that ended.
    pub attempts: u64,
    /// Those after which the receiver knew.
    pub delivered: u64,
    /// Those that are, or were, tried again.
    pub retried: u64,
    /// Those after which it was given up.
    pub failed: u64,
}

impl NotifyCounters {
    /// Attempts by way of telling.
    pub fn attempts(&self) -> BTreeMap<Way, Attempts> {
        let of = |row: &OfWay| Attempts {
            attempts: row.attempts,
            delivered: row.delivered,
            retried: row.retried,
            failed: row.failed,
        };
        self.receivers.lock().iter().map(|(key, row)| (key.clone(), of(row))).collect()
    }

    pub(super) fn alert_received(&self, is_resolved: bool) {
        let counter = if is_resolved { &self.received_resolved } else { &self.received_firing };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn alert_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write_failed(&self) {
        self.writes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn told(&self, notification: &Notification, outcome: &Outcome, took: Duration) {
        let way = (notification.receiver.to_string(), notification.kind, notification.index);
        let mut receivers = self.receivers.lock();
        let row = receivers.entry(way).or_default();
        row.attempts += 1;
        match outcome {
            Outcome::Delivered { .. } => row.delivered += 1,
            Outcome::Retry { .. } => row.retried += 1,
            Outcome::Failed { .. } => row.failed += 1,
        }
        let seconds = took.as_secs_f64();
        row.latency_seconds += seconds;
        for (bound, count) in BUCKETS.iter().zip(&mut row.latencies) {
            *count += u64::from(seconds <= *bound);
        }
    }
}

impl OfWay {
    fn add(&mut self, other: &OfWay) {
        self.attempts += other.attempts;
        self.delivered += other.delivered;
        self.retried += other.retried;
        self.failed += other.failed;
        self.latency_seconds += other.latency_seconds;
        for (count, more) in self.latencies.iter_mut().zip(other.latencies) {
            *count += more;
        }
    }
}

/// Ways of one kind together, as Alertmanager counts them.
fn by_kind(ways: BTreeMap<Way, OfWay>) -> BTreeMap<(String, &'static str), OfWay> {
    let mut kinds: BTreeMap<(String, &'static str), OfWay> = BTreeMap::new();
    for ((receiver, kind, _), row) in ways {
        kinds.entry((receiver, kind)).or_default().add(&row);
    }
    kinds
}

/// Writes everything in Prometheus' text format.
pub(crate) fn render(notifications: &Notifications, out: &mut TextEncoder<'_>) {
    let counters = notifications.counters();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    out.family("alertmanager_alerts", "gauge", "Alerts that fire, by what becomes of them.");
    for (state, count) in super::by_state(notifications) {
        out.sample("alertmanager_alerts", &[("state", state)], count as f64);
    }
    let name = "alertmanager_alerts_received_total";
    out.family(name, "counter", "Alerts that were posted, or came of rules.");
    out.sample(name, &[("status", "firing")], read(&counters.received_firing));
    out.sample(name, &[("status", "resolved")], read(&counters.received_resolved));
    let name = "alertmanager_alerts_invalid_total";
    out.family(name, "counter", "Alerts that were refused; the log says why.");
    out.sample(name, &[], read(&counters.refused));
    let (counts, silences) = notifications.look(|notifier, now_ns| {
        let mut silences = BTreeMap::from([("active", 0), ("expired", 0), ("pending", 0)]);
        for silence in notifier.silences() {
            let state = match silence.state(now_ns) {
                SilenceState::Active => "active",
                SilenceState::Expired => "expired",
                SilenceState::Pending => "pending",
            };
            *silences.entry(state).or_default() += 1;
        }
        (notifier.counts(), silences)
    });
    out.family("alertmanager_silences", "gauge", "Silences, by where they are in their life.");
    for (state, count) in silences {
        out.sample("alertmanager_silences", &[("state", state)], f64::from(count));
    }
    let name = "alertmanager_dispatcher_aggregation_groups";
    out.family(name, "gauge", "Groups of alerts.");
    out.sample(name, &[], counts.groups as f64);
    let name = "alertmanager_dispatcher_aggregation_group_limit_reached_total";
    out.family(name, "counter", "Alerts nobody is told of because there are too many groups.");
    out.sample(name, &[], counts.refused_groups as f64);
    let name = "watchfire_ruler_notifications_under_way";
    out.family(name, "gauge", "Messages that receivers are being told.");
    out.sample(name, &[], counts.notifications as f64);
    let name = "watchfire_ruler_state_writes_failed_total";
    out.family(name, "counter", "Attempts in vain to write alerts and silences down.");
    out.sample(name, &[], read(&counters.writes_failed));
    let ways = counters.receivers.lock().clone();
    let name = "watchfire_ruler_deliveries_total";
    out.family(name, "counter", "Attempts at telling a receiver in one way, by what came of them.");
    for ((receiver, kind, index), row) in &ways {
        let index = index.to_string();
        for (outcome, count) in
            [("delivered", row.delivered), ("failed", row.failed), ("retry", row.retried)]
        {
            let labels = [
                ("index", index.as_str()),
                ("integration", *kind),
                ("outcome", outcome),
                ("receiver_name", receiver.as_str()),
            ];
            out.sample(name, &labels, count as f64);
        }
    }
    let receivers = by_kind(ways);
    let each = |out: &mut TextEncoder<'_>, name: &str, help: &str, of: fn(&OfWay) -> u64| {
        out.family(name, "counter", help);
        for ((receiver, integration), row) in &receivers {
            let labels = [("integration", *integration), ("receiver_name", receiver.as_str())];
            out.sample(name, &labels, of(row) as f64);
        }
    };
    each(out, "alertmanager_notifications_total", "Messages that receivers were told.", |row| {
        row.delivered
    });
    each(out, "alertmanager_notifications_failed_total", "Messages that failed for good.", |row| {
        row.failed
    });
    each(out, "alertmanager_notification_requests_total", "Attempts at messages.", |row| {
        row.attempts
    });
    each(
        out,
        "alertmanager_notification_requests_failed_total",
        "Attempts at messages that failed.",
        |row| row.retried + row.failed,
    );
    let name = "alertmanager_notification_latency_seconds";
    out.family(name, "histogram", "How long attempts at messages took.");
    for ((receiver, integration), row) in &receivers {
        let labels = [("integration", *integration), ("receiver_name", receiver.as_str())];
        for (bound, count) in BUCKETS.iter().zip(row.latencies) {
            let bound = bound.to_string();
            let with_bound = [labels[0], labels[1], ("le", bound.as_str())];
            out.sample(&format!("{name}_bucket"), &with_bound, count as f64);
        }
        let infinite = [labels[0], labels[1], ("le", "+Inf")];
        out.sample(&format!("{name}_bucket"), &infinite, row.attempts as f64);
        out.sample(&format!("{name}_sum"), &labels, row.latency_seconds);
        out.sample(&format!("{name}_count"), &labels, row.attempts as f64);
    }
}
