//! `/api/v2/status` and `/api/v2/receivers`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use net::auth::Principal;
use serde_json::{Value, json};
use settings::alertmanager::LabelMatcher;

use super::about::ClusterStatus;
use super::answer::{self, Refusal};
use super::asked::{Asked, receiver_matchers};
use super::shown::labels_value;
use super::{Api, moment};

/// The version of Alertmanager whose API this is: clients switch features by it.
const API_VERSION: &str = "0.35.0";

pub(super) async fn status(
    State(api): State<Arc<Api>>,
    principal: Principal,
) -> Result<Response, Refusal> {
    answer::check_tenant_of_v2(&principal)?;
    let notifications = api.notifications()?;
    let (about, cluster) = (&api.about, (api.about.cluster)());
    let status = match cluster.status {
        ClusterStatus::Ready => "ready",
        ClusterStatus::Settling => "settling",
        ClusterStatus::Disabled => "disabled",
    };
    let mut peers = cluster.peers;
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let peers: Vec<Value> =
        peers.iter().map(|peer| json!({ "name": peer.name, "address": peer.address })).collect();
    let mut shown = json!({ "status": status, "peers": peers });
    if let Some(name) = cluster.name {
        shown["name"] = name.into();
    }
    Ok(answer::ok(&json!({
        "cluster": shown,
        "config": { "original": notifications.configuration().redacted },
        "uptime": moment::shown(about.started_ms.saturating_mul(1_000_000)),
        "versionInfo": {
            "version": API_VERSION,
            "applicationVersion": about.version,
            "revision": about.revision,
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        },
    })))
}

pub(super) async fn receivers(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Refusal> {
    let configuration = api.notifications()?.configuration();
    let matchers = receiver_matchers(&Asked::of(&uri)?, configuration.mode)?;
    if !answer::sees_alerts(&principal) {
        return Ok(answer::ok(&[(); 0]));
    }
    let receivers = configuration.config.receivers.iter();
    let fitting = receivers.filter(|one| LabelMatcher::all_match(&matchers, &one.labels));
    let shown: Vec<Value> = fitting
        .map(|one| json!({ "name": one.name, "labels": labels_value(&one.labels) }))
        .collect();
    Ok(answer::ok(&shown))
}
