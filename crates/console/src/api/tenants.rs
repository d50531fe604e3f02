//! `/api/v1/tenants`: whose data there is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use net::auth::Principal;
use serde_json::{Value, json};

use crate::respond::success;
use crate::{Console, TenantStatus};

/// All tenants, for who reaches all and names none; else the one the request is for.
pub(super) async fn list(State(console): State<Arc<Console>>, principal: Principal) -> Response {
    let tenants = console.tenants();
    let shown = tenants.iter().filter(|tenant| principal.sees(tenant.name));
    success(json!({ "tenants": shown.map(row).collect::<Vec<_>>() }))
}

fn row(tenant: &TenantStatus) -> Value {
    json!({
        "name": tenant.name.as_str(),
        "activeSeries": tenant.active_series,
        "maxActiveSeries": tenant.max_active_series,
        "samplesStored": tenant.samples,
    })
}
