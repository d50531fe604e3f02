//! `/api/v1/cluster/drain`: a broker is told to leave its cluster, and tells how far it is; the one that is
//! asked passes it on to the one that is meant. `/api/v1/cluster/remove`: it is told to take another one out,
//! which is lost.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catalog::BrokerId;
use http::{Method, StatusCode};
use net::auth::Principal;
use net::rpc::DrainRequest;
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::json;
use tonic::Code;

use super::drain::DrainError;
use super::lost::LostError;
use super::status::{DrainReport, StatusTeller};
use crate::Broker;
use crate::shared_catalog::SharedCatalog;

/// How long another broker has to answer; to begin it has to have something agreed upon.
const PASSED_ON_FOR: Duration = Duration::from_secs(15);

/// For administrators: drains the broker that is asked or another one, or takes out one that cannot be asked.
pub fn drain_routes(teller: &Arc<StatusTeller>) -> Routes {
    Routes::new()
        .route("/api/v1/cluster/drain", [Method::GET], Access::Admin, progress)
        .route("/api/v1/cluster/drain", [Method::POST], Access::Admin, begin)
        .route("/api/v1/cluster/remove", [Method::POST], Access::Admin, remove)
        .with_state(Arc::clone(teller))
}

/// A query may name the broker that is meant.
async fn progress(
    State(teller): State<Arc<StatusTeller>>,
    RawQuery(query): RawQuery,
    principal: Principal,
) -> Result<Response, ApiError> {
    let name = name_in(query.unwrap_or_default().as_bytes());
    if let Some(other) = other_than_asked(&teller.broker, name)? {
        return passed_on(&teller, other, false, &principal).await;
    }
    let progress = teller.broker.drain_progress().ok_or_else(alone)?;
    Ok(told(&own_name(&teller.broker), progress.into()))
}

/// A form may name the broker that is meant.
async fn begin(
    State(teller): State<Arc<StatusTeller>>,
    principal: Principal,
    body: Bytes,
) -> Result<Response, ApiError> {
    let broker = &teller.broker;
    if let Some(other) = other_than_asked(broker, name_in(&body))? {
        return passed_on(&teller, other, true, &principal).await;
    }
    tracing::info!(by = &*principal.name, "this broker is to leave the cluster");
    let receiver = broker.drain().await.map_err(refused)?;
    let progress = receiver.borrow().clone();
    Ok(told(&own_name(broker), progress.into()))
}

/// A broker that is meant and was not asked.
struct Other {
    id: BrokerId,
    name: String,
    address: String,
    /// Where its HTTP port is; empty if that is not known.
    http: String,
}

/// Who is meant by `name`, unless that is the broker that was asked. One that has left has no name any more,
/// and only tells again that it has.
fn other_than_asked(broker: &Broker, name: Option<String>) -> Result<Option<Other>, ApiError> {
    let own = own_name(broker);
    let Some(name) = name.filter(|name| *name != own && !own.is_empty()) else { return Ok(None) };
    let members = broker.cluster_members();
    if let Some(listed) = members.iter().find(|member| member.name == name) {
        let (address, http) = (listed.address.clone(), listed.http_address.clone());
        return Ok(Some(Other { id: listed.id, name, address, http }));
    }
    // The others may have forgotten it while its vote is still counted.
    if let SharedCatalog::Agreed(consensus) = &broker.inner.catalog {
        let counted = consensus.status().members;
        let found = counted.into_iter().find(|(_, (member, _))| member.name == name);
        if let Some((id, (member, _))) = found {
            let address = member.address;
            return Ok(Some(Other { id: BrokerId(id), name, address, http: String::new() }));
        }
    }
    let names: Vec<String> = members.into_iter().map(|member| member.name).collect();
    let what = format!("there is no broker {name:?}; there are {}", names.join(", "));
    Err(ApiError::new(ErrorType::NotFound, what))
}

/// Asks the broker that is meant.
async fn passed_on(
    teller: &StatusTeller,
    other: Other,
    begin: bool,
    principal: &Principal,
) -> Result<Response, ApiError> {
    let others = teller.settings.others.as_ref().ok_or_else(alone)?;
    let Other { id, name, address, http } = other;
    let request = DrainRequest { to: id.0, begin, by: principal.name.to_string() };
    let answer = tokio::time::timeout(PASSED_ON_FOR, others.drain(&address, request)).await;
    let silent = |why: &str| {
        let what = format!(
            "the broker {name} does not answer at {address}: {why}. One that is gone for good is taken out \
             instead: `watchfire drain --lost {name}`"
        );
        ApiError::new(ErrorType::Unavailable, what)
    };
    let status = match answer {
        Ok(Ok(report)) => return Ok(told(&name, report)),
        Ok(Err(status)) => status,
        Err(_) => return Err(silent(&format!("nothing within {} s", PASSED_ON_FOR.as_secs()))),
    };
    Err(match status.code() {
        Code::FailedPrecondition => {
            ApiError::new(ErrorType::BadData, status.message()).with_status(StatusCode::CONFLICT)
        }
        Code::Unimplemented => {
            let at = if http.is_empty() { String::new() } else { format!(", at {http}") };
            let what = format!(
                "the broker {name} is of an older version and has to be asked itself{at}: `watchfire drain` \
                 on its host"
            );
            ApiError::new(ErrorType::BadData, what).with_status(StatusCode::CONFLICT)
        }
        _ => silent(&net::status_words(&status)),
    })
}

/// A form names the broker that is lost.
async fn remove(
    State(teller): State<Arc<StatusTeller>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let Some(name) = name_in(&body) else {
        let what = "name: which broker is lost, by its name or its number";
        return Err(ApiError::new(ErrorType::BadData, what));
    };
    teller.broker.remove_lost(&name).await.map_err(|error| {
        let (kind, status) = match &error {
            LostError::Unknown { .. } | LostError::Several { .. } => {
                (ErrorType::BadData, StatusCode::BAD_REQUEST)
            }
            LostError::Unavailable(_) => (ErrorType::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            LostError::Alone | LostError::Alive { .. } | LostError::Unflushed { .. } => {
                (ErrorType::BadData, StatusCode::CONFLICT)
            }
        };
        ApiError::new(kind, error.to_string()).with_status(status)
    })?;
    let data = json!({ "name": name });
    Ok(Json(json!({ "status": "success", "data": data })).into_response())
}

fn name_in(form: &[u8]) -> Option<String> {
    let mut form = form_urlencoded::parse(form);
    form.find(|(key, _)| key == "name").map(|(_, name)| name.into_owned())
}

fn told(name: &str, progress: DrainReport) -> Response {
    let data = json!({
        "name": name,
        "step": progress.step,
        "segments": progress.segments,
        "segmentBytes": progress.segment_bytes,
        "trouble": progress.trouble,
    });
    Json(json!({ "status": "success", "data": data })).into_response()
}

/// Empty once it has left.
fn own_name(broker: &Broker) -> String {
    let members = broker.cluster_members();
    members.into_iter().find(|member| member.is_own).map_or_else(String::new, |own| own.name)
}

fn alone() -> ApiError {
    refused(DrainError::Alone)
}

fn refused(error: DrainError) -> ApiError {
    let said = error.to_string();
    match error {
        DrainError::NotAgreed(_) => ApiError::new(ErrorType::Unavailable, said),
        DrainError::Alone | DrainError::Last | DrainError::NoMajority { .. } => {
            ApiError::new(ErrorType::BadData, said).with_status(StatusCode::CONFLICT)
        }
    }
}
