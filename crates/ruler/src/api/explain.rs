//! `/api/v1/notifications/explain`: why receivers are told of an alert or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::notify::{
    AlertState, AlertStatus, Explanation, Fingerprint, GroupView, IntegrationOutcome, Notifier,
};
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use model::Labels;
use net::auth::Principal;
use net::{ApiError, ErrorType};
use serde_json::{Value, json};

use super::answer::{bad_data, check_tenant, success};
use super::asked::Asked;
use super::routes::ends_at;
use super::shown::{ShownAlert, ShownSilence, labels_value};
use super::{Api, moment};

pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let asked = Asked::of(&uri)?;
    let notifications = api.notifications()?;
    let told = match asked.last("fingerprint") {
        Some(text) => {
            let fingerprint = Fingerprint::parse(text).ok_or_else(|| {
                bad_data(format!(
                    "invalid parameter \"fingerprint\": {text:?}; it has sixteen hexadecimal digits"
                ))
            })?;
            let told = notifications.look(|notifier, now_ns| {
                let known = notifier.explain(fingerprint, now_ns)?;
                Some(of_alert(notifier, known, now_ns))
            });
            told.ok_or_else(|| {
                let message = format!(
                    "there is no alert {fingerprint}, nor was there one in the last 15 min; ask with \
                     its labels what would become of it"
                );
                ApiError::new(ErrorType::NotFound, message)
            })?
        }
        None => {
            let labels = labels_asked(&asked)?;
            notifications.look(|notifier, now_ns| {
                let known = notifier.explain(Fingerprint::of(&labels), now_ns);
                match known.filter(|known| known.view.alert.labels == labels) {
                    Some(known) => of_alert(notifier, known, now_ns),
                    None => of_labels(notifier, &labels, now_ns),
                }
            })
        }
    };
    Ok(success(told))
}

/// The parameter `labels`, an object of JSON.
pub(super) fn labels_asked(asked: &Asked) -> Result<Labels, ApiError> {
    let unusable = |why: String| {
        bad_data(format!(
            "invalid parameter \"labels\": {why}; it is an object such as {{\"alertname\":\"Down\"}}"
        ))
    };
    let text = asked.last("labels").ok_or_else(|| unusable("it is missing".to_owned()))?;
    let pairs: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| unusable(error.to_string()))?;
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::from_pairs(pairs).map_err(|error| unusable(error.to_string()))
}

fn of_alert(notifier: &mut Notifier, known: Explanation, now_ns: i64) -> Value {
    let Explanation { view, routes: _, groups } = known;
    let mut told = of_status(notifier, &view.status, now_ns);
    told["labels"] = labels_value(&view.alert.labels);
    told["routes"] = ends_at(notifier, &view.alert.labels, now_ns);
    told["groups"] = groups.iter().map(group).collect();
    told["resolved"] = view.alert.is_resolved_at(now_ns).into();
    told["alert"] = json!(ShownAlert::whole(view));
    told
}

/// What would become of an alert with these labels.
fn of_labels(notifier: &mut Notifier, labels: &Labels, now_ns: i64) -> Value {
    let status = notifier.would_be_muted(labels, now_ns);
    let mut told = of_status(notifier, &status, now_ns);
    told["labels"] = labels_value(labels);
    told["routes"] = ends_at(notifier, labels, now_ns);
    told["groups"] = json!([]);
    told["alert"] = Value::Null;
    told
}

fn of_status(notifier: &mut Notifier, status: &AlertStatus, now_ns: i64) -> Value {
    let inhibitors: Vec<Value> = status
        .inhibited_by
        .iter()
        .map(|fingerprint| match notifier.alert(*fingerprint, now_ns) {
            Some(view) => json!({
                "fingerprint": fingerprint,
                "labels": labels_value(&view.alert.labels),
                "startsAt": moment::shown(view.alert.starts_at_ns),
            }),
            None => json!({ "fingerprint": fingerprint, "labels": {} }),
        })
        .collect();
    let silences = status.silenced_by.iter().filter_map(|id| notifier.silence(id));
    let silences: Vec<_> = silences.map(|silence| ShownSilence::of(silence, now_ns)).collect();
    let state = match status.state {
        AlertState::Unprocessed => "unprocessed",
        AlertState::Active => "active",
        AlertState::Suppressed => "suppressed",
    };
    json!({
        "state": state,
        "inhibitedBy": inhibitors,
        "silencedBy": silences,
        "mutedBy": status.muted_by,
    })
}

fn group(group: &GroupView) -> Value {
    let integrations: Vec<Value> = group.outcomes.iter().map(integration).collect();
    json!({
        "key": &*group.key,
        "route": &*group.route_id,
        "labels": labels_value(&group.labels),
        "receiver": &*group.receiver,
        "alerts": group.alerts.len(),
        "mutedBy": group.muted_by,
        "lastFlush": group.last_flush_ns.map(moment::shown),
        "nextFlush": moment::shown(group.next_flush_ns),
        "integrations": integrations,
    })
}

fn integration((kind, index, outcome): &(&'static str, usize, IntegrationOutcome)) -> Value {
    json!({
        "integration": kind,
        "index": index,
        "notifiedAt": outcome.notified_at_ns.map(moment::shown),
        "deliveredAt": outcome.delivered_at_ns.map(moment::shown),
        "reason": outcome.reason.map(|reason| reason.as_str()),
        "attempts": outcome.attempts,
        "error": outcome.error,
    })
}
