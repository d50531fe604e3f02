//! `/api/v1/agents`: the fleet.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::Console;
use crate::respond::success;

pub(super) async fn agents(State(console): State<Arc<Console>>) -> Response {
    let agents = console.fleet().map(|fleet| fleet.agents()).unwrap_or_default();
    success(json!({ "agents": agents }))
}
