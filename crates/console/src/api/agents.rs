//! `/api/v1/agents`: the fleet.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::Console;
use crate::params::Params;
use crate::respond::success;

/// What agents send is the default tenant's, so no other one learns of them.
pub(super) async fn agents(State(console): State<Arc<Console>>, params: Params) -> Response {
    let fleet = console.fleet().filter(|_| params.tenant().is_default());
    let agents = fleet.map(|fleet| fleet.agents()).unwrap_or_default();
    success(json!({ "agents": agents }))
}
