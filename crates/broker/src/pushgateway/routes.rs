//! The Pushgateway's HTTP API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use model::{Labels, METRIC_NAME};
use net::auth::Principal;
use net::{Access, ApiError, BodyRules, ErrorType, Routes, read_body};
use serde_json::{Map, Value, json};
use wire::WireError;
use wire::name_escaping::Negotiated;
use wire::text_encode::TextEncoder;

use super::group::{Family, Group};
use super::push::{Form, PushError};
use super::{Key, Mode, Pushgateway};
use crate::routes::intake::tenant_of;

/// What was pushed: the query API, and everything as one exposition.
pub fn read_routes(gateway: &Arc<Pushgateway>) -> Routes {
    Routes::new()
        .route("/api/v1/metrics", [Method::GET], Access::Read, list)
        .route("/pushgateway/metrics", [Method::GET], Access::Read, exposition)
        .with_state(Arc::clone(gateway))
}

/// Pushes, and what [`read_routes`] tells of them.
pub fn routes(gateway: &Arc<Pushgateway>) -> Routes {
    Routes::new()
        .route("/metrics/{*key}", [Method::PUT], Access::Write, put)
        .route("/metrics/{*key}", [Method::POST], Access::Write, post)
        .route("/metrics/{*key}", [Method::DELETE], Access::Write, delete)
        .route("/api/v1/admin/wipe", [Method::PUT], Access::Admin, wipe)
        .with_state(Arc::clone(gateway))
        .merge(read_routes(gateway))
}

async fn put(state: State<Arc<Pushgateway>>, request: Request<Body>) -> Response {
    push(state, request, Mode::ReplaceGroup).await
}

async fn post(state: State<Arc<Pushgateway>>, request: Request<Body>) -> Response {
    push(state, request, Mode::ReplaceFamilies).await
}

async fn push(
    State(gateway): State<Arc<Pushgateway>>,
    request: Request<Body>,
    mode: Mode,
) -> Response {
    let key = match key_of(&request) {
        Ok(key) => key,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let Some(form) = Form::of(content_type.unwrap_or_default()) else {
        let error = format!(
            "a push in protobuf must have the Content-Type {:?}",
            wire::protobuf_exposition::CONTENT_TYPE
        );
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, error);
    };
    let broker = gateway.broker.clone();
    let tenant = tenant_of(&parts);
    let rules = BodyRules::any_encoding(broker.limits_of(tenant).max_body_bytes);
    let body = match read_body(&parts.headers, body, rules, broker.net_metrics()).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let outcome =
        broker.off_the_sockets(move || gateway.push((tenant, key), &body, form, mode)).await;
    answer(outcome, StatusCode::OK)
}

async fn delete(
    State(gateway): State<Arc<Pushgateway>>,
    principal: Principal,
    request: Request<Body>,
) -> Response {
    let key = match key_of(&request) {
        Ok(key) => key,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let broker = gateway.broker.clone();
    let place = (principal.tenant, key);
    answer(broker.off_the_sockets(move || gateway.delete(&place)).await, StatusCode::ACCEPTED)
}

async fn wipe(State(gateway): State<Arc<Pushgateway>>, principal: Principal) -> Response {
    let broker = gateway.broker.clone();
    let wipe = move || gateway.wipe(principal.tenant);
    answer(broker.off_the_sockets(wipe).await, StatusCode::ACCEPTED)
}

/// The grouping key in the path, as sent: axum would resolve `%2F`.
fn key_of(request: &Request<Body>) -> Result<Key, WireError> {
    let path = request.uri().path();
    let path = path.strip_prefix("/metrics/").unwrap_or(path);
    wire::grouping_key::parse(path)
}

fn answer(outcome: Result<(), PushError>, done: StatusCode) -> Response {
    let error = match outcome {
        Ok(()) => return done.into_response(),
        Err(error) => error,
    };
    let status = match &error {
        PushError::Malformed { error, .. } if error.is_limit() => StatusCode::PAYLOAD_TOO_LARGE,
        PushError::Malformed { .. } | PushError::Refused(_) => StatusCode::BAD_REQUEST,
        PushError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        PushError::Later(..) => StatusCode::TOO_MANY_REQUESTS,
        PushError::NotStored(_) | PushError::Raced => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = plain(status, error.to_string());
    if let PushError::Later(_, seconds) = error {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Clients of the Pushgateway print the body.
fn plain(status: StatusCode, message: String) -> Response {
    (status, message + "\n").into_response()
}

/// Everything pushed, for whoever scrapes it. A family stands once, with the samples of every
/// group that has it.
async fn exposition(
    State(gateway): State<Arc<Pushgateway>>,
    principal: Principal,
    headers: HeaderMap,
) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Negotiated::text(accepted);
    let groups = gateway.groups_of(principal.tenant);
    let times: Vec<_> = groups.iter().map(|group| group.times()).collect();
    let mut families: BTreeMap<&str, Vec<&Family>> = BTreeMap::new();
    let pushed = groups.iter().flat_map(|group| &group.families);
    for (name, family) in pushed.map(|(name, family)| (name.as_str(), family)) {
        families.entry(name).or_default().push(family);
    }
    for (name, family) in times.iter().flatten() {
        families.entry(name).or_default().push(family);
    }
    let mut out = Vec::new();
    let mut text = TextEncoder::new(&mut out).with_names(format.escaping);
    for (name, mut of_groups) in families {
        // Native histograms have no text.
        of_groups.retain(|family| !family.series.is_empty());
        if of_groups.is_empty() {
            continue;
        }
        let (first, rest) = of_groups.split_first().expect("looked at above");
        first.write(name, &mut text);
        rest.iter().for_each(|family| family.write_samples(&mut text));
    }
    ([(header::CONTENT_TYPE, format.content_type())], out).into_response()
}

/// The query API: every group with its metrics.
async fn list(
    State(gateway): State<Arc<Pushgateway>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    let groups = gateway.groups_of(principal.tenant);
    let groups: Vec<Value> = groups.iter().map(|group| described(group)).collect();
    let body = serde_json::to_vec(&json!({ "status": "success", "data": groups }))
        .map_err(|error| ApiError::new(ErrorType::Internal, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn described(group: &Group) -> Value {
    let mut out = Map::new();
    let times = group.times();
    let times = times.iter().map(|(name, family)| (*name, family));
    let pushed = group.families.iter().map(|(name, family)| (name.as_str(), family));
    for (name, family) in times.chain(pushed) {
        let kind = family.kind.as_str().to_uppercase();
        let labels_of = |labels: &Labels| -> Map<String, Value> {
            let is_shown = |label: &str| label != METRIC_NAME || labels.metric_name() != Some(name);
            let shown = labels.iter().filter(|(label, _)| is_shown(label));
            shown.map(|(label, value)| (label.to_owned(), value.into())).collect()
        };
        let floats = family.series.iter().map(
            |(labels, value)| json!({ "labels": labels_of(labels), "value": value.to_string() }),
        );
        let native = family.histograms.iter().map(|one| {
            let (count, sum) = (one.histogram.to_float().count, one.histogram.sum());
            json!({
                "labels": labels_of(&one.labels),
                "count": count.to_string(),
                "sum": sum.to_string(),
            })
        });
        out.insert(
            name.to_owned(),
            json!({
                "time_stamp": model::rfc3339(group.pushed_ms),
                "type": if kind == "UNKNOWN" { "UNTYPED" } else { &kind },
                "help": family.help,
                "metrics": floats.chain(native).collect::<Vec<_>>(),
            }),
        );
    }
    out.insert("labels".to_owned(), json!(group.key));
    out.insert("last_push_successful".to_owned(), json!(group.pushed_ms > group.failed_ms));
    Value::Object(out)
}
