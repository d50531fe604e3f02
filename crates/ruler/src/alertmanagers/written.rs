//! Alerts as Alertmanager's API takes them.

use std::collections::BTreeMap;

use alerting::notify::PostedAlert;
use bytes::Bytes;
use serde::Serialize;
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};

/// An alert in JSON: an element of the list that is posted. Fields as in Prometheus.
#[derive(Serialize)]
struct Written<'a> {
    annotations: &'a BTreeMap<String, String>,
    #[serde(rename = "endsAt", skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    #[serde(rename = "startsAt", skip_serializing_if = "Option::is_none")]
    starts_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

/// The alert with the labels that rules make of its own, or nothing if they drop it.
pub(super) fn written(
    alert: &PostedAlert,
    rules: &[RelabelConfig],
    work: &mut LabelBuffer,
) -> Option<Bytes> {
    work.clear();
    for (name, value) in &alert.labels {
        work.set(name, value);
    }
    if !relabel(rules, work) || work.is_empty() {
        return None;
    }
    let shown = |ns: i64| model::rfc3339(ns.div_euclid(1_000_000));
    let written = Written {
        annotations: &alert.annotations,
        ends_at: alert.ends_at_ns.map(shown),
        starts_at: alert.starts_at_ns.map(shown),
        generator_url: &alert.generator_url,
        labels: work.iter().collect(),
    };
    Some(serde_json::to_vec(&written).expect("texts are JSON").into())
}

/// The list of these alerts.
pub(super) fn list(alerts: &[Bytes]) -> Bytes {
    let mut out = Vec::with_capacity(alerts.iter().map(|alert| alert.len() + 1).sum::<usize>() + 1);
    out.push(b'[');
    for (index, alert) in alerts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(alert);
    }
    out.push(b']');
    out.into()
}
