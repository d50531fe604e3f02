//! `/api/v1/status/cluster`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Method;
use model::{DEFAULT_TENANT, TenantName};
use net::auth::Principal;
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::json;

use super::{ClusterStatus, Code, StatusTeller};

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
        narrow(&mut status);
    }
    Ok(Json(json!({ "status": "success", "data": status })).into_response())
}

/// Leaves out what is of other tenants than the default one, by name or by number, or may be: what cannot
/// be read is told in words, for all of them.
fn narrow(status: &mut ClusterStatus) {
    let is_default = |name: &str| name == TenantName::DEFAULT.as_str();
    status.tenants.retain(|tenant| is_default(&tenant.name));
    for report in status.members.iter_mut().filter_map(|member| member.report.as_mut()) {
        report.tenants.retain(|tenant| is_default(&tenant.name));
        report.missing.clear();
        report.missing_count = 0;
    }
    status.findings.retain(|finding| {
        let of_others = finding.values.get("tenant").is_some_and(|name| *name != *"default");
        !of_others && finding.code != Code::PartialAnswers.as_str()
    });
    status.verdict = status.findings.iter().map(|finding| finding.level).max().unwrap_or_default();
    let own = format!("merge/{}/", DEFAULT_TENANT.0);
    let before = status.leases.len();
    status.leases.retain(|lease| !lease.job.starts_with("merge/") || lease.job.starts_with(&own));
    status.lease_count -= (before - status.leases.len()) as u64;
}

#[cfg(test)]
mod tests {
    use super::super::{BrokerReport, Finding, LeaseStatus, Level, MemberStatus, TenantLoad};
    use super::*;

    #[test]
    fn who_reaches_one_tenant_learns_nothing_of_others() {
        let load = |name: &str| TenantLoad { name: name.to_owned(), ..TenantLoad::default() };
        let finding = |code: Code, level, tenant: Option<&str>| Finding {
            code: code.as_str().to_owned(),
            level,
            values: tenant.map(|name| ("tenant".to_owned(), name.into())).into_iter().collect(),
        };
        let lease = |job: &str| LeaseStatus { job: job.to_owned(), ..LeaseStatus::default() };
        let mine = format!("merge/{}/1", DEFAULT_TENANT.0);
        let report = BrokerReport {
            tenants: vec![load("acme"), load("default")],
            missing: vec!["a block of acme".to_owned()],
            ..BrokerReport::default()
        };
        let mut status = ClusterStatus {
            verdict: Level::Bad,
            findings: vec![
                finding(Code::PartialAnswers, Level::Bad, None),
                finding(Code::TenantNearLimit, Level::Bad, Some("acme")),
                finding(Code::TenantNearLimit, Level::Warn, Some("default")),
            ],
            members: vec![MemberStatus { report: Some(report), ..MemberStatus::default() }],
            tenants: vec![load("acme"), load("default")],
            lease_count: 9,
            leases: vec![lease("merge/77/1"), lease(&mine), lease("retention")],
            ..ClusterStatus::default()
        };
        narrow(&mut status);
        let text = serde_json::to_string(&status).expect("JSON");
        assert!(!text.contains("acme") && !text.contains("merge/77"), "{text}");
        assert!(text.contains(&mine) && text.contains("retention"), "{text}");
        assert_eq!((status.verdict, status.lease_count), (Level::Warn, 8));
        assert_eq!((status.findings.len(), status.tenants.len()), (1, 1));
    }
}
