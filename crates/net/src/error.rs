//! The error envelope of Prometheus' HTTP API.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

/// What kind of failure it is, in Prometheus' words (`web/api/v1/api.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The query ran into its time limit.
    Timeout,
    /// The query was cancelled.
    Canceled,
    /// The query failed while it ran.
    Execution,
    /// A fault of the server.
    Internal,
    /// The server cannot answer now.
    Unavailable,
    /// There is no such thing.
    NotFound,
    /// No representation the client accepts.
    NotAcceptable,
    /// Nobody said who is calling; not in Prometheus, which leaves login to others.
    Unauthorized,
    /// The caller may not do this; not in Prometheus either.
    Forbidden,
}

impl ErrorType {
    /// The word in the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::BadData => "bad_data",
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Execution => "execution",
            ErrorType::Internal => "internal",
            ErrorType::Unavailable => "unavailable",
            ErrorType::NotFound => "not_found",
            ErrorType::NotAcceptable => "not_acceptable",
            ErrorType::Unauthorized => "unauthorized",
            ErrorType::Forbidden => "forbidden",
        }
    }

    /// The status Prometheus answers with.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // Not registered anywhere; nginx' and Prometheus' "client closed request".
            ErrorType::Canceled => StatusCode::from_u16(499).expect("499 is in 100..1000"),
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
            ErrorType::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            ErrorType::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorType::Forbidden => StatusCode::FORBIDDEN,
        }
    }
}

/// A failure that becomes `{"status":"error","errorType":…,"error":…}`. The response bears the failure
/// itself as an extension, for who has to tell it in another shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The response's status; usually [`ErrorType::status`].
    pub status: StatusCode,
    /// The kind of failure.
    pub error_type: ErrorType,
    /// Cause, limit and remedy.
    pub message: String,
}

impl ApiError {
    /// An error with the status that belongs to its type.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        ApiError { status: error_type.status(), error_type, message: message.into() }
    }

    /// The same error with another status, where a protocol demands one.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The envelope as JSON.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope<'a> {
            status: &'static str,
            error_type: &'static str,
            error: &'a str,
        }
        serde_json::to_string(&Envelope {
            status: "error",
            error_type: self.error_type.as_str(),
            error: &self.message,
        })
        .expect("three strings are always JSON")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.to_json();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (self.status, kind, Extension(self), body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_prometheus() {
        let error = ApiError::new(ErrorType::BadData, "invalid parameter \"query\"");
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            error.to_json(),
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\""}"#
        );
    }
}
