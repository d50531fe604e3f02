//! What is another protocol's own in saying who is calling, and in being refused.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use settings::Secret;

use crate::{ApiError, ErrorType};

/// How the clients of a protocol bear an API token, and how they want to be refused.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// The token at a place where this protocol alone has it. Asked before the usual places are
    /// looked at.
    pub token: fn(&Parts) -> Option<Secret>,
    /// The answer that tells a refusal, for a request with these headers; its status and the headers
    /// that say more about a refusal (`WWW-Authenticate`, `Retry-After`) are added.
    pub refusal: fn(&HeaderMap, &ApiError) -> Response,
}

/// `response`, which refuses a request, as the caller's protocol has it.
pub(crate) fn in_its_own_words(
    request: &HeaderMap,
    dialect: Option<&Dialect>,
    mut response: Response,
) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    // Clients of gRPC do not read the body of an answer that is none of gRPC.
    let content_type = request.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return tonic::Status::new(code_of(&error), error.message).into_http::<Body>();
    }
    let Some(dialect) = dialect else { return response };
    let mut told = (dialect.refusal)(request, &error);
    *told.status_mut() = error.status;
    for (name, value) in response.headers() {
        if name == header::WWW_AUTHENTICATE || name == header::RETRY_AFTER {
            told.headers_mut().append(name.clone(), value.clone());
        }
    }
    told
}

fn code_of(error: &ApiError) -> tonic::Code {
    match (error.error_type, error.status) {
        (ErrorType::Unauthorized, _) => tonic::Code::Unauthenticated,
        (ErrorType::Forbidden, _) => tonic::Code::PermissionDenied,
        (_, StatusCode::TOO_MANY_REQUESTS) | (ErrorType::Unavailable, _) => {
            tonic::Code::Unavailable
        }
        (ErrorType::Internal, _) => tonic::Code::Internal,
        _ => tonic::Code::InvalidArgument,
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn a_refusal_is_one_of_the_protocol_that_was_spoken() {
        let refusal = |kind| ApiError::new(kind, "X-Scope-OrgID: \"a|b\" is none").into_response();
        let mut request = HeaderMap::new();
        let plain = in_its_own_words(&request, None, refusal(ErrorType::BadData));
        assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
        let dialect = Dialect {
            token: |_| None,
            refusal: |_, error| Body::from(error.message.clone()).into_response(),
        };
        let mut unknown = refusal(ErrorType::Unauthorized);
        let challenge = HeaderValue::from_static("Bearer");
        unknown.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        let told = in_its_own_words(&request, Some(&dialect), unknown);
        assert_eq!(told.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(told.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert!(!told.headers().contains_key(header::CONTENT_TYPE), "{told:?}");
        request.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        for (kind, code) in [
            (ErrorType::BadData, "3"),
            (ErrorType::Forbidden, "7"),
            (ErrorType::Unavailable, "14"),
            (ErrorType::Unauthorized, "16"),
        ] {
            let response = in_its_own_words(&request, Some(&dialect), refusal(kind));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["grpc-status"], code);
            let message = response.headers()["grpc-message"].to_str().expect("percent-encoded");
            assert!(message.contains("X-Scope-OrgID"), "{message}");
        }
    }
}
