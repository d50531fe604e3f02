//! What clients ask of a Loki before they trust it: its version, whether it is ready, what it can; and `format_query`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::encode;
use super::query::MAX_ENTRIES;
use super::refusal::Refusal;
use crate::Console;
use crate::params::Params;

/// The version of Loki whose API this is: clients switch features by it. Our own version stands beside it.
const API_VERSION: &str = "3.7.0";

pub(super) async fn build_info(State(console): State<Arc<Console>>) -> Response {
    let about = console.about();
    encode::small(&json!({
        "version": API_VERSION,
        "revision": about.revision,
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "watchfire",
        "applicationVersion": about.version,
    }))
}

/// As `/-/ready`, in Loki's words.
pub(super) async fn ready(State(console): State<Arc<Console>>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    match console.executor().data().ready() {
        Ok(()) => (StatusCode::OK, kind, "ready\n".to_owned()).into_response(),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, kind, format!("not ready: {why}\n")).into_response()
        }
    }
}

/// What Grafana's Logs Drilldown asks first.
pub(super) async fn drilldown_limits(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Response {
    let timeout = console.executor().query_timeout(params.tenant());
    encode::small(&json!({
        "limits": {
            "discover_log_levels": true,
            "max_entries_limit_per_query": MAX_ENTRIES,
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_bytes_read": "0B",
            "max_query_series": console.executor().max_query_series(params.tenant()),
            "query_timeout": format!("{}s", timeout.as_secs()),
            "retention_period": retention_period(&console.about().logs_retention),
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "volume_enabled": true,
            "volume_max_series": 1_000,
        },
        "pattern_ingester_enabled": true,
        "version": API_VERSION,
    }))
}

/// As Loki has it: nothing for ever.
fn retention_period(logs_retention: &str) -> &str {
    if logs_retention.is_empty() { "0s" } else { logs_retention }
}

pub(super) async fn format_query(params: Params) -> Result<Response, Refusal> {
    let text = params.get("query").unwrap_or_default();
    let expr = logql::syntax::parse(text).map_err(Refusal::bad)?;
    Ok(encode::small(&json!({ "status": "success", "data": logql::syntax::pretty(&expr) })))
}
