//! `/api/v1/rules`, `/api/v1/alerts` and `/api/v1/alertmanagers`, as Prometheus has them; the first two also
//! below `/prometheus`, where Mimir and Loki have them.
//!
//! Source: `web/api/v1/api.go` of Prometheus 3, whose errors these are. Rules are those of the tenant
//! `default`: to others the lists are empty.

use std::borrow::Cow;
use std::collections::BTreeMap;

use alerting::rules::{GroupView, RuleView};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use model::{Matcher, TenantName};
use net::auth::Principal;
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::{Value, json};

use super::{RuleLanguage, ShownGroup};
use crate::Seat;

type Groups = Vec<ShownGroup>;

/// Selectors of one request.
const MAX_SELECTORS: usize = 1_000;

/// Lists of rules and alerts, also where Mimir and Loki have them.
pub fn rule_routes(seat: &Seat) -> Routes {
    Routes::new()
        .by_way_of(seat.detour())
        .route("/api/v1/rules", [Method::GET], Access::Read, rules)
        .route("/api/v1/alerts", [Method::GET], Access::Read, alerts)
        .route("/prometheus/api/v1/rules", [Method::GET], Access::Read, rules)
        .route("/prometheus/api/v1/alerts", [Method::GET], Access::Read, alerts)
        .route("/api/v1/alertmanagers", [Method::GET], Access::Read, alertmanagers)
        .with_state(seat.clone())
}

/// The parameters of a request.
struct Asked<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Asked<'a> {
    fn of(query: Option<&'a str>) -> Asked<'a> {
        Asked(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| *name == key).map(|(_, value)| &**value)
    }

    /// The values of a parameter that may stand with `[]` behind its name.
    fn listed(&self, key: &str) -> Vec<&str> {
        let with_brackets = format!("{key}[]");
        self.0
            .iter()
            .filter(|(name, _)| *name == key || *name == with_brackets)
            .map(|(_, value)| &**value)
            .collect()
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorType::BadData, message)
}

fn parameter(name: &str, why: impl std::fmt::Display) -> ApiError {
    bad(format!("invalid parameter {name:?}: {why}"))
}

async fn rules(
    State(seat): State<Seat>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let asked = Asked::of(Some(&query));
    let selectors = selectors(&asked)?;
    let kind = asked.get("type").unwrap_or_default().to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(parameter("type", format!("not supported value {kind:?}")));
    }
    let without_alerts = flag(&asked, "exclude_alerts")?;
    let page = Page::of(&asked)?;
    let language = match asked.get("language") {
        None => None,
        Some("promql") => Some(RuleLanguage::Promql),
        Some("logql") => Some(RuleLanguage::Logql),
        Some(other) => {
            return Err(parameter("language", format!("not supported value {other:?}")));
        }
    };
    let groups = match seat.running().filter(|_| principal.sees(TenantName::DEFAULT)) {
        None => Vec::new(),
        Some(running) => {
            // A group whose results are just being applied is waited for.
            let read = move || running.rules.groups(!without_alerts);
            tokio::task::spawn_blocking(read).await.map_err(failed)?
        }
    };
    let (names, files) = (asked.listed("rule_group"), asked.listed("file"));
    let rule_names = asked.listed("rule_name");
    let wanted = |rule: &RuleView| {
        let (name, labels, of_kind) = match rule {
            RuleView::Alerting { name, labels, .. } => (name, labels, "alert"),
            RuleView::Recording { name, labels, .. } => (name, labels, "record"),
        };
        (kind.is_empty() || kind == of_kind)
            && (rule_names.is_empty() || rule_names.contains(&name.as_str()))
            && (selectors.is_empty() || selectors.iter().any(|one| matches(one, labels)))
    };
    let is_narrowed = !kind.is_empty() || !rule_names.is_empty() || !selectors.is_empty();
    let mut found: Groups = Vec::new();
    for mut group in groups {
        let view = &mut group.view;
        let is_wanted = (names.is_empty() || names.contains(&view.name.as_str()))
            && (files.is_empty() || files.contains(&view.file.as_str()))
            && language.is_none_or(|language| language == group.language);
        if !is_wanted {
            continue;
        }
        view.rules.retain(wanted);
        // A group without a rule that was asked for is left out, as Prometheus does.
        if !is_narrowed || !view.rules.is_empty() {
            found.push(group);
        }
    }
    found.sort_by(|a, b| (&a.view.file, &a.view.name).cmp(&(&b.view.file, &b.view.name)));
    let (found, next) = page.cut(found)?;
    let shown: Vec<Value> = found.iter().map(shown).collect();
    let mut data = json!({ "groups": shown });
    if let Some(next) = next {
        data["groupNextToken"] = Value::String(next);
    }
    Ok(success(&data))
}

/// A group in Prometheus' JSON, with what Prometheus has no word for: the language of its rules, and whether
/// it is changed by the API.
fn shown(group: &ShownGroup) -> Value {
    let mut shown = serde_json::to_value(&group.view).unwrap_or_default();
    if group.language == RuleLanguage::Logql {
        shown["language"] = Value::String(group.language.as_str().to_owned());
    }
    if group.is_managed {
        shown["managed"] = Value::Bool(true);
    }
    shown
}

async fn alerts(State(seat): State<Seat>, principal: Principal) -> Result<Response, ApiError> {
    let alerts = match seat.running().filter(|_| principal.sees(TenantName::DEFAULT)) {
        None => Vec::new(),
        Some(running) => {
            let read = move || running.rules.alerts();
            tokio::task::spawn_blocking(read).await.map_err(failed)?
        }
    };
    Ok(success(&json!({ "alerts": alerts })))
}

/// Alertmanagers elsewhere; the notifier of this server is none of them.
async fn alertmanagers(State(seat): State<Seat>, principal: Principal) -> Response {
    let (active, dropped) = match seat.running().filter(|_| principal.sees(TenantName::DEFAULT)) {
        None => (Vec::new(), Vec::new()),
        Some(running) => {
            let alertmanagers = running.rules.alertmanagers();
            (alertmanagers.active(), alertmanagers.dropped())
        }
    };
    let listed = |urls: Vec<String>| -> Vec<Value> {
        urls.into_iter().map(|url| json!({ "url": url })).collect()
    };
    let (active, dropped) = (listed(active), listed(dropped));
    success(&json!({ "activeAlertmanagers": active, "droppedAlertmanagers": dropped }))
}

fn failed(error: tokio::task::JoinError) -> ApiError {
    tracing::error!(%error, "a list of rules could not be made");
    ApiError::new(ErrorType::Internal, "the list could not be made; see the log")
}

fn success(data: &Value) -> Response {
    let body = json!({ "status": "success", "data": data }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn selectors(asked: &Asked<'_>) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let all: Vec<&str> = asked.all("match[]").collect();
    if all.len() > MAX_SELECTORS {
        let count = all.len();
        return Err(bad(format!(
            "there are {count}, the limit is {MAX_SELECTORS}; split the request"
        )));
    }
    let read = |text: &&str| {
        let matchers = promql::parse_selector(text).map_err(|error| bad(error.to_string()))?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(bad("match[] must contain at least one non-empty matcher"));
        }
        Ok(matchers)
    };
    all.iter().map(read).collect()
}

/// Whether labels as they were written match; texts of templates match as texts.
fn matches(matchers: &[Matcher], labels: &BTreeMap<String, String>) -> bool {
    let value = |name: &str| labels.get(name).map_or("", String::as_str);
    matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
}

fn flag(asked: &Asked<'_>, name: &str) -> Result<bool, ApiError> {
    let text = asked.get(name).unwrap_or_default().to_lowercase();
    match text.as_str() {
        "1" | "t" | "true" => Ok(true),
        "" | "0" | "f" | "false" => Ok(false),
        _ => {
            let why = format!(
                "error converting {name}: strconv.ParseBool: parsing {text:?}: invalid syntax"
            );
            Err(parameter(name, why))
        }
    }
}

/// How much of the list is wanted.
struct Page {
    limit: Option<usize>,
    token: Option<String>,
}

impl Page {
    fn of(asked: &Asked<'_>) -> Result<Page, ApiError> {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let token = asked.get("group_next_token").map(str::to_owned);
        let Some(text) = asked.get("group_limit") else {
            return match token {
                None => Ok(Page { limit: None, token }),
                Some(_) => Err(parameter(
                    "group_next_token",
                    "group_limit needs to be present in order to paginate over the groups",
                )),
            };
        };
        match text.parse::<i32>() {
            Err(error) => {
                let overflows = matches!(error.kind(), PosOverflow | NegOverflow);
                let why = if overflows { "value out of range" } else { "invalid syntax" };
                let why = format!(
                    "group_limit needs to be a valid number: strconv.ParseInt: parsing {text:?}: {why}"
                );
                Err(parameter("group_limit", why))
            }
            Ok(..=0) => Err(parameter("group_limit", "group_limit needs to be greater than 0")),
            Ok(limit) => Ok(Page { limit: usize::try_from(limit).ok(), token }),
        }
    }

    /// The groups of the page, and what the next one is asked with.
    fn cut(self, mut groups: Groups) -> Result<(Groups, Option<String>), ApiError> {
        if let Some(token) = &self.token {
            let place = groups.iter().position(|group| token_of(group) == *token);
            let Some(place) = place else {
                return Err(parameter(
                    "group_next_token",
                    format!("invalid group_next_token '{token}'. were rule groups changed?"),
                ));
            };
            groups.drain(..=place);
        }
        let Some(limit) = self.limit.filter(|limit| groups.len() > *limit) else {
            return Ok((groups, None));
        };
        groups.truncate(limit);
        let next = groups.last().map(token_of);
        Ok((groups, next))
    }
}

/// Names a group in tokens of pages.
fn token_of(group: &ShownGroup) -> String {
    let GroupView { file, name, .. } = &group.view;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let of_logql = (group.language == RuleLanguage::Logql).then_some(b'l');
    for byte in file.bytes().chain([b';']).chain(name.bytes()).chain(of_logql) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}
