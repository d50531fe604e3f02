//! `/api/v1/views`: what users save of the pages, for everyone of their tenant.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use net::auth::Principal;
use net::{ApiError, ErrorType, JsonBody};
use serde::Deserialize;
use serde_json::json;

use crate::Console;
use crate::keys::Keys;
use crate::respond::success;
use crate::views::{self, Draft, ViewError};

/// A view to save.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewView {
    page: String,
    params: String,
    /// The version that was read; 0 if the name must be new, absent to replace whatever is there.
    #[serde(default)]
    version: Option<u64>,
}

pub(super) async fn list(
    State(console): State<Arc<Console>>,
    principal: Principal,
) -> Result<Response, ViewError> {
    let views = views::list(keys(&console)?, principal.tenant);
    Ok(success(json!({ "views": views })))
}

pub(super) async fn save(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    principal: Principal,
    JsonBody(body): JsonBody<NewView>,
) -> Result<Response, ViewError> {
    let now_ms = console.now_ms();
    let keys = Arc::clone(keys(&console)?);
    let saved = blocking(move || {
        let NewView { page, params, version } = &body;
        let draft = Draft { name: &name, page, params, version: *version };
        views::save(&keys, &principal, &draft, now_ms)
    });
    Ok(success(json!(saved.await?)))
}

pub(super) async fn delete(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    principal: Principal,
) -> Result<Response, ViewError> {
    let keys = Arc::clone(keys(&console)?);
    blocking(move || views::delete(&keys, principal.tenant, &name)).await?;
    Ok(success(json!({})))
}

fn keys(console: &Console) -> Result<&Arc<dyn Keys>, ViewError> {
    console.keys().ok_or_else(|| ViewError::Store("this console has nowhere to keep views".into()))
}

/// Runs what waits for the disk off the threads that serve sockets.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    let stopping = |_| ViewError::Store("the server is stopping".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(stopping)?
}

impl IntoResponse for ViewError {
    fn into_response(self) -> Response {
        let (kind, status) = match &self {
            ViewError::Invalid(_) => (ErrorType::BadData, StatusCode::BAD_REQUEST),
            ViewError::NotFound(_) => (ErrorType::NotFound, StatusCode::NOT_FOUND),
            ViewError::Conflict(_) | ViewError::TooMany => {
                (ErrorType::BadData, StatusCode::CONFLICT)
            }
            ViewError::Store(_) => (ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        };
        ApiError::new(kind, self.to_string()).with_status(status).into_response()
    }
}
