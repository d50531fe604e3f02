//! Answers of the broker's own API, passed on to consoles.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, header};
use model::TenantName;
use net::auth::TENANT_HEADER;
use net::rpc::PageResponse;
use tonic::Status;
use tower::ServiceExt;

use super::Answers;

/// Bytes of the body in one message.
const PIECE_BYTES: usize = 512 << 10;

/// What `pages` answers to a GET of `path_and_query`, for a tenant if one is named.
///
/// # Errors
/// That is no path.
pub(super) async fn answer(
    pages: Router,
    tenant: Option<TenantName>,
    path_and_query: &str,
) -> Result<Answers<PageResponse>, Status> {
    if !path_and_query.starts_with('/') {
        return Err(Status::invalid_argument("a path begins with /"));
    }
    let mut request = Request::get(path_and_query);
    if let Some(tenant) = tenant {
        request = request.header(TENANT_HEADER, tenant.as_str());
    }
    let request =
        request.body(Body::empty()).map_err(|error| Status::invalid_argument(error.to_string()))?;
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
