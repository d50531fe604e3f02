//! `/api/v1/notifications/test`: tells a receiver that this is a test.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::notify::{Outcome, made_up_alert};
use axum::extract::State;
use axum::response::Response;
use net::auth::Principal;
use net::{ApiError, ErrorType, JsonBody};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{check_tenant, success};
use crate::notify::Tested;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    receiver: String,
    /// Labels of the alert that is made up, in place of those it has.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

pub(super) async fn test(
    State(api): State<Arc<Api>>,
    principal: Principal,
    JsonBody(trial): JsonBody<Trial>,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let notifications = api.notifications()?;
    let configuration = notifications.configuration();
    let known = configuration.config.receivers.iter().any(|one| one.name == trial.receiver);
    if !known {
        let message = format!(
            "there is no receiver {:?} in the configuration; /api/v1/notifications/receivers lists \
             those there are",
            trial.receiver
        );
        return Err(ApiError::new(ErrorType::NotFound, message));
    }
    let alert = made_up_alert(&trial.labels, notifications.now_ns())
        .map_err(|error| ApiError::new(ErrorType::BadData, format!("labels: {error}")))?;
    let turn = api.testing.acquire().await;
    let tested = notifications.test_receiver(&trial.receiver, Arc::from([alert])).await;
    drop(turn);
    let results: Vec<Value> = tested.iter().map(shown).collect();
    Ok(success(json!({ "receiver": trial.receiver, "results": results })))
}

fn shown(tested: &Tested) -> Value {
    let (outcome, error) = match &tested.outcome {
        Outcome::Delivered { .. } => ("delivered", None),
        Outcome::Retry { message, .. } => ("retry", Some(message)),
        Outcome::Failed { message } => ("failed", Some(message)),
    };
    json!({
        "integration": tested.kind,
        "index": tested.index,
        "outcome": outcome,
        "error": error,
        "tookSeconds": tested.took.as_secs_f64(),
    })
}
