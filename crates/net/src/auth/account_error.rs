//! Why something about users, tokens or sessions was refused.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::{JoinError, StoreError};
use crate::{ApiError, ErrorType};

/// A refusal; becomes the fitting response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// 400: what was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// 401: user, password or token is wrong; which of them is not told.
    #[error("{0}")]
    Wrong(&'static str),
    /// 403: it is for others, whatever the scope.
    #[error("{0}")]
    Forbidden(&'static str),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 409: it does not fit what there is.
    #[error("{0}")]
    Conflict(String),
    /// 429: too many wrong tries.
    #[error(
        "too many wrong passwords for this user or from this address; try again in {} s. On the \
         server's host `watchfire admin reset-password USER` helps at once",
        .0.as_secs().max(1)
    )]
    Throttled(Duration),
    /// 503: too many logins at once.
    #[error("too many passwords are being checked; try again in a moment")]
    Busy,
    /// 503: the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<super::password::Busy> for AccountError {
    fn from(_: super::password::Busy) -> Self {
        AccountError::Busy
    }
}

impl From<JoinError> for AccountError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Store(error) => AccountError::Store(error),
            other => AccountError::Invalid(other.to_string()),
        }
    }
}

impl IntoResponse for AccountError {
    fn into_response(self) -> Response {
        let (kind, status, retry_after) = match &self {
            AccountError::Invalid(_) => (ErrorType::BadData, StatusCode::BAD_REQUEST, None),
            AccountError::Forbidden(_) => (ErrorType::Forbidden, StatusCode::FORBIDDEN, None),
            AccountError::Wrong(_) => (ErrorType::Unauthorized, StatusCode::UNAUTHORIZED, None),
            AccountError::NotFound(_) => (ErrorType::NotFound, StatusCode::NOT_FOUND, None),
            AccountError::Conflict(_) => (ErrorType::BadData, StatusCode::CONFLICT, None),
            AccountError::Throttled(wait) => {
                (ErrorType::Unavailable, StatusCode::TOO_MANY_REQUESTS, Some(wait.as_secs().max(1)))
            }
            AccountError::Busy | AccountError::Store(_) => {
                (ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Some(2))
            }
        };
        let mut response =
            ApiError::new(kind, self.to_string()).with_status(status).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
