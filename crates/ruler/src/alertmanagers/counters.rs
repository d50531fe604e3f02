//! What is counted of Alertmanagers elsewhere, under the names Prometheus gives it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::text_encode::TextEncoder;

use super::Alertmanagers;

/// Requests whose times the quantiles are made of: the last so many, of the last ten minutes.
const MAX_RECENT: usize = 1_024;
const RECENT: Duration = Duration::from_secs(600);

/// Counts by URL; each is there as long as somebody is told by that URL.
#[derive(Default)]
pub(super) struct Counts(Mutex<BTreeMap<String, Weak<OfOne>>>);

/// Counts of one Alertmanager.
#[derive(Default)]
pub(super) struct OfOne {
    pub(super) sent: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) dropped: AtomicU64,
    latency: Mutex<Latency>,
}

#[derive(Default)]
struct Latency {
    count: u64,
    sum: Duration,
    recent: VecDeque<(Instant, Duration)>,
}

impl Counts {
    /// Those of a URL, which may be told by several sets.
    pub(super) fn of(&self, url: &str) -> Arc<OfOne> {
        let mut all = self.0.lock();
        all.retain(|_, counts| counts.strong_count() > 0);
        if let Some(known) = all.get(url).and_then(Weak::upgrade) {
            return known;
        }
        let counts = Arc::new(OfOne::default());
        all.insert(url.to_owned(), Arc::downgrade(&counts));
        counts
    }
}

impl OfOne {
    /// A request with so many alerts that took so long.
    pub(super) fn requested(&self, alerts: usize, took: Duration, failed: bool) {
        let alerts = alerts as u64;
        self.sent.fetch_add(alerts, Relaxed);
        if failed {
            self.errors.fetch_add(alerts, Relaxed);
            self.dropped.fetch_add(alerts, Relaxed);
        }
        let mut latency = self.latency.lock();
        latency.count += 1;
        latency.sum = latency.sum.saturating_add(took);
        if latency.recent.len() >= MAX_RECENT {
            latency.recent.pop_front();
        }
        latency.recent.push_back((Instant::now(), took));
    }
}

impl Latency {
    /// Times of recent requests in seconds, ascending.
    fn recent(&mut self) -> Vec<f64> {
        while self.recent.front().is_some_and(|(at, _)| at.elapsed() > RECENT) {
            self.recent.pop_front();
        }
        let mut recent: Vec<f64> = self.recent.iter().map(|(_, took)| took.as_secs_f64()).collect();
        recent.sort_by(f64::total_cmp);
        recent
    }
}

/// The value of so many parts of a thousand of ascending values; no number if there are none.
fn quantile(values: &[f64], per_mille: usize) -> f64 {
    let rank = (values.len() * per_mille).div_ceil(1_000).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Writes everything in Prometheus' text format.
pub(crate) fn render(alertmanagers: &Alertmanagers, out: &mut TextEncoder<'_>) {
    let inner = &alertmanagers.inner;
    let sets = inner.sets.read().clone();
    // Two sets may tell the same one, each with a queue of its own.
    let mut rows: BTreeMap<String, (Arc<OfOne>, usize)> = BTreeMap::new();
    for member in sets.iter().flat_map(|set| set.members()) {
        let row = rows.entry(member.url().to_owned());
        row.or_insert_with(|| (member.counts(), 0)).1 += member.waiting();
    }
    let name = "prometheus_notifications_alertmanagers_discovered";
    out.family(name, "gauge", "Alertmanagers elsewhere that are told of alerts of rules.");
    out.sample(name, &[], rows.len() as f64);
    let name = "prometheus_notifications_queue_capacity";
    out.family(name, "gauge", "Alerts that may wait for one Alertmanager elsewhere.");
    out.sample(name, &[], inner.shared.limits.read().capacity as f64);
    let mut each = |name: &str, kind: &str, help: &str, of: &dyn Fn(&OfOne, usize) -> f64| {
        out.family(name, kind, help);
        for (url, (counts, waiting)) in &rows {
            out.sample(name, &[("alertmanager", url)], of(counts, *waiting));
        }
    };
    each(
        "prometheus_notifications_queue_length",
        "gauge",
        "Alerts that wait for an Alertmanager elsewhere.",
        &|_, waiting| waiting as f64,
    );
    each(
        "prometheus_notifications_sent_total",
        "counter",
        "Alerts in requests to an Alertmanager elsewhere, those that failed included.",
        &|counts, _| counts.sent.load(Relaxed) as f64,
    );
    each(
        "prometheus_notifications_errors_total",
        "counter",
        "Alerts in requests to an Alertmanager elsewhere that failed.",
        &|counts, _| counts.errors.load(Relaxed) as f64,
    );
    each(
        "prometheus_notifications_dropped_total",
        "counter",
        "Alerts that an Alertmanager elsewhere was not told of, because a request failed or its queue was \
         full.",
        &|counts, _| counts.dropped.load(Relaxed) as f64,
    );
    let name = "prometheus_notifications_latency_seconds";
    out.family(name, "summary", "How long requests to an Alertmanager elsewhere took.");
    for (url, (counts, _)) in &rows {
        let mut latency = counts.latency.lock();
        let recent = latency.recent();
        for (text, per_mille) in [("0.5", 500), ("0.9", 900), ("0.99", 990)] {
            let labels = [("alertmanager", url.as_str()), ("quantile", text)];
            out.sample(name, &labels, quantile(&recent, per_mille));
        }
        let labels = [("alertmanager", url.as_str())];
        out.sample(&format!("{name}_sum"), &labels, latency.sum.as_secs_f64());
        out.sample(&format!("{name}_count"), &labels, latency.count as f64);
    }
    inner.shared.discovery.render_failures(
        "watchfire_ruler_alertmanager_discovery_failures_total",
        "Failed attempts to discover Alertmanagers, by mechanism.",
        out,
    );
}
