//! Alerts and silences as they are told. No list and no map is ever `null`.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::notify::{AlertView, Fingerprint, Silence, SilenceMatcher, SilenceState};
use model::Labels;
use serde::{Serialize, Serializer};
use serde_json::Value;
use settings::alertmanager::IntervalSpec;

use super::moment;

/// A receiver, or a peer, by its name alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Named {
    #[serde(serialize_with = "shared")]
    pub(super) name: Arc<str>,
}

/// An alert.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownAlert {
    fingerprint: Fingerprint,
    #[serde(serialize_with = "labels")]
    labels: Labels,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
    receivers: Vec<Named>,
    status: ShownStatus,
}

/// What mutes an alert.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStatus {
    state: &'static str,
    silenced_by: Vec<String>,
    inhibited_by: Vec<Fingerprint>,
    muted_by: Vec<String>,
}

impl ShownAlert {
    /// An alert, whom its routes lead to, and the intervals that mute it there. Alertmanager works out
    /// what mutes an alert when it is asked, so that none is ever `unprocessed`.
    pub(super) fn of(view: AlertView, receivers: Vec<Named>, muted_by: Vec<String>) -> ShownAlert {
        let is_muted = is_suppressed(&view) || !muted_by.is_empty();
        let alert = view.alert;
        ShownAlert {
            fingerprint: view.fingerprint,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: moment::shown(alert.starts_at_ns),
            ends_at: moment::shown(alert.ends_at_ns),
            updated_at: moment::shown(alert.updated_at_ns),
            generator_url: alert.generator_url.clone(),
            receivers,
            status: ShownStatus {
                state: if is_muted { "suppressed" } else { "active" },
                silenced_by: view.status.silenced_by,
                inhibited_by: view.status.inhibited_by,
                muted_by,
            },
        }
    }

    /// An alert with all that mutes it, and everybody its routes lead to.
    pub(super) fn whole(view: AlertView) -> ShownAlert {
        let receivers = view.receivers.iter().cloned().map(|name| Named { name }).collect();
        let muted_by = view.status.muted_by.clone();
        ShownAlert::of(view, receivers, muted_by)
    }
}

/// Whether a silence or another alert mutes an alert.
pub(super) fn is_suppressed(view: &AlertView) -> bool {
    !view.status.silenced_by.is_empty() || !view.status.inhibited_by.is_empty()
}

/// A silence.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownSilence<'a> {
    id: &'a str,
    status: SilenceStatus,
    matchers: &'a [SilenceMatcher],
    starts_at: String,
    ends_at: String,
    updated_at: String,
    created_by: &'a str,
    comment: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Our own: when it holds between its ends.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    intervals: &'a [IntervalSpec],
}

#[derive(Debug, Serialize)]
struct SilenceStatus {
    state: SilenceState,
}

impl<'a> ShownSilence<'a> {
    pub(super) fn of(silence: &'a Silence, now_ns: i64) -> ShownSilence<'a> {
        ShownSilence {
            id: &silence.id,
            status: SilenceStatus { state: silence.state(now_ns) },
            matchers: &silence.matchers,
            starts_at: moment::shown(silence.starts_at_ns),
            ends_at: moment::shown(silence.ends_at_ns),
            updated_at: moment::shown(silence.updated_at_ns),
            created_by: &silence.created_by,
            comment: &silence.comment,
            annotations: &silence.annotations,
            intervals: &silence.intervals,
        }
    }
}

/// Labels as an object.
pub(super) fn labels<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

fn shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Labels as a JSON object.
pub(super) fn labels_value(labels: &Labels) -> Value {
    labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}
