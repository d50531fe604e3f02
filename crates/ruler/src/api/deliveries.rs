//! `/api/v1/notifications/deliveries`: what receivers were told last.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use net::ApiError;
use net::auth::Principal;
use serde_json::json;

use super::Api;
use super::answer::{bad_data, check_tenant, success};
use super::asked::Asked;

/// Deliveries that are told unless the request says how many.
const USUAL: usize = 100;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let asked = Asked::of(&uri)?;
    let limit = match asked.last("limit") {
        None => USUAL,
        Some(text) => text.parse().map_err(|_| {
            bad_data(format!("invalid parameter \"limit\": {text:?} is no number of deliveries"))
        })?,
    };
    let newest = api.notifications()?.deliveries().newest(asked.last("receiver"), limit);
    Ok(success(json!({ "deliveries": newest })))
}
