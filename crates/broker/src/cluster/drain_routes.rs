//! `/api/v1/cluster/drain`: a broker is told to leave its cluster, and tells how far it is.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use net::{Access, ApiError, ErrorType, Routes};
use serde_json::json;

use super::drain::DrainProgress;
use crate::Broker;

/// For administrators: drains the broker that is asked.
pub fn drain_routes(broker: &Broker) -> Routes {
    Routes::new()
        .route("/api/v1/cluster/drain", [Method::GET], Access::Admin, progress)
        .route("/api/v1/cluster/drain", [Method::POST], Access::Admin, begin)
        .with_state(broker.clone())
}

async fn progress(State(broker): State<Broker>) -> Result<Response, ApiError> {
    let progress = broker.drain_progress().ok_or_else(alone)?;
    Ok(told(&broker, &progress))
}

/// A form may name the broker that is meant, so that nobody drains another one by a wrong address.
async fn begin(State(broker): State<Broker>, body: Bytes) -> Result<Response, ApiError> {
    let mut form = form_urlencoded::parse(&body);
    let meant = form.find(|(key, _)| key == "name").map(|(_, name)| name.into_owned());
    if let Some(meant) = meant.filter(|meant| *meant != own_name(&broker)) {
        return Err(ApiError::new(ErrorType::BadData, elsewhere(&broker, &meant)));
    }
    let receiver = broker.drain().map_err(refused)?;
    let progress = receiver.borrow().clone();
    Ok(told(&broker, &progress))
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
    refused(super::drain::DrainError::Alone)
}

fn refused(error: super::drain::DrainError) -> ApiError {
    ApiError::new(ErrorType::BadData, error.to_string()).with_status(StatusCode::CONFLICT)
}
