//! `/api/v1/*` as Prometheus 3 has it.

mod format;
mod labels;
mod query;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use net::{ApiError, ErrorType};

use crate::Console;

/// All routes under `/api`.
pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/labels", get(labels::names).post(labels::names))
        .route("/api/v1/label/{name}/values", get(labels::values))
        .route("/api/v1/series", get(labels::series).post(labels::series))
        .route("/api/v1/metadata", get(labels::metadata))
        .route("/api/v1/format_query", get(format::format).post(format::format))
        .route("/api/v1/parse_query", get(format::parse).post(format::parse))
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/runtimeinfo", get(status::runtime_info))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .route("/api/v1/live", get(crate::live::upgrade))
}

/// Unknown paths under `/api` are JSON, never the pages of the console.
pub(crate) fn unknown_routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/api", any(unknown))
        .route("/api/", any(unknown))
        .route("/api/{*rest}", any(unknown))
}

async fn unknown(uri: http::Uri) -> ApiError {
    ApiError::new(
        ErrorType::NotFound,
        format!("there is no API at {:?}; docs/operating/api.md lists what there is", uri.path()),
    )
}
