//! OTLP metrics and logs: what is kept between requests, and both ways in.

mod grpc;
mod http;
mod logs;
mod seen;
mod status;

use std::sync::Arc;

use ::http::Method;
use model::{Limits, MetricBatch, TenantName};
use net::{Access, Routes};
use parking_lot::{Mutex, RwLock};
use wire::otlp::{Deltas, Options, Summary};

use crate::Broker;
use crate::commit::CommitError;
use crate::ingest::IngestOutcome;
use crate::routes::intake::Refusal;
use crate::routes::lines::Sender;
use seen::{Seen, SeenBodies};

/// The call of `MetricsService`.
const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The call of `LogsService`.
const EXPORT_LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Routes of OTLP, over HTTP and gRPC; also served on ports of their own.
pub fn otlp_routes(broker: &Broker) -> Routes {
    let metrics = ["/v1/metrics", "/otlp/v1/metrics", "/api/v1/otlp/v1/metrics"];
    let logs =
        ["/v1/logs", "/otlp/v1/logs", "/api/v1/otlp/v1/logs", "/insert/opentelemetry/v1/logs"];
    let mut routes = Routes::new()
        .speaking(&http::DIALECT)
        .route(EXPORT_METRICS, [Method::POST], Access::Write, grpc::export_metrics)
        .route(EXPORT_LOGS, [Method::POST], Access::Write, grpc::export_logs);
    for path in metrics {
        routes = routes.route(path, [Method::POST], Access::Write, http::export_metrics);
    }
    for path in logs {
        routes = routes.route(path, [Method::POST], Access::Write, http::export_logs);
    }
    routes.with_state(broker.clone())
}

/// What a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Metrics,
    Logs,
}

impl Kind {
    /// Stores a request in protobuf and yields when it is durable and visible.
    async fn take(self, broker: &Broker, sender: Sender, body: Vec<u8>) -> Result<Taken, Refusal> {
        match self {
            Kind::Metrics => take(broker, sender.tenant, body).await,
            Kind::Logs => logs::take(broker, sender, body).await,
        }
    }
}

/// What is kept between requests.
#[derive(Default)]
pub(crate) struct Otlp {
    options: RwLock<Arc<Options>>,
    /// Held while a request with deltas is translated, not while it is stored.
    deltas: Mutex<Deltas>,
    /// Held by a request with deltas until it is stored, or its deltas are taken back: that puts
    /// back totals as they were, which would undo what others had added since. Such requests are
    /// so stored one after the other; that is why it is a lock to hold while waiting.
    delta_turn: tokio::sync::Mutex<()>,
    seen: Mutex<SeenBodies>,
}

impl Otlp {
    /// By the defaults of Prometheus' configuration; and whether type and unit become labels.
    pub(crate) fn new(type_and_unit_labels: bool) -> Self {
        let options = Options { type_and_unit_labels, ..Options::default() };
        Otlp { options: RwLock::new(Arc::new(options)), ..Otlp::default() }
    }
}

/// What became of a request.
#[derive(Debug, Default)]
struct Taken {
    /// Points or lines that were not stored.
    rejected: u64,
    /// Why, for the sender.
    complaint: Option<String>,
}

impl Broker {
    /// Sets how OTLP becomes series; holds for requests from now on. Whether type and unit become
    /// labels is what [`crate::BrokerConfig`] says.
    pub fn set_otlp_options(&self, options: Options) {
        let options =
            Options { type_and_unit_labels: self.inner.config.type_and_unit_labels, ..options };
        *self.inner.otlp.options.write() = Arc::new(options);
    }

    /// Series whose running total is kept because they come as deltas.
    pub(crate) fn otlp_delta_series(&self) -> usize {
        self.inner.otlp.deltas.lock().len()
    }
}

/// [`Kind::take`] of metrics.
async fn take(broker: &Broker, tenant: TenantName, body: Vec<u8>) -> Result<Taken, Refusal> {
    if !wire::otlp::has_deltas(&body) {
        let decode = |broker: &Broker, limits: &Limits, body: Vec<u8>, batch: &mut MetricBatch| {
            let options = Arc::clone(&broker.inner.otlp.options.read());
            wire::otlp::decode(&body, &options, limits, None, batch)
        };
        let taken = crate::routes::intake::store(broker, tenant, body, decode);
        let (summary, outcome) = taken.await?;
        return judge(broker, summary, outcome);
    }
    // A delta that is sent again after its acknowledgement was lost must not count twice.
    let hash = hash(tenant, &body);
    match broker.inner.otlp.seen.lock().begin(hash, broker.now_ms()) {
        Seen::Stored => return Ok(Taken::default()),
        Seen::UnderWay => return Err(Refusal::UnderWay),
        Seen::New => {}
    }
    let (stored, answer) = tokio::sync::oneshot::channel();
    let work = {
        let broker = broker.clone();
        move || {
            let mut batch = MetricBatch::default();
            let options = Arc::clone(&broker.inner.otlp.options.read());
            let mut summary = {
                let mut deltas = broker.inner.otlp.deltas.lock();
                let limits = broker.limits_of(tenant);
                let newest_ms = broker.now_ms().saturating_add(limits.max_future_ms);
                deltas.begin(tenant, broker.now_ms());
                deltas.admit(broker.oldest_ms()..=newest_ms);
                let deltas = Some(&mut *deltas);
                wire::otlp::decode(&body, &options, &limits, deltas, &mut batch)?
            };
            let id = broker.tenant_for_write(tenant).inspect_err(|_| {
                let applied = std::mem::take(&mut summary.applied);
                broker.inner.otlp.deltas.lock().take_back(applied);
            })?;
            broker.ingest(id, &batch, move |result| {
                let _ = stored.send(result);
            });
            Ok::<Summary, Refusal>(summary)
        }
    };
    // Also if the client does not wait: what follows a commit must follow it.
    let broker = broker.clone();
    let whole = async move {
        let _turn = broker.inner.otlp.delta_turn.lock().await;
        let decoded = broker.off_the_sockets(work).await;
        let result = match decoded {
            Err(refusal) => Err(refusal),
            Ok(mut summary) => {
                let stored = answer.await.unwrap_or(Err(CommitError::Stopping));
                let applied = std::mem::take(&mut summary.applied);
                let result = stored.map_err(Refusal::from);
                let result = result.and_then(|outcome| judge(&broker, summary, outcome));
                if result.is_err() {
                    broker.inner.otlp.deltas.lock().take_back(applied);
                }
                result
            }
        };
        broker.inner.otlp.seen.lock().end(hash, result.is_ok());
        result
    };
    match tokio::spawn(whole).await {
        Ok(result) => result,
        Err(_) => Err(CommitError::Stopping.into()),
    }
}

/// Tells bodies of a tenant apart from each other, and from those of other tenants.
fn hash(tenant: TenantName, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tenant.as_str().as_bytes()).update(&[0]).update(body);
    hasher.finalize()
}

/// What became of a request that was read; an error if nothing was stored and all of it may be later.
fn judge(broker: &Broker, summary: Summary, mut outcome: IngestOutcome) -> Result<Taken, Refusal> {
    broker.count_exemplars_left_out(summary.exemplars_left_out);
    broker.count_refused(&summary.refusals);
    let untranslated: u64 = summary.refusals.iter().map(|refused| refused.series).sum();
    // A point of a classic histogram is many samples; at most all points are rejected.
    let rejected = untranslated + outcome.refused_samples();
    outcome.add_refusals(summary.refusals);
    if let Some(later) = Refusal::of(&outcome) {
        return Err(later);
    }
    let rejected = rejected.min(summary.points.max(untranslated));
    Ok(Taken { rejected, complaint: outcome.complaint() })
}
