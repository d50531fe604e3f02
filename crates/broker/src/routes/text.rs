//! Prometheus' expositions, pushed.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Request, header};
use net::{ApiError, BodyRules, ErrorType};

use super::intake;
use crate::Broker;

/// Prometheus' text format, OpenMetrics or protobuf, by `Content-Type`; samples without a timestamp
/// get the time of arrival. `extra_label=name=value` in the URL adds a label to every series.
pub(super) async fn import(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let extra = match extra_labels(parts.uri.query().unwrap_or_default()) {
        Ok(extra) => extra,
        Err(error) => return error.into_response(),
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_openmetrics = content_type.starts_with("application/openmetrics-text");
    let is_protobuf = content_type.starts_with("application/vnd.google.protobuf");
    let rules = BodyRules::any_encoding;
    let taken = intake::take(&broker, &parts, body, rules, move |broker, limits, body, batch| {
        let now_ms = broker.now_ms();
        if is_protobuf {
            let options = wire::protobuf_exposition::Options::default();
            wire::protobuf_exposition::decode(&body, now_ms, &extra, options, limits, batch)
        } else if is_openmetrics {
            wire::openmetrics::decode(&body, now_ms, &extra, limits, batch)
        } else {
            wire::exposition::decode(&body, now_ms, &extra, limits, batch)
        }
    });
    match taken.await {
        Ok((summary, outcome)) => {
            broker.count_exemplars_left_out(summary.exemplars_left_out);
            intake::answer(&outcome)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// `extra_label=name=value` pairs of a query string.
fn extra_labels(query: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut labels = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != "extra_label" {
            continue;
        }
        let Some((name, value)) = value.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let error = format!("extra_label {value:?} is not name=value");
            return Err(ApiError::new(ErrorType::BadData, error));
        };
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}
