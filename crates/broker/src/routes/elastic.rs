//! Elasticsearch's `_bulk`, and so much of its API as senders of logs ask for before they send.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use net::{Access, ApiError, BodyRules, Dialect, ErrorType, Routes, read_body};
use serde_json::{Value, json};
use settings::Secret;
use wire::logs::LogPushError;
use wire::logs::elastic_bulk;

use super::field_options;
use super::intake::Refusal;
use super::lines::{self, Sender};
use crate::Broker;

/// Clients of version 8 talk to nobody who does not say so.
const PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");
/// The version whose API this is a part of.
const VERSION: &str = "8.17.0";

/// Where it is: a place of our own, and VictoriaLogs'.
const PREFIXES: [&str; 2] = ["/elasticsearch", "/insert/elasticsearch"];

/// Clients bear tokens as everywhere, or as an API key.
static DIALECT: Dialect = Dialect {
    token: api_key,
    refusal: |_, error| refused_with(error.status, kind_of(error), &error.message),
};

/// `Authorization: ApiKey KEY`, where `KEY` is the base 64 of `NAME:TOKEN`, whose name means nothing, or the
/// token.
fn api_key(parts: &Parts) -> Option<Secret> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("apikey") {
        return None;
    }
    let key = key.trim();
    let pair = STANDARD.decode(key).ok().and_then(|pair| String::from_utf8(pair).ok());
    let token = pair.as_deref().and_then(|pair| Some(pair.split_once(':')?.1));
    Some(Secret::new(token.unwrap_or(key)))
}

pub(super) fn routes() -> Routes<Broker> {
    let mut routes = Routes::new().speaking(&DIALECT);
    for prefix in PREFIXES {
        let at = |path: &str| format!("{prefix}{path}");
        let bulk = [Method::POST, Method::PUT];
        routes = routes
            .route(&at("/_bulk"), bulk.clone(), Access::Write, bulk_of_none)
            .route(&at("/{index}/_bulk"), bulk, Access::Write, bulk_of_index)
            .route(&at("/_license"), [Method::GET], Access::Write, license)
            .route(&at("/_xpack"), [Method::GET], Access::Write, license)
            .route(&at("/_cluster/health"), [Method::GET], Access::Write, health);
        for root in [prefix.to_owned(), at("/")] {
            routes = routes.route(&root, [Method::GET], Access::Write, about);
        }
        // How indexes are laid out is nothing that there would be here.
        for of_indexes in [
            "/_ilm/{*rest}",
            "/_index_template/{*rest}",
            "/_component_template/{*rest}",
            "/_template/{*rest}",
            "/_ingest/{*rest}",
            "/_data_stream/{*rest}",
            "/_alias/{*rest}",
            "/_nodes/{*rest}",
            "/_logstash/{*rest}",
        ] {
            routes = routes.route_any(&at(of_indexes), Access::Write, acknowledged);
        }
    }
    routes
}

async fn about() -> Response {
    answer(
        StatusCode::OK,
        &json!({
            "name": "watchfire",
            "cluster_name": "watchfire",
            "cluster_uuid": "watchfire",
            "version": {
                "number": VERSION,
                "build_flavor": "default",
                "build_type": "tar",
                "lucene_version": "9.12.0",
                "minimum_wire_compatibility_version": "7.17.0",
                "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "You Know, for Search",
        }),
    )
}

async fn license() -> Response {
    let license = json!({"status": "active", "uid": "watchfire", "type": "basic", "mode": "basic"});
    answer(
        StatusCode::OK,
        &json!({"license": license, "features": {"ilm": {"enabled": true, "available": true}}}),
    )
}

async fn health() -> Response {
    let health = json!({"cluster_name": "watchfire", "status": "green", "timed_out": false, "number_of_nodes": 1});
    answer(StatusCode::OK, &health)
}

async fn acknowledged(method: Method) -> Response {
    match method {
        Method::GET | Method::HEAD => answer(StatusCode::OK, &json!({})),
        _ => answer(StatusCode::OK, &json!({"acknowledged": true})),
    }
}

async fn bulk_of_none(State(broker): State<Broker>, request: Request<Body>) -> Response {
    bulk(&broker, String::new(), request).await
}

async fn bulk_of_index(
    State(broker): State<Broker>,
    Path(index): Path<String>,
    request: Request<Body>,
) -> Response {
    bulk(&broker, index, request).await
}

/// 200 with what became of each item; 429 and 5xx when nothing was stored and all may come again.
async fn bulk(broker: &Broker, index: String, request: Request<Body>) -> Response {
    let begin = Instant::now();
    let (parts, body) = request.into_parts();
    let options = match field_options::of(&parts) {
        Ok(options) => options,
        Err(text) => return refused(&Refusal::Lines(LogPushError { status: 400, text })),
    };
    let sender = Sender::of(&parts).asking(format!("{options:?}"));
    let rules = BodyRules::any_encoding(broker.limits_of(sender.tenant).max_body_bytes);
    let body = match read_body(&parts.headers, body, rules, broker.net_metrics()).await {
        Ok(body) => body,
        Err(error) => return refused(&Refusal::Body(error)),
    };
    let taken = lines::store_as(
        broker,
        sender,
        body,
        move |body, context, batch| elastic_bulk::decode(body, &index, &options, context, batch),
        |summary| &summary.lines,
    );
    match taken.await {
        Ok(taken) => {
            if let Some(refusal) = taken.refusal() {
                return refused(&refusal);
            }
            let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            with_headers(StatusCode::OK, taken.summary.answer(took_ms))
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let response = match refusal {
        Refusal::Lines(error) if error.status != 429 => {
            let status = refusal.status();
            with_headers(status, elastic_bulk::error_answer(error))
        }
        refusal => {
            let status = refusal.status();
            let kind = match status {
                // Senders wait and try again.
                StatusCode::TOO_MANY_REQUESTS => "es_rejected_execution_exception",
                status if status.is_client_error() => "illegal_argument_exception",
                _ => "unavailable_shards_exception",
            };
            refused_with(status, kind, &refusal.to_string())
        }
    };
    refusal.on_connection(response)
}

fn kind_of(error: &ApiError) -> &'static str {
    match error.error_type {
        ErrorType::Unauthorized | ErrorType::Forbidden => "security_exception",
        _ => "illegal_argument_exception",
    }
}

fn refused_with(status: StatusCode, kind: &str, reason: &str) -> Response {
    let cause = json!({"type": kind, "reason": reason});
    let error = json!({"root_cause": [cause], "type": kind, "reason": reason});
    answer(status, &json!({"error": error, "status": status.as_u16()}))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    with_headers(status, body.to_string())
}

fn with_headers(status: StatusCode, body: String) -> Response {
    let headers = [
        (PRODUCT, HeaderValue::from_static("Elasticsearch")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    (status, headers, body).into_response()
}
