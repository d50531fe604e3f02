//! Loki's push.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use net::{Access, BodyError, BodyRules, Dialect, Routes, read_body, unpack_body};
use wire::decompress::Encoding;
use wire::logs::{LogPushError, loki_json, loki_json_legacy, loki_push};

use super::intake::Refusal;
use super::lines::{self, Sender, TakenLines};
use crate::Broker;

/// Refusals of login, in plain text as all of Loki's.
static DIALECT: Dialect =
    Dialect { token: |_| None, refusal: |_, error| plain(error.status, &error.message) };

pub(super) fn routes() -> Routes<Broker> {
    Routes::new()
        .speaking(&DIALECT)
        .route("/loki/api/v1/push", [Method::POST], Access::Write, push)
        // Where VictoriaLogs has it.
        .route("/insert/loki/api/v1/push", [Method::POST], Access::Write, push)
        // As old clients know it.
        .route("/api/prom/push", [Method::POST], Access::Write, legacy_push)
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A snappy block of a protobuf message: whatever the content type says, unless that is JSON.
    Protobuf,
    Json,
    /// JSON as it was before version 1 of the API.
    LegacyJson,
}

impl Form {
    fn of(headers: &HeaderMap, json: Form) -> Form {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        match kind.trim().eq_ignore_ascii_case("application/json") {
            true => json,
            false => Form::Protobuf,
        }
    }
}

/// 204 when everything is durable; 400 with what was left out when the rest is; 429 and 5xx when nothing
/// was stored and sending again is right.
async fn push(State(broker): State<Broker>, request: Request<Body>) -> Response {
    answer(&broker, request, Form::Json).await
}

/// As [`push`], for clients of the API before version 1.
async fn legacy_push(State(broker): State<Broker>, request: Request<Body>) -> Response {
    answer(&broker, request, Form::LegacyJson).await
}

async fn answer(broker: &Broker, request: Request<Body>, json: Form) -> Response {
    let (parts, body) = request.into_parts();
    let form = Form::of(&parts.headers, json);
    match take(broker, &parts, form, body).await {
        Ok(taken) => match taken.complaint() {
            None => StatusCode::NO_CONTENT.into_response(),
            // As Loki: of what may come again and what may not, the first is told by the status.
            Some((_, complaint)) => match taken.refusal() {
                None => plain(StatusCode::BAD_REQUEST, &complaint),
                Some(refusal) => refusal.on_connection(plain(refusal.status(), &complaint)),
            },
        },
        Err(refusal) => refused(&refusal),
    }
}

async fn take(
    broker: &Broker,
    parts: &Parts,
    form: Form,
    body: Body,
) -> Result<TakenLines, Refusal> {
    let sender = Sender::of(parts);
    let max_bytes = broker.limits_of(sender.tenant).max_body_bytes;
    let rules = BodyRules::any_encoding(max_bytes);
    // Protobuf is always a snappy block, also below another compression; `snappy` only says so.
    let is_packed = form == Form::Protobuf && !is_snappy(&parts.headers);
    let body = read_body(&parts.headers, body, rules, broker.net_metrics()).await?;
    let body = match is_packed {
        true => unpack_body(Encoding::SnappyBlock, &body, max_bytes).map_err(|error| {
            // What everybody who tries it by hand meets first.
            let is_json = body.trim_ascii_start().first() == Some(&b'{');
            match error {
                BodyError::Unpack(_) if is_json => Refusal::Lines(LogPushError {
                    status: 400,
                    text: "the body is JSON, and the request does not say so; send it with the header \
                           Content-Type: application/json"
                        .to_owned(),
                }),
                error => Refusal::Body(error),
            }
        })?,
        false => body,
    };
    lines::store(broker, sender, body, move |body, context, batch| match form {
        Form::Protobuf => loki_push::decode(body, context, batch),
        Form::Json => loki_json::decode(body, context, batch),
        Form::LegacyJson => loki_json_legacy::decode(body, context, batch),
    })
    .await
}

fn is_snappy(headers: &HeaderMap) -> bool {
    let name = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    name.and_then(Encoding::from_content_encoding) == Some(Encoding::SnappyBlock)
}

fn refused(refusal: &Refusal) -> Response {
    let response = match refusal {
        // So Loki answers it.
        Refusal::Body(BodyError::UnsupportedEncoding { found, .. }) => {
            let text = format!("Content-Encoding {found:?} not supported");
            plain(StatusCode::BAD_REQUEST, &text)
        }
        refusal => plain(refusal.status(), &refusal.to_string()),
    };
    refusal.on_connection(response)
}

/// As Go's `http.Error` writes it.
fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, format!("{text}\n")).into_response()
}
