//! `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::response::Response;

use crate::params::Params;
use crate::respond::{parameter, success};
use net::ApiError;

pub(super) async fn format(params: Params) -> Result<Response, ApiError> {
    let text = params.get("query").unwrap_or_default();
    let expr = promql::parse(text).map_err(|error| parameter("query", error))?;
    Ok(success(promql::pretty(&expr).into()))
}

pub(super) async fn parse(params: Params) -> Result<Response, ApiError> {
    let text = params.get("query").unwrap_or_default();
    let expr = promql::parse(text).map_err(|error| parameter("query", error))?;
    Ok(success(promql::ast_json(&expr)))
}
