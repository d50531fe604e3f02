//! `/api/v1/status/active_queries` and `/api/v1/status/top_queries`: which queries run and which ran,
//! in VictoriaMetrics' shapes with some fields more; and how one is stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use net::auth::{Actor, Principal};
use net::{ApiError, ErrorType};
use serde_json::{Value, json};

use crate::Console;
use crate::params::Params;
use crate::respond::{self, bad_data, parameter};
use crate::running::{RunningQuery, TopQuery, shortened};

/// Rows of each list, as in VictoriaMetrics.
const DEFAULT_TOP: usize = 20;
const MAX_TOP: usize = 1_000;
const DEFAULT_LIFETIME_MS: i64 = 10 * 60 * 1_000;

pub(super) async fn active(State(console): State<Arc<Console>>, principal: Principal) -> Response {
    let mut running = console.executor().queries().list();
    running.retain(|query| principal.sees(query.asked.tenant));
    let rows: Vec<Value> = running.iter().map(|query| row(query)).collect();
    respond::json(StatusCode::OK, json!({ "status": "ok", "data": rows }).to_string().into_bytes())
}

fn row(query: &RunningQuery) -> Value {
    let (start_ms, end_ms, step_ms) = query.asked.times_ms;
    json!({
        "duration": format!("{:.3}s", query.begin.elapsed().as_secs_f64()),
        "id": format!("{:016X}", query.id),
        "remote_addr": query.asked.client,
        "tenant": query.asked.tenant.as_str(),
        "query": shortened(&query.asked.text),
        "language": query.asked.language.as_str(),
        "start": start_ms,
        "end": end_ms,
        "step": step_ms,
        "bytes": query.work.bytes(),
        "peak_bytes": query.work.peak_bytes(),
        "samples": query.samples.load(Ordering::Relaxed),
    })
}

pub(super) async fn kill(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    actor: Actor,
) -> Result<Response, ApiError> {
    let number = u64::from_str_radix(&id, 16);
    let number = number.map_err(|_| bad_data(format!("{id:?} is no number of a query")))?;
    if !console.executor().queries().kill(number, |tenant| actor.principal.sees(tenant)) {
        return Err(ApiError::new(
            ErrorType::NotFound,
            format!("no query with the number {id} runs; it may have ended"),
        ));
    }
    tracing::info!(query = id, by = %actor.principal.name, "a query was stopped");
    Ok(respond::success(json!({})))
}

pub(super) async fn top(
    State(console): State<Arc<Console>>,
    principal: Principal,
    params: Params,
) -> Result<Response, ApiError> {
    let most = params.count("topN")?.unwrap_or(DEFAULT_TOP).min(MAX_TOP);
    let given = params.get("maxLifetime").map(|_| params.duration_ms("maxLifetime")).transpose();
    let lifetime_ms = given.map_err(|error| parameter("maxLifetime", error))?;
    let lifetime_ms = lifetime_ms.unwrap_or(DEFAULT_LIFETIME_MS);
    let lifetime = Duration::from_millis(u64::try_from(lifetime_ms).unwrap_or(0));
    let mut past = console.executor().queries().past(lifetime, |tenant| principal.sees(tenant));
    let mut list = |key: fn(&TopQuery) -> u128| -> Vec<Value> {
        past.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.text.cmp(&b.text)));
        past.iter().take(most).map(figures).collect()
    };
    let by_count = list(|top| top.count.into());
    let by_average = list(|top| top.average().as_nanos());
    let by_sum = list(|top| top.total.as_nanos());
    let by_longest = list(|top| top.longest.as_nanos());
    let by_memory = list(|top| top.peak_bytes as u128);
    let by_samples = list(|top| top.samples.into());
    let body = json!({
        "status": "ok",
        "topN": most.to_string(),
        "maxLifetime": format!("{}s", lifetime.as_secs_f64()),
        "topByCount": by_count,
        "topByAvgDuration": by_average,
        "topBySumDuration": by_sum,
        "topByMaxDuration": by_longest,
        "topByPeakBytes": by_memory,
        "topBySumSamples": by_samples,
    });
    Ok(respond::json(StatusCode::OK, body.to_string().into_bytes()))
}

/// All figures stand in every list: who looks at one of them wants to know the others.
fn figures(top: &TopQuery) -> Value {
    json!({
        "query": top.text,
        "language": top.language.as_str(),
        "tenant": top.tenant.as_str(),
        "timeRangeSeconds": top.range_seconds,
        "count": top.count,
        "avgDurationSeconds": top.average().as_secs_f64(),
        "sumDurationSeconds": top.total.as_secs_f64(),
        "maxDurationSeconds": top.longest.as_secs_f64(),
        "peakBytes": top.peak_bytes,
        "sumSamples": top.samples,
    })
}
