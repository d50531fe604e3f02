//! Answers in the shapes of Alertmanager and of Prometheus.
//!
//! Alertmanager has two shapes for a refusal: `{"code":…,"message":…}` for a request that cannot be
//! read, with a number of its own beside the status, and a JSON string for one it does not want.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use model::TenantName;
use net::auth::Principal;
use net::{ApiError, Dialect, ErrorType};
use serde::Serialize;
use serde_json::{Value, json};

use crate::notify::NotSaved;

/// How refusals before a handler are told.
pub(super) const DIALECT: Dialect = Dialect {
    token: |_| None,
    refusal: |_, error| unreadable(error.status, error.status.as_u16().into(), &error.message),
};

/// Alertmanager's number for a value of the wrong form.
pub(super) const INVALID_TYPE: u32 = 601;
/// Its number for a value that is missing.
pub(super) const REQUIRED: u32 = 602;
/// Its number for a list that is too short.
pub(super) const TOO_FEW_ITEMS: u32 = 612;

/// Why a request is refused, in Alertmanager's shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Unreadable { status: StatusCode, code: u32, message: String },
    /// It is not wanted.
    Unwanted(StatusCode, String),
    /// Nothing could be written down; it should be sent again.
    NotSaved(NotSaved),
    /// Another broker of the cluster notifies at the moment.
    Elsewhere,
}

/// What is told where nothing notifies.
pub(super) const ELSEWHERE: &str = "this broker does not notify at the moment, another one of the cluster does, or \
    rules and notifications are off (`rules.enabled`); ask another broker, or again in a second";

impl Refusal {
    pub(super) fn bad(message: impl Into<String>) -> Refusal {
        Refusal::Unwanted(StatusCode::BAD_REQUEST, message.into())
    }

    /// A value at a place that is missing or has the wrong form.
    pub(super) fn invalid(code: u32, message: impl Into<String>) -> Refusal {
        let (status, message) = (StatusCode::UNPROCESSABLE_ENTITY, message.into());
        Refusal::Unreadable { status, code, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Unreadable { status, code, message } => unreadable(status, code, &message),
            Refusal::Unwanted(status, message) => answer(status, &message),
            Refusal::NotSaved(why) => not_now(&why.to_string()),
            Refusal::Elsewhere => not_now(ELSEWHERE),
        }
    }
}

fn not_now(why: &str) -> Response {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, &why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn unreadable(status: StatusCode, code: u32, message: &str) -> Response {
    answer(status, &json!({ "code": code, "message": message }))
}

/// What was asked for.
pub(super) fn ok(what: &impl Serialize) -> Response {
    answer(StatusCode::OK, what)
}

fn answer(status: StatusCode, what: &impl Serialize) -> Response {
    let mut body = serde_json::to_vec(what).expect("texts, numbers and lists of them are JSON");
    body.push(b'\n');
    let mut response = bare(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::from(body);
    response
}

/// An answer without words.
pub(super) fn bare(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `{"status":"success","data":…}`, as what is our own is told.
pub(super) fn success(data: Value) -> Response {
    ok(&json!({ "status": "success", "data": data }))
}

pub(super) fn bad_data(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorType::BadData, message)
}

/// Whether whoever asks may see alerts: they are those of one tenant.
pub(super) fn sees_alerts(principal: &Principal) -> bool {
    principal.tenant == TenantName::DEFAULT
}

/// Refuses what concerns another tenant.
pub(super) fn check_tenant(principal: &Principal) -> Result<(), ApiError> {
    if sees_alerts(principal) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorType::Forbidden,
        format!(
            "rules, alerts, silences and notifications are of the tenant default, and this request is for {}; \
             leave X-Scope-OrgID out, or use a credential that reaches default",
            principal.tenant
        ),
    ))
}

/// The same in Alertmanager's words.
pub(super) fn check_tenant_of_v2(principal: &Principal) -> Result<(), Refusal> {
    check_tenant(principal).map_err(|error| Refusal::Unwanted(error.status, error.message))
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, message) = match refusal {
            Refusal::Unreadable { status, message, .. } | Refusal::Unwanted(status, message) => {
                (status, message)
            }
            Refusal::NotSaved(why) => {
                return ApiError::new(ErrorType::Unavailable, why.to_string());
            }
            Refusal::Elsewhere => return ApiError::new(ErrorType::Unavailable, ELSEWHERE),
        };
        bad_data(message).with_status(status)
    }
}
