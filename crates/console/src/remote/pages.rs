//! What a console passes on of a broker's own API, and what it has to refuse.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{Method, StatusCode, Uri, header};
use model::TenantName;
use net::auth::Principal;
use net::rpc::{PageRequest, PageResponse};
use net::{Access, ApiError, ErrorType, Routes};
use promql::SourceError;
use tonic::Streaming;

use super::fault::{Fault, garbled, named};
use super::link::Client;
use super::page_merge::{self, Page};
use super::{Brokers, Cluster, Inner};
use crate::respond::source_error;

/// Largest answer that is passed on: ten thousand targets have a tenth of it.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// Paths of a broker's own API that tell what only its process knows.
pub(crate) const PASSED_ON: [&str; 11] = [
    "/api/v1/agents",
    "/api/v1/metrics",
    "/api/v1/scrape_pools",
    "/api/v1/status/cluster",
    "/api/v1/status/ha_tracker",
    "/api/v1/targets",
    "/api/v1/targets/metadata",
    "/api/v1/targets/relabel_steps",
    "/api/v1/tenants",
    "/api/v1/views",
    "/pushgateway/metrics",
];

/// What a broker answers to these is passed on: who sends to it, what it scrapes, what was pushed
/// and saved.
pub fn passed_on_routes(brokers: &Brokers) -> Routes {
    let mut routes = Routes::new();
    for path in PASSED_ON {
        routes = routes.route(path, [Method::GET], Access::Read, pass_on);
    }
    routes.with_state(brokers.clone())
}

/// Where other protocols bring their data to a broker.
const TAKEN_ELSEWHERE: [&str; 22] = [
    "/api/put",
    "/api/v1/import",
    "/api/v1/import/csv",
    "/api/v1/import/native",
    "/api/v1/import/parquet",
    "/api/v1/otlp/v1/metrics",
    "/api/v2/write",
    "/datadog/api/v1/check_run",
    "/datadog/api/v1/metadata",
    "/datadog/api/v1/series",
    "/datadog/api/v2/series",
    "/datadog/intake",
    "/datadog/intake/",
    "/influx/api/v2/write",
    "/influx/query",
    "/influx/write",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/opentsdb/api/put",
    "/otlp/v1/metrics",
    "/query",
    "/v1/metrics",
    "/write",
];

/// Where lines of logs are brought to a broker.
const LINES_TAKEN_ELSEWHERE: [&str; 9] = [
    "/api/prom/push",
    "/api/v1/otlp/v1/logs",
    "/insert/jsonline",
    "/insert/loki/api/v1/push",
    "/insert/opentelemetry/v1/logs",
    "/loki/api/v1/push",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "/otlp/v1/logs",
    "/v1/logs",
];

/// Ways in for lines of logs, and what changes them.
fn lines_elsewhere_routes() -> Routes<Brokers> {
    let mut routes = Routes::new();
    for path in LINES_TAKEN_ELSEWHERE {
        routes = routes.route(path, [Method::POST], Access::Write, elsewhere);
    }
    for path in ["/upload", "/insert/journald/upload"] {
        routes = routes.route(path, [Method::POST], Access::Write, elsewhere);
    }
    for prefix in ["/elasticsearch", "/insert/elasticsearch"] {
        let at = |path: &str| format!("{prefix}{path}");
        for path in ["/_bulk", "/{index}/_bulk"] {
            let methods = [Method::POST, Method::PUT];
            routes = routes.route(&at(path), methods, Access::Write, elsewhere);
        }
        for path in ["/_license", "/_xpack", "/_cluster/health", "", "/"] {
            routes = routes.route(&at(path), [Method::GET], Access::Write, elsewhere);
        }
        for of_indexes in [
            "_ilm",
            "_index_template",
            "_component_template",
            "_template",
            "_ingest",
            "_data_stream",
            "_alias",
            "_nodes",
            "_logstash",
        ] {
            let path = format!("{prefix}/{of_indexes}/{{*rest}}");
            routes = routes.route_any(&path, Access::Write, elsewhere);
        }
    }
    for methods in [&[Method::POST, Method::PUT][..], &[Method::GET], &[Method::DELETE]] {
        routes =
            routes.route("/loki/api/v1/delete", methods.iter().cloned(), Access::Admin, elsewhere);
    }
    routes
}

/// Writes, and what changes a broker: a console stores nothing, and says where to go.
pub fn elsewhere_routes(brokers: &Brokers) -> Routes {
    let mut routes = Routes::new();
    for path in TAKEN_ELSEWHERE {
        routes = routes.route(path, [Method::POST], Access::Write, elsewhere);
    }
    // By these InfluxDB's clients ask whether they can write.
    for path in ["/ping", "/health", "/influx/ping", "/influx/health"] {
        routes = routes.route(path, [Method::GET], Access::Public, no_database);
    }
    for path in ["/query", "/influx/query"] {
        routes = routes.route(path, [Method::GET], Access::Public, statement);
    }
    for change in ["delete_series", "clean_tombstones", "snapshot"] {
        let path = format!("/api/v1/admin/tsdb/{change}");
        routes = routes.route(&path, [Method::POST, Method::PUT], Access::Admin, elsewhere);
    }
    routes
        .route("/datadog/api/v1/validate", [Method::GET], Access::Write, elsewhere)
        .route("/api/v1/status/tsdb/blocks", [Method::GET], Access::Read, elsewhere)
        .route("/api/v1/write", [Method::POST], Access::Write, elsewhere)
        .route("/api/v1/import/prometheus", [Method::POST, Method::PUT], Access::Write, elsewhere)
        .route("/metrics/{*key}", [Method::PUT], Access::Write, elsewhere)
        .route("/metrics/{*key}", [Method::POST], Access::Write, elsewhere)
        .route("/metrics/{*key}", [Method::DELETE], Access::Write, elsewhere)
        .route("/api/v1/views/{name}", [Method::PUT], Access::Write, elsewhere)
        .route("/api/v1/views/{name}", [Method::DELETE], Access::Write, elsewhere)
        .route("/api/v1/agents/{name}", [Method::DELETE], Access::Admin, elsewhere)
        .route("/api/v1/admin/wipe", [Method::PUT], Access::Admin, elsewhere)
        .route("/api/v1/admin/blocks", [Method::GET], Access::Admin, elsewhere)
        .route("/api/v1/admin/blocks", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/admin/blocks/reserve", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/admin/keys", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/admin/moves", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/admin/moves/end", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/cluster/drain", [Method::GET], Access::Admin, elsewhere)
        .route("/api/v1/cluster/drain", [Method::POST], Access::Admin, elsewhere)
        .route("/api/v1/cluster/remove", [Method::POST], Access::Admin, elsewhere)
        .route("/-/reload", [Method::POST, Method::PUT], Access::Admin, elsewhere)
        .merge(lines_elsewhere_routes())
        .route("/api/v1/join-tokens", [Method::GET], Access::Admin, not_here)
        .route("/api/v1/join-tokens", [Method::POST], Access::Admin, not_here)
        .route("/api/v1/join-tokens/{id}", [Method::DELETE], Access::Admin, not_here)
        .route("/api/v1/certificates", [Method::GET], Access::Admin, not_here)
        .route("/api/v1/certificates/{name}", [Method::DELETE], Access::Admin, not_here)
        .with_state(brokers.clone())
}

pub(super) async fn pass_on(
    State(brokers): State<Brokers>,
    principal: Principal,
    uri: Uri,
) -> Result<Page, ApiError> {
    let asked = PageRequest {
        path_and_query: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        tenant: if principal.sees_all() { String::new() } else { principal.tenant.to_string() },
    };
    ask_all(&brokers, principal.tenant, uri.path(), asked).await
}

/// What the brokers answer to a request, as one answer.
pub(super) async fn ask_all(
    brokers: &Brokers,
    tenant: TenantName,
    path: &str,
    asked: PageRequest,
) -> Result<Page, ApiError> {
    let inner = &brokers.inner;
    let limit = inner.shared.time_limit(tenant);
    let ask = |cluster: &Arc<Cluster>| {
        let (cluster, asked) = (Arc::clone(cluster), asked.clone());
        async move {
            let found = cluster.link.call(|client| page(client, asked.clone()));
            let found = tokio::time::timeout(limit, found).await.unwrap_or_else(|_| {
                let words = "the broker did not answer in time; ask for less or raise \
                             limits.query_timeout_ms";
                Err(SourceError::Unavailable(words.to_owned()))
            });
            found.map_err(|error| named(&cluster.name, error))
        }
    };
    let answers = join_all(inner.clusters.iter().map(ask)).await;
    one_of(inner, path, answers)
}

/// One answer of those of all clusters.
fn one_of(
    inner: &Inner,
    path: &str,
    answers: Vec<Result<Page, SourceError>>,
) -> Result<Page, ApiError> {
    let answers = match <[_; 1]>::try_from(answers) {
        Ok([only]) => return only.map_err(source_error),
        Err(answers) => answers,
    };
    let (mut pages, mut away) = (Vec::new(), Vec::new());
    for (cluster, answer) in inner.clusters.iter().zip(answers) {
        match answer {
            Ok(page) => pages.push((cluster.name.as_str(), page)),
            Err(SourceError::Unavailable(words)) => away.push(words),
            Err(error) => return Err(source_error(error)),
        }
    }
    if pages.is_empty() {
        let words = format!("no cluster answers; {}", away.join("; "));
        return Err(source_error(SourceError::Unavailable(words)));
    }
    page_merge::merged(path, pages, away).map_err(|words| {
        ApiError::new(ErrorType::Unavailable, words).with_status(StatusCode::NOT_IMPLEMENTED)
    })
}

async fn page(mut client: Client, request: PageRequest) -> Result<Page, Fault> {
    let answer = client.page(request).await;
    gathered(answer.map_err(|status| Fault::of(&status))?.into_inner()).await
}

/// Reads to the end: a browser that is slow must not hold up the connection of all.
pub(super) async fn gathered(mut stream: Streaming<PageResponse>) -> Result<Page, Fault> {
    let mut page: Option<Page> = None;
    while let Some(message) = stream.message().await.map_err(|status| Fault::of(&status))? {
        let page = match &mut page {
            Some(page) => page,
            None => {
                let status = u16::try_from(message.status).ok();
                let status = status.and_then(|code| StatusCode::from_u16(code).ok());
                let status = status.ok_or_else(|| garbled("a page without a status"))?;
                page.insert(Page { status, content_type: message.content_type, body: Vec::new() })
            }
        };
        if page.body.len() + message.body.len() > MAX_PAGE_BYTES {
            return Err(Fault::Final(SourceError::Limit(format!(
                "the broker's answer is larger than {MAX_PAGE_BYTES} bytes, more than a console \
                 passes on; ask the broker itself, or for less"
            ))));
        }
        page.body.extend_from_slice(&message.body);
    }
    page.ok_or_else(|| Fault::Away("the answer ended before it began".to_owned()))
}

/// 501, a status that senders try again on, so that what they hold is not dropped while somebody
/// puts the address right.
pub(super) async fn elsewhere(
    State(brokers): State<Brokers>,
    method: Method,
    uri: Uri,
) -> Response {
    let mut error = ApiError::new(
        ErrorType::Unavailable,
        format!(
            "{method} {} is for a broker; this is a console, which stores nothing. Send to {}",
            uri.path(),
            own_port(&brokers.inner)
        ),
    )
    .into_response();
    *error.status_mut() = StatusCode::NOT_IMPLEMENTED;
    error
}

/// For everybody, so that it names no address.
async fn no_database() -> ApiError {
    ApiError::new(
        ErrorType::Unavailable,
        "this is a console, which stores nothing; write to a broker",
    )
    .with_status(StatusCode::NOT_IMPLEMENTED)
}

/// A statement of InfluxQL; without one, a browser that looks for Prometheus' expression browser.
async fn statement(uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    match form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "q") {
        true => no_database().await.into_response(),
        false => (StatusCode::FOUND, [(header::LOCATION, net::expression_browser(query))])
            .into_response(),
    }
}

/// Whoever joins, joins the broker.
async fn not_here(State(brokers): State<Brokers>) -> ApiError {
    ApiError::new(
        ErrorType::NotFound,
        format!(
            "this is a console: join tokens and certificates are made and revoked at its broker. \
             Look at {}",
            own_port(&brokers.inner)
        ),
    )
}

/// Where the broker takes HTTP, as far as that is known. What is sent belongs to one cluster, and nobody
/// but the sender knows to which.
fn own_port(inner: &Inner) -> String {
    let port = |cluster: &Arc<Cluster>| match cluster.link.told().map(|told| told.url) {
        Some(url) if !url.is_empty() => url,
        _ => {
            let targets: Vec<&str> = cluster.link.targets().collect();
            format!("the HTTP port of {}", targets.join(" or "))
        }
    };
    match &inner.clusters[..] {
        [only] => format!("{} instead", port(only)),
        clusters => {
            let each = clusters.iter().map(|one| format!("cluster {}: {}", one.name, port(one)));
            let each: Vec<String> = each.collect();
            format!("the cluster it is meant for instead ({})", each.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_tells_itself_is_passed_on() {
        let told = crate::api::told_routes();
        for route in told.table() {
            assert!(PASSED_ON.contains(&route.path.as_str()), "{} is not passed on", route.path);
        }
    }
}
