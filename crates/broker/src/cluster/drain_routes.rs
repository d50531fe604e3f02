//! `/api/v1/cluster/drain`: a broker is told to leave its cluster, and tells how far it is.
//! `/api/v1/cluster/remove`: it is told to take another one out, which is lost.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::json;

use super::drain::{DrainError, DrainProgress};
use super::lost::LostError;
use crate::Broker;

/// For administrators: drains the broker that is asked, or takes out one that cannot be asked.
pub fn drain_routes(broker: &Broker) -> Routes {
    Routes::new()
        .route("/api/v1/cluster/drain", [Method::GET], Access::Admin, progress)
        .route("/api/v1/cluster/drain", [Method::POST], Access::Admin, begin)
        .route("/api/v1/cluster/remove", [Method::POST], Access::Admin, remove)
        .with_state(broker.clone())
}

async fn progress(State(broker): State<Broker>) -> Result<Response, ApiError> {
    let progress = broker.drain_progress().ok_or_else(alone)?;
    Ok(told(&broker, &progress))
}

/// A form may name the broker that is meant, so that nobody drains another one by a wrong address.
async fn begin(State(broker): State<Broker>, body: Bytes) -> Result<Response, ApiError> {
    let meant = name_in(&body);
    let own = own_name(&broker);
    // One that has left has no name any more, and only tells again that it has.
    if let Some(meant) = meant.filter(|meant| *meant != own && !own.is_empty()) {
        return Err(ApiError::new(ErrorType::BadData, elsewhere(&broker, &meant)));
    }
    let receiver = broker.drain().await.map_err(refused)?;
    let progress = receiver.borrow().clone();
    Ok(told(&broker, &progress))
}

/// A form names the broker that is lost.
async fn remove(State(broker): State<Broker>, body: Bytes) -> Result<Response, ApiError> {
    let Some(name) = name_in(&body) else {
        let what = "name: which broker is lost, by its name or its number";
        return Err(ApiError::new(ErrorType::BadData, what));
    };
    broker.remove_lost(&name).await.map_err(|error| {
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

fn told(broker: &Broker, progress: &DrainProgress) -> Response {
    let data = json!({
        "name": own_name(broker),
        "step": progress.step.name(),
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

/// Where the broker is asked that is meant.
fn elsewhere(broker: &Broker, meant: &str) -> String {
    let members = broker.cluster_members();
    let own = own_name(broker);
    match members.iter().find(|member| member.name == meant) {
        Some(other) => {
            let at = match other.http_address.as_str() {
                "" => String::new(),
                address => format!(" at {address}"),
            };
            format!(
                "this is the broker {own}; {meant} leaves when it is asked itself{at}: give its --url"
            )
        }
        None => {
            let names: Vec<String> = members.into_iter().map(|member| member.name).collect();
            format!("there is no broker {meant:?}; there are {}", names.join(", "))
        }
    }
}

fn alone() -> ApiError {
    refused(DrainError::Alone)
}

fn refused(error: DrainError) -> ApiError {
    let said = error.to_string();
    match error {
        DrainError::NotAgreed(_) => ApiError::new(ErrorType::Unavailable, said),
        DrainError::Alone | DrainError::Last => {
            ApiError::new(ErrorType::BadData, said).with_status(StatusCode::CONFLICT)
        }
    }
}
