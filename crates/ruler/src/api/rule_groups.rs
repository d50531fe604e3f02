//! `/api/v1/rule_groups`: the groups that users keep, and what one would do, for whoever writes one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;
use model::Labels;
use net::auth::Principal;
use net::{Access, ApiError, ErrorType, NetMetrics, Routes};
use serde::Deserialize;
use serde_json::{Value, json};
use settings::prometheus::rules::RuleKind;
use settings::{Diagnostic, Faults};
use tokio::sync::Semaphore;

use super::answer::{Refusal, bad_data, check_tenant, sees_alerts, success};
use super::body;
use crate::Seat;
use crate::rules::{MAX_GROUP_BYTES, ManagedGroup, Preview, PreviewedRule, RuleLanguage, Rules};

/// Rules that are tried out at the same time; others wait.
const PREVIEWED_AT_ONCE: usize = 1;

/// How long one waits for its turn.
const PREVIEW_WAIT: Duration = Duration::from_secs(10);

/// What the handlers need.
struct RuleGroups {
    seat: Seat,
    net_metrics: Arc<NetMetrics>,
    previewing: Arc<Semaphore>,
}

/// The list of groups that users keep, and previews.
pub fn rule_group_routes(seat: &Seat, net_metrics: &Arc<NetMetrics>) -> Routes {
    let state = RuleGroups {
        seat: seat.clone(),
        net_metrics: Arc::clone(net_metrics),
        previewing: Arc::new(Semaphore::new(PREVIEWED_AT_ONCE)),
    };
    Routes::new()
        .by_way_of(seat.detour())
        .route("/api/v1/rule_groups", [Method::GET], Access::Read, list)
        .route("/api/v1/rule_groups/preview", [Method::POST], Access::Read, preview)
        .with_state(Arc::new(state))
}

impl RuleGroups {
    fn rules(&self) -> Result<Rules, Refusal> {
        self.seat.running().map(|running| running.rules).ok_or(Refusal::Elsewhere)
    }
}

async fn list(
    State(groups): State<Arc<RuleGroups>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    let rules = groups.rules()?;
    let all = [RuleLanguage::Promql, RuleLanguage::Logql];
    let all = all.into_iter().filter(|_| sees_alerts(&principal));
    let shown: Vec<Value> =
        all.flat_map(|language| rules.managed(language, None)).map(|one| shown(&one)).collect();
    Ok(success(json!({ "groups": shown })))
}

fn shown(group: &ManagedGroup) -> Value {
    json!({
        "language": group.language,
        "namespace": group.namespace,
        "name": group.name,
        // Why it has no effect.
        "error": group.fault.as_deref(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    language: RuleLanguage,
    namespace: String,
    /// The group, in YAML.
    group: String,
    /// Where in it the rule stands that is to be evaluated, from 1.
    line: Option<usize>,
}

async fn preview(
    State(groups): State<Arc<RuleGroups>>,
    principal: Principal,
    request: Request,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let wish: Wish = body::read(request, "wish", &groups.net_metrics).await?;
    let bytes = wish.group.len();
    if bytes > MAX_GROUP_BYTES {
        return Err(bad_data(format!(
            "a group of {bytes} bytes; at most {MAX_GROUP_BYTES} are tried out: make several of it"
        )));
    }
    let rules = groups.rules()?;
    let turn = Arc::clone(&groups.previewing).acquire_owned();
    let Ok(Ok(turn)) = tokio::time::timeout(PREVIEW_WAIT, turn).await else {
        let words = "other groups are tried out at the moment; try again in some seconds";
        return Err(ApiError::new(ErrorType::Unavailable, words));
    };
    let Wish { language, namespace, group, line } = wish;
    // It goes on when nobody waits for it any more, and until then no other one begins.
    let preview = tokio::spawn(async move {
        let _turn = turn;
        rules.preview(language, namespace, group, line).await
    });
    let found = preview.await.map_err(|error| {
        tracing::error!(%error, "a group of rules could not be tried out");
        ApiError::new(ErrorType::Internal, "the group could not be tried out; see the log")
    })?;
    Ok(success(match found {
        Ok(found) => previewed(&found),
        Err(faults) => json!({ "faults": told(&faults), "name": null, "rules": [], "rule": null }),
    }))
}

fn previewed(preview: &Preview) -> Value {
    let rule = |(kind, name, line): &(RuleKind, String, usize)| {
        let kind = if *kind == RuleKind::Alerting { "alerting" } else { "recording" };
        json!({ "type": kind, "name": name, "line": line })
    };
    json!({
        "faults": [],
        "name": preview.name,
        "rules": preview.rules.iter().map(rule).collect::<Vec<_>>(),
        "rule": preview.rule.as_ref().map(evaluated),
    })
}

/// A rule as `/api/v1/rules` has it, and what it would write.
fn evaluated(rule: &PreviewedRule) -> Value {
    let series = |(labels, value): &(Labels, String)| {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({ "labels": labels, "value": value })
    };
    let mut shown = serde_json::to_value(&rule.view).unwrap_or_default();
    shown["index"] = rule.index.into();
    shown["samples"] = rule.samples.into();
    shown["series"] = rule.series.iter().map(series).collect();
    shown
}

fn told(faults: &Faults) -> Vec<Value> {
    let fault = |fault: &Diagnostic| {
        json!({
            "line": fault.line,
            "column": fault.column,
            "message": fault.message,
            "help": fault.help,
        })
    };
    faults.iter().map(fault).collect()
}
