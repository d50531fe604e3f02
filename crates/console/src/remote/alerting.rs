//! Rules, alerts and notifications of a broker, in a console of its own: all of it is passed on, also what
//! changes something. Of several clusters, what changes something is for a broker of the one that is meant.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, Method, StatusCode, header};
use net::auth::Principal;
use net::rpc::HandleRequest;
use net::{Access, ApiError, ErrorType, Routes};
use promql::SourceError;

use super::Brokers;
use super::fault::Fault;
use super::link::Client;
use super::page_merge::Page;
use super::pages::{elsewhere, gathered, pass_on};
use crate::respond::source_error;

/// Most bytes of a request: more than any of these routes takes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// How long the broker may take: it waits for what it writes down, and a test of a receiver for the receiver.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// What a broker answers to these is passed on.
const PASSED_ON: [&str; 23] = [
    "/alertmanager/api/v2/alerts",
    "/alertmanager/api/v2/alerts/groups",
    "/alertmanager/api/v2/receivers",
    "/alertmanager/api/v2/silence/{id}",
    "/alertmanager/api/v2/silences",
    "/alertmanager/api/v2/status",
    "/api/v1/alertmanagers",
    "/api/v1/alerts",
    "/api/v1/notifications/deliveries",
    "/api/v1/notifications/explain",
    "/api/v1/notifications/receivers",
    "/api/v1/notifications/routes",
    "/api/v1/notifications/routes/match",
    "/api/v1/rule_groups",
    "/api/v1/rules",
    "/api/v2/alerts",
    "/api/v2/alerts/groups",
    "/api/v2/receivers",
    "/api/v2/silence/{id}",
    "/api/v2/silences",
    "/api/v2/status",
    "/prometheus/api/v1/alerts",
    "/prometheus/api/v1/rules",
];

/// Where groups of rules are kept, with and without a list of all of them.
const GROUPS_OF_RULES: [(&str, bool); 5] = [
    ("/api/prom/rules", true),
    ("/api/v1/rules", false),
    ("/config/v1/rules", true),
    ("/loki/api/v1/rules", true),
    ("/prometheus/config/v1/rules", true),
];

/// Lists of rules, alerts, silences and receivers, of the broker; and where they are changed.
pub fn passed_on_alerting_routes(brokers: &Brokers) -> Routes {
    let mut routes = Routes::new();
    for path in PASSED_ON {
        routes = routes.route(path, [Method::GET], Access::Read, pass_on);
    }
    for prefix in ["/api/v2", "/alertmanager/api/v2"] {
        let at = |path: &str| format!("{prefix}{path}");
        routes = routes
            .route(&at("/alerts"), [Method::POST], Access::Write, change)
            .route(&at("/silences"), [Method::POST], Access::Write, change)
            .route(&at("/silence/{id}"), [Method::DELETE], Access::Write, change);
    }
    for (path, has_list) in GROUPS_OF_RULES {
        if has_list {
            routes = routes.route(path, [Method::GET], Access::Read, pass_on);
        }
        let (namespace, group) =
            (format!("{path}/{{namespace}}"), format!("{path}/{{namespace}}/{{group}}"));
        routes = routes.route(&namespace, [Method::POST], Access::Write, change);
        for path in [&namespace, &group] {
            routes = routes.route(path, [Method::GET], Access::Read, pass_on).route(
                path,
                [Method::DELETE],
                Access::Write,
                change,
            );
        }
    }
    for path in ["silence_preview", "render"] {
        let path = format!("/api/v1/notifications/{path}");
        routes = routes.route(&path, [Method::POST], Access::Read, change);
    }
    // What needs an administrator is for the broker's own.
    routes = routes.route("/api/v1/notifications/test", [Method::POST], Access::Admin, elsewhere);
    routes
        .route("/api/v1/rule_groups/preview", [Method::POST], Access::Read, change)
        .route("/alertmanager/-/ready", [Method::GET], Access::Public, async || "OK")
        .with_state(brokers.clone())
}

/// Hands a request of any method on to the broker. Whoever sent it, this console knows.
async fn change(
    State(brokers): State<Brokers>,
    principal: Principal,
    request: Request,
) -> Response {
    let clusters = &brokers.inner.clusters;
    let [cluster] = &clusters[..] else {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        return elsewhere(State(brokers), method, uri).await;
    };
    let asked = match described(&principal, request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into_response(),
    };
    // What makes something new is sent once where it is not known what came of it.
    let (is_repeatable, is_sent) = (asked.method != "POST", AtomicBool::new(false));
    let ask = |client: Client| {
        let (asked, is_sent) = (asked.clone(), &is_sent);
        async move {
            if !is_repeatable && is_sent.load(Ordering::Relaxed) {
                return Err(Fault::Final(SourceError::Unavailable(
                    "the broker did not answer, and may have taken it: look whether it counts before \
                     you repeat it"
                        .to_owned(),
                )));
            }
            handle(client, asked, is_sent).await
        }
    };
    let answer = tokio::time::timeout(ANSWERED_WITHIN, cluster.link.call(ask)).await;
    let answer = answer.unwrap_or_else(|_| {
        let words =
            "the broker did not answer in time; look whether it counts before you repeat it";
        Err(SourceError::Unavailable(words.to_owned()))
    });
    match answer {
        Ok(page) => page.into_response(),
        Err(error) => source_error(error).into_response(),
    }
}

/// Notes in `is_sent` that it may have arrived.
async fn handle(
    mut client: Client,
    asked: HandleRequest,
    is_sent: &AtomicBool,
) -> Result<Page, Fault> {
    // Whoever waits may leave this one in the middle.
    is_sent.store(true, Ordering::Relaxed);
    match client.handle(asked).await {
        Ok(answer) => gathered(answer.into_inner()).await,
        Err(status) => {
            // What a broker itself says is that it did not take it.
            let is_broken = std::error::Error::source(&status).is_some();
            is_sent.store(is_broken && !net::never_left(&status), Ordering::Relaxed);
            Err(Fault::of(&status))
        }
    }
}

async fn described(principal: &Principal, request: Request) -> Result<HandleRequest, ApiError> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
        let words = format!(
            "the body cannot be read, or is larger than {MAX_BODY_BYTES} bytes: {error}; send less at once"
        );
        ApiError::new(ErrorType::BadData, words).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    })?;
    let text = |name: HeaderName| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Ok(HandleRequest {
        method: parts.method.to_string(),
        path_and_query: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        tenant: if principal.sees_all() { String::new() } else { principal.tenant.to_string() },
        content_type: text(header::CONTENT_TYPE),
        content_encoding: text(header::CONTENT_ENCODING),
        body,
        is_passed_on: false,
    })
}
