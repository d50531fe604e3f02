//! JSON lines of logs, as VictoriaLogs takes them.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, header};
use net::{Access, ApiError, BodyRules, ErrorType, Routes, read_body};
use wire::logs::json_line;

use super::field_options;
use super::intake::Refusal;
use super::lines::{self, Sender};
use crate::Broker;

pub(super) fn routes() -> Routes<Broker> {
    Routes::new().route("/insert/jsonline", [Method::POST], Access::Write, import)
}

/// 200 when everything is durable, which is what VictoriaLogs answers; otherwise as the other imports.
async fn import(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let options = match field_options::of(&parts) {
        Ok(options) => options,
        Err(error) => return ApiError::new(ErrorType::BadData, error).into_response(),
    };
    let sender = Sender::of(&parts).asking(format!("{options:?}"));
    let rules = BodyRules::any_encoding(broker.limits_of(sender.tenant).max_body_bytes);
    let body = match read_body(&parts.headers, body, rules, broker.net_metrics()).await {
        Ok(body) => body,
        Err(error) => return Refusal::Body(error).into_response(),
    };
    let taken = lines::store(&broker, sender, body, move |body, context, batch| {
        json_line::decode(body, &options, context, batch)
    });
    match taken.await {
        Ok(taken) => match taken.complaint() {
            None => {
                (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}").into_response()
            }
            Some(_) if !taken.left_out.is_empty() => {
                taken.refusal().map_or(StatusCode::OK.into_response(), IntoResponse::into_response)
            }
            Some((_, complaint)) => ApiError::new(ErrorType::BadData, complaint).into_response(),
        },
        Err(refusal) => refusal.into_response(),
    }
}
