//! `/api/v1/agents`: the fleet, and how what is gone leaves it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use net::{ApiError, ErrorType};
use serde_json::json;

use crate::Console;
use crate::fleet::RemovalError;
use crate::params::Params;
use crate::respond::success;

/// What agents send is the default tenant's, so no other one learns of them.
pub(super) async fn agents(State(console): State<Arc<Console>>, params: Params) -> Response {
    let fleet = console.fleet().filter(|_| params.tenant().is_default());
    let agents = fleet.map(|fleet| fleet.agents()).unwrap_or_default();
    success(json!({ "agents": agents }))
}

/// Takes an agent off the list. 409 while it is connected: it would be back with its next word.
pub(super) async fn remove(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let unknown = || RemovalError::Unknown(format!("there is no agent {name:?}"));
    let outcome = match console.fleet().filter(|_| params.tenant().is_default()) {
        Some(fleet) => fleet.remove(&name).await,
        None => Err(unknown()),
    };
    outcome.map_err(|error| match error {
        RemovalError::Unknown(text) => ApiError::new(ErrorType::NotFound, text),
        RemovalError::Connected(text) => {
            ApiError::new(ErrorType::BadData, text).with_status(StatusCode::CONFLICT)
        }
        RemovalError::Failed(text) => ApiError::new(ErrorType::Unavailable, text),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
