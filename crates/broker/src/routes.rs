//! The HTTP routes of the broker: foreign protocols in.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Request, StatusCode, header};
use model::{DEFAULT_TENANT, MetricBatch};
use net::{Access, ApiError, BodyRules, ErrorType, Routes, read_body};
use wire::WireError;

use crate::Broker;
use crate::committer::CommitError;
use crate::ingest::IngestOutcome;

/// Routes that take data in.
pub fn routes(broker: &Broker) -> Routes {
    Routes::new()
        .route("/api/v1/write", [Method::POST], Access::Write, remote_write)
        .route("/api/v1/import/prometheus", [Method::POST, Method::PUT], Access::Write, import_text)
        .with_state(broker.clone())
}

/// Prometheus remote write 1.0.
///
/// 204 when everything is durable; 400 when some samples cannot be stored whatever the sender
/// does, after storing the others; 5xx when nothing was stored and sending again is right.
async fn remote_write(State(broker): State<Broker>, request: Request<Body>) -> Response {
    match take_remote_write(&broker, request).await {
        Ok(outcome) => answer(&outcome),
        Err(response) => response,
    }
}

async fn take_remote_write(
    broker: &Broker,
    request: Request<Body>,
) -> Result<IngestOutcome, Response> {
    let (parts, body) = request.into_parts();
    check_remote_write_type(&parts.headers).map_err(IntoResponse::into_response)?;
    let limits = broker.limits();
    let rules = BodyRules::remote_write(limits.max_body_bytes);
    let body = read_body(&parts.headers, body, rules, broker.net_metrics())
        .await
        .map_err(IntoResponse::into_response)?;
    let (summary, outcome) = store(broker, body, |broker, body, batch| {
        wire::remote_write::decode(body, broker.limits(), batch)
    })
    .await?;
    broker.count_exemplars(summary.exemplars_not_stored as u64);
    Ok(outcome)
}

/// Prometheus' text format, OpenMetrics or protobuf, by `Content-Type`; samples without a timestamp get
/// the time of arrival. `extra_label=name=value` in the URL adds a label to every series.
async fn import_text(State(broker): State<Broker>, request: Request<Body>) -> Response {
    match take_text(&broker, request).await {
        Ok(outcome) => answer(&outcome),
        Err(response) => response,
    }
}

async fn take_text(broker: &Broker, request: Request<Body>) -> Result<IngestOutcome, Response> {
    let (parts, body) = request.into_parts();
    let extra =
        extra_labels(parts.uri.query().unwrap_or_default()).map_err(IntoResponse::into_response)?;
    let limits = broker.limits();
    let rules = BodyRules::any_encoding(limits.max_body_bytes);
    let body = read_body(&parts.headers, body, rules, broker.net_metrics())
        .await
        .map_err(IntoResponse::into_response)?;
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_openmetrics = content_type.starts_with("application/openmetrics-text");
    let is_protobuf = content_type.starts_with("application/vnd.google.protobuf");
    let (_, outcome) = store(broker, body, move |broker, body, batch| {
        let (now_ms, limits) = (broker.now_ms(), broker.limits());
        if is_protobuf {
            let options = wire::protobuf_exposition::Options::default();
            wire::protobuf_exposition::decode(&body, now_ms, &extra, options, limits, batch)
        } else if is_openmetrics {
            wire::openmetrics::decode(&body, now_ms, &extra, limits, batch)
        } else {
            wire::exposition::decode(&body, now_ms, &extra, limits, batch)
        }
    })
    .await?;
    Ok(outcome)
}

/// Bodies up to this size are unpacked and resolved where they were read: that takes less than a
/// millisecond, and going to another thread and back would be felt.
const INLINE_BYTES: usize = 64 << 10;

/// Decodes a body, stores what is in it, and yields when that is durable and visible.
async fn store<S: Send + 'static>(
    broker: &Broker,
    body: Vec<u8>,
    decode: impl FnOnce(&Broker, Vec<u8>, &mut MetricBatch) -> Result<S, WireError> + Send + 'static,
) -> Result<(S, IngestOutcome), Response> {
    let may_block = body.len() > INLINE_BYTES || broker.is_congested();
    let (stored, answer) = tokio::sync::oneshot::channel();
    let work = {
        let broker = broker.clone();
        move || -> Result<S, WireError> {
            let mut batch = MetricBatch::default();
            let summary = decode(&broker, body, &mut batch)?;
            broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                // The client may have gone; its data is stored all the same.
                let _ = stored.send(result);
            });
            Ok(summary)
        }
    };
    let decoded = if may_block { broker.off_the_sockets(work).await } else { work() };
    let summary = decoded.map_err(|error| malformed(&error))?;
    let outcome = answer.await.unwrap_or(Err(CommitError::Stopping)).map_err(refused)?;
    Ok((summary, outcome))
}

fn refused(error: CommitError) -> Response {
    let (error_type, status) = match error {
        CommitError::Full => (ErrorType::Unavailable, StatusCode::INSUFFICIENT_STORAGE),
        CommitError::TooLarge(_) => (ErrorType::BadData, StatusCode::PAYLOAD_TOO_LARGE),
        CommitError::HeadFull { .. }
        | CommitError::Gap { .. }
        | CommitError::Catalog(_)
        | CommitError::HeadInParts { .. }
        | CommitError::Maintenance(_)
        | CommitError::Stopping => (ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
    };
    ApiError::new(error_type, error.to_string()).with_status(status).into_response()
}

fn answer(outcome: &IngestOutcome) -> Response {
    match outcome.complaint() {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(complaint) => ApiError::new(ErrorType::BadData, complaint).into_response(),
    }
}

fn malformed(error: &WireError) -> Response {
    let status =
        if error.is_limit() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    ApiError::new(ErrorType::BadData, error.to_string()).with_status(status).into_response()
}

/// Remote write 1.0 is protobuf; a `proto=` parameter may name its message. 2.0 and everything
/// else is 415, so that a sender that can falls back to 1.0.
fn check_remote_write_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or("?");
    let mut parts = value.split(';').map(str::trim);
    let is_protobuf = parts.next() == Some("application/x-protobuf");
    let message = parts.find_map(|part| part.strip_prefix("proto="));
    let is_known = matches!(message, None | Some("prometheus.WriteRequest"));
    if is_protobuf && is_known {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorType::BadData,
        format!(
            "Content-Type {value:?} is not supported here; send \
             application/x-protobuf;proto=prometheus.WriteRequest (remote write 1.0)"
        ),
    )
    .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// `extra_label=name=value` pairs of a query string.
fn extra_labels(query: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut labels = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != "extra_label" {
            continue;
        }
        let Some((name, value)) = value.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let error = format!("extra_label {value:?} is not name=value");
            return Err(ApiError::new(ErrorType::BadData, error));
        };
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}
