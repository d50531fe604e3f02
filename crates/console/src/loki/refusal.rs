//! Faults as Loki tells them: plain text, and status codes of its own.
//!
//! Source: `pkg/util/server/error.go` of Loki.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use logql::metric::MetricError;
use net::{ApiError, Dialect, ErrorType};
use promql::SourceError;

use crate::respond::source_error;

/// How who may not is told so.
pub(crate) const DIALECT: Dialect = Dialect { token: |_| None, refusal: told };

fn told(_: &HeaderMap, error: &ApiError) -> Response {
    Refusal { status: error.status, text: error.message.clone() }.into_response()
}

/// A fault with Loki's status and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// Loki's word for a request that its client gave up.
const CANCELLED: &str = "the request was cancelled by the client";
/// Loki's words for one that ran into the time limit.
const TIMED_OUT: &str = "request timed out, decrease the duration of the request or add more label matchers \
                         (prefer exact match over regex match) to reduce the amount of data processed";

impl Refusal {
    /// A request that is wrong.
    pub(super) fn bad(text: impl ToString) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, text: text.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers =
            [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (self.status, headers, self.text).into_response()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let ApiError { error_type, message, .. } = error;
        let is_crowded = message.contains("limits.max_concurrent_queries");
        let (status, text) = match error_type {
            ErrorType::Timeout => (StatusCode::GATEWAY_TIMEOUT, TIMED_OUT.to_owned()),
            // Who was stopped by an administrator is told so.
            ErrorType::Canceled if message.contains("stopped") => (error_type.status(), message),
            ErrorType::Canceled => (error_type.status(), CANCELLED.to_owned()),
            ErrorType::Unavailable if is_crowded => {
                (StatusCode::TOO_MANY_REQUESTS, format!("too many outstanding requests: {message}"))
            }
            ErrorType::Execution => (StatusCode::BAD_REQUEST, message),
            _ => (error.status, message),
        };
        Refusal { status, text }
    }
}

/// What a fault of a query for numbers is to the executor.
pub(super) fn metric_error(error: MetricError) -> ApiError {
    match error {
        MetricError::Source(text) => ApiError::new(ErrorType::Internal, text),
        error => ApiError::new(ErrorType::BadData, error.to_string()),
    }
}

/// What a fault of the data is to the executor.
pub(crate) fn data_error(error: SourceError) -> ApiError {
    source_error(error)
}
