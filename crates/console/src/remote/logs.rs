//! Lines of logs at a console in a process of its own: its broker computes what is asked, and the answer is passed on.

use axum::extract::State;
use http::{HeaderMap, Method, StatusCode, Uri};
use net::auth::Principal;
use net::rpc::PageRequest;
use net::{Access, Routes};

use super::Brokers;
use super::log_tail::tail;
use super::page_merge::Page;
use super::pages::ask_all;
use crate::loki::{DIALECT, ENCODING_FLAGS, Refusal, wants_categories};
use crate::params::Params;

/// What reads lines: paths whose answers a broker computes.
const PASSED_ON: [&str; 21] = [
    "/loki/api/v1/query",
    "/loki/api/v1/query_range",
    "/loki/api/v1/export",
    "/loki/api/v1/context",
    "/loki/api/v1/labels",
    "/loki/api/v1/label",
    "/loki/api/v1/label/{name}/values",
    "/loki/api/v1/series",
    "/loki/api/v1/index/stats",
    "/loki/api/v1/index/volume",
    "/loki/api/v1/index/volume_range",
    "/loki/api/v1/patterns",
    "/loki/api/v1/detected_labels",
    "/loki/api/v1/detected_fields",
    "/loki/api/v1/detected_field/{name}/values",
    "/loki/api/v1/completions",
    "/loki/api/v1/format_query",
    "/api/prom/query",
    "/api/prom/label",
    "/api/prom/label/{name}/values",
    "/api/prom/series",
];

/// What Grafana's Logs Drilldown asks first; passed on, too.
const LIMITS: &str = "/loki/api/v1/drilldown-limits";

/// Reading of lines, for a console that asks brokers.
pub fn passed_on_log_routes(brokers: &Brokers) -> Routes {
    let mut routes = Routes::new().speaking(&DIALECT);
    for path in PASSED_ON {
        routes = routes.route(path, [Method::GET, Method::POST], Access::Read, pass_on);
    }
    routes
        .route(LIMITS, [Method::GET], Access::Read, pass_on)
        .route("/loki/api/v1/tail", [Method::GET], Access::Read, tail)
        .route("/api/prom/tail", [Method::GET], Access::Read, tail)
        .with_state(brokers.clone())
}

/// Forms are passed on as a part of the URL, and so is the header that matters.
async fn pass_on(
    State(brokers): State<Brokers>,
    principal: Principal,
    uri: Uri,
    headers: HeaderMap,
    params: Params,
) -> Result<Page, Refusal> {
    only_cluster(&brokers)?;
    let (path, tenant) = (uri.path(), principal.tenant);
    let path_and_query = format!("{path}?{}", as_query(&headers, &params, &[]));
    let asked = PageRequest { path_and_query, tenant: tenant.to_string() };
    Ok(ask_all(&brokers, tenant, path, asked).await?)
}

/// Lines are those of one cluster.
pub(super) fn only_cluster(brokers: &Brokers) -> Result<(), Refusal> {
    if brokers.inner.clusters.len() > 1 {
        let text = "lines of several clusters are not put together; ask a broker of one of them";
        return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, text: text.to_owned() });
    }
    Ok(())
}

/// Parameters of the URL and the form but some, and of the header what matters, as the query of a URL.
pub(super) fn as_query(headers: &HeaderMap, params: &Params, without: &[&str]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let kept = params.pairs().iter().filter(|(name, _)| !without.contains(&name.as_str()));
    query.extend_pairs(kept);
    if wants_categories(headers, params) && params.get(ENCODING_FLAGS).is_none() {
        query.append_pair(ENCODING_FLAGS, crate::loki::CATEGORIZE);
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_reads_lines_is_passed_on() {
        let own = [
            LIMITS,
            "/loki/api/v1/tail",
            "/api/prom/tail",
            "/loki/api/v1/status/buildinfo",
            "/ready",
        ];
        for route in crate::loki::routes().table() {
            let path = route.path.as_str();
            assert!(PASSED_ON.contains(&path) || own.contains(&path), "{path} is not passed on");
        }
    }
}
