//! Lines of logs of this host, into the broker of this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use agent::logs::{
    CollectionStatus, LineStore, LinesRefused, LocalCollection, LogsConfig, NumberedLines,
    OnDelivered, Push, PushCounters, StageCounters,
};
use anyhow::{Context, Result};
use broker::{BatchIdentity, Broker, Incarnation, LOCAL_COLLECTORS, Lane};
use model::{DEFAULT_TENANT, MetricBatch};

use crate::config::Pushed;
use crate::metrics::Page;

/// How often counts of stages are taken.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Collects into the broker. Opening a large spool reads all of it.
pub(super) async fn start(config: LogsConfig, broker: Broker) -> Result<LocalCollection> {
    let start = move || LocalCollection::start(config, Arc::new(IntoBroker(broker)));
    let started = tokio::task::spawn_blocking(start).await.context("start collecting logs")?;
    started.context("start collecting logs")
}

/// What is told of a collection on `/metrics`.
pub(super) fn page(status: Arc<CollectionStatus>, stages: Arc<StageCounters>) -> Page {
    Box::new(move |out| {
        crate::metrics::render_counters(status.rows().into_iter(), out);
        status.render_files(out);
        stages.render(out);
    })
}

/// What stages of the kind `metrics` have counted, once it is time for it.
pub(super) async fn next_counts(stages: &StageCounters, instance: &str) -> MetricBatch {
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        let mut batch = MetricBatch::default();
        let common = [("job", "logs"), ("instance", instance)];
        stages.collect(&common, crate::about::now_ms(), &mut batch);
        if batch.rows() > 0 {
            return batch;
        }
    }
}

/// Stores what stages count in the broker of this process.
pub(super) async fn count(stages: Arc<StageCounters>, instance: String, broker: Broker) {
    loop {
        let batch = next_counts(&stages, &instance).await;
        broker.ingest(DEFAULT_TENANT, &batch, |result| {
            let error = match result {
                Ok(outcome) => outcome.complaint(),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = error {
                tracing::warn!(error, "what stages count of lines was not stored");
            }
        });
    }
}

/// Lines that go to systems besides the broker.
pub(super) struct Pushing {
    collections: Vec<LocalCollection>,
    counters: BTreeMap<String, Arc<PushCounters>>,
}

impl Pushing {
    /// Starts one collection for each system: one that is away holds up no other.
    pub(super) async fn start(pushed: &[Pushed]) -> Result<Pushing> {
        let mut pushing = Pushing { collections: Vec::new(), counters: BTreeMap::new() };
        for Pushed { sink, lines } in pushed {
            let counters = pushing.counters.entry(sink.name.clone()).or_default();
            let store = Push::start(sink, &lines.host, Arc::clone(counters)).await;
            let store = Arc::new(store.context("start pushing logs")?);
            let lines = lines.clone();
            let start = move || LocalCollection::start(lines, store);
            let started = tokio::task::spawn_blocking(start).await.context("start pushing logs")?;
            let started = started.context("start pushing logs")?;
            counters.follow(started.status());
            pushing.collections.push(started);
        }
        Ok(pushing)
    }

    /// What is told of it on `/metrics`.
    pub(super) fn page(&self) -> Page {
        let counters = self.counters.clone();
        Box::new(move |out| PushCounters::render(&counters, out))
    }

    /// What is in the spools is pushed after the next start.
    pub(super) async fn stop(self) -> Result<()> {
        let stop = move || self.collections.into_iter().for_each(LocalCollection::stop);
        tokio::task::spawn_blocking(stop).await.context("stop pushing logs")
    }
}

struct IntoBroker(Broker);

impl IntoBroker {
    /// The spool is the whole name: brokers of a cluster must not have the same one.
    fn identity(incarnation: [u8; 16], seq: u64, after_seq: u64) -> BatchIdentity {
        let incarnation = Incarnation(incarnation);
        let agent = Arc::from(format!("{LOCAL_COLLECTORS}{incarnation}"));
        BatchIdentity { agent, incarnation, lane: Lane::Live, seq, after_seq }
    }
}

impl LineStore for IntoBroker {
    fn stored_through(&self, incarnation: [u8; 16]) -> Option<u64> {
        let identity = IntoBroker::identity(incarnation, 1, 0);
        let (sender, told) = channel();
        self.0.agent_marks(&identity.agent, identity.incarnation, move |marks| {
            let _ = sender.send(marks);
        });
        told.recv().ok()?.ok().map(|marks| marks.live_through)
    }

    fn store(&self, incarnation: [u8; 16], numbered: NumberedLines, done: OnDelivered) {
        let NumberedLines { seq, after_seq, tenant, lines } = numbered;
        let identity = IntoBroker::identity(incarnation, seq, after_seq);
        self.0.ingest_collected_lines(&identity, tenant.as_deref(), &lines, move |result| {
            done(match result {
                Ok(stored) => {
                    if let Some(complaint) = stored.complaint {
                        tracing::warn!(
                            lines = stored.refused,
                            reason = complaint,
                            "some lines were not stored"
                        );
                    }
                    Ok(stored.stored)
                }
                Err(error) => Err(LinesRefused::Now(error.to_string())),
            });
        });
    }
}
