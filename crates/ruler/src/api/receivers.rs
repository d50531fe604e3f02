//! `/api/v1/notifications/receivers`: in which ways each receiver is told, and how that goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use net::ApiError;
use net::auth::Principal;
use serde_json::{Value, json};
use settings::alertmanager::{Integration, Receiver};

use super::Api;
use super::answer::{check_tenant, success};
use super::shown::labels_value;
use crate::notify::{Attempts, Deliveries, Way};

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let notifications = api.notifications()?;
    let configuration = notifications.configuration();
    let attempts = notifications.counters().attempts();
    let deliveries = notifications.deliveries();
    let receivers = configuration.config.receivers.iter();
    let shown: Vec<Value> =
        receivers.map(|receiver| shown(receiver, deliveries, &attempts)).collect();
    Ok(success(json!({ "receivers": shown })))
}

fn shown(
    receiver: &Receiver,
    deliveries: &Deliveries,
    attempts: &BTreeMap<Way, Attempts>,
) -> Value {
    let integration = |one: &Integration| {
        let kind = one.settings.kind();
        let latest = deliveries.latest(&receiver.name, kind, one.index);
        let way = (receiver.name.clone(), kind, one.index);
        let counts = attempts.get(&way).copied().unwrap_or_default();
        json!({
            "integration": kind,
            "index": one.index,
            "sendResolved": one.send_resolved,
            "lastDelivered": latest.delivered,
            "lastFailed": latest.failed,
            "counts": {
                "attempts": counts.attempts,
                "delivered": counts.delivered,
                "retried": counts.retried,
                "failed": counts.failed,
            },
        })
    };
    let integrations: Vec<Value> = receiver.integrations.iter().map(integration).collect();
    json!({
        "name": receiver.name,
        "labels": labels_value(&receiver.labels),
        "integrations": integrations,
    })
}
