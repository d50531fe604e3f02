//! Bulk formats and small protocols: JSON lines, CSV, Parquet, OpenTSDB and Datadog over HTTP.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, header};
use model::{Limits, MetricBatch};
use net::{Access, ApiError, BodyRules, ErrorType, Routes};
use serde_json::{Value, json};
use wire::csv_import::Format;
use wire::{
    Refusals, WireError, csv_import, datadog, json_lines, opentsdb, parquet_export, parquet_import,
};

use super::dialects::{DATADOG, OPEN_TSDB};
use super::intake::{self, Refusal};
use crate::Broker;
use crate::ingest::{CONFLICT, IngestOutcome};

pub(super) fn routes() -> Routes<Broker> {
    let mut routes = Routes::new()
        .route("/api/v1/import", [Method::POST], Access::Write, json)
        .route("/api/v1/import/csv", [Method::POST], Access::Write, csv)
        .route("/api/v1/import/native", [Method::POST], Access::Write, native)
        .route("/api/v1/import/parquet", [Method::POST], Access::Write, parquet)
        .speaking(&DATADOG)
        .route("/datadog/api/v1/validate", [Method::GET], Access::Write, datadog_validate)
        .route("/datadog/api/v1/series", [Method::POST], Access::Write, datadog_one)
        .route("/datadog/api/v2/series", [Method::POST], Access::Write, datadog_two)
        .route("/datadog/api/v1/check_run", [Method::POST], Access::Write, datadog_check_run)
        .route("/datadog/intake", [Method::POST], Access::Write, datadog_other)
        .route("/datadog/intake/", [Method::POST], Access::Write, datadog_other)
        .route("/datadog/api/v1/metadata", [Method::POST], Access::Write, datadog_other)
        .speaking(&OPEN_TSDB);
    for path in ["/api/put", "/opentsdb/api/put"] {
        routes = routes.route(path, [Method::POST], Access::Write, open_tsdb);
    }
    routes
}

/// JSON lines as VictoriaMetrics exports them; Parquet by its media type, as `/api/v1/export` answers it.
async fn json(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|kind| kind.as_bytes() == parquet_export::CONTENT_TYPE.as_bytes()) {
        return parquet(State(broker), request).await;
    }
    let (parts, body) = request.into_parts();
    let taken =
        intake::take(&broker, &parts, body, BodyRules::any_encoding, |_, limits, body, batch| {
            json_lines::decode(&body, limits, batch)
        });
    match taken.await {
        Ok((refusals, mut outcome)) => {
            outcome.add_refusals(refusals);
            intake::answer(&outcome)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// VictoriaMetrics' private format, which changes with its versions.
async fn native() -> ApiError {
    ApiError::new(
        ErrorType::BadData,
        "VictoriaMetrics' native format is private to it and not read here; export its data as JSON \
         lines, `curl -G http://VICTORIAMETRICS:8428/api/v1/export --data-urlencode \
         'match[]={__name__!=\"\"}' -d max_rows_per_line=10000 > data.jsonl`, and import these: `split \
         --line-bytes=8M data.jsonl part. && for part in part.*; do curl -f --data-binary @$part \
         http://HERE:9595/api/v1/import; done`",
    )
}

/// CSV, whose columns `format` in the URL describes.
async fn csv(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let format = form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "format")
        .ok_or_else(|| "format is missing; it describes the columns".to_owned())
        .and_then(|(_, text)| Format::parse(&text));
    let format = match format {
        Ok(format) => format,
        Err(fault) => {
            let message = format!("invalid parameter \"format\": {fault}");
            return ApiError::new(ErrorType::BadData, message).into_response();
        }
    };
    let taken = intake::take(
        &broker,
        &parts,
        body,
        BodyRules::any_encoding,
        move |broker, limits, body, batch| {
            csv_import::decode(&body, &format, broker.now_ms(), limits, batch)
        },
    );
    match taken.await {
        Ok((refusals, mut outcome)) => {
            outcome.add_refusals(refusals);
            intake::answer(&outcome)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// A Parquet file with a row for each sample.
async fn parquet(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let taken = intake::take_unfolding(&broker, &parts, body, |_, limits, body, batch| {
        parquet_import::decode(&body, limits, batch)
    });
    match taken.await {
        Ok((refusals, mut outcome)) => {
            broker.count_refused(&refusals);
            outcome.add_refusals(refusals);
            intake::answer(&outcome)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// OpenTSDB's `/api/put`: 204; with `summary` or `details` in the URL, 200 and counts.
async fn open_tsdb(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let has = |wanted| form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == wanted);
    let (wants_details, wants_summary) = (has("details"), has("summary"));
    let taken = intake::take(
        &broker,
        &parts,
        body,
        BodyRules::any_encoding,
        |broker, limits, body, batch| opentsdb::decode(&body, broker.now_ms(), limits, batch),
    );
    let (summary, mut outcome) = match taken.await {
        Ok(taken) => taken,
        Err(refusal) => return open_tsdb_refusal(&refusal),
    };
    broker.count_refused(&summary.refusals);
    let success = summary.points.saturating_sub(outcome.refused_samples());
    outcome.add_refusals(summary.refusals);
    if let Some(later) = Refusal::of(&outcome) {
        return open_tsdb_refusal(&later);
    }
    let failed = outcome.refused_samples();
    let status = if failed == 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let mut answer = json!({"success": success, "failed": failed});
    if wants_details {
        answer["errors"] = errors_of(&outcome);
        return with_json(status, &answer);
    }
    match outcome.complaint() {
        _ if wants_summary => with_json(status, &answer),
        None => StatusCode::NO_CONTENT.into_response(),
        Some(complaint) => open_tsdb_error(status, &complaint),
    }
}

fn open_tsdb_refusal(refusal: &Refusal) -> Response {
    refusal.on_connection(open_tsdb_error(refusal.status(), &refusal.to_string()))
}

pub(super) fn open_tsdb_error(status: StatusCode, message: &str) -> Response {
    let code = status.as_u16();
    with_json(status, &json!({"error": {"code": code, "message": message, "details": ""}}))
}

fn errors_of(outcome: &IngestOutcome) -> Value {
    let rejects = outcome.rejects.iter().map(|reject| (&*reject.first, &*reject.reason));
    let conflict = (&*outcome.first_conflict, CONFLICT);
    let conflicts = (outcome.appended.conflicts > 0).then_some(conflict);
    rejects
        .chain(conflicts)
        .map(|(first, reason)| json!({"datapoint": first, "error": reason}))
        .collect()
}

async fn datadog_validate() -> Response {
    with_json(StatusCode::OK, &json!({"valid": true}))
}

/// What agents send besides metrics is dropped, with the answers of VictoriaMetrics.
async fn datadog_check_run() -> Response {
    with_json(StatusCode::ACCEPTED, &json!({"status": "ok"}))
}

async fn datadog_other() -> Response {
    with_json(StatusCode::OK, &json!({}))
}

async fn datadog_one(State(broker): State<Broker>, request: Request<Body>) -> Response {
    take_datadog(&broker, request, datadog::decode_one, &json!({"status": "ok"})).await
}

async fn datadog_two(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_protobuf =
        content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-protobuf"));
    let decode = if is_protobuf { datadog::decode_two_protobuf } else { datadog::decode_two };
    take_datadog(&broker, request, decode, &json!({"errors": []})).await
}

/// 202 as Datadog has it, though everything is durable by then.
async fn take_datadog(
    broker: &Broker,
    request: Request<Body>,
    decode: fn(&[u8], &Limits, &mut MetricBatch) -> Result<Refusals, WireError>,
    accepted: &Value,
) -> Response {
    let (parts, body) = request.into_parts();
    let taken = intake::take(
        broker,
        &parts,
        body,
        BodyRules::any_encoding,
        move |_, limits, body, batch| decode(&body, limits, batch),
    );
    let taken: Result<_, Refusal> = taken.await;
    match taken {
        Ok((refusals, mut outcome)) => {
            broker.count_refused(&refusals);
            outcome.add_refusals(refusals);
            if let Some(later) = Refusal::of(&outcome) {
                return datadog_refusal(&later);
            }
            match outcome.complaint() {
                None => with_json(StatusCode::ACCEPTED, accepted),
                Some(complaint) => {
                    with_json(StatusCode::BAD_REQUEST, &json!({"errors": [complaint]}))
                }
            }
        }
        Err(refusal) => datadog_refusal(&refusal),
    }
}

fn datadog_refusal(refusal: &Refusal) -> Response {
    let errors = json!({"errors": [refusal.to_string()]});
    refusal.on_connection(with_json(refusal.status(), &errors))
}

pub(super) fn with_json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
