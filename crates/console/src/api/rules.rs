//! What Prometheus tells of rules and alerts, as one without rules tells it: there are none here yet.
//! Who asks for them, as Grafana does, is answered instead of failing.
//!
//! Source: `web/api/v1/api.go` of Prometheus 3.14, whose errors these are.

use axum::response::Response;
use net::ApiError;
use serde_json::json;

use crate::params::Params;
use crate::respond::{parameter, success};

pub(super) async fn rules(params: Params) -> Result<Response, ApiError> {
    params.selectors_of_labels()?;
    let kind = params.get("type").unwrap_or_default().to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(parameter("type", format!("not supported value {kind:?}")));
    }
    let exclude = params.get("exclude_alerts").unwrap_or_default().to_lowercase();
    if !matches!(exclude.as_str(), "" | "1" | "t" | "true" | "0" | "f" | "false") {
        let error = format!(
            "error converting exclude_alerts: strconv.ParseBool: parsing {exclude:?}: invalid syntax"
        );
        return Err(parameter("exclude_alerts", error));
    }
    let token = params.get("group_next_token");
    match (params.get("group_limit"), token) {
        (None, Some(_)) => Err(parameter(
            "group_next_token",
            "group_limit needs to be present in order to paginate over the groups",
        )),
        (None, None) => Ok(()),
        (Some(limit), token) => check_page(limit, token),
    }?;
    Ok(success(json!({ "groups": [] })))
}

/// A page of groups: its size, and what the one before ended with.
fn check_page(limit: &str, token: Option<&str>) -> Result<(), ApiError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match limit.parse::<i32>() {
        Err(error) => {
            let overflows = matches!(error.kind(), PosOverflow | NegOverflow);
            let why = if overflows { "value out of range" } else { "invalid syntax" };
            Err(parameter(
                "group_limit",
                format!(
                    "group_limit needs to be a valid number: strconv.ParseInt: parsing {limit:?}: {why}"
                ),
            ))
        }
        Ok(..=0) => Err(parameter("group_limit", "group_limit needs to be greater than 0")),
        Ok(_) => match token {
            // No page has ended with one.
            Some(token) => Err(parameter(
                "group_next_token",
                format!("invalid group_next_token '{token}'. were rule groups changed?"),
            )),
            None => Ok(()),
        },
    }
}

pub(super) async fn alerts() -> Response {
    success(json!({ "alerts": [] }))
}

pub(super) async fn alertmanagers() -> Response {
    success(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}
