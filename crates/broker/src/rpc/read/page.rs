//! Answers of the broker's own API, passed on to consoles.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, header};
use net::PassedOn;
use net::auth::TENANT_HEADER;
use net::rpc::{HandleRequest, PageResponse};
use tonic::Status;
use tower::ServiceExt;

use super::Answers;

/// Bytes of the body in one message.
const PIECE_BYTES: usize = 512 << 10;

/// What `pages` answers to a request, for a tenant if one is named.
///
/// # Errors
/// That is no method, path or tenant.
pub(super) async fn answer(
    pages: Router,
    asked: HandleRequest,
) -> Result<Answers<PageResponse>, Status> {
    if !asked.path_and_query.starts_with('/') {
        return Err(Status::invalid_argument("a path begins with /"));
    }
    let mut request = Request::builder().method(asked.method.as_str()).uri(asked.path_and_query);
    if !asked.tenant.is_empty() {
        request = request.header(TENANT_HEADER, super::named(&asked.tenant)?.as_str());
    }
    for (name, value) in [
        (header::CONTENT_TYPE, &asked.content_type),
        (header::CONTENT_ENCODING, &asked.content_encoding),
    ] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    if asked.is_passed_on {
        request = request.extension(PassedOn);
    }
    let request = request
        .body(Body::from(asked.body))
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let answer = match pages.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = PageResponse {
        status: answer.status().as_u16().into(),
        content_type: content_type.to_owned(),
        body: Bytes::new(),
    };
    let body = answer.into_body().into_data_stream().flat_map(|part| match part {
        Ok(part) => stream::iter(pieces(part)).left_stream(),
        Err(error) => stream::iter([Err(Status::internal(error.to_string()))]).right_stream(),
    });
    Ok(Box::pin(stream::iter([Ok(first)]).chain(body)))
}

fn pieces(mut part: Bytes) -> Vec<Result<PageResponse, Status>> {
    let mut pieces = Vec::new();
    while !part.is_empty() {
        let body = part.split_to(part.len().min(PIECE_BYTES));
        pieces.push(Ok(PageResponse { body, ..PageResponse::default() }));
    }
    pieces
}
