//! InfluxDB's line protocol, as clients of its first and second version write it.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use net::{Access, BodyRules, NetMetrics, Routes, read_body};
use serde_json::json;
use wire::influx::{Options, Precision, Summary};

use super::dialects::{INFLUX_ONE, INFLUX_TWO};
use super::intake::{self, Refusal};
use crate::Broker;
use crate::ingest::{IngestOutcome, cause};

/// The version of InfluxDB's API that is spoken; clients switch features by it.
const VERSION: &str = "1.8.10";
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-influxdb-version");

/// Which version's shapes an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    One,
    Two,
}

/// Writing, and what clients ask before they write.
pub(super) fn routes() -> Routes<Broker> {
    let mut routes = Routes::new();
    for prefix in ["", "/influx"] {
        let at = |path: &str| format!("{prefix}{path}");
        routes = routes
            .speaking(&INFLUX_TWO)
            .route(&at("/api/v2/write"), [Method::POST], Access::Write, write_two)
            .speaking(&INFLUX_ONE)
            .route(&at("/write"), [Method::POST], Access::Write, write_one)
            .route(&at("/query"), [Method::POST], Access::Write, query)
            // Holds nothing of anybody, and is where browsers look for Prometheus' expression browser.
            .route(&at("/query"), [Method::GET], Access::Public, query_in_url)
            .route(&at("/ping"), [Method::GET], Access::Public, ping)
            .route(&at("/health"), [Method::GET], Access::Public, health);
    }
    routes
}

async fn write_one(State(broker): State<Broker>, request: Request<Body>) -> Response {
    write(&broker, request, Api::One).await
}

async fn write_two(State(broker): State<Broker>, request: Request<Body>) -> Response {
    write(&broker, request, Api::Two).await
}

/// 204 when everything is durable; 400 names what could not be stored, after storing the rest; 429
/// when nothing is stored and all of it may be later.
async fn write(broker: &Broker, request: Request<Body>, api: Api) -> Response {
    let (parts, body) = request.into_parts();
    let (mut database, mut precision) = (String::new(), Precision::Nanoseconds);
    for (key, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        match (api, key.as_ref()) {
            (Api::One, "db") | (Api::Two, "bucket") => database = value.into_owned(),
            (_, "precision") => match Precision::from_name(&value) {
                Some(known) => precision = known,
                None => {
                    let message = format!(
                        "invalid precision {value:?} (use n, u, ms, s, m or h in version 1, ns, \
                         us, ms or s in version 2)"
                    );
                    return error(api, StatusCode::BAD_REQUEST, &message);
                }
            },
            _ => {}
        }
    }
    let rules = BodyRules::any_encoding;
    let taken = intake::take(broker, &parts, body, rules, move |broker, limits, body, batch| {
        let options = Options { precision, now_ms: broker.now_ms(), database: &database };
        wire::influx::decode(&body, options, limits, batch)
    });
    match taken.await {
        Ok((summary, outcome)) => answer(broker, api, &summary, &outcome),
        Err(refusal) => {
            let response = error(api, refusal.status(), &refusal.to_string());
            refusal.on_connection(response)
        }
    }
}

fn answer(broker: &Broker, api: Api, summary: &Summary, outcome: &IngestOutcome) -> Response {
    broker.count_influx(summary);
    let mut faults: Vec<String> = summary
        .refusals
        .iter()
        .map(|refused| match refused.series {
            1 => format!("unable to parse '{}': {}", refused.first, refused.reason),
            lines => format!(
                "unable to parse '{}' and {} more lines: {}",
                refused.first,
                lines - 1,
                refused.reason
            ),
        })
        .collect();
    // Two points in one millisecond are no fault of the sender: the first stays, and the other one
    // is counted with the conflicts.
    let dropped: u64 = outcome.rejects.iter().map(|reject| reject.samples).sum();
    if faults.is_empty()
        && let Some(later) = Refusal::of(outcome)
    {
        return later.on_connection(error(api, later.status(), &later.to_string()));
    }
    faults.extend(outcome.rejects.iter().map(cause));
    if faults.is_empty() {
        return (StatusCode::NO_CONTENT, [(VERSION_HEADER, VERSION)]).into_response();
    }
    let faults = faults.join("\n");
    error(api, StatusCode::BAD_REQUEST, &format!("partial write: {faults} dropped={dropped}"))
}

fn error(api: Api, status: StatusCode, message: &str) -> Response {
    error_with(api, status, code_of(status), message)
}

/// What version 2 calls a status.
pub(super) fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        status if status.is_client_error() => "invalid",
        _ => "unavailable",
    }
}

pub(super) fn error_with(api: Api, status: StatusCode, code: &str, message: &str) -> Response {
    let body = match api {
        Api::One => json!({"error": message}),
        Api::Two => json!({"code": code, "message": message}),
    };
    let mut response =
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    response
}

/// `CREATE DATABASE`, which clients of version 1 send before they write: there is nothing to make. And
/// `SHOW DATABASES`, by which they look whether they have to, answered as VictoriaMetrics does: that
/// there are none but InfluxDB's own. Other statements are refused; PromQL reads what was written.
async fn query(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let in_url = statement(parts.uri.query().unwrap_or_default());
    let statement = match in_url {
        Some(statement) => statement,
        None => match form(&parts.headers, body, broker.net_metrics()).await {
            Ok(form) => statement(&form).unwrap_or_default(),
            Err(refusal) => return error(Api::One, refusal.status(), &refusal.to_string()),
        },
    };
    answer_statement(&statement)
}

/// The same by GET. Without a statement the request is one of a browser that wants Prometheus' page.
async fn query_in_url(uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    match statement(query) {
        Some(statement) => answer_statement(&statement),
        None => (StatusCode::FOUND, [(header::LOCATION, net::expression_browser(query))])
            .into_response(),
    }
}

fn answer_statement(statement: &str) -> Response {
    let lower = statement.to_ascii_lowercase();
    let words = lower.split_whitespace().take(2);
    let words: Vec<&str> = words.map(|word| word.trim_end_matches(';')).collect();
    let result = match words[..] {
        ["create", "database"] => Some(json!({"statement_id": 0})),
        ["show", "databases"] => Some(json!({"statement_id": 0, "series": [
            {"name": "databases", "columns": ["name"], "values": [["_internal"]]}]})),
        _ => None,
    };
    if let Some(result) = result {
        let body = json!({"results": [result]}).to_string();
        return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let message =
        "InfluxQL is not spoken here; query what was written with PromQL at /api/v1/query";
    error(Api::One, StatusCode::BAD_REQUEST, message)
}

fn statement(form: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(form.as_bytes());
    pairs.find(|(key, _)| key == "q").map(|(_, value)| value.into_owned())
}

async fn form(
    headers: &http::HeaderMap,
    body: Body,
    metrics: &NetMetrics,
) -> Result<String, Refusal> {
    const MAX_BYTES: usize = 64 << 10;
    let body = read_body(headers, body, BodyRules::any_encoding(MAX_BYTES), metrics).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn ping(request: Request<Body>) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let is_verbose = form_urlencoded::parse(query.as_bytes())
        .any(|(key, value)| key == "verbose" && value != "false" && value != "0");
    let headers = [(VERSION_HEADER, VERSION)];
    if is_verbose {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        return (headers, kind, json!({"version": VERSION}).to_string()).into_response();
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn health(State(broker): State<Broker>) -> Response {
    let ready = broker.ready();
    let (status, word, message) = match &ready {
        Ok(()) => (StatusCode::OK, "pass", "ready for queries and writes"),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, "fail", reason.as_str()),
    };
    let body = json!({
        "name": "influxdb",
        "message": message,
        "status": word,
        "checks": [],
        "version": VERSION,
    });
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (status, [(VERSION_HEADER, VERSION)], headers, body.to_string()).into_response()
}
