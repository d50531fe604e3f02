//! `/api/v1/status/*`: what runs here, and with what.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::census;
use crate::Console;
use crate::data::Counted;
use crate::params::Params;
use crate::remote::{BrokerStatus, ClusterStatus};
use crate::respond::{bad_data, source_error, success, success_with};
use net::{ApiError, ErrorType};

/// The version of Prometheus whose API this is. Grafana and others switch features by it, so it
/// is told where they look for it, and our own version stands beside it.
const API_VERSION: &str = "3.14.0";
/// Entries per list in `status/tsdb` when the request names no limit, as in Prometheus.
pub(super) const DEFAULT_TOP: usize = 10;
/// Most entries per list in `status/tsdb`.
pub(super) const MAX_TOP: usize = 10_000;

pub(super) async fn build_info(State(console): State<Arc<Console>>) -> Response {
    let about = console.about();
    let mut told = json!({
        "version": API_VERSION,
        "revision": about.revision,
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "watchfire",
        "applicationVersion": about.version,
    });
    // By this Grafana takes the server for a Mimir and lets rules be changed; without it, for a Prometheus.
    if about.keeps_rules {
        told["features"] = json!({
            "ruler_config_api": "true",
            "alertmanager_config_api": "false",
            "federated_rules": "false",
        });
    }
    success(told)
}

pub(super) async fn runtime_info(State(console): State<Arc<Console>>) -> Response {
    let (about, reload) = (console.about(), console.last_reload());
    success(json!({
        "startTime": model::rfc3339(about.start_ms),
        "serverTime": model::rfc3339(console.now_ms()),
        "CWD": about.directory,
        "hostname": about.hostname,
        "reloadConfigSuccess": reload.is_ok,
        "lastConfigTime": model::rfc3339(reload.in_effect_ms),
        "corruptionCount": console.corruptions(),
        "goroutineCount": 0,
        "GOMAXPROCS": about.threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": console.retention(),
        "brokerUrl": console.broker_url(),
        "clusters": console.clusters().iter().map(cluster).collect::<Vec<_>>(),
    }))
}

fn cluster(cluster: &ClusterStatus) -> Value {
    let broker = |one: &BrokerStatus| json!({ "address": one.address, "answers": one.answers, "reason": one.reason });
    json!({
        "name": cluster.name,
        "answers": cluster.answers,
        "brokers": cluster.brokers.iter().map(broker).collect::<Vec<_>>(),
        "storageRetention": cluster.state.retention,
        "brokerUrl": cluster.state.url,
        "version": cluster.state.version,
    })
}

/// How far the log was read at the start. Whoever is answered at all is answered when that is over, and
/// then, as with Prometheus, nothing is left.
pub(super) async fn wal_replay(State(console): State<Arc<Console>>) -> Result<Response, ApiError> {
    let ready = console.executor().data().ready();
    ready
        .map_err(|reason| ApiError::new(ErrorType::Unavailable, format!("not ready: {reason}")))?;
    Ok(success(json!({ "min": 0, "max": 0, "current": 0 })))
}

pub(super) async fn config(State(console): State<Arc<Console>>) -> Response {
    let own = &console.config_yaml();
    // Clients of Prometheus look for what is scraped.
    match console.prometheus_yaml() {
        Some(yaml) => success(json!({ "yaml": yaml, "applicationYaml": own })),
        None => success(json!({ "yaml": own, "applicationYaml": own })),
    }
}

pub(super) async fn flags(State(console): State<Arc<Console>>) -> Response {
    let flags: serde_json::Map<String, Value> = console
        .about()
        .flags
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.clone())))
        .collect();
    success(flags.into())
}

pub(super) async fn tsdb(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    if census::is_asked(&params) {
        return census::answer(&console, &params).await;
    }
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => DEFAULT_TOP,
        Some(Err(_) | Ok(0)) => return Err(bad_data("limit must be a positive number")),
        Some(Ok(limit)) if limit > MAX_TOP => {
            return Err(bad_data(format!("limit must not exceed {MAX_TOP}")));
        }
        Some(Ok(limit)) => limit,
    };
    let (top, away) = console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let view = data.snapshot(work).map_err(source_error)?;
            Ok((view.cardinality(limit).map_err(source_error)?, view.away()))
        })
        .await?;
    let body = json!({
        "headStats": {
            "numSeries": top.series,
            "numLabelPairs": top.label_pairs,
            "chunkCount": top.chunks,
            "minTime": top.min_time_ms,
            "maxTime": top.max_time_ms,
        },
        "seriesCountByMetricName": counted(&top.series_by_metric),
        "labelValueCountByLabelName": counted(&top.values_by_label),
        "memoryInBytesByLabelName": counted(&top.bytes_by_label),
        "seriesCountByLabelValuePair": counted(&top.series_by_pair),
    });
    Ok(success_with(body, &away))
}

fn counted(list: &[Counted]) -> Vec<Value> {
    list.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
