//! Request bodies in JSON, for routes that change how the server works.

use axum::extract::{FromRequest, Request};
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::{ApiError, ErrorType};

/// Nothing that is configured by hand is larger.
const MAX_BYTES: usize = 64 << 10;

/// A body of at most 64 KiB, parsed. It must say that it is JSON: a form on another site cannot,
/// which keeps such forms from these routes. What the body holds is never repeated in an error,
/// because it may be a password.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let essence = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = essence.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::new(
                ErrorType::BadData,
                "send the body as JSON, with Content-Type: application/json",
            )
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let body = Limited::new(request.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| {
            let (status, message) = if error.is::<LengthLimitError>() {
                let message = format!("the body exceeds the limit of {MAX_BYTES} bytes here");
                (StatusCode::PAYLOAD_TOO_LARGE, message)
            } else {
                (StatusCode::BAD_REQUEST, "the body did not come whole".to_owned())
            };
            ApiError::new(ErrorType::BadData, message).with_status(status)
        })?;
        match serde_json::from_slice(&body.to_bytes()) {
            Ok(value) => Ok(JsonBody(value)),
            Err(error) => Err(ApiError::new(ErrorType::BadData, without_values(&error))),
        }
    }
}

/// What is wrong, and where. Only messages that name fields and nothing else are passed on.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") || text.starts_with("unknown field") {
        return text;
    }
    let what = if error.is_data() { "a value of the wrong kind" } else { "no JSON" };
    format!("the body has {what} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Login {
        user: String,
        password: String,
    }

    async fn read(content_type: &str, body: impl Into<Body>) -> Result<Login, ApiError> {
        let request = Request::post("/").header(header::CONTENT_TYPE, content_type);
        let request = request.body(body.into()).expect("a valid request");
        JsonBody::<Login>::from_request(request, &()).await.map(|body| body.0)
    }

    #[tokio::test]
    async fn forms_are_refused_and_secrets_are_not_repeated() {
        let good = r#"{"user":"ann","password":"canary"}"#;
        let login = read("Application/JSON; charset=utf-8", good).await.expect("well-formed");
        assert_eq!((login.user.as_str(), login.password.as_str()), ("ann", "canary"));
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            let error = read(form, good).await.expect_err(form);
            assert_eq!(error.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        for (body, words) in [
            (r#"{"user":"ann"}"#, "missing field `password`"),
            (r#"{"user":"ann","password":"x","scope":1}"#, "unknown field `scope`"),
            (r#"{"user":"ann","password":["canary"]}"#, "wrong kind at line 1"),
            (r#"{"user":"ann","password":"canary""#, "no JSON at line 1"),
            ("canary", "no JSON"),
        ] {
            let error = read("application/json", body).await.expect_err(body);
            assert!(error.message.contains(words), "{error}");
            assert!(!error.message.contains("canary"), "{error}");
        }
        let error = read("application/json", vec![b' '; MAX_BYTES + 1]).await.expect_err("large");
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
