//! Groups of rules as users keep them: the configuration API of the rulers of Mimir, Cortex and Loki.
//!
//! Source: `pkg/ruler/api.go` of Mimir and `pkg/ruler/base/api.go` of Loki, whose statuses and errors these
//! are. What is posted on the paths of Loki is LogQL, and PromQL on the others. Groups are those of the
//! tenant `default`: to others lists are empty, and what they send is refused.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};
use net::auth::Principal;
use net::{Access, BodyRules, Dialect, NetMetrics, Routes, read_body};
use settings::{Diagnostic, Faults};

use super::answer::{self, ELSEWHERE, bare};
use crate::Seat;
use crate::rules::group_yaml::{indented, scalar};
use crate::rules::{MAX_GROUP_BYTES, ManagedError, ManagedGroup, RuleLanguage, Rules};

/// Refusals before a handler, as rulers tell them: a text.
const DIALECT: Dialect =
    Dialect { token: |_| None, refusal: |_, error| plain(error.status, &error.message) };

/// What a ruler answers to a change that it takes.
const ACCEPTED: &str = r#"{"status":"success","data":null,"errorType":"","error":""}"#;

/// Mimir's paths. Grafana asks below the address of its data source, which ends with `/prometheus` or not.
const OF_MIMIR: [&str; 2] = ["/prometheus/config/v1/rules", "/config/v1/rules"];
/// Cortex' path, without the list of all groups: there Prometheus has its own.
const OF_CORTEX: &str = "/api/v1/rules";
/// Loki's paths.
const OF_LOKI: [&str; 2] = ["/loki/api/v1/rules", "/api/prom/rules"];

/// What the handlers need.
struct RuleConfig {
    seat: Seat,
    language: RuleLanguage,
    net_metrics: Arc<NetMetrics>,
}

/// The API by which groups of rules are kept.
pub fn rule_config_routes(seat: &Seat, net_metrics: &Arc<NetMetrics>) -> Routes {
    let mut all = Routes::new();
    for (language, lists, prefixes) in [
        (RuleLanguage::Promql, &OF_MIMIR[..], &[OF_MIMIR[0], OF_MIMIR[1], OF_CORTEX][..]),
        (RuleLanguage::Logql, &OF_LOKI[..], &OF_LOKI[..]),
    ] {
        let mut routes = Routes::new().by_way_of(seat.detour()).speaking(&DIALECT);
        for path in lists {
            routes = routes.route(path, [Method::GET], Access::Read, list);
        }
        for prefix in prefixes {
            let at = format!("{prefix}/{{namespace}}");
            routes = routes
                .route(&at, [Method::GET], Access::Read, list_namespace)
                .route(&at, [Method::POST], Access::Write, post)
                .route(&at, [Method::DELETE], Access::Write, delete_namespace);
            let at = format!("{at}/{{group}}");
            routes = routes.route(&at, [Method::GET], Access::Read, get).route(
                &at,
                [Method::DELETE],
                Access::Write,
                delete,
            );
        }
        let (seat, net_metrics) = (seat.clone(), Arc::clone(net_metrics));
        all = all.merge(routes.with_state(Arc::new(RuleConfig { seat, language, net_metrics })));
    }
    all
}

type Answer = Result<Response, Refused>;

async fn list(State(config): State<Arc<RuleConfig>>, principal: Principal) -> Answer {
    config.list(&principal, None)
}

async fn list_namespace(
    State(config): State<Arc<RuleConfig>>,
    principal: Principal,
    Path(namespace): Path<String>,
) -> Answer {
    config.list(&principal, Some(&namespace))
}

async fn get(
    State(config): State<Arc<RuleConfig>>,
    principal: Principal,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let found = config.rules()?.managed_group(config.language, &namespace, &name);
    let found = found.filter(|_| answer::sees_alerts(&principal));
    Ok(yaml(found.ok_or(ManagedError::NoGroup)?.yaml.to_string()))
}

/// Keeps a group. It is written down and in effect when this is answered.
async fn post(
    State(config): State<Arc<RuleConfig>>,
    principal: Principal,
    Path(namespace): Path<String>,
    request: Request,
) -> Answer {
    let rules = config.rules_to_change(&principal)?;
    let (parts, body) = request.into_parts();
    let limits = BodyRules::any_encoding(MAX_GROUP_BYTES);
    let bytes = read_body(&parts.headers, body, limits, &config.net_metrics).await;
    let bytes = bytes.map_err(|error| {
        let help = "make several groups of it";
        let message = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("{error}; a group has at most {MAX_GROUP_BYTES} bytes: {help}")
            }
            _ => error.to_string(),
        };
        Refused(error.status(), message)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("unable to decode rule group: byte {at} is no UTF-8: send YAML");
        Refused(StatusCode::BAD_REQUEST, message)
    })?;
    rules.keep_group(config.language, namespace, text).await?;
    Ok(accepted())
}

async fn delete(
    State(config): State<Arc<RuleConfig>>,
    principal: Principal,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let rules = config.rules_to_change(&principal)?;
    rules.forget_group(config.language, namespace, name).await?;
    Ok(accepted())
}

async fn delete_namespace(
    State(config): State<Arc<RuleConfig>>,
    principal: Principal,
    Path(namespace): Path<String>,
) -> Answer {
    let rules = config.rules_to_change(&principal)?;
    rules.forget_namespace(config.language, namespace).await?;
    Ok(accepted())
}

impl RuleConfig {
    fn rules(&self) -> Result<Rules, Refused> {
        let running = self.seat.running();
        let elsewhere = || Refused(StatusCode::SERVICE_UNAVAILABLE, ELSEWHERE.to_owned());
        running.map(|running| running.rules).ok_or_else(elsewhere)
    }

    fn rules_to_change(&self, principal: &Principal) -> Result<Rules, Refused> {
        answer::check_tenant(principal).map_err(|error| Refused(error.status, error.message))?;
        self.rules()
    }

    /// All groups, or those of a namespace. Where there is none, Loki finds nothing and Mimir an empty map.
    fn list(&self, principal: &Principal, namespace: Option<&str>) -> Answer {
        let mut groups = self.rules()?.managed(self.language, namespace);
        if !answer::sees_alerts(principal) {
            groups.clear();
        }
        match (groups.is_empty(), self.language) {
            (true, RuleLanguage::Promql) => Ok(yaml("{}\n".to_owned())),
            (true, RuleLanguage::Logql) => {
                Err(Refused(StatusCode::NOT_FOUND, "no rule groups found".to_owned()))
            }
            (false, _) => Ok(yaml(by_namespace(&groups))),
        }
    }
}

/// Groups in ascending order of their namespaces, below those.
fn by_namespace(groups: &[ManagedGroup]) -> String {
    let mut out = String::new();
    let mut before = None;
    for group in groups {
        if before != Some(&group.namespace) {
            out.push_str(&format!("{}:\n", scalar(&group.namespace)));
            before = Some(&group.namespace);
        }
        out.push_str(&indented(&group.plain, "    - ", "      "));
    }
    out
}

/// Why a request is refused, in a ruler's words.
struct Refused(StatusCode, String);

impl From<ManagedError> for Refused {
    fn from(error: ManagedError) -> Refused {
        let status = match &error {
            ManagedError::Invalid(_) | ManagedError::Refused(_) => StatusCode::BAD_REQUEST,
            ManagedError::NoGroup | ManagedError::NoNamespace => StatusCode::NOT_FOUND,
            ManagedError::NotKept(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let message = match &error {
            ManagedError::Invalid(faults) => told(faults),
            _ => error.to_string(),
        };
        Refused(status, message)
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = plain(self.0, &self.1);
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A line for each fault: what is wrong, where, and what to do.
fn told(faults: &Faults) -> String {
    let line = |fault: &Diagnostic| {
        let mut line = fault.message.clone();
        if fault.line > 0 {
            line.push_str(&format!(" (line {}, column {})", fault.line, fault.column));
        }
        if let Some(help) = &fault.help {
            line.push_str(&format!("; {help}"));
        }
        line
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn plain(status: StatusCode, message: &str) -> Response {
    let mut response = with_body(status, "text/plain; charset=utf-8", format!("{message}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn yaml(text: String) -> Response {
    with_body(StatusCode::OK, "application/yaml", text)
}

fn accepted() -> Response {
    with_body(StatusCode::ACCEPTED, "application/json", ACCEPTED.to_owned())
}

fn with_body(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = bare(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = Body::from(text);
    response
}
