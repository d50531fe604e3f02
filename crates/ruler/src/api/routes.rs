//! `/api/v1/notifications/routes`: the tree of routes, and which of them labels take.

use std::sync::Arc;

use alerting::notify::Notifier;
use alerting::notify::routing::RouteNode;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use model::Labels;
use net::ApiError;
use net::auth::Principal;
use serde_json::{Value, json};

use super::Api;
use super::answer::{check_tenant, success};
use super::asked::Asked;
use super::explain::labels_asked;
use super::shown::labels_value;

pub(super) async fn tree(
    State(api): State<Arc<Api>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let root = api.notifications()?.look(|notifier, now_ns| {
        let (firing, muted) = (notifier.firing_by_route(now_ns), notifier.muted_routes(now_ns));
        node(notifier.policy().tree.nodes(), 0, &firing, &muted)
    });
    Ok(success(json!({ "route": root })))
}

/// A node and those below it; as deep as the configuration, whose reader bounds that.
fn node(nodes: &[RouteNode], at: usize, firing: &[usize], muted: &[Vec<String>]) -> Value {
    let node_at = &nodes[at];
    let options = &node_at.options;
    let matchers: Vec<String> = node_at.matchers().iter().map(ToString::to_string).collect();
    let children = node_at.children().iter();
    let children: Vec<Value> = children.map(|child| node(nodes, *child, firing, muted)).collect();
    json!({
        "id": &*node_at.id,
        "receiver": &*options.receiver,
        "matchers": matchers,
        // All labels make a group where it is null.
        "groupBy": options.group_by,
        "groupWaitSeconds": seconds(options.group_wait_ns),
        "groupIntervalSeconds": seconds(options.group_interval_ns),
        "repeatIntervalSeconds": seconds(options.repeat_interval_ns),
        "muteTimeIntervals": options.mute_time_intervals,
        "activeTimeIntervals": options.active_time_intervals,
        "mutedBy": muted[at],
        "continue": node_at.continues(),
        "labels": labels_value(&node_at.labels),
        "firing": firing[at],
        "routes": children,
    })
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

pub(super) async fn matching(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let labels = labels_asked(&Asked::of(&uri)?)?;
    let routes = api.notifications()?.look(|notifier, now_ns| ends_at(notifier, &labels, now_ns));
    Ok(success(json!({ "routes": routes })))
}

/// Where an alert with these labels ends, in which group, and what mutes it there.
pub(super) fn ends_at(notifier: &Notifier, labels: &Labels, now_ns: i64) -> Value {
    let (tree, muted) = (&notifier.policy().tree, notifier.muted_routes(now_ns));
    let route = |at: usize| {
        let node = &tree.nodes()[at];
        let group_labels = node.group_labels(labels);
        json!({
            "id": &*node.id,
            "receiver": &*node.options.receiver,
            "groupLabels": labels_value(&group_labels),
            "groupKey": node.group_key(&group_labels),
            "mutedBy": muted[at],
        })
    };
    tree.matching(labels).into_iter().map(route).collect()
}
