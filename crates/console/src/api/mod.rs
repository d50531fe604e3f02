//! `/api/v1/*` as Prometheus 3 has it.

mod admin;
mod agents;
mod census;
mod completions;
mod exemplars;
mod explain;
mod export;
mod federate;
mod format;
mod labels;
mod login;
mod queries;
mod query;
mod remote_read;
mod search;
mod statistics;
mod status;
pub(crate) mod streamed;
mod targets;
mod tenants;
mod tokens;
mod users;
mod views;

use std::sync::Arc;

use http::Method;
use net::auth::Accounts;
use net::{Access, ApiError, ErrorType, Routes};

pub use admin::Administration;
pub use tokens::Joining;

use crate::Console;

/// Routes over data, wherever that is.
pub(crate) fn routes() -> Routes<Arc<Console>> {
    const GET: [Method; 1] = [Method::GET];
    const FORM: [Method; 2] = [Method::GET, Method::POST];
    Routes::new()
        .route("/api/v1/query", FORM, Access::Read, query::instant)
        .route("/api/v1/query_range", FORM, Access::Read, query::range)
        .route("/api/v1/query_explain", FORM, Access::Read, explain::explain)
        .route("/api/v1/query_exemplars", FORM, Access::Read, exemplars::query)
        .route("/api/v1/read", [Method::POST], Access::Read, remote_read::read)
        .route("/api/v1/export", FORM, Access::Read, export::export)
        .route("/api/v1/export/csv", FORM, Access::Read, export::csv)
        .route("/api/v1/labels", FORM, Access::Read, labels::names)
        .route("/api/v1/label/{name}/values", GET, Access::Read, labels::values)
        .route("/api/v1/series", FORM, Access::Read, labels::series)
        .route("/api/v1/metadata", GET, Access::Read, labels::metadata)
        .route("/api/v1/search/metric_names", FORM, Access::Read, search::metric_names)
        .route("/api/v1/search/label_names", FORM, Access::Read, search::label_names)
        .route("/api/v1/search/label_values", FORM, Access::Read, search::label_values)
        .route("/api/v1/status/walreplay", GET, Access::Read, status::wal_replay)
        .route("/api/v1/completions", FORM, Access::Read, completions::completions)
        .route("/api/v1/format_query", FORM, Access::Read, format::format)
        .route("/api/v1/parse_query", FORM, Access::Read, format::parse)
        .route("/api/v1/status/buildinfo", GET, Access::Read, status::build_info)
        .route("/api/v1/status/runtimeinfo", GET, Access::Read, status::runtime_info)
        .route("/api/v1/status/config", GET, Access::Admin, status::config)
        .route("/api/v1/status/flags", GET, Access::Admin, status::flags)
        .route("/api/v1/status/tsdb", GET, Access::Read, status::tsdb)
        .route("/api/v1/status/active_queries", GET, Access::Read, queries::active)
        .route("/api/v1/status/active_queries/{id}", [Method::DELETE], Access::Admin, queries::kill)
        .route("/api/v1/status/top_queries", GET, Access::Read, queries::top)
        .route("/federate", GET, Access::Read, federate::federate)
        .route("/api/v1/live", GET, Access::Read, crate::live::upgrade)
}

/// What only the process of a broker knows: who sends to it, what it scrapes, what users saved.
pub(crate) fn told_routes() -> Routes<Arc<Console>> {
    const GET: [Method; 1] = [Method::GET];
    Routes::new()
        .route("/api/v1/targets", GET, Access::Read, targets::targets)
        .route("/api/v1/targets/metadata", GET, Access::Read, targets::metadata)
        .route("/api/v1/targets/relabel_steps", GET, Access::Read, targets::relabel_steps)
        .route("/api/v1/scrape_pools", GET, Access::Read, targets::scrape_pools)
        .route("/api/v1/agents", GET, Access::Read, agents::agents)
        .route("/api/v1/tenants", GET, Access::Read, tenants::list)
        .route("/api/v1/views", GET, Access::Read, views::list)
}

/// What users save and remove at the broker.
pub(crate) fn saving_routes() -> Routes<Arc<Console>> {
    let agents = Routes::new();
    let agents =
        agents.route("/api/v1/agents/{name}", [Method::DELETE], Access::Admin, agents::remove);
    agents.route("/api/v1/views/{name}", [Method::PUT], Access::Write, views::save).route(
        "/api/v1/views/{name}",
        [Method::DELETE],
        Access::Write,
        views::delete,
    )
}

/// Login, users and API tokens. The routes by which one becomes known are for everyone.
pub(crate) fn account_routes() -> Routes<Arc<Accounts>> {
    const GET: [Method; 1] = [Method::GET];
    const POST: [Method; 1] = [Method::POST];
    const PUT: [Method; 1] = [Method::PUT];
    const DELETE: [Method; 1] = [Method::DELETE];
    Routes::new()
        .route("/api/v1/setup", POST, Access::Public, login::set_up)
        .route("/api/v1/setup", GET, Access::Admin, login::setup_token)
        .route("/api/v1/login", POST, Access::Public, login::log_in)
        .route("/api/v1/logout", POST, Access::Public, login::log_out)
        .route("/api/v1/password", POST, Access::Public, login::change_password)
        .route("/api/v1/whoami", GET, Access::Public, login::who_am_i)
        .route("/api/v1/users", GET, Access::Admin, users::list)
        .route("/api/v1/users", POST, Access::Admin, users::create)
        .route("/api/v1/users/{name}", DELETE, Access::Admin, users::delete)
        .route("/api/v1/users/{name}/password", PUT, Access::Admin, users::set_password)
        .route("/api/v1/users/{name}/scopes", PUT, Access::Admin, users::set_scopes)
        .route("/api/v1/users/{name}/tenant", PUT, Access::Admin, users::set_tenant)
        .route("/api/v1/tokens", GET, Access::Admin, tokens::list)
        .route("/api/v1/tokens", POST, Access::Admin, tokens::create)
        .route("/api/v1/tokens/{id}", DELETE, Access::Admin, tokens::revoke)
}

/// How other hosts join, and how they are sent away.
pub(crate) fn joining_routes() -> Routes<Arc<Joining>> {
    const GET: [Method; 1] = [Method::GET];
    const POST: [Method; 1] = [Method::POST];
    const DELETE: [Method; 1] = [Method::DELETE];
    Routes::new()
        .route("/api/v1/join-tokens", GET, Access::Admin, tokens::list_join)
        .route("/api/v1/join-tokens", POST, Access::Admin, tokens::create_join)
        .route("/api/v1/join-tokens/{id}", DELETE, Access::Admin, tokens::revoke_join)
        .route("/api/v1/certificates", GET, Access::Admin, tokens::list_certificates)
        .route("/api/v1/certificates/{name}", DELETE, Access::Admin, tokens::revoke_certificate)
}

/// What administrators do to what is stored.
pub(crate) fn administration_routes() -> Routes<Arc<Administration>> {
    const GET: [Method; 1] = [Method::GET];
    const CHANGE: [Method; 2] = [Method::POST, Method::PUT];
    Routes::new()
        .route("/api/v1/admin/tsdb/delete_series", CHANGE, Access::Admin, admin::delete_series)
        .route(
            "/api/v1/admin/tsdb/clean_tombstones",
            CHANGE,
            Access::Admin,
            admin::clean_tombstones,
        )
        .route("/api/v1/admin/tsdb/snapshot", CHANGE, Access::Admin, admin::snapshot)
        .route("/api/v1/status/tsdb/blocks", GET, Access::Read, admin::blocks)
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
