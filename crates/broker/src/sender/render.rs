//! What `/metrics` says of remote write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::text_encode::TextEncoder;

use super::counters::{Counters, DURATION_BOUNDS, Dropped, Sent};
use super::delivery::Delivery;
use crate::Broker;

/// A family with one number for each remote.
type Family = (&'static str, &'static str, &'static str, fn(&Delivery) -> f64);

const FAMILIES: &[Family] = &[
    (
        "prometheus_remote_storage_samples_total",
        "counter",
        "Samples sent to the remote, each counted once.",
        |remote| number(&remote.counters().floats.total),
    ),
    (
        "prometheus_remote_storage_histograms_total",
        "counter",
        "Native histograms sent to the remote, each counted once.",
        |remote| number(&remote.counters().histograms.total),
    ),
    (
        "prometheus_remote_storage_exemplars_total",
        "counter",
        "Exemplars sent to the remote, each counted once.",
        |remote| number(&remote.counters().exemplars.total),
    ),
    (
        "prometheus_remote_storage_metadata_total",
        "counter",
        "Metadata entries sent to the remote in requests of their own.",
        |remote| number(&remote.counters().metadata.total),
    ),
    (
        "prometheus_remote_storage_samples_failed_total",
        "counter",
        "Samples the remote refused for good.",
        |remote| number(&remote.counters().floats.failed),
    ),
    (
        "prometheus_remote_storage_histograms_failed_total",
        "counter",
        "Native histograms the remote refused for good.",
        |remote| number(&remote.counters().histograms.failed),
    ),
    (
        "prometheus_remote_storage_exemplars_failed_total",
        "counter",
        "Exemplars the remote refused for good.",
        |remote| number(&remote.counters().exemplars.failed),
    ),
    (
        "prometheus_remote_storage_metadata_failed_total",
        "counter",
        "Metadata entries that were not delivered.",
        |remote| number(&remote.counters().metadata.failed),
    ),
    (
        "prometheus_remote_storage_samples_retried_total",
        "counter",
        "Samples whose request failed and is tried again.",
        |remote| number(&remote.counters().floats.retried),
    ),
    (
        "prometheus_remote_storage_histograms_retried_total",
        "counter",
        "Native histograms whose request failed and is tried again.",
        |remote| number(&remote.counters().histograms.retried),
    ),
    (
        "prometheus_remote_storage_exemplars_retried_total",
        "counter",
        "Exemplars whose request failed and is tried again.",
        |remote| number(&remote.counters().exemplars.retried),
    ),
    (
        "prometheus_remote_storage_metadata_retried_total",
        "counter",
        "Metadata entries whose request failed and is tried again.",
        |remote| number(&remote.counters().metadata.retried),
    ),
    (
        "prometheus_remote_storage_samples_pending",
        "gauge",
        "Samples in the shards; what waits in the log is not among them.",
        |remote| remote.counters().floats.pending.load(Relaxed) as f64,
    ),
    (
        "prometheus_remote_storage_histograms_pending",
        "gauge",
        "Native histograms in the shards.",
        |remote| remote.counters().histograms.pending.load(Relaxed) as f64,
    ),
    (
        "prometheus_remote_storage_exemplars_pending",
        "gauge",
        "Exemplars in the shards.",
        |remote| remote.counters().exemplars.pending.load(Relaxed) as f64,
    ),
    (
        "prometheus_remote_storage_bytes_total",
        "counter",
        "Bytes of samples the remote has taken, compressed.",
        |remote| number(&remote.counters().bytes),
    ),
    (
        "prometheus_remote_storage_metadata_bytes_total",
        "counter",
        "Bytes of metadata the remote has taken, compressed.",
        |remote| number(&remote.counters().metadata_bytes),
    ),
    (
        "prometheus_remote_storage_enqueue_retries_total",
        "counter",
        "Times a shard was full and reading the log had to wait.",
        |remote| number(&remote.counters().enqueue_retries),
    ),
    (
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        "gauge",
        "Newest timestamp read from the log for the remote.",
        |remote| seconds(remote.counters().newest_read_ms.load(Relaxed)),
    ),
    (
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "gauge",
        "Newest timestamp the remote has taken.",
        |remote| seconds(remote.counters().newest_sent_ms.load(Relaxed)),
    ),
    (
        "prometheus_remote_storage_shards",
        "gauge",
        "Requests that may be under way at once.",
        |remote| number(&remote.counters().shards),
    ),
    ("prometheus_remote_storage_shards_max", "gauge", "queue_config.max_shards.", |remote| {
        remote.remote().queue.max_shards as f64
    }),
    ("prometheus_remote_storage_shards_min", "gauge", "queue_config.min_shards.", |remote| {
        remote.remote().queue.min_shards as f64
    }),
    (
        "prometheus_remote_storage_shards_desired",
        "gauge",
        "Shards that would do, by what comes and how fast the remote takes it.",
        |remote| remote.counters().desired_shards(),
    ),
    ("prometheus_remote_storage_shard_capacity", "gauge", "queue_config.capacity.", |remote| {
        remote.remote().queue.capacity as f64
    }),
    (
        "prometheus_remote_storage_max_samples_per_send",
        "gauge",
        "queue_config.max_samples_per_send.",
        |remote| remote.remote().queue.max_samples_per_send as f64,
    ),
    (
        "watchfire_broker_remote_write_behind_bytes",
        "gauge",
        "Log that waits for the remote.",
        |remote| number(&remote.counters().behind_bytes),
    ),
    (
        "watchfire_broker_remote_write_gaps_total",
        "counter",
        "Stretches of the log that could not be sent because they are gone or damaged.",
        |remote| number(&remote.counters().gaps),
    ),
];

impl Broker {
    /// Writes the metrics of remote write. The families are there also where nothing is written to.
    pub fn render_remote_writes(&self, out: &mut TextEncoder<'_>) {
        let (newest_ms, floats, histograms) = self.inner.following.counts();
        for (name, kind, help, value) in [
            (
                "prometheus_remote_storage_highest_timestamp_in_seconds",
                "gauge",
                "Newest timestamp stored since there are remotes.",
                seconds(newest_ms),
            ),
            (
                "prometheus_remote_storage_samples_in_total",
                "counter",
                "Samples stored since there are remotes.",
                floats as f64,
            ),
            (
                "prometheus_remote_storage_histograms_in_total",
                "counter",
                "Native histograms stored since there are remotes.",
                histograms as f64,
            ),
        ] {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
        let active = self.inner.senders.active.lock();
        let remotes: Vec<(&Delivery, String)> = active
            .values()
            .map(|active| (&*active.delivery, active.remote.url.to_string()))
            .collect();
        for (name, kind, help, value) in FAMILIES {
            out.family(name, kind, help);
            for (remote, url) in &remotes {
                out.sample(name, &labels(remote, url), value(remote));
            }
        }
        render_dropped("samples", |counters| &counters.floats, &remotes, out);
        render_dropped("histograms", |counters| &counters.histograms, &remotes, out);
        render_dropped("exemplars", |counters| &counters.exemplars, &remotes, out);
        render_durations(&remotes, out);
    }
}

fn labels<'a>(remote: &'a Delivery, url: &'a str) -> [(&'static str, &'a str); 2] {
    [("remote_name", remote.parts.name.as_str()), ("url", url)]
}

fn render_dropped(
    what: &str,
    of: fn(&Counters) -> &Sent,
    remotes: &[(&Delivery, String)],
    out: &mut TextEncoder<'_>,
) {
    let name = format!("prometheus_remote_storage_{what}_dropped_total");
    out.family(&name, "counter", "What was read from the log and not sent, by reason.");
    for (remote, url) in remotes {
        let counts = &of(remote.counters()).dropped;
        for (why, count) in Dropped::ALL.iter().zip(counts) {
            let [name_label, url_label] = labels(remote, url);
            out.sample(&name, &[("reason", why.word()), name_label, url_label], number(count));
        }
    }
}

fn render_durations(remotes: &[(&Delivery, String)], out: &mut TextEncoder<'_>) {
    const NAME: &str = "prometheus_remote_storage_sent_batch_duration_seconds";
    out.family(NAME, "histogram", "Time requests to the remote took, whatever the answer.");
    for (remote, url) in remotes {
        let counters = remote.counters();
        let mut total = 0.0;
        let bounds = DURATION_BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&counters.durations) {
            total += number(count);
            let [name_label, url_label] = labels(remote, url);
            let labels = [name_label, url_label, ("le", bound.as_str())];
            out.sample(&format!("{NAME}_bucket"), &labels, total);
        }
        let sum = counters.duration_micros.load(Relaxed) as f64 / 1e6;
        out.sample(&format!("{NAME}_sum"), &labels(remote, url), sum);
        out.sample(&format!("{NAME}_count"), &labels(remote, url), total);
    }
}

fn number(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}
