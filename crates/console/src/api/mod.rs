//! `/api/v1/*` as Prometheus 3 has it.

mod agents;
mod federate;
mod format;
mod labels;
mod query;
mod status;

use std::sync::Arc;

use http::Method;
use net::{Access, ApiError, ErrorType, Routes};

use crate::Console;

/// All routes under `/api`.
pub(crate) fn routes() -> Routes<Arc<Console>> {
    const GET: [Method; 1] = [Method::GET];
    const FORM: [Method; 2] = [Method::GET, Method::POST];
    Routes::new()
        .route("/api/v1/query", FORM, Access::Read, query::instant)
        .route("/api/v1/query_range", FORM, Access::Read, query::range)
        .route("/api/v1/labels", FORM, Access::Read, labels::names)
        .route("/api/v1/label/{name}/values", GET, Access::Read, labels::values)
        .route("/api/v1/series", FORM, Access::Read, labels::series)
        .route("/api/v1/metadata", GET, Access::Read, labels::metadata)
        .route("/api/v1/format_query", FORM, Access::Read, format::format)
        .route("/api/v1/parse_query", FORM, Access::Read, format::parse)
        .route("/api/v1/status/buildinfo", GET, Access::Read, status::build_info)
        .route("/api/v1/status/runtimeinfo", GET, Access::Read, status::runtime_info)
        .route("/api/v1/status/config", GET, Access::Admin, status::config)
        .route("/api/v1/status/flags", GET, Access::Admin, status::flags)
        .route("/api/v1/status/tsdb", GET, Access::Read, status::tsdb)
        .route("/api/v1/agents", GET, Access::Read, agents::agents)
        .route("/federate", GET, Access::Read, federate::federate)
        .route("/api/v1/live", GET, Access::Read, crate::live::upgrade)
}

/// Unknown paths under `/api` are JSON, never the pages of the console.
pub(crate) fn unknown_routes() -> Routes<Arc<Console>> {
    Routes::new()
        .route_any("/api", Access::Public, unknown)
        .route_any("/api/", Access::Public, unknown)
        .route_any("/api/{*rest}", Access::Public, unknown)
}

async fn unknown(uri: http::Uri) -> ApiError {
    ApiError::new(
        ErrorType::NotFound,
        format!("there is no API at {:?}; docs/operating/api.md lists what there is", uri.path()),
    )
}
