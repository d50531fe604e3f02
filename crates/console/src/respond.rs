//! The JSON envelope of the Prometheus API.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use governor::Held;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use net::{ApiError, ErrorType};
use promql::{EvalError, SourceError};
use serde_json::Value;

/// A request that is wrong.
pub(crate) fn bad_data(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorType::BadData, message)
}

/// A parameter that cannot be understood, worded as Prometheus does.
pub(crate) fn parameter(name: &str, message: impl std::fmt::Display) -> ApiError {
    bad_data(format!("invalid parameter {name:?}: {message}"))
}

/// What a fault of the data means to the client.
pub(crate) fn source_error(error: SourceError) -> ApiError {
    let kind = match &error {
        SourceError::Limit(_) => ErrorType::Execution,
        SourceError::Storage(_) => ErrorType::Internal,
        SourceError::Unavailable(_) => ErrorType::Unavailable,
        SourceError::Cancelled => ErrorType::Canceled,
    };
    ApiError::new(kind, error.to_string())
}

/// What a failed evaluation means to the client.
pub(crate) fn eval_error(error: EvalError) -> ApiError {
    let kind = match &error {
        EvalError::Query { .. } => return parameter("query", error),
        EvalError::Execution(_) | EvalError::Limit(_) => ErrorType::Execution,
        EvalError::Cancelled => ErrorType::Canceled,
        EvalError::Storage(_) => ErrorType::Internal,
        EvalError::Unavailable(_) => ErrorType::Unavailable,
    };
    ApiError::new(kind, error.to_string())
}

/// A JSON response from bytes already written.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// As [`json`], for a body that counts as memory of a query until it is sent or given up.
pub(crate) fn json_held(status: StatusCode, body: Vec<u8>, held: Held) -> Response {
    let mut response = json(status, Vec::new());
    // The function lives, and holds, as long as the body does.
    let body = Full::<Bytes>::from(body).map_err(move |never: Infallible| {
        // Names it, so that it is captured.
        let _held = &held;
        match never {}
    });
    *response.body_mut() = Body::new(body);
    response
}

/// `{"status":"success","data":…}`.
pub(crate) fn success(data: Value) -> Response {
    success_with(data, &[])
}

/// As [`success`], with warnings if there are any.
pub(crate) fn success_with(data: Value, warnings: &[String]) -> Response {
    let mut body = format!("{{\"status\":\"success\",\"data\":{data}");
    if !warnings.is_empty() {
        body.push_str(&format!(",\"warnings\":{}", Value::from(warnings)));
    }
    body.push('}');
    json(StatusCode::OK, body.into_bytes())
}
