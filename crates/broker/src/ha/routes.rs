//! `/api/v1/status/ha_tracker`: which replica of which cluster is stored.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Method;
use net::auth::Principal;
use net::{Access, Routes};
use serde_json::json;

use crate::Broker;

/// What is known of HA pairs.
pub fn routes(broker: &Broker) -> Routes {
    Routes::new()
        .route("/api/v1/status/ha_tracker", [Method::GET], Access::Read, list)
        .with_state(broker.clone())
}

async fn list(State(broker): State<Broker>, principal: Principal) -> Response {
    let tenant = broker.tenant_id(principal.tenant);
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    // A floor of the first replica, and the newest sample before there is one.
    let time = |ms: i64| (ms > i64::MIN).then(|| seconds(ms));
    let is_enabled = broker.in_effect().ha.is_some();
    let clusters: Vec<_> = match is_enabled {
        false => Vec::new(),
        true => broker
            .inner
            .ha
            .clusters
            .lock()
            .iter()
            .filter(|((of, _), _)| *of == tenant)
            .map(|((_, name), cluster)| {
                json!({
                    "cluster": name,
                    "replica": cluster.replica,
                    "electedAt": seconds(cluster.elected_ms),
                    "lastSeen": seconds(cluster.seen_ms),
                    "storedAfter": time(cluster.floor_ms),
                    "newestSample": time(cluster.newest_ms),
                })
            })
            .collect(),
    };
    let data = json!({ "enabled": is_enabled, "clusters": clusters });
    Json(json!({ "status": "success", "data": data })).into_response()
}
