//! How the collection of lines goes, for programs and for people: each source with how far it is, and
//! which files are not collected and why.

use std::sync::Arc;

use agent::logs::{CollectionStatus, LookStatus};
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use http::header::ACCEPT_LANGUAGE;
use http::{HeaderMap, Method, StatusCode};
use model::TenantName;
use net::auth::Principal;
use net::{Access, Routes};

use super::collection_html;

/// The routes of a process that may collect.
pub(super) fn routes(collection: Option<Arc<CollectionStatus>>) -> Routes {
    let for_page = collection.clone();
    let told = async move |caller: Principal| answer(&caller, || json(collection.as_deref()));
    let page = async move |caller: Principal, RawQuery(query): RawQuery, headers: HeaderMap| {
        answer(&caller, || {
            let lang = query.as_deref().and_then(|query| query.strip_prefix("lang="));
            let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
            let page = collection_html::page(for_page.as_deref(), lang, accepted);
            ([("content-type", "text/html; charset=utf-8")], page).into_response()
        })
    };
    Routes::new().route("/api/v1/status/collection", [Method::GET], Access::Read, told).route(
        "/collection",
        [Method::GET],
        Access::Read,
        page,
    )
}

/// Paths of this host are the default tenant's, as its metrics are.
fn answer(caller: &Principal, tell: impl FnOnce() -> Response) -> Response {
    if caller.sees(TenantName::DEFAULT) {
        return tell();
    }
    let why = "what this host collects is told to who reaches the tenant default\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

fn json(collection: Option<&CollectionStatus>) -> Response {
    let data = match collection {
        None => serde_json::json!({"collects": false}),
        Some(status) => {
            let LookStatus { patterns, passed_over, more_passed_over } = status.looked();
            serde_json::json!({
                "collects": true,
                "waiting": status.is_waiting(),
                "pendingBatches": status.pending_batches(),
                "lagBytes": status.lag_bytes(),
                "lines": status.lines(),
                "sources": status.sources(),
                "patterns": patterns,
                "passedOver": passed_over,
                "morePassedOver": more_passed_over,
            })
        }
    };
    let body = serde_json::json!({"status": "success", "data": data}).to_string();
    ([("content-type", "application/json")], body).into_response()
}
