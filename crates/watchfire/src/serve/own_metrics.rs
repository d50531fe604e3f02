//! What this process tells of itself on `/metrics`, stored as if somebody scraped it: the built-in rules
//! watch Watchfire by it, and graphs of it need no other Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Complaints};
use model::{DEFAULT_TENANT, MetricBatch};

use crate::about::now_ms;
use crate::metrics::Telemetry;

/// The label `job` of these series.
const JOB: &str = "watchfire";

/// Stores what `telemetry` tells each `every`, until the broker stops.
pub(super) async fn store(
    telemetry: Arc<Telemetry>,
    broker: Broker,
    instance: String,
    every: Duration,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let extra =
        BTreeMap::from([("job".to_owned(), JOB.to_owned()), ("instance".to_owned(), instance)]);
    let complaints = Arc::new(Complaints::default());
    loop {
        ticks.tick().await;
        if broker.ready().is_err() {
            continue;
        }
        let batch = match batch_of(&telemetry.text(), &extra, &broker) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(error, "what /metrics tells could not be read");
                continue;
            }
        };
        let complaints = Arc::clone(&complaints);
        broker.ingest(DEFAULT_TENANT, &batch, move |result| {
            let error = match result {
                Ok(outcome) => outcome.complaint(),
                Err(error) => Some(error.to_string()),
            };
            if let Some(text) = error
                && let Some(more) = complaints.may_say(&text, Instant::now())
            {
                tracing::warn!(
                    error = text,
                    more_like_it_before = more,
                    "what this process tells of itself was not stored"
                );
            }
        });
    }
}

fn batch_of(
    text: &[u8],
    extra: &BTreeMap<String, String>,
    broker: &Broker,
) -> Result<MetricBatch, String> {
    let mut batch = MetricBatch::default();
    wire::exposition::decode(text, now_ms(), extra, &broker.limits(), &mut batch)
        .map_err(|error| error.to_string())?;
    Ok(batch)
}
