//! `/api/v1/status/cluster`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Method;
use model::TenantName;
use net::auth::Principal;
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::json;

use super::StatusTeller;

/// What is known of the cluster.
pub fn routes(teller: &Arc<StatusTeller>) -> Routes {
    Routes::new()
        .route("/api/v1/status/cluster", [Method::GET], Access::Read, status)
        .with_state(Arc::clone(teller))
}

/// It names hosts and what each tenant brings, so whoever reaches one tenant alone does not learn it.
async fn status(
    State(teller): State<Arc<StatusTeller>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    if !principal.sees(TenantName::DEFAULT) {
        return Err(ApiError::new(
            ErrorType::Forbidden,
            format!(
                "the state of the cluster is not for tenant {:?} alone: ask with a credential that \
                 reaches the tenant \"default\"",
                principal.tenant.as_str()
            ),
        ));
    }
    let mut status = teller.status().await;
    if !principal.sees_all() {
        status.tenants.retain(|tenant| tenant.name == TenantName::DEFAULT.as_str());
        for member in &mut status.members {
            if let Some(report) = &mut member.report {
                report.tenants.retain(|tenant| tenant.name == TenantName::DEFAULT.as_str());
            }
        }
    }
    Ok(Json(json!({ "status": "success", "data": status })).into_response())
}
